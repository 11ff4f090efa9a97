"""Just enough of rtnetlink's messages to read and restore a pod's interface. Pure; the socket is
:mod:`~cni_repair.netlink.socket`.

pyroute2 knows all of it, but importing it takes 130 ms, and each of its messages 0.1 ms to encode
(measured): more than the kernel needs for the whole repair of a pod. The tests compare every
message that is made or read here with pyroute2's idea of it.

Sources: include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,fib_rules,neighbour,net_namespace}.h.
"""

from __future__ import annotations

import struct

from cni_repair.base import lightsocket as socket
from cni_repair.base.frozen import frozen

# How the kernel numbers the families that we speak of.
FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
NUMBERS = {4: socket.AF_INET, 6: socket.AF_INET6}

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWRULE, RTM_GETRULE = 32, 34
RTM_NEWNSID, RTM_GETNSID = 88, 90
RTM_NEWLINKPROP = 108

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800

NLA_F_NESTED = 0x8000
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK = 1, 3, 4, 5
IFLA_TXQLEN, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP = 13, 18, 20, 26, 27
IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID, IFLA_NEW_IFINDEX = 28, 29, 37, 49
IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS, IFLA_PARENT_DEV_NAME = 52, 53, 54, 56
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_MACVLAN_MODE, IFLA_MACVLAN_FLAGS, IFLA_MACVLAN_BC_QUEUE_LEN = 1, 2, 7
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
IFLA_INET_CONF, IFLA_INET6_CONF, IFLA_INET6_ADDR_GEN_MODE = 1, 2, 8
IFLA_VLAN_ID, IFLA_VLAN_FLAGS, IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS = 1, 2, 3, 4
IFLA_VLAN_PROTOCOL, IFLA_VLAN_QOS_MAPPING = 5, 1
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 3, 4, 6, 8
IFA_RT_PRIORITY, IFA_PROTO = 9, 11
RTA_VIA, RTNH_F_ONLINK = 18, 4
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = (
    1, 2, 4, 5, 6, 7, 8,
)  # fmt: skip
RTA_MULTIPATH, RTA_FLOW, RTA_CACHEINFO, RTA_TABLE, RTA_PREF, RTA_ENCAP, RTA_EXPIRES = (
    9, 11, 12, 15, 20, 22, 23,
)  # fmt: skip
NDA_DST, NDA_LLADDR, NDA_IFINDEX, NDA_PROTOCOL = 1, 2, 8, 12
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_OIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_FWMASK = (
    1, 2, 3, 17, 6, 10, 16,
)  # fmt: skip
FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_PAD, FRA_UID_RANGE, FRA_PROTOCOL = 14, 15, 18, 20, 21
FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE = 22, 23, 24
NETNSA_NSID, NETNSA_FD = 1, 3

_ATTRIBUTE = struct.Struct("=HH")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=HBBi")
_NDMSG = struct.Struct("=BxxxiHBB")
_RULE = struct.Struct("=BBBBBxxBI")
_U32 = struct.Struct("=I")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


@frozen
class Message:
    """A request without its sequence number: the part that pure code can make."""

    type: int
    flags: int
    body: bytes

    def acknowledged(self) -> Message:
        """The same, to be answered where it succeeds, too."""
        return Message(self.type, self.flags | NLM_F_ACK, self.body)


def u32_of(raw: bytes) -> int:
    """A number of four bytes, or of the fewer that there are (none: 0)."""
    return int.from_bytes(raw[:4], "little")


def string_of(raw: bytes) -> str:
    """A name. The kernel's are bytes: what is no UTF-8 becomes surrogates, whatever the locale."""
    return raw.rstrip(b"\0").decode("utf-8", "surrogateescape")


def raw_string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def raw_mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to the netlink alignment of 4."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, raw_string(value) + b"\0")


def link_info(kind: str, data: bytes) -> bytes:
    """IFLA_LINKINFO of a virtual link."""
    return attribute(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind) + attribute(IFLA_INFO_DATA, data))


def link_body(ifindex: int, flags: int, change: int, attributes: bytes) -> bytes:
    """struct ifinfomsg with its attributes."""
    return _IFINFO.pack(0, 0, ifindex, flags, change) + attributes


def address_body(
    family: int, prefix: int, flags: int, scope: int, ifindex: int, attributes: bytes
) -> bytes:
    """struct ifaddrmsg with its attributes."""
    return _IFADDR.pack(family, prefix, flags & 0xFF, scope, ifindex) + attributes


