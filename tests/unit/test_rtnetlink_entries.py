"""As test_rtnetlink, of what a link carries: what we send, pyroute2 must read."""

from __future__ import annotations

import struct
from socket import AF_INET6
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_repair.base.frozen import replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.model import FOREVER, Address, Hop, Neighbour, Route, Rule
from cni_repair.network.operations.address import AddAddress, ChangeAddress, DropAddress, SetAddress
from cni_repair.network.operations.base import Target
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.operations.rule import AddRule
from tests.unit import strategies as our
from tests.unit.samples import ADDRESS, ADDRESS_6, ROUTE
from tests.unit.wire import (
    FAMILIES,
    METRICS,
    NEW_EXCLUSIVE,
    address_of,
    attributes,
    length_of,
    read_by_pyroute2,
    span,
    wheres,
    without_none,
)


@given(our.addresses, wheres)
def test_address(address: Address, where: Target) -> None:
    message = AddAddress("eth0", address).requests(where)[0]
    assert (message.type, message.flags) == (rt.RTM_NEWADDR, NEW_EXCLUSIVE)
    check_address(message, address, where)


@given(our.addresses, wheres)
def test_address_is_changed_by_what_it_is_added_by(address: Address, where: Target) -> None:
    message = SetAddress("eth0", address).requests(where)[0]
    assert (message.type, message.flags) == (rt.RTM_NEWADDR, 0x500)  # create, replace
    check_address(message, address, where)


@given(our.addresses, wheres)
def test_address_is_dropped_by_what_tells_it_apart(address: Address, where: Target) -> None:
    message = DropAddress("eth0", address).requests(where)[0]
    read = read_by_pyroute2(ifaddrmsg, message)
    assert (message.type, message.flags) == (rt.RTM_DELADDR, 0)
    assert (read["family"], read["prefixlen"]) == (FAMILIES[address.family], address.prefix)
    assert read["index"] == where.ifindex
    assert attributes(read) == {
        "IFA_LOCAL": address.address,
        "IFA_ADDRESS": address.peer or address.address,
    }


def test_address_that_joins_a_group_makes_the_kernel_leave_it_first() -> None:
    """Its socket is still in the group of the address that went with the link."""
    joining = replace(ADDRESS, flags=0x600)
    plain = replace(ADDRESS, flags=0x200)
    add = AddAddress("eth0", joining)
    assert add.steps == (AddAddress("eth0", plain), DropAddress("eth0", plain), add)
    assert AddAddress("eth0", plain).steps == (AddAddress("eth0", plain),)
    assert ChangeAddress("eth0", joining, plain).steps == (DropAddress("eth0", plain), *add.steps)


CHANGES: dict[str, tuple[Address, Address, bool]] = {
    # as it was, as it is; whether the kernel changes it in place
    "ipv4-broadcast": (ADDRESS, replace(ADDRESS, broadcast=None), False),
    "ipv4-label": (ADDRESS, replace(ADDRESS, label="eth0:1"), False),
    "ipv4-scope": (ADDRESS, replace(ADDRESS, scope=253), False),
    "ipv4-flags": (ADDRESS, replace(ADDRESS, flags=0x200), False),
    "ipv4-metric": (ADDRESS, replace(ADDRESS, metric=7), True),
    "ipv4-lifetime": (replace(ADDRESS, valid=60), ADDRESS, True),
    "ipv4-metric-and-label": (ADDRESS, replace(ADDRESS, metric=7, label="eth0:1"), False),
    "ipv6-flags": (ADDRESS_6, replace(ADDRESS_6, flags=0x200), True),
    "ipv6-peer": (ADDRESS_6, replace(ADDRESS_6, peer="fd00::1"), True),
    "ipv6-metric": (ADDRESS_6, replace(ADDRESS_6, metric=7), True),
    "ipv6-lifetime": (replace(ADDRESS_6, valid=60), ADDRESS_6, True),
    "ipv6-prefix": (ADDRESS_6, replace(ADDRESS_6, prefix=80), False),
}


@pytest.mark.parametrize(("wanted", "found", "in_place"), CHANGES.values(), ids=CHANGES.keys())
def test_address_goes_for_a_moment_where_the_kernel_cannot_change_it(
    wanted: Address, found: Address, in_place: bool
) -> None:
    steps = ChangeAddress("eth0", wanted, found).steps
    dropped = (DropAddress("eth0", found), AddAddress("eth0", wanted))
    assert steps == ((SetAddress("eth0", wanted),) if in_place else dropped)


