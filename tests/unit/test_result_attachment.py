"""The interface that a Result tells of. What the real plugin makes of one: tests/netns."""

from __future__ import annotations

from typing import Any

import pytest

from cni_repair.checkpoint.result import attachment_in
from cni_repair.network.model import RT_SCOPE_LINK, RT_SCOPE_SITE, Attachment, Route
from tests.unit.samples import LINK, MASTER

Json = dict[str, Any]

V4: Json = {"address": "10.9.0.5/24", "gateway": "10.9.0.1"}
V6: Json = {"address": "fd00:9::5/64", "gateway": "fd00:9::1"}


def told(ips: list[Json], *routes: Json) -> Attachment:
    interfaces = [{"name": "eth0", "mac": LINK.mac}]
    result = {"interfaces": interfaces, "ips": ips, "routes": list(routes)}
    return attachment_in(result, "eth0", (MASTER,), "bridge", 0)


def ways(*routes: Json, ips: list[Json] | None = None) -> list[tuple[str, str | None]]:
    return [(one.dst, one.gateway) for one in told(ips or [V4, V6], *routes).routes]


@pytest.mark.parametrize(
    ("route", "gateway"),
    [
        ({"dst": "0.0.0.0/0"}, "10.9.0.1"),
        ({"dst": "0.0.0.0/0", "gw": None}, "10.9.0.1"),
        ({"dst": "0.0.0.0/0", "gw": "0.0.0.0"}, None),
        ({"dst": "::/0"}, "fd00:9::1"),
        # The reference plugin takes neither; of other plugins it can mean one thing only.
        ({"dst": "::/0", "gw": "::"}, None),
        ({"dst": "::/0", "gw": "0.0.0.0"}, None),
        ({"dst": "0.0.0.0/0", "gw": "::"}, None),
        ({"dst": "0.0.0.0/0", "gw": "fe80::1"}, "fe80::1"),
        ({"dst": "0.0.0.0/0", "gw": "::ffff:10.9.0.2"}, "10.9.0.2"),
    ],
)
def test_gateway(route: Json, gateway: str | None) -> None:
    assert ways(route) == [(route["dst"], gateway)]


def test_zeros_as_an_addresses_gateway_leave_no_room_for_another() -> None:
    zeros = {"address": "10.8.0.5/24", "gateway": "0.0.0.0"}
    assert ways({"dst": "0.0.0.0/0"}, ips=[zeros, V4]) == [("0.0.0.0/0", None)]


def test_the_gateways_own_family_counts() -> None:
    """Not that of the address beside it."""
    v4 = {**V4, "gateway": "fd00:9::1"}
    both = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    assert ways(*both, ips=[v4]) == [("0.0.0.0/0", None), ("::/0", "fd00:9::1")]


def test_of_ipv4_the_last_comes_first() -> None:
    gateways = ["10.9.0.1", "10.9.0.2", "0.0.0.0"]
    found = ways(*({"dst": "0.0.0.0/0", "gw": gateway} for gateway in gateways))
    assert [gateway for _, gateway in found] == [None, "10.9.0.2", "10.9.0.1"]


def test_of_ipv6_they_become_one() -> None:
    gateways = ["fd00:9::1", "fd00:9::2", "fe80::1"]
    found = told([V6], *({"dst": "::/0", "gw": gateway} for gateway in gateways)).routes
    assert [(one.gateway, one.shared) for one in found] == [(one, True) for one in gateways]


@pytest.mark.parametrize(
    ("gateways", "seen"),
    [
        (["::", "fe80::1", "fe80::2"], [None, "fe80::1", "fe80::2"]),
        (["fe80::1", "fe80::2", "::"], ["fe80::1", "fe80::2", None]),
        (["fe80::1", "::", "fe80::2"], ["fe80::1", "fe80::2"]),  # no dump shows it
        (["fe80::1", "::"], ["fe80::1", None]),
    ],
)
def test_of_ipv6_one_without_gateway_is_no_next_hop(
    gateways: list[str], seen: list[str | None]
) -> None:
    found = told([V6], *({"dst": "::/0", "gw": gateway} for gateway in gateways)).routes
    assert [one.gateway for one in found] == seen
    assert not any(one.shared for one in found if one.gateway is None)


