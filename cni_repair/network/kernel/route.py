"""The routes through a pod's interface: somebody's, and which of the kernel's own are there."""

from __future__ import annotations

import struct

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.kinds import (
    Kind,
    Misfit,
    flag,
    ifname,
    integer,
    ip_address,
    ip_prefix,
    list_of,
    one_of,
    record_of,
    text,
)
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.table import (
    ALWAYS,
    NEVER,
    SCOPES,
    SETTLED,
    UINT8,
    UINT32,
    Field,
    Table,
)
from cni_repair.network.model import RT_TABLE_LOCAL, RT_TABLE_MAIN, RTPROT_KERNEL, Hop, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

MAX_ROUTES = 4096
MAX_BYTES = 256 * MAX_ROUTES  # one with hundreds of next hops counts for many

# RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA. In other tables such routes are copies (sbr's).
_KERNELS_OWN_PROTOCOLS = {1, RTPROT_KERNEL, 9}
_KERNELS_OWN_TABLES = {RT_TABLE_MAIN, RT_TABLE_LOCAL}
RTAX_CC_ALGO = 16
_RTAX_MAX = 17  # RTAX_FASTOPEN_NO_COOKIE, include/uapi/linux/rtnetlink.h
_TICKS = 100  # USER_HZ, the same on every architecture that Linux still has

# include/uapi/linux/rtnetlink.h, as iproute2 writes them
_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
    7: "unreachable", 8: "prohibit", 9: "throw", 10: "nat",
}  # fmt: skip
_PREFERENCES = {1: "high", 3: "low"}  # RFC 4191


def _realm_words(realm: int) -> str:
    """The source's realm is the upper half (RTA_FLOW)."""
    return f"realms {realm >> 16}/{realm & 0xFFFF}" if realm >> 16 else f"realms {realm}"


_METRIC = integer(1, _RTAX_MAX)


def _read_metrics(value: object) -> tuple[tuple[int, int], ...]:
    if (
        not isinstance(value, list)
        or len(value) > _RTAX_MAX
        or not all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    ):
        raise Misfit(": expected pairs of metric and value")
    return tuple([(_METRIC.read(metric), UINT32.read(setting)) for metric, setting in value])


METRICS = Kind(
    _read_metrics,
    lambda inner: {
        "type": "array",
        "maxItems": _RTAX_MAX,
        "items": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "prefixItems": [inner(_METRIC), inner(UINT32)],
        },
    },
)


_IN_HEADER = "struct rtmsg"
_HOP_HEADER = "struct rtnexthop"
_PREFIX = "its length in struct rtmsg"
_GATEWAY = {
    "wire": "RTA_GATEWAY; of the other family RTA_VIA",
    "word": "via, via inet6",
}
_METRICS = {"wire": "RTA_METRICS", "word": "a word for each"}
HOP = Table(
    Hop,
    Field("gateway", ip_address, because=_GATEWAY),
    Field("ifname", ifname, because={"wire": "its index in struct rtnexthop", "word": "dev"}),
    Field("weight", integer(1, 256), word="weight {}", because={"wire": _HOP_HEADER}),
    Field("realm", UINT32, rt.RTA_FLOW, nl.U32, _realm_words),
    Field("onlink", flag, word=lambda _: "onlink", because={"wire": _HOP_HEADER}),
)
_HOP_IS_IN = {"wire": "RTA_MULTIPATH", "word": "nexthop"}
TABLE = Table(
    Route,
    Field(
        "family", one_of(4, 6), compared=ALWAYS, because={"wire": _IN_HEADER, "word": "ip, ip -6"}
    ),
    Field(
        "type",
        UINT8,
        word=lambda kind: _TYPES.get(kind, str(kind)),
        compared=ALWAYS,
        because={"wire": _IN_HEADER},
    ),
    Field("dst", ip_prefix, word="{}", compared=ALWAYS, of_family=True, because={"wire": _PREFIX}),
    Field(
        "src",
        ip_prefix,
        word="from {}",
        compared=ALWAYS,
        of_family=True,
        because={"wire": _PREFIX},
    ),
    Field("tos", UINT8, word="tos {:#x}", compared=ALWAYS, because={"wire": _IN_HEADER}),
    Field("gateway", ip_address, compared=ALWAYS, because=_GATEWAY),
    Field("onlink", flag, because={"wire": _IN_HEADER, "word": "after the device"}),
    # Before, one that stands in another table was moved by a later plugin (sbr).
    Field("table", UINT32, rt.RTA_TABLE, nl.U32, "table {}", compared=SETTLED, always_sent=True),
    Field("protocol", UINT8, word="proto {}", because={"wire": _IN_HEADER}),
    Field(
        "scope",
        UINT8,
        word=lambda scope: f"scope {SCOPES.get(scope, scope)}",
        because={"wire": _IN_HEADER},
    ),
    Field("metric", UINT32, rt.RTA_PRIORITY, nl.U32, "metric {}", compared=ALWAYS),
    Field("prefsrc", ip_address, rt.RTA_PREFSRC, nl.IP, "src {}", of_family=True),
    Field("realm", UINT32, rt.RTA_FLOW, nl.U32, _realm_words),
    Field(
        "expires",
        UINT32,
        word="expires {}",
        because={"wire": "read of RTA_CACHEINFO, in ticks; set by RTA_EXPIRES, in seconds"},
    ),
    Field(
        "pref",
        UINT8,
        rt.RTA_PREF,
        nl.U8,
        lambda pref: f"pref {_PREFERENCES.get(pref, pref)}",
    ),
    Field("metrics", METRICS, because=_METRICS),
    Field("congctl", text, because=_METRICS),
    Field("hops", list_of(record_of(Hop, HOP.readers)), compared=ALWAYS, because=_HOP_IS_IN),
    Field("weight", integer(1, 256), because=_HOP_IS_IN),
    Field(
        "shared",
        flag,
        compared=NEVER,
        because={
            "wire": "one of several entries of RTA_MULTIPATH",
            "word": "append",
            "compared": "whether there are other next hops is for their own links to say",
        },
    ),
)


