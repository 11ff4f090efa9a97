"""Reading: the node's links, and one pod's interface with what hangs on it.

Every read is filtered by link and bounded, since the pod's owner decides how much there is.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink, is_missing
from cni_repair.network.kernel.address import MAX_ADDRESSES, addresses_in, addresses_request
from cni_repair.network.kernel.route import read_routes
from cni_repair.network.kernel.sysctl import sysctls_in
from cni_repair.network.model import (
    IFF_RUNNING,
    IFF_UP,
    IPVLAN_MODES,
    MACVLAN_MODES,
    SETTABLE_FLAGS,
    HostLink,
    LiveLink,
    Observed,
    PodLink,
    Vlan,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.address import Addresses

_MAX_LINKS = 65536
_SETTABLE = sum(SETTABLE_FLAGS.values())

_SKIP_STATISTICS = nl.u32(rt.IFLA_EXT_MASK, 1 << 3)  # RTEXT_FILTER_SKIP_STATS
_S32 = struct.Struct("=i")
_SIOCGIFNAME = 0x8910  # include/uapi/linux/sockios.h
_IFREQ = struct.Struct("=16si20x")  # struct ifreq, include/uapi/linux/if.h


def link_named(rtnl: Rtnetlink, name: str) -> HostLink | None:
    """The node's link of that name (an altname counts as absent), or None."""
    link = _host_link(rtnl.get([_get_link(name=name)])[0])
    return link if link is not None and link.name == name else None


def hardware(rtnl: Rtnetlink) -> list[HostLink]:
    """All links of the node that are no virtual ones."""
    request = nl.Message(rt.RTM_GETLINK, 0, nl.link_body(0, 0, 0, _SKIP_STATISTICS))
    links = [_host_link(body) for body in rtnl.dump(request, _MAX_LINKS)]
    return [link for link in links if link is not None and not link.kind]


def chain_from(rtnl: Rtnetlink, ifindex: int) -> tuple[HostLink, ...]:
    """The node's link of that index, followed by the links that its VLANs stand on."""
    chain: list[HostLink] = []
    while ifindex and all(link.ifindex != ifindex for link in chain):
        link = _host_link(rtnl.get([_get_link(ifindex=ifindex)])[0])
        if link is None:
            break
        chain.append(link)
        ifindex = link.lower if link.kind == "vlan" else 0
    return tuple(chain)


def observe_pod(
    rtnl: Rtnetlink,
    node: int,
    ifname: str,
    wanted_ifindex: int = 0,
    link_only: bool = False,
    sysctls: bool = True,
) -> Observed:
    """Look at a pod's interface through a socket of the pod's namespace.

    `node` is an open descriptor of the node's namespace. What stands there that is no child of a
    link of the node is not read any further; `sysctls` says whether those of a link that is up are
    wanted. More of what is around the interface is read by
    :mod:`~cni_repair.network.surroundings`.
    """
    netnsid = rtnl.netnsids.get(node)
    unknown = [netnsid_request(node)] if netnsid is None else []
    *first, answer = rtnl.get([*unknown, _get_link(name=ifname)])
    if first and (netnsid := netnsid_in(first[0])) is not None:
        rtnl.netnsids[node] = netnsid
    live = live_link(answer, sysctls)
    if live is None:
        return Observed(netnsid, None, ifindex_taken_by=name_at(rtnl, wanted_ifindex))
    if link_only or not live.is_over(netnsid):
        return Observed(netnsid, live)
    addresses = read_addresses(rtnl, live.link.ifindex, live.link.mac)
    routes = read_routes(rtnl, live.link.ifindex, live.name)
    return Observed(
        netnsid,
        live,
        addresses.configured,
        routes.configured,
        addresses.tentative,
        addresses.dadfailed,
        addresses_by_kernel=addresses.by_kernel,
        routes_by_kernel=routes.by_kernel,
        stable_private=addresses.stable_private,
    )