def check_address(message: nl.Message, address: Address, where: Target) -> None:
    read = read_by_pyroute2(ifaddrmsg, message)
    assert (read["family"], read["prefixlen"]) == (FAMILIES[address.family], address.prefix)
    assert (read["scope"], read["index"]) == (address.scope, where.ifindex)
    found = attributes(read)
    lifetimes = found.pop("IFA_CACHEINFO", {"ifa_valid": FOREVER, "ifa_preferred": FOREVER})
    assert (lifetimes["ifa_valid"], lifetimes["ifa_preferred"]) == (
        address.valid,
        address.preferred,
    )
    assert found == without_none(
        IFA_LOCAL=address.address,
        IFA_ADDRESS=address.peer or address.address,
        IFA_BROADCAST=address.broadcast,
        IFA_LABEL=address.label,
        IFA_FLAGS=address.flags or None,
        IFA_RT_PRIORITY=address.metric or None,
        IFA_PROTO=address.proto or None,
    )


@given(our.single_routes, wheres)
def test_route(route: Route, where: Target) -> None:
    message = AddRoute("eth0", route).requests(where)[0]
    read = read_by_pyroute2(rtmsg, message)
    found = check_route(read, route)
    assert (message.type, message.flags) == (rt.RTM_NEWROUTE, NEW_EXCLUSIVE)
    assert read["flags"] == (4 if route.onlink else 0)
    assert found == {"RTA_OIF": where.ifindex, **gateway(route), **realm(route)}


def check_route(read: Any, route: Route) -> dict[str, Any]:
    """All but by which ways it goes; returns the attributes that say so."""
    dst, _, prefix = route.dst.partition("/")
    assert (read["family"], read["dst_len"]) == (FAMILIES[route.family], int(prefix))
    assert (read["src_len"], read["tos"]) == (length_of(route.src), route.tos)
    assert (read["scope"], read["type"], read["proto"]) == (
        route.scope,
        route.type,
        route.protocol,
    )
    assert read["table"] == (route.table if route.table < 256 else 0)
    found = attributes(read)
    expires = found.pop("RTA_EXPIRES", "00:00:00:00")  # pyroute2 shows bytes
    assert bytes.fromhex(expires.replace(":", "")) == struct.pack("=I", route.expires)
    metrics = found.pop("RTA_METRICS", {})
    assert metrics.pop("RTAX_CC_ALGO", None) == route.congctl
    assert {METRICS[name]: value for name, value in metrics.items()} == dict(route.metrics)
    expected = without_none(
        RTA_TABLE=route.table,
        RTA_DST=dst if int(prefix) else None,
        RTA_SRC=address_of(route.src),
        RTA_PRIORITY=route.metric or None,
        RTA_PREFSRC=route.prefsrc,
        RTA_PREF=route.pref or None,
    )
    assert {name: found.pop(name, None) for name in expected} == expected
    return found


def gateway(way: Route | Hop) -> dict[str, Any]:
    """It may be of the other family: an IPv4 route by way of an IPv6 router."""
    if way.gateway is None:
        return {}
    if ":" in way.gateway and not (isinstance(way, Route) and way.family == 6):
        return {"RTA_VIA": {"family": AF_INET6, "addr": way.gateway}}
    return {"RTA_GATEWAY": way.gateway}


def realm(way: Route | Hop) -> dict[str, Any]:
    return {"RTA_FLOW": way.realm} if way.realm else {}


@given(our.multipath_routes, wheres, st.integers(1, 0xFFFF))
def test_ipv4_route_by_several_ways(route: Route, where: Target, first: int) -> None:
    """Other links by their index, which `where` knows; the interface itself is in no doubt."""
    names = sorted({hop.ifname for hop in route.hops} - {"eth0"})
    links = {name: first + place for place, name in enumerate(names)}
    message = AddRoute("eth0", route).requests(replace(where, links=tuple(links.items())))[0]
    read = read_by_pyroute2(rtmsg, message)
    found = check_route(read, route)
    assert (message.type, message.flags, read["flags"]) == (rt.RTM_NEWROUTE, NEW_EXCLUSIVE, 0)
    ways = [
        (hop["oif"], hop["hops"] + 1, hop["flags"], attributes(hop))
        for hop in found.pop("RTA_MULTIPATH")
    ]
    assert found == {}
    links["eth0"] = where.ifindex
    assert ways == [
        (links[hop.ifname], hop.weight, 4 if hop.onlink else 0, {**gateway(hop), **realm(hop)})
        for hop in route.hops
    ]


