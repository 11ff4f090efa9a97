"""The routes through a pod's interface: somebody's, and which of the kernel's own are there."""

from __future__ import annotations

import struct

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink
from cni_repair.network.model import RT_TABLE_LOCAL, RT_TABLE_MAIN, RTPROT_KERNEL, Hop, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ROUTES = 4096
_MAX_BYTES = 256 * MAX_ROUTES  # one with hundreds of next hops counts for many

# RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA. In other tables such routes are copies (sbr's).
_KERNELS_OWN_PROTOCOLS = {1, RTPROT_KERNEL, 9}
_KERNELS_OWN_TABLES = {RT_TABLE_MAIN, RT_TABLE_LOCAL}
_RTM_F_CLONED = 0x200
_RTAX_CC_ALGO = 16
_TICKS = 100  # USER_HZ, the same on every architecture that Linux still has


@frozen
class Routes:
    """What goes through a link."""

    configured: tuple[Route, ...] = ()
    by_kernel: tuple[str, ...] = ()  # the prefixes of the kernel's own in the main table


def read_routes(rtnl: Rtnetlink, ifindex: int, ifname: str) -> Routes:
    """Those through a link, in all tables; of an IPv4 multipath route all of its next hops.

    A route with an encapsulation, which a checkpoint cannot hold, is left out: half of it would
    lead packets elsewhere.
    """
    request = nl.Message(
        rt.RTM_GETROUTE, 0, nl.route_body(0, 0, 0, 0, 0, 0, 0, 0, nl.u32(rt.RTA_OIF, ifindex))
    )
    name_of = _namer(rtnl, ifindex, ifname)
    routes: list[Route] = []
    by_kernel = []
    for body in rtnl.dump(request, MAX_ROUTES, "routes", at_most_bytes=_MAX_BYTES):
        header = nl.route_header(body)
        family, prefix, _, _, table, protocol, _, _, flags = header
        if family not in nl.FAMILIES or flags & _RTM_F_CLONED:
            continue
        is_kernels = protocol in _KERNELS_OWN_PROTOCOLS and table in _KERNELS_OWN_TABLES
        if is_kernels and table != RT_TABLE_MAIN:
            continue  # (most of them: three for each address)
        attributes = nl.route_attributes(body)
        if is_kernels:
            if _goes_through(attributes, ifindex):
                by_kernel.append(_dst(family, prefix, attributes))
        elif rt.RTA_ENCAP not in attributes:
            routes += _routes(header, attributes, ifindex, name_of)
    return Routes(tuple(routes), tuple(by_kernel))


def _namer(rtnl: Rtnetlink, ifindex: int, ifname: str) -> Callable[[int], str]:
    """The names of the links that next hops go through; empty for one that is gone."""
    names = {ifindex: ifname}

    def name_of(index: int) -> str:
        if index not in names:
            request = nl.Message(rt.RTM_GETLINK, 0, nl.link_body(index, 0, 0, b""))
            answer = rtnl.get([request])[0]
            raw = b"" if isinstance(answer, Ack) else nl.unpack_link(answer)[2][rt.IFLA_IFNAME]
            names[index] = nl.string_of(raw)
        return names[index]

    return name_of


def _goes_through(attributes: dict[int, bytes], ifindex: int) -> bool:
    through = attributes.get(rt.RTA_OIF)
    return through is not None and nl.u32_of(through) == ifindex


def _expires(attributes: dict[int, bytes]) -> int:
    """Seconds; struct rta_cacheinfo: references, last use, expiry in clock ticks (USER_HZ) …"""
    cache = attributes.get(rt.RTA_CACHEINFO, b"")
    ticks: int = struct.unpack_from("=i", cache, 8)[0] if len(cache) >= 12 else 0
    # Below 0: it has expired, and waits to be collected.
    return max(1, ticks // _TICKS) if ticks else 0


def _routes(
    header: tuple[int, ...],
    attributes: dict[int, bytes],
    ifindex: int,
    name_of: Callable[[int], str],
) -> list[Route]:
    """The route; of an IPv6 multipath one, one for each of its next hops through the link."""
    if rt.RTA_MULTIPATH not in attributes:
        return [_route(header, attributes)] if _goes_through(attributes, ifindex) else []
    entries = nl.unpack_nexthops(attributes[rt.RTA_MULTIPATH])
    if any(rt.RTA_ENCAP in own for _, _, _, own in entries):
        return []
    route = _route(header, attributes)
    if header[0] == AF_INET6:
        return [
            replace(
                route,
                gateway=_gateway(AF_INET6, own),
                onlink=bool(flags & rt.RTNH_F_ONLINK),
                weight=weight,
                shared=True,
            )
            for flags, weight, index, own in entries
            if index == ifindex
        ]
    hops = tuple(
        Hop(
            ifname=name_of(index),
            gateway=_gateway(AF_INET, own),
            weight=weight,
            onlink=bool(flags & rt.RTNH_F_ONLINK),
            realm=nl.u32_of(own.get(rt.RTA_FLOW, bytes(4))),
        )
        for flags, weight, index, own in entries
    )
    through_it = any(index == ifindex for _, _, index, _ in entries)
    return [replace(route, hops=hops)] if through_it and all(hop.ifname for hop in hops) else []


def _route(header: tuple[int, ...], attributes: dict[int, bytes]) -> Route:
    family, prefix, source, tos, table, protocol, scope, kind, flags = header
    prefsrc = attributes.get(rt.RTA_PREFSRC)
    long_table = attributes.get(rt.RTA_TABLE)
    metrics = nl.attributes_of(attributes.get(rt.RTA_METRICS, b""))
    congctl = metrics.pop(_RTAX_CC_ALGO, b"")
    return Route(
        family=nl.FAMILIES[family],
        dst=_dst(family, prefix, attributes),
        gateway=_gateway(family, attributes),
        table=nl.u32_of(long_table) if long_table else table,
        metric=nl.u32_of(attributes.get(rt.RTA_PRIORITY, bytes(4))),
        scope=scope,
        type=kind,
        protocol=protocol,
        prefsrc=inet_ntop(family, prefsrc) if prefsrc else None,
        tos=tos,
        onlink=bool(flags & rt.RTNH_F_ONLINK),
        metrics=tuple((key, nl.u32_of(value)) for key, value in metrics.items() if len(value) == 4),
        src=f"{inet_ntop(family, attributes[rt.RTA_SRC])}/{source}" if source else None,
        congctl=congctl.rstrip(b"\0").decode("ascii", "replace") or None,
        realm=nl.u32_of(attributes.get(rt.RTA_FLOW, bytes(4))),
        pref=attributes.get(rt.RTA_PREF, b"\0")[0],
        expires=_expires(attributes),
    )


def _dst(family: int, prefix: int, attributes: dict[int, bytes]) -> str:
    any_address = bytes(4 if family == AF_INET else 16)
    return f"{inet_ntop(family, attributes.get(rt.RTA_DST, any_address))}/{prefix}"


def _gateway(family: int, attributes: dict[int, bytes]) -> str | None:
    """A next hop's; of an IPv4 route, too, it may be IPv6 (struct rtvia: family, address)."""
    gateway = attributes.get(rt.RTA_GATEWAY)
    if gateway:
        return inet_ntop(family, gateway)
    via = attributes.get(rt.RTA_VIA, b"")
    return inet_ntop(AF_INET6, via[2:]) if len(via) == 18 else None