def read_addresses(rtnl: Rtnetlink, ifindex: int, mac: str) -> Addresses:
    """The addresses of the link of that index and MAC."""
    bodies = rtnl.dump(addresses_request(ifindex), MAX_ADDRESSES, "addresses")
    return addresses_in(bodies, ifindex, mac)


def name_at(rtnl: Rtnetlink, ifindex: int) -> str | None:
    """The name of the interface of that index; None where there is none.

    By ioctl, which needs no lock (netdev_get_name), where RTM_GETLINK waits for the RTNL, and so
    for whatever link somebody makes. A netlink socket hands it down (netlink_ioctl).
    """
    if not ifindex:
        return None
    try:
        answer = fcntl.ioctl(rtnl.sock.fileno(), _SIOCGIFNAME, _IFREQ.pack(b"", ifindex))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return nl.string_of(_IFREQ.unpack(answer)[0])


def ifindex_of(rtnl: Rtnetlink, ifname: str) -> int:
    """The index of the interface of that name, 0 where there is none."""
    found = _answered(rtnl.get([_get_link(name=ifname)])[0])
    return found[0] if found else 0


def links_named(rtnl: Rtnetlink, names: set[str]) -> tuple[tuple[str, int], ...]:
    """Name and index of those that are there."""
    # One after the other: altnames make an answer up to 64 KB long, and the socket holds 212.
    found = [(name, ifindex_of(rtnl, name)) for name in sorted(names)]
    return tuple((name, ifindex) for name, ifindex in found if ifindex)


def netnsid_request(netns: int) -> nl.Message:
    """Asks by which id the socket's namespace knows another one, given as an open descriptor."""
    return nl.Message(rt.RTM_GETNSID, 0, bytes(4) + nl.u32(rt.NETNSA_FD, netns))


def netnsid_in(answer: bytes | Ack) -> int | None:
    """The answer to :func:`netnsid_request`; None where there is no id yet."""
    if isinstance(answer, Ack):
        raise CniError(REPAIR_FAILED, "the kernel does not name namespaces", str(answer))
    netnsid: int = _S32.unpack(nl.attributes_of(answer, 4)[rt.NETNSA_NSID])[0]
    return netnsid if netnsid >= 0 else None


def _get_link(name: str = "", ifindex: int = 0) -> nl.Message:
    attributes = _SKIP_STATISTICS + (nl.text(rt.IFLA_IFNAME, name) if name else b"")
    return nl.Message(rt.RTM_GETLINK, 0, nl.link_body(ifindex, 0, 0, attributes))


def _answered(answer: bytes | Ack) -> tuple[int, int, dict[int, bytes]] | None:
    if isinstance(answer, Ack):
        if is_missing(answer):
            return None
        raise CniError(REPAIR_FAILED, "the kernel does not show a link", str(answer))
    return nl.unpack_link(answer)


def _host_link(answer: bytes | Ack) -> HostLink | None:
    found = _answered(answer)
    if found is None:
        return None
    ifindex, flags, attributes = found
    kind, data = _info(attributes)
    permanent = attributes.get(rt.IFLA_PERM_ADDRESS)
    bus = attributes.get(rt.IFLA_PARENT_DEV_NAME)
    return HostLink(
        name=nl.string_of(attributes[rt.IFLA_IFNAME]),
        ifindex=ifindex,
        kind=kind,
        mac=_mac(attributes.get(rt.IFLA_ADDRESS, b"")),
        mtu=nl.u32_of(attributes[rt.IFLA_MTU]),
        flags=flags & (IFF_UP | IFF_RUNNING),
        # An index in another namespace says nothing in this one.
        lower=0
        if rt.IFLA_LINK_NETNSID in attributes
        else nl.u32_of(attributes.get(rt.IFLA_LINK, bytes(4))),
        permanent_mac=_mac(permanent) if permanent else None,
        bus_address=nl.string_of(bus) if bus else None,
        vlan=_vlan(data) if kind == "vlan" else None,
    )