@given(our.shared_routes, wheres)
def test_hop_of_an_ipv6_route_is_written_as_several_for_its_weight(
    route: Route, where: Target
) -> None:
    """An entry of RTA_MULTIPATH is the only place for a weight."""
    message = AddRoute("eth0", route, "append").requests(where)[0]
    read = read_by_pyroute2(rtmsg, message)
    found = check_route(read, route)
    assert (message.type, message.flags) == (rt.RTM_NEWROUTE, 0xC00)  # create, append
    if route.weight > 1:
        (hop,) = found.pop("RTA_MULTIPATH")
        assert (hop["oif"], hop["hops"] + 1) == (where.ifindex, route.weight)
        assert hop["flags"] == (4 if route.onlink else 0)
        assert attributes(hop) == gateway(route)
        assert found == {}
    else:
        assert found == {"RTA_OIF": where.ifindex, **gateway(route)}


@pytest.mark.parametrize(("how", "flags"), [("add", 0x600), ("replace", 0x500), ("append", 0xC00)])
def test_route_stands_beside_others_or_in_their_place(how: str, flags: int) -> None:
    for route in (ROUTE, replace(ROUTE, gateway=None, hops=(Hop("eth0"),))):
        assert AddRoute("eth0", route, how).requests(Target(7, 5))[0].flags == flags


@given(our.single_routes, wheres)
def test_route_is_dropped_by_what_it_is_added_by(route: Route, where: Target) -> None:
    message = DropRoute("eth0", route).requests(where)[0]
    assert (message.type, message.flags) == (rt.RTM_DELROUTE, 0)
    assert message.body == AddRoute("eth0", route).requests(where)[0].body


@given(our.rules, wheres)
def test_rule(rule: Rule, where: Target) -> None:
    message = AddRule(rule).requests(where)[0]
    read = read_by_pyroute2(fibmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWRULE, NEW_EXCLUSIVE)
    assert (read["family"], read["action"]) == (FAMILIES[rule.family], rule.action)
    assert (read["dst_len"], read["src_len"]) == (length_of(rule.dst), length_of(rule.src))
    assert read["table"] == (rule.table if rule.table < 256 else 0)
    assert (read["tos"], read["flags"]) == (rule.tos, 2 if rule.invert else 0)
    marked = rule.fwmark or rule.fwmask
    assert attributes(read) == without_none(
        FRA_PRIORITY=rule.priority,
        FRA_TABLE=rule.table,
        FRA_SRC=address_of(rule.src),
        FRA_DST=address_of(rule.dst),
        FRA_IIFNAME=rule.iif,
        FRA_OIFNAME=rule.oif,
        FRA_FWMARK=rule.fwmark if marked else None,
        FRA_FWMASK=rule.fwmask if marked else None,
        FRA_SUPPRESS_PREFIXLEN=rule.suppress_prefixlength,
        FRA_IP_PROTO=rule.ip_proto or None,
        FRA_PROTOCOL=rule.protocol or None,
        FRA_SPORT_RANGE=span(rule.sport),
        FRA_DPORT_RANGE=span(rule.dport),
        FRA_UID_RANGE=span(rule.uid_range),
    )


@given(our.neighbours, wheres)
def test_neighbour(neighbour: Neighbour, where: Target) -> None:
    message = SetNeighbour("eth0", neighbour).requests(where)[0]
    read = read_by_pyroute2(ndmsg, message)
    assert (message.type, message.flags) == (rt.RTM_NEWNEIGH, 0x500)  # create, replace
    assert (read["family"], read["ifindex"]) == (FAMILIES[neighbour.family], where.ifindex)
    proxy = neighbour.mac is None
    assert (read["state"], read["flags"]) == (
        0 if proxy else 0x80,
        neighbour.flags | (0x08 if proxy else 0),
    )
    assert attributes(read) == without_none(
        NDA_DST=neighbour.address,
        NDA_LLADDR=neighbour.mac,
        NDA_PROTOCOL=neighbour.protocol or None,
    )