def test_the_same_route_twice_is_one() -> None:
    assert ways({"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": "10.9.0.1"}) == [
        ("0.0.0.0/0", "10.9.0.1")
    ]


def test_other_metrics_and_tables_are_other_routes() -> None:
    routes = [{"dst": "0.0.0.0/0", "priority": 7}, {"dst": "0.0.0.0/0", "table": 9}]
    found = told([V4], {"dst": "0.0.0.0/0"}, *routes).routes
    assert [(one.metric, one.table) for one in found] == [(0, 254), (7, 254), (0, 9)]


def test_what_cni_1_1_added() -> None:
    """Of these the plugin applies three."""
    fields = {"priority": 7, "table": 1000, "scope": 253, "mtu": 1400, "advmss": 1300}
    v4, v6 = told([], {"dst": "10.0.0.0/8", **fields}, {"dst": "fd01::/64", **fields}).routes
    assert v4 == Route(4, "10.0.0.0/8", metric=7, table=1000, scope=253)
    assert v6 == Route(6, "fd01::/64", metric=7, table=1000)  # which knows no scope


@pytest.mark.parametrize("fields", [{"priority": 0, "table": 0, "scope": 0}, {"table": None}])
def test_zero_and_null_are_absent(fields: Json) -> None:
    assert told([], {"dst": "fd01::/64", **fields}).routes == (Route(6, "fd01::/64", metric=1024),)


@pytest.mark.parametrize("key", ["priority", "table", "scope"])
@pytest.mark.parametrize("value", [-1, 1 << 32, "7", 7.0, True, []])
def test_what_is_no_number_of_a_route(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"routes.{key}"):
        told([V4], {"dst": "0.0.0.0/0", key: value})


def test_an_ipv4_gateway_of_an_ipv6_route() -> None:
    with pytest.raises(ValueError, match=r"its gateway 10\.9\.0\.1 is not"):
        told([V6], {"dst": "::/0", "gw": "10.9.0.1"})


@pytest.mark.parametrize(
    ("address", "family", "as_the_kernel_writes_it"),
    [
        ("10.9.0.5/24", 4, "10.9.0.5/24"),
        ("::ffff:10.9.0.5/120", 4, "10.9.0.5/24"),
        ("::ffff:10.9.0.5/24", 4, "10.9.0.5/24"),
        ("FD00:0:0::5/64", 6, "fd00::5/64"),
        ("::102:304/120", 6, "::1.2.3.4/120"),
    ],
)
def test_address(address: str, family: int, as_the_kernel_writes_it: str) -> None:
    (found,) = told([{"address": address}]).addresses
    assert (found.family, f"{found.address}/{found.prefix}") == (family, as_the_kernel_writes_it)


def test_an_ipv4_address_with_a_prefix_of_no_family() -> None:
    with pytest.raises(ValueError, match="its prefix is not"):
        told([{"address": "::ffff:10.9.0.5/64"}])


def test_route_as_the_kernel_writes_it() -> None:
    assert ways({"dst": "::102:304/120", "gw": "::102:1"}) == [("::1.2.3.0/120", "::1.2.0.1")]


@pytest.mark.parametrize(
    ("address", "scope"),
    [("fe80::5/64", RT_SCOPE_LINK), ("fec0::5/64", RT_SCOPE_SITE), ("fd00::5/64", 0)],
)
def test_scope_of_an_ipv6_address(address: str, scope: int) -> None:
    (found,) = told([{"address": address}]).addresses
    assert found.scope == scope


def test_scope_of_an_ipv4_address() -> None:
    """The plugin asks for global, whatever the address is."""
    (found,) = told([{"address": "169.254.0.5/16"}]).addresses
    assert found.scope == 0
