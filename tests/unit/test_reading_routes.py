"""As test_reading, of routes: what pyroute2 writes, as the kernel would, we must read."""

from __future__ import annotations

import struct
from socket import AF_INET6
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_repair.base.frozen import replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel import route as routes
from cni_repair.network.model import Hop, Route
from cni_repair.network.operations.link import Target
from cni_repair.network.operations.route import AddRoute
from tests.unit import strategies as our
from tests.unit.samples import ROUTE, ROUTE_6
from tests.unit.wire import (
    FAMILIES,
    METRICS,
    Attributes,
    address_of,
    length_of,
    wheres,
    written_by_pyroute2,
)

seconds = st.integers(1, 0x7FFFFFFF // 100)  # the kernel tells them in ticks, as an int


def lasting(route: Route, left: int) -> Route:
    return replace(route, expires=left if route.expires else 0)


lasting_routes = st.builds(lasting, our.single_routes, seconds)
lasting_shared = st.builds(lasting, our.shared_routes, seconds)
NAMES = {number: name for name, number in METRICS.items()}


def kernels_route(route: Route, ways: Attributes, flags: int = 0) -> bytes:
    """As fib_dump_info() and rt6_fill_node() write it; `ways` say where it goes."""
    dst, _, prefix = route.dst.partition("/")
    attrs: Attributes = [("RTA_TABLE", route.table), *ways]
    told = {
        "RTA_DST": dst if int(prefix) else None,
        "RTA_SRC": address_of(route.src),
        "RTA_PRIORITY": route.metric or None,
        "RTA_PREFSRC": route.prefsrc,
        "RTA_PREF": route.pref if route.family == 6 or route.pref else None,
    }
    attrs += [(name, value) for name, value in told.items() if value is not None]
    metrics: Attributes = [(NAMES[key], value) for key, value in route.metrics]
    metrics += [("RTAX_CC_ALGO", route.congctl)] if route.congctl else []
    attrs += [("RTA_METRICS", {"attrs": metrics})] if metrics else []
    if route.expires:
        attrs.append(("RTA_CACHEINFO", {"rta_expires": route.expires * 100}))
    return written_by_pyroute2(
        rtmsg, attrs, family=FAMILIES[route.family], dst_len=int(prefix), tos=route.tos,
        table=route.table if route.table < 256 else 252, proto=route.protocol, scope=route.scope,
        type=route.type, flags=flags, src_len=length_of(route.src),
    )  # fmt: skip


def as_read(route: Route) -> Route:
    """The kernel writes no address for a length of 0."""
    if length_of(route.dst):
        return route
    return replace(route, dst="0.0.0.0/0" if route.family == 4 else "::/0")


def way(gateway: str | None, family: int, realm: int) -> Attributes:
    attrs: Attributes = [("RTA_FLOW", realm)] if realm else []
    if gateway is None:
        return attrs
    if family == 4 and ":" in gateway:
        return [*attrs, ("RTA_VIA", {"family": AF_INET6, "addr": gateway})]
    return [*attrs, ("RTA_GATEWAY", gateway)]


OTHERS = {1_000_001: "net1", 1_000_002: "net2"}
IFINDEX = 5


def routes_in(body: bytes, ifindex: int = IFINDEX) -> list[Route]:
    names = {**OTHERS, ifindex: "eth0"}
    header, attributes = nl.route_header(body), nl.route_attributes(body)
    return routes._routes(header, attributes, ifindex, lambda index: names.get(index, ""))


@given(lasting_routes, st.booleans())
def test_route_as_the_kernel_shows_it(route: Route, has_cache: bool) -> None:
    ways: Attributes = [("RTA_OIF", IFINDEX)]
    ways += way(route.gateway, route.family, route.realm)
    if has_cache and not route.expires:
        ways.append(("RTA_CACHEINFO", {"rta_expires": 0}))
    body = kernels_route(route, ways, flags=(4 if route.onlink else 0) | 0x10)  # RTNH_F_LINKDOWN
    assert routes_in(body) == [as_read(route)]
    assert routes_in(body, IFINDEX + 1) == []


@given(our.single_routes, wheres)
def test_route_that_we_add_is_read_back_as_it_was(route: Route, where: Target) -> None:
    body = AddRoute("eth0", route).message(where).body
    expected = replace(as_read(route), expires=0)  # said in one attribute, shown in another
    assert routes_in(body, where.ifindex) == [expected]


@given(our.shared_routes, wheres)
def test_hop_that_we_append_is_read_back_as_it_was(route: Route, where: Target) -> None:
    """Alone it is a route like others; with a weight our own message has it as one of several."""
    body = AddRoute("eth0", route, "append").message(where).body
    expected = replace(as_read(route), shared=route.weight > 1, expires=0)
    assert routes_in(body, where.ifindex) == [expected]


def kernels_hop(hop: Hop, family: int = 4) -> dict[str, Any]:
    indices = {"eth0": IFINDEX, **{name: index for index, name in OTHERS.items()}}
    return {
        "oif": indices[hop.ifname],
        "hops": hop.weight - 1,
        "flags": 4 if hop.onlink else 0,
        "attrs": way(hop.gateway, family, hop.realm),
    }


hops = st.builds(replace, our.hops, ifname=st.sampled_from(["eth0", *OTHERS.values()]))


@given(our.multipath_routes, st.lists(hops, min_size=2, max_size=4))
def test_ipv4_route_by_several_ways_is_one_route(route: Route, ways: list[Hop]) -> None:
    """All of its hops, whichever link they go through: it goes as a whole."""
    body = kernels_route(route, [("RTA_MULTIPATH", [kernels_hop(one) for one in ways])])
    through_it = any(one.ifname == "eth0" for one in ways)
    expected = [replace(as_read(route), hops=tuple(ways))] if through_it else []
    assert routes_in(body) == expected


@given(our.multipath_routes, wheres)
def test_several_ways_that_we_add_are_read_back_as_they_were(route: Route, where: Target) -> None:
    here = tuple(replace(hop, ifname="eth0") for hop in route.hops)
    route = replace(route, hops=here)
    body = AddRoute("eth0", route).message(where).body
    assert routes_in(body, where.ifindex) == [as_read(route)]


@given(lasting_shared, st.lists(hops, min_size=2, max_size=4))
def test_ipv6_route_by_several_ways_is_one_for_each_through_the_link(
    route: Route, ways: list[Hop]
) -> None:
    """Each is a route of its own to the kernel (a sibling), and goes with its own link alone."""
    ways = [
        replace(one, realm=0, gateway=one.gateway if ":" in (one.gateway or "") else None)
        for one in ways
    ]
    body = kernels_route(route, [("RTA_MULTIPATH", [kernels_hop(one, 6) for one in ways])])
    assert routes_in(body) == [
        replace(as_read(route), gateway=one.gateway, onlink=one.onlink, weight=one.weight)
        for one in ways
        if one.ifname == "eth0"
    ]


def test_route_by_a_link_that_went_meanwhile_is_not_recorded() -> None:
    gone = {"oif": 99, "hops": 0, "flags": 0, "attrs": []}
    body = kernels_route(ROUTE, [("RTA_MULTIPATH", [kernels_hop(Hop("eth0")), gone])])
    assert routes_in(body) == []


def test_route_with_an_encapsulation_is_not_recorded() -> None:
    """Half of it would lead packets elsewhere."""
    encap = nl.attribute(21, b"\1\0") + nl.attribute(22, nl.u32(1, 0))
    entries = nl.nexthop(0, 1, IFINDEX, b"") + nl.nexthop(0, 1, 1_000_001, encap)
    several = kernels_route(ROUTE, []) + nl.attribute(rt.RTA_MULTIPATH, entries)
    assert routes_in(several) == []


@pytest.mark.parametrize(("ticks", "left"), [(0, 0), (1, 1), (99, 1), (100, 1), (180_050, 1800)])
def test_seconds_that_an_ipv6_route_has_left(ticks: int, left: int) -> None:
    """Rounded down, but never to 0, which would be for ever."""
    cache = struct.pack("=IIiIIIII", 1, 0, ticks, 0, 0, 0, 0, 0)
    body = kernels_route(ROUTE_6, [("RTA_OIF", IFINDEX), *way(ROUTE_6.gateway, 6, 0)])
    body += nl.attribute(rt.RTA_CACHEINFO, cache)
    assert routes_in(body) == [replace(ROUTE_6, expires=left)]