# --- writing --------------------------------------------------------------------------------------


def encode(route: Route, ifname: str, ifindex: int, links: Iterable[tuple[str, int]] = ()) -> bytes:
    """What RTM_NEWROUTE and RTM_DELROUTE say of a route through the link of that name and index;
    `links`: the pod's others that its next hops go through."""
    family = nl.NUMBERS[route.family]
    dst, length = _ends(rt.RTA_DST, route.dst)
    src, source_length = _ends(rt.RTA_SRC, route.src)
    flags = 0
    several = hops_of(route, ifname)
    if several:
        indices = {**dict(links), ifname: ifindex}
        entries = (_encode_hop(hop, route.family, indices) for hop in several)
        way = nl.attribute(rt.RTA_MULTIPATH, b"".join(entries))
    else:
        way = nl.u32(rt.RTA_OIF, ifindex) + _gateway(route.gateway, route.family)
        flags = rt.RTNH_F_ONLINK if route.onlink else 0
    # (Of several next hops, each has its own realm.)
    plain = replace(route, realm=0) if route.realm and route.hops else route
    attributes = way + dst + src + TABLE.encode(plain) + _expiry(route) + _metrics(route)
    header = (
        family, length, source_length, route.tos, nl.short_table(route.table), route.protocol,
        route.scope, route.type, flags,
    )  # fmt: skip
    return nl.route_body(header, attributes)


def hops_of(route: Route, ifname: str) -> tuple[Hop, ...]:
    """The next hops where a route has to be written as several: a weight needs that, too."""
    if route.hops or route.weight == 1:
        return route.hops
    return (Hop(ifname, route.gateway, route.weight, route.onlink),)


def is_foreign(gateway: str, family: int) -> bool:
    """Whether it is an IPv6 gateway of an IPv4 route."""
    return family == 4 and ":" in gateway


def _encode_hop(hop: Hop, family: int, indices: dict[str, int]) -> bytes:
    attributes = _gateway(hop.gateway, family) + HOP.encode(hop)
    flags = rt.RTNH_F_ONLINK if hop.onlink else 0
    return nl.nexthop(flags, hop.weight, indices[hop.ifname], attributes)


def _gateway(gateway: str | None, family: int) -> bytes:
    if gateway is None:
        return b""
    if is_foreign(gateway, family):
        via = struct.pack("=H", AF_INET6) + inet_pton(AF_INET6, gateway)
        return nl.attribute(rt.RTA_VIA, via)
    return nl.ip(rt.RTA_GATEWAY, gateway)


def _ends(kind: int, prefix: str | None) -> tuple[bytes, int]:
    """An address and its prefix's length; the default route's address is not said."""
    address, _, length = (prefix or "/0").partition("/")
    return nl.ip(kind, address) if length != "0" else b"", int(length)


def _expiry(route: Route) -> bytes:
    return nl.u32(rt.RTA_EXPIRES, route.expires) if route.expires else b""


def _metrics(route: Route) -> bytes:
    settings = b"".join([nl.u32(key, value) for key, value in route.metrics])
    settings += nl.text(RTAX_CC_ALGO, route.congctl) if route.congctl else b""
    return nl.attribute(rt.RTA_METRICS, settings) if settings else b""


# --- reading --------------------------------------------------------------------------------------


