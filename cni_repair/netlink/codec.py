"""Just enough of rtnetlink's messages to read and restore a pod's interface. Pure; the socket is
:mod:`~cni_repair.netlink.socket`, the numbers are in :mod:`~cni_repair.netlink.constants`.

pyroute2 knows all of it, but importing it takes 130 ms, and each of its messages 0.1 ms to encode
(measured): more than the kernel needs for the whole repair of a pod. The tests compare every
message that is made or read here with pyroute2's idea of it.
"""

from __future__ import annotations

import struct

from cni_repair.base import lightsocket as socket
from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen
from cni_repair.netlink.constants import IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, NLM_F_ACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

# How the kernel numbers the families that we speak of.
FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
NUMBERS = {4: socket.AF_INET, 6: socket.AF_INET6}

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")
_AF_BRIDGE = 7
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NEXTHOP = struct.Struct("=HBBi")
_NDMSG = struct.Struct("=BxxxiHBB")
_RULE = struct.Struct("=BBBBBxxBI")
_U16_ATTRIBUTE = struct.Struct("=HHHxx")
_U32_ATTRIBUTE = struct.Struct("=HHI")
_S32 = struct.Struct("=i")
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


class Malformed(CniError):
    """An answer that no kernel gives."""


def decoder(read: Callable[P, T]) -> Callable[P, T]:
    """Have a function raise Malformed, and nothing else, for bytes that it cannot read."""

    def checked(*args: P.args, **named: P.kwargs) -> T:
        try:
            return read(*args, **named)
        except (struct.error, LookupError, ValueError) as error:
            why = f"{read.__name__}: {type(error).__name__}: {error}"
            raise Malformed(
                REPAIR_FAILED, "an answer of the kernel is not understood", why
            ) from error

    return checked


HEADER_SIZE = _HEADER.size


def framed(message: Message, flags: int, sequence: int) -> bytes:
    """A request as it travels: with its header, padded to the netlink alignment of 4."""
    length = HEADER_SIZE + len(message.body)
    header = _HEADER.pack(length, message.type, message.flags | flags, sequence, 0)
    return header + message.body + b"\0" * (-length % 4)


def messages_in(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence number, body) of each message of a datagram."""
    offset = 0
    while offset + HEADER_SIZE <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < HEADER_SIZE:
            break
        yield kind, flags, sequence, data[offset + HEADER_SIZE : offset + length]
        offset += (length + 3) & ~3


# --- values, as an attribute carries them ---------------------------------------------------------


def u8_of(raw: bytes) -> int:
    return raw[0]


def u32_of(raw: bytes) -> int:
    """A number of four bytes, or of the fewer that there are (none: 0)."""
    return int.from_bytes(raw[:4], "little")


def s32_of(raw: bytes) -> int:
    number: int = _S32.unpack(raw)[0]
    return number


def string_of(raw: bytes) -> str:
    """A name. The kernel's are bytes: what is no UTF-8 becomes surrogates, whatever the locale."""
    return raw.rstrip(b"\0").decode("utf-8", "surrogateescape")


def raw_string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def mac_of(raw: bytes) -> str:
    return raw.hex(":") if raw else ""


def raw_mac(text: str) -> bytes:
    """Raises ValueError for what is no hexadecimal number."""
    return bytes.fromhex(text.replace(":", ""))


def ip_of(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def raw_ip(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


# --- attributes -----------------------------------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to the netlink alignment of 4."""
    length = 4 + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u16(kind: int, value: int) -> bytes:
    return _U16_ATTRIBUTE.pack(6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return _U32_ATTRIBUTE.pack(8, kind, value)


def s32(kind: int, value: int) -> bytes:
    return attribute(kind, _S32.pack(value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, raw_string(value) + b"\0")


def mac(kind: int, value: str) -> bytes:
    return attribute(kind, raw_mac(value))


def ip(kind: int, value: str) -> bytes:
    return attribute(kind, raw_ip(value))


@frozen
class Codec:
    """How a value travels in an attribute, both ways."""

    decode: Callable[[bytes], Any]  # of the payload
    encode: Callable[[int, Any], bytes]  # type and value: the whole attribute


U8 = Codec(u8_of, u8)
U16 = Codec(u32_of, u16)
U32 = Codec(u32_of, u32)
TEXT = Codec(string_of, text)
MAC = Codec(mac_of, mac)
IP = Codec(ip_of, ip)


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


def route_body(header: tuple[int, ...], attributes: bytes) -> bytes:
    """struct rtmsg, as :func:`route_header` gives it, with its attributes."""
    return _RTMSG.pack(*header) + attributes


def short_table(table: int) -> int:
    """What a header has of a routing table: one above 255 is in an attribute alone."""
    return table if table < 256 else 0


def nexthop(flags: int, weight: int, ifindex: int, attributes: bytes) -> bytes:
    """struct rtnexthop with its attributes: one entry of RTA_MULTIPATH."""
    return _NEXTHOP.pack(_NEXTHOP.size + len(attributes), flags, weight - 1, ifindex) + attributes


def neighbour_body(family: int, ifindex: int, state: int, flags: int, attributes: bytes) -> bytes:
    """struct ndmsg with its attributes."""
    return _NDMSG.pack(family, ifindex, state, flags, 0) + attributes


def rule_body(header: tuple[int, ...], attributes: bytes) -> bytes:
    """struct fib_rule_hdr, as :func:`unpack_rule` gives it, with its attributes."""
    return _RULE.pack(*header) + attributes


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


@decoder
def unpack_link(body: bytes) -> tuple[int, int, dict[int, bytes]]:
    """(ifindex, flags, attributes) of an RTM_NEWLINK."""
    _, _, ifindex, flags, _ = _IFINFO.unpack_from(body)
    return ifindex, flags, attributes_of(body, _IFINFO.size)


@decoder
def is_about_bridge_port(body: bytes) -> bool:
    """Whether a link's message is a bridge's, of its port: RTM_DELLINK says then that the port has
    left the bridge, not that the link is gone; and such a message has not all of the link."""
    return body[0] == _AF_BRIDGE


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
