"""Reading: the node's links, and one pod's interface with what hangs on it.

Every read is filtered by link and bounded, since the pod's owner decides how much there is.
"""

from __future__ import annotations

import os
import struct
from _socket import AF_INET, AF_INET6, inet_ntop

from cni_repair.errors import REPAIR_FAILED, CniError
from cni_repair.network import rtnetlink as nl
from cni_repair.network.state import (
    IFA_DERIVED,
    IFA_F_DADFAILED,
    IFA_F_PERMANENT,
    IFA_F_TENTATIVE,
    IFF_RUNNING,
    IFF_UP,
    MACVLAN_MODES,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTPROT_KERNEL,
    Address,
    HostLink,
    LiveLink,
    Observed,
    PodLink,
    Route,
    Vlan,
)

MAX_ADDRESSES = 1024
MAX_ROUTES = 4096
_MAX_LINKS = 65536

# The only sysctls that a checkpoint may name: net/<family>/conf/<ifname>/<name>.
SYSCTLS = frozenset(
    f"ipv4/{name}"
    for name in [
        "accept_local",
        "accept_redirects",
        "arp_accept",
        "arp_announce",
        "arp_filter",
        "arp_ignore",
        "arp_notify",
        "forwarding",
        "promote_secondaries",
        "proxy_arp",
        "route_localnet",
        "rp_filter",
        "send_redirects",
        "src_valid_mark",
    ]
) | frozenset(
    f"ipv6/{name}"
    for name in [
        "accept_dad",
        "accept_ra",
        "accept_redirects",
        "addr_gen_mode",
        "autoconf",
        "dad_transmits",
        "disable_ipv6",
        "forwarding",
        "keep_addr_on_down",
        "ndisc_notify",
        "proxy_ndp",
        "use_tempaddr",
    ]
)

_FAMILIES = {AF_INET: 4, AF_INET6: 6}
_SKIP_STATISTICS = nl.u32(nl.IFLA_EXT_MASK, 1 << 3)  # RTEXT_FILTER_SKIP_STATS
# RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA. In other tables such routes are copies (sbr's).
_KERNELS_OWN_PROTOCOLS = {1, RTPROT_KERNEL, 9}
_KERNELS_OWN_TABLES = {RT_TABLE_MAIN, RT_TABLE_LOCAL}
_RTM_F_CLONED = 0x200
_S32 = struct.Struct("=i")


def link_named(rtnl: nl.Rtnetlink, name: str) -> HostLink | None:
    """The node's link of that name (an altname counts as absent), or None."""
    link = _host_link(rtnl.get([_get_link(name=name)])[0])
    return link if link is not None and link.name == name else None


def hardware(rtnl: nl.Rtnetlink) -> list[HostLink]:
    """All links of the node that are no virtual ones."""
    request = nl.Message(nl.RTM_GETLINK, 0, nl.link_body(0, 0, 0, _SKIP_STATISTICS))
    links = [_host_link(body) for body in rtnl.dump(request, _MAX_LINKS)]
    return [link for link in links if link is not None and not link.kind]


def chain_from(rtnl: nl.Rtnetlink, ifindex: int) -> tuple[HostLink, ...]:
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
    rtnl: nl.Rtnetlink,
    node: int,
    ifname: str,
    wanted_ifindex: int = 0,
    link_only: bool = False,
) -> Observed:
    """Look at a pod's interface through a socket of the pod's namespace.

    `node` is an open descriptor of the node's namespace. What stands there that is no child of a
    link of the node is not read any further. More of what is around the interface is read by
    :mod:`~cni_repair.network.surroundings`.
    """
    requests = [netnsid_request(node), _get_link(name=ifname)]
    if wanted_ifindex:
        requests.append(_get_link(ifindex=wanted_ifindex))
    answers = rtnl.get(requests)
    netnsid = netnsid_in(answers[0])
    live = live_link(answers[1])
    if live is None:
        return Observed(netnsid, None, ifindex_taken_by=_name_in(answers[2:]))
    if link_only or not live.is_over(netnsid):
        return Observed(netnsid, live)
    addresses, by_kernel, tentative, dadfailed = _addresses(rtnl, live.link)
    routes, routes_by_kernel = _routes(rtnl, live.link.ifindex)
    return Observed(
        netnsid,
        live,
        addresses,
        routes,
        tentative,
        dadfailed,
        addresses_by_kernel=by_kernel,
        routes_by_kernel=routes_by_kernel,
    )