def route_body(
    family: int, prefix: int, tos: int, table: int, protocol: int, scope: int, kind: int,
    flags: int, attributes: bytes, source: int = 0,
) -> bytes:  # fmt: skip
    """struct rtmsg with its attributes; a table above 255 goes into RTA_TABLE alone. `prefix`,
    `source`: the lengths of RTA_DST and RTA_SRC."""
    short = table if table < 256 else 0
    head = _RTMSG.pack(family, prefix, source, tos, short, protocol, scope, kind, flags)
    return head + attributes


def nexthop(flags: int, weight: int, ifindex: int, attributes: bytes) -> bytes:
    """struct rtnexthop with its attributes: one entry of RTA_MULTIPATH."""
    return _NEXTHOP.pack(_NEXTHOP.size + len(attributes), flags, weight - 1, ifindex) + attributes


def neighbour_body(family: int, ifindex: int, state: int, flags: int, attributes: bytes) -> bytes:
    """struct ndmsg with its attributes."""
    return _NDMSG.pack(family, ifindex, state, flags, 0) + attributes


def rule_body(
    family: int, to: int, source: int, tos: int, table: int, action: int, flags: int,
    attributes: bytes,
) -> bytes:  # fmt: skip
    """struct fib_rule_hdr with its attributes; `to`, `source`: the lengths of prefixes. A table
    above 255 goes into FRA_TABLE alone."""
    short = table if table < 256 else 0
    return _RULE.pack(family, to, source, tos, short, action, flags) + attributes


def attributes_of(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by type; the last of a repeated type stands."""
    found: dict[int, bytes] = {}
    end, unpack = len(data), _ATTRIBUTE.unpack_from  # a link has 40 of them
    last = end - _ATTRIBUTE.size
    while offset <= last:
        length, kind = unpack(data, offset)
        after = offset + length
        if length < 4 or after > end:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : after]
        offset += (length + 3) & ~3
    return found


def entries_of(data: bytes) -> list[tuple[int, bytes]]:
    """As :func:`attributes_of`, for lists, where a type may come again: (type, payload) each."""
    found = []
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            break
        found.append((kind & _TYPE_MASK, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def unpack_nexthops(data: bytes) -> list[tuple[int, int, int, dict[int, bytes]]]:
    """(flags, weight, ifindex, attributes) of each entry of RTA_MULTIPATH."""
    found = []
    offset = 0
    while offset + _NEXTHOP.size <= len(data):
        length, flags, hops, ifindex = _NEXTHOP.unpack_from(data, offset)
        if length < _NEXTHOP.size or offset + length > len(data):
            break
        attributes = attributes_of(data[offset + _NEXTHOP.size : offset + length])
        found.append((flags, hops + 1, ifindex, attributes))
        offset += (length + 3) & ~3
    return found


def unpack_link(body: bytes) -> tuple[int, int, dict[int, bytes]]:
    """(ifindex, flags, attributes) of an RTM_NEWLINK."""
    _, _, ifindex, flags, _ = _IFINFO.unpack_from(body)
    return ifindex, flags, attributes_of(body, _IFINFO.size)


def unpack_address(body: bytes) -> tuple[int, int, int, int, dict[int, bytes]]:
    """(family, prefix, scope, ifindex, attributes) of an RTM_NEWADDR."""
    family, prefix, _, scope, ifindex = _IFADDR.unpack_from(body)
    return family, prefix, scope, ifindex, attributes_of(body, _IFADDR.size)


def route_header(body: bytes) -> tuple[int, ...]:
    """(family, dst_len, src_len, tos, table, protocol, scope, type, flags) of an RTM_NEWROUTE."""
    return _RTMSG.unpack_from(body)


def route_attributes(body: bytes) -> dict[int, bytes]:
    return attributes_of(body, _RTMSG.size)


def unpack_neighbour(body: bytes) -> tuple[int, int, int, int, dict[int, bytes]]:
    """(family, ifindex, state, flags, attributes) of an RTM_NEWNEIGH."""
    family, ifindex, state, flags, _ = _NDMSG.unpack_from(body)
    return family, ifindex, state, flags, attributes_of(body, _NDMSG.size)


def unpack_rule(body: bytes) -> tuple[tuple[int, ...], dict[int, bytes]]:
    """((family, dst_len, src_len, tos, table, action, flags), attributes) of an RTM_NEWRULE."""
    return _RULE.unpack_from(body), attributes_of(body, _RULE.size)