@frozen
class Routes:
    """What goes through a link."""

    configured: tuple[Route, ...] = ()
    by_kernel: tuple[str, ...] = ()  # the prefixes of the kernel's own in the main table


def routes_request(ifindex: int) -> nl.Message:
    """Asks for a dump of the routes through a link, of all tables."""
    attributes = nl.u32(rt.RTA_OIF, ifindex)
    return nl.Message(rt.RTM_GETROUTE, 0, nl.route_body((0,) * 9, attributes))


@nl.decoder
def routes_in(bodies: Iterable[bytes], ifindex: int, name_of: Callable[[int], str]) -> Routes:
    """Those of a dump that go through a link; of an IPv4 multipath route all of its next hops.

    `name_of`: the names of the links that next hops go through; empty for one that is gone. A route
    with an encapsulation, which a checkpoint cannot hold, is left out: half of it would lead
    packets elsewhere.
    """
    routes: list[Route] = []
    by_kernel = []
    for body in bodies:
        header = nl.route_header(body)
        family, prefix, _, _, table, protocol, _, _, flags = header
        if family not in nl.FAMILIES or flags & rt.RTM_F_CLONED:
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


def _goes_through(attributes: dict[int, bytes], ifindex: int) -> bool:
    through = attributes.get(rt.RTA_OIF)
    return through is not None and nl.u32_of(through) == ifindex


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
                gateway=_gateway_of(AF_INET6, own),
                onlink=bool(flags & rt.RTNH_F_ONLINK),
                weight=weight,
                shared=True,
            )
            for flags, weight, index, own in entries
            if index == ifindex
        ]
    hops = tuple(_hop(name_of(index), flags, weight, own) for flags, weight, index, own in entries)
    through_it = any(index == ifindex for _, _, index, _ in entries)
    return [replace(route, hops=hops)] if through_it and all(hop.ifname for hop in hops) else []


def _hop(ifname: str, flags: int, weight: int, attributes: dict[int, bytes]) -> Hop:
    values = HOP.decode(attributes)
    values["ifname"] = ifname
    values["gateway"] = _gateway_of(AF_INET, attributes)
    values["weight"] = weight
    values["onlink"] = bool(flags & rt.RTNH_F_ONLINK)
    return Hop(**values)


def _route(header: tuple[int, ...], attributes: dict[int, bytes]) -> Route:
    family, prefix, source, tos, table, protocol, scope, kind, flags = header
    values = TABLE.decode(attributes)
    values["family"] = nl.FAMILIES[family]
    values["dst"] = _dst(family, prefix, attributes)
    values["gateway"] = _gateway_of(family, attributes)
    values["scope"] = scope
    values["type"] = kind
    values["protocol"] = protocol
    values["tos"] = tos
    values["onlink"] = bool(flags & rt.RTNH_F_ONLINK)
    if rt.RTA_TABLE not in attributes:
        values["table"] = table
    if source:
        values["src"] = f"{inet_ntop(family, attributes[rt.RTA_SRC])}/{source}"
    if rt.RTA_METRICS in attributes:
        _take_metrics(values, nl.attributes_of(attributes[rt.RTA_METRICS]))
    if rt.RTA_CACHEINFO in attributes:
        values["expires"] = _expires(attributes[rt.RTA_CACHEINFO])
    return Route(**values)


def _take_metrics(values: dict[str, Any], settings: dict[int, bytes]) -> None:
    congctl = settings.pop(RTAX_CC_ALGO, b"")
    values["congctl"] = congctl.rstrip(b"\0").decode("ascii", "replace") or None
    values["metrics"] = tuple(
        (key, nl.u32_of(value)) for key, value in settings.items() if len(value) == 4
    )


def _expires(cache: bytes) -> int:
    """Seconds; struct rta_cacheinfo: references, last use, expiry in clock ticks (USER_HZ) …"""
    ticks: int = struct.unpack_from("=i", cache, 8)[0] if len(cache) >= 12 else 0
    # Below 0: it has expired, and waits to be collected.
    return max(1, ticks // _TICKS) if ticks else 0


def _dst(family: int, prefix: int, attributes: dict[int, bytes]) -> str:
    any_address = bytes(4 if family == AF_INET else 16)
    return f"{inet_ntop(family, attributes.get(rt.RTA_DST, any_address))}/{prefix}"


def _gateway_of(family: int, attributes: dict[int, bytes]) -> str | None:
    """A next hop's; of an IPv4 route, too, it may be IPv6 (struct rtvia: family, address)."""
    gateway = attributes.get(rt.RTA_GATEWAY)
    if gateway:
        return inet_ntop(family, gateway)
    via = attributes.get(rt.RTA_VIA, b"")
    return inet_ntop(AF_INET6, via[2:]) if len(via) == 18 else None