def ifindex_of(rtnl: nl.Rtnetlink, ifname: str) -> int:
    """The index of the interface of that name, 0 where there is none."""
    found = _answered(rtnl.get([_get_link(name=ifname)])[0])
    return found[0] if found else 0


def netnsid_request(netns: int) -> nl.Message:
    """Asks by which id the socket's namespace knows another one, given as an open descriptor."""
    return nl.Message(nl.RTM_GETNSID, 0, bytes(4) + nl.u32(nl.NETNSA_FD, netns))


def netnsid_in(answer: bytes | nl.Refusal) -> int | None:
    """The answer to :func:`netnsid_request`; None where there is no id yet."""
    if isinstance(answer, nl.Refusal):
        raise CniError(REPAIR_FAILED, "the kernel does not name namespaces", str(answer))
    netnsid: int = _S32.unpack(nl.attributes_of(answer, 4)[nl.NETNSA_NSID])[0]
    return netnsid if netnsid >= 0 else None


def read_sysctls(ifname: str) -> tuple[tuple[str, str], ...]:
    """The allow-listed sysctls of an interface that differ from their namespace's default.

    /proc/sys/net shows the namespace of the reading thread: call it inside the pod's. Recording
    the differences alone leaves to the kernel what it would set by itself on a new link.
    """
    found = []
    for key in sorted(SYSCTLS):
        family, _, name = key.partition("/")
        value = _sysctl(f"/proc/sys/net/{family}/conf/{ifname}/{name}")
        if value is not None and value != _sysctl(f"/proc/sys/net/{family}/conf/default/{name}"):
            found.append((key, value))
    return tuple(found)


def _sysctl(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # this kernel does not have it, or IPv6 is off
    try:
        return os.read(fd, 64).decode("ascii").strip()
    finally:
        os.close(fd)


def _get_link(name: str = "", ifindex: int = 0) -> nl.Message:
    attributes = _SKIP_STATISTICS + (nl.text(nl.IFLA_IFNAME, name) if name else b"")
    return nl.Message(nl.RTM_GETLINK, 0, nl.link_body(ifindex, 0, 0, attributes))


def _answered(answer: bytes | nl.Refusal) -> tuple[int, int, dict[int, bytes]] | None:
    if isinstance(answer, nl.Refusal):
        if nl.is_missing(answer):
            return None
        raise CniError(REPAIR_FAILED, "the kernel does not show a link", str(answer))
    return nl.unpack_link(answer)


def _name_in(answers: list[bytes | nl.Refusal]) -> str | None:
    found = _answered(answers[0]) if answers else None
    return _string(found[2][nl.IFLA_IFNAME]) if found else None


def _host_link(answer: bytes | nl.Refusal) -> HostLink | None:
    found = _answered(answer)
    if found is None:
        return None
    ifindex, flags, attributes = found
    kind, data = _info(attributes)
    permanent = attributes.get(nl.IFLA_PERM_ADDRESS)
    bus = attributes.get(nl.IFLA_PARENT_DEV_NAME)
    return HostLink(
        name=_string(attributes[nl.IFLA_IFNAME]),
        ifindex=ifindex,
        kind=kind,
        mac=_mac(attributes.get(nl.IFLA_ADDRESS, b"")),
        mtu=_u32(attributes[nl.IFLA_MTU]),
        flags=flags & (IFF_UP | IFF_RUNNING),
        lower=_u32(attributes.get(nl.IFLA_LINK, bytes(4))),
        permanent_mac=_mac(permanent) if permanent else None,
        bus_address=_string(bus) if bus else None,
        vlan=_vlan(data) if kind == "vlan" else None,
    )


def _vlan(data: dict[int, bytes]) -> Vlan:
    flags = data.get(nl.IFLA_VLAN_FLAGS)
    protocol = data.get(nl.IFLA_VLAN_PROTOCOL, b"\x81\x00")  # network order
    return Vlan(
        id=int.from_bytes(data[nl.IFLA_VLAN_ID], "little"),
        protocol=int.from_bytes(protocol, "big"),
        flags=_u32(flags) if flags else 0,
    )


def live_link(answer: bytes | nl.Refusal) -> LiveLink | None:
    found = _answered(answer)
    if found is None:
        return None
    ifindex, flags, attributes = found
    kind, data = _info(attributes)
    mode = data.get(nl.IFLA_MACVLAN_MODE) if kind == "macvlan" else None
    netnsid = attributes.get(nl.IFLA_LINK_NETNSID)
    own_flags = data.get(nl.IFLA_MACVLAN_FLAGS, b"\0\0") if kind == "macvlan" else b"\0\0"
    link = PodLink(
        ifindex=ifindex,
        mac=_mac(attributes.get(nl.IFLA_ADDRESS, b"")),
        mtu=_u32(attributes[nl.IFLA_MTU]),
        kind=kind,
        mode=MACVLAN_MODES.get(_u32(mode), "unknown") if mode else "",
        flags=int.from_bytes(own_flags, "little"),
        txqueuelen=_u32(attributes.get(nl.IFLA_TXQLEN, bytes(4))),
    )
    return LiveLink(
        name=_string(attributes[nl.IFLA_IFNAME]),
        link=link,
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_RUNNING),
        master=_u32(attributes.get(nl.IFLA_LINK, bytes(4))),
        master_netnsid=_S32.unpack(netnsid)[0] if netnsid else None,
    )