def _vlan(data: dict[int, bytes]) -> Vlan:
    flags = data.get(rt.IFLA_VLAN_FLAGS)
    protocol = data.get(rt.IFLA_VLAN_PROTOCOL, b"\x81\x00")  # network order
    return Vlan(
        id=int.from_bytes(data[rt.IFLA_VLAN_ID], "little"),
        protocol=int.from_bytes(protocol, "big"),
        flags=nl.u32_of(flags) if flags else 0,
        egress=_map(data.get(rt.IFLA_VLAN_EGRESS_QOS, b"")),
        ingress=_map(data.get(rt.IFLA_VLAN_INGRESS_QOS, b"")),
    )


def _map(raw: bytes) -> tuple[tuple[int, int], ...]:
    """Priorities by pairs; the kernel lists them in no particular order."""
    entries = (entry for kind, entry in nl.entries_of(raw) if kind == rt.IFLA_VLAN_QOS_MAPPING)
    return tuple(sorted(struct.unpack_from("=II", entry) for entry in entries))


def live_link(answer: bytes | Ack, sysctls: bool = True) -> LiveLink | None:
    found = _answered(answer)
    if found is None:
        return None
    ifindex, flags, attributes = found
    kind, data = _info(attributes)
    mode, own_flags = _mode(kind, data)
    netnsid = attributes.get(rt.IFLA_LINK_NETNSID)
    names = nl.entries_of(attributes.get(rt.IFLA_PROP_LIST, b""))
    link = PodLink(
        ifindex=ifindex,
        mac=_mac(attributes.get(rt.IFLA_ADDRESS, b"")),
        mtu=nl.u32_of(attributes[rt.IFLA_MTU]),
        kind=kind,
        mode=mode,
        flags=own_flags,
        txqueuelen=nl.u32_of(attributes.get(rt.IFLA_TXQLEN, bytes(4))),
        alias=_alias(attributes.get(rt.IFLA_IFALIAS, b"")),
        altnames=tuple(
            nl.string_of(raw) for kind_of, raw in names if kind_of == rt.IFLA_ALT_IFNAME
        ),
        group=nl.u32_of(attributes.get(rt.IFLA_GROUP, bytes(4))),
        bcqueuelen=nl.u32_of(data.get(rt.IFLA_MACVLAN_BC_QUEUE_LEN, b""))
        if kind == "macvlan"
        else 0,
        device_flags=flags & _SETTABLE,
    )
    return LiveLink(
        name=nl.string_of(attributes[rt.IFLA_IFNAME]),
        link=link,
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_RUNNING),
        master=nl.u32_of(attributes.get(rt.IFLA_LINK, bytes(4))),
        master_netnsid=_S32.unpack(netnsid)[0] if netnsid else None,
        sysctls=sysctls_in(attributes.get(rt.IFLA_AF_SPEC, b""))
        if sysctls or not flags & IFF_UP
        else (),
    )


def _mode(kind: str, data: dict[int, bytes]) -> tuple[str, int]:
    """The mode of a link of one of the KINDS, and its flags; empty and 0 for others."""
    if kind == "macvlan":
        mode = MACVLAN_MODES.get(nl.u32_of(data.get(rt.IFLA_MACVLAN_MODE, b"")), "unknown")
        return mode, nl.u32_of(data.get(rt.IFLA_MACVLAN_FLAGS, b""))
    if kind == "ipvlan":
        mode = IPVLAN_MODES.get(nl.u32_of(data.get(rt.IFLA_IPVLAN_MODE, b"")), "unknown")
        return mode, nl.u32_of(data.get(rt.IFLA_IPVLAN_FLAGS, b""))
    return "", 0


def _info(attributes: dict[int, bytes]) -> tuple[str, dict[int, bytes]]:
    info = nl.attributes_of(attributes.get(rt.IFLA_LINKINFO, b""))
    kind = nl.string_of(info.get(rt.IFLA_INFO_KIND, b""))
    return kind, nl.attributes_of(info.get(rt.IFLA_INFO_DATA, b""))


def _mac(raw: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in raw)


def _alias(raw: bytes) -> str:
    """Of any bytes that a pod likes; what is no text a checkpoint cannot hold, nor a line show."""
    try:
        return raw.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return ""