def _addresses(
    rtnl: nl.Rtnetlink, link: PodLink
) -> tuple[tuple[Address, ...], tuple[Address, ...], tuple[str, ...], tuple[str, ...]]:
    """Those that somebody configured, and the kernel's own; those tentative, those dadfailed."""
    request = nl.Message(nl.RTM_GETADDR, 0, nl.address_body(0, 0, 0, 0, link.ifindex, b""))
    addresses: list[Address] = []
    by_kernel: list[Address] = []
    tentative, dadfailed = [], []
    for body in rtnl.dump(request, MAX_ADDRESSES, "addresses"):
        family, prefix, scope, ifindex, attributes = nl.unpack_address(body)
        if ifindex != link.ifindex or family not in _FAMILIES:
            continue
        flags = _u32(attributes[nl.IFA_FLAGS])
        address = _address(family, prefix, scope, flags, attributes)
        if flags & IFA_F_DADFAILED:
            dadfailed.append(address.address)
        elif flags & IFA_F_TENTATIVE:
            tentative.append(address.address)
        made_by_kernel = _made_by_kernel(address, flags, attributes, link.mac)
        (by_kernel if made_by_kernel else addresses).append(address)
    return tuple(addresses), tuple(by_kernel), tuple(tentative), tuple(dadfailed)


def _address(
    family: int, prefix: int, scope: int, flags: int, attributes: dict[int, bytes]
) -> Address:
    # The kernel leaves out an IPv4 peer that is 0.0.0.0 (inet_fill_ifaddr).
    any_address = bytes(4 if family == AF_INET else 16)
    far = attributes.get(nl.IFA_ADDRESS, any_address)
    local = attributes.get(nl.IFA_LOCAL, far)
    broadcast = attributes.get(nl.IFA_BROADCAST)
    label = attributes.get(nl.IFA_LABEL)
    preferred, valid = struct.unpack_from("=II", attributes[nl.IFA_CACHEINFO])
    return Address(
        family=_FAMILIES[family],
        address=inet_ntop(family, local),
        prefix=prefix,
        broadcast=inet_ntop(family, broadcast) if broadcast else None,
        scope=scope,
        label=_string(label) if label else None,
        flags=flags & ~IFA_DERIVED,
        valid=valid,
        preferred=preferred,
        peer=inet_ntop(family, far) if far != local else None,
    )


def _made_by_kernel(address: Address, flags: int, attributes: dict[int, bytes], mac: str) -> bool:
    """Whether the kernel makes this address by itself on a link of this MAC: nothing to restore.

    IFA_PROTO says so since 5.18; before that, the derived link-local address and everything that
    router advertisements made (never permanent) are told by their looks.
    """
    if address.family == 4:
        return False
    if attributes.get(nl.IFA_PROTO, b"\0") != b"\0":
        return True
    return address.address == link_local_of(mac) or not flags & IFA_F_PERMANENT


def link_local_of(mac: str) -> str:
    """The EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    if len(octets) != 6:
        return ""
    octets[0] ^= 2
    eui = bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return inet_ntop(AF_INET6, b"\xfe\x80" + bytes(6) + eui)


def _routes(rtnl: nl.Rtnetlink, ifindex: int) -> tuple[tuple[Route, ...], tuple[str, ...]]:
    """The routes that somebody made, and the prefixes of the kernel's own in the main table.

    A multipath route has no RTA_OIF, but a list of nexthops: it is left out, whole.
    """
    request = nl.Message(
        nl.RTM_GETROUTE, 0, nl.route_body(0, 0, 0, 0, 0, 0, 0, 0, nl.u32(nl.RTA_OIF, ifindex))
    )
    routes, by_kernel = [], []
    for body in rtnl.dump(request, MAX_ROUTES, "routes"):
        header, attributes = nl.unpack_route(body)
        family, prefix, _, _, table, protocol, _, _, flags = header
        through = attributes.get(nl.RTA_OIF)
        if family not in _FAMILIES or through is None or _u32(through) != ifindex:
            continue
        if flags & _RTM_F_CLONED:
            continue
        if protocol not in _KERNELS_OWN_PROTOCOLS or table not in _KERNELS_OWN_TABLES:
            routes.append(_route(header, attributes))
        elif table == RT_TABLE_MAIN:
            by_kernel.append(_dst(family, prefix, attributes))
    return tuple(routes), tuple(by_kernel)


def _dst(family: int, prefix: int, attributes: dict[int, bytes]) -> str:
    any_address = bytes(4 if family == AF_INET else 16)
    return f"{inet_ntop(family, attributes.get(nl.RTA_DST, any_address))}/{prefix}"


def _route(header: tuple[int, ...], attributes: dict[int, bytes]) -> Route:
    family, prefix, _, tos, table, protocol, scope, kind, flags = header
    gateway = attributes.get(nl.RTA_GATEWAY)
    via = attributes.get(nl.RTA_VIA)
    prefsrc = attributes.get(nl.RTA_PREFSRC)
    long_table = attributes.get(nl.RTA_TABLE)
    metrics = nl.attributes_of(attributes.get(nl.RTA_METRICS, b""))
    return Route(
        family=_FAMILIES[family],
        dst=_dst(family, prefix, attributes),
        gateway=inet_ntop(family, gateway) if gateway else _via(via),
        table=_u32(long_table) if long_table else table,
        metric=_u32(attributes.get(nl.RTA_PRIORITY, bytes(4))),
        scope=scope,
        type=kind,
        protocol=protocol,
        prefsrc=inet_ntop(family, prefsrc) if prefsrc else None,
        tos=tos,
        onlink=bool(flags & nl.RTNH_F_ONLINK),
        metrics=tuple((key, _u32(value)) for key, value in metrics.items() if len(value) == 4),
    )


def _via(raw: bytes | None) -> str | None:
    """An IPv4 route's IPv6 gateway (struct rtvia: family, address)."""
    return inet_ntop(AF_INET6, raw[2:]) if raw and len(raw) == 18 else None


def _info(attributes: dict[int, bytes]) -> tuple[str, dict[int, bytes]]:
    info = nl.attributes_of(attributes.get(nl.IFLA_LINKINFO, b""))
    kind = _string(info.get(nl.IFLA_INFO_KIND, b""))
    return kind, nl.attributes_of(info.get(nl.IFLA_INFO_DATA, b""))


def _u32(raw: bytes) -> int:
    return int.from_bytes(raw[:4], "little")


def _mac(raw: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in raw)


def _string(raw: bytes) -> str:
    return os.fsdecode(raw.rstrip(b"\0"))
