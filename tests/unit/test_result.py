"""Results between CNI versions (SPEC, "Section 5: Result Types")."""

from __future__ import annotations

from typing import Any

import pytest

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.cni.result import convert
from tests.unit.samples import SEED

OLD, OLDER = "0.4.0", "0.3.1"
BY_FAMILY = ["0.1.0", "0.2.0"]
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]

IP_OLD = {"version": "4", "interface": 0, "address": "10.0.0.2/24", "gateway": "10.0.0.1"}
IP_NEW = {"interface": 0, "address": "10.0.0.2/24", "gateway": "10.0.0.1"}
IP6_OLD = {"version": "6", "address": "fd00::2/64"}
IP6_NEW = {"address": "fd00::2/64"}
INTERFACE = {"name": "eth0", "mac": "6e:92:1a:b4:fc:34", "sandbox": "/run/netns/a"}
INTERFACE_1_1 = {**INTERFACE, "mtu": 1500, "socketPath": "/s", "pciID": "0000:00:03.0"}
ROUTE = {"dst": "0.0.0.0/0", "gw": "10.0.0.1"}
FAMILY = {"ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": [ROUTE]}
ROUTE6 = {"dst": "::/0"}
ROUTE_1_1 = {**ROUTE, "mtu": 1400, "advmss": 1360, "priority": 5, "table": 100, "scope": 253}
DNS = {"nameservers": ["10.0.0.53"], "search": ["x"]}


def result(version: str, **parts: Any) -> dict[str, Any]:
    return {"cniVersion": version, **parts}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "1.0-to-0.4": (result("1.0.0", ips=[IP_NEW, IP6_NEW]), result("0.4.0", ips=[IP_OLD, IP6_OLD])),
    "0.3-to-1.0": (result("0.3.1", ips=[IP_OLD, IP6_OLD]), result("1.0.0", ips=[IP_NEW, IP6_NEW])),
    "0.3-to-0.4": (result("0.3.0", ips=[IP_OLD]), result("0.4.0", ips=[IP_OLD])),
    "1.1-to-1.0": (
        result("1.1.0", interfaces=[INTERFACE_1_1], ips=[IP_NEW], routes=[ROUTE_1_1], dns=DNS),
        result("1.0.0", interfaces=[INTERFACE], ips=[IP_NEW], routes=[ROUTE], dns=DNS),
    ),
    "1.1-to-0.3": (
        result("1.1.0", interfaces=[INTERFACE_1_1], ips=[IP_NEW], routes=[ROUTE_1_1]),
        result("0.3.0", interfaces=[INTERFACE], ips=[IP_OLD], routes=[ROUTE]),
    ),
    "1.0-to-1.1": (
        result("1.0.0", interfaces=[INTERFACE], ips=[IP_NEW], routes=[ROUTE]),
        result("1.1.0", interfaces=[INTERFACE], ips=[IP_NEW], routes=[ROUTE]),
    ),
    "nothing-in-it": (result("1.0.0"), result("0.3.1")),
    "empty-lists": (result("1.0.0", ips=[], routes=[]), result("0.3.1", ips=[], routes=[])),
    "ipv6-in-upper-case": (
        result("1.0.0", ips=[{"address": "FD00::2/64"}]),
        result("0.3.1", ips=[{"version": "6", "address": "FD00::2/64"}]),
    ),
    "of-the-seed": (
        SEED["result"],
        {
            **SEED["result"],
            "cniVersion": "1.0.0",
            "ips": [{"interface": 0, "address": "10.161.75.155/22", "gateway": "10.161.72.1"}],
        },
    ),
    "0.1-to-1.0": (
        result("0.1.0", ip4=FAMILY, dns={}),
        result(
            "1.0.0", ips=[{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}], routes=[ROUTE], dns={}
        ),
    ),
    "0.2-to-0.4": (
        result("0.2.0", ip4={"ip": "10.0.0.2/24"}, ip6={"ip": "fd00::2/64", "routes": [ROUTE6]}),
        result(
            "0.4.0", ips=[{"version": "4", "address": "10.0.0.2/24"}, IP6_OLD], routes=[ROUTE6]
        ),
    ),
    "0.1-to-0.2": (
        result("0.1.0", ip6={"ip": "fd00::2/64"}, dns=DNS),
        result("0.2.0", ip6={"ip": "fd00::2/64"}, dns=DNS),
    ),
    "1.0-to-0.1": (
        result("1.0.0", interfaces=[INTERFACE], ips=[IP_NEW, IP6_NEW], routes=[ROUTE, ROUTE6]),
        result(
            "0.1.0",
            ip4=FAMILY,
            ip6={"ip": "fd00::2/64", "routes": [ROUTE6]},
            dns={},
        ),
    ),
    "second-address-to-0.1": (
        result("1.0.0", ips=[IP_NEW, {"address": "10.0.0.3/24"}], dns=DNS),
        result("0.1.0", ip4={"ip": "10.0.0.2/24", "gateway": "10.0.0.1"}, dns=DNS),
    ),
    "no-address-to-0.1": (result("1.0.0", interfaces=[INTERFACE]), result("0.1.0", dns={})),
    "seed-to-0.3": (SEED["result"], {**SEED["result"], "cniVersion": "0.3.1"}),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES.keys())
def test_conversion(before: dict[str, Any], after: dict[str, Any]) -> None:
    original = dict(before)
    assert convert(before, after["cniVersion"]) == after
    assert before == original


@pytest.mark.parametrize("version", BY_FAMILY)
@pytest.mark.parametrize("other", [*BY_FAMILY, *VERSIONS])
def test_there_and_back_by_family(version: str, other: str) -> None:
    own = result(version, ip4=FAMILY, ip6={"ip": "fd00::2/64"}, dns=DNS)
    assert convert(convert(own, other), version) == own


@pytest.mark.parametrize("version", VERSIONS)
def test_there_and_back(version: str) -> None:
    own = convert(result("1.0.0", interfaces=[INTERFACE], ips=[IP_NEW, IP6_NEW]), version)
    assert convert(own, version) == own
    for other in VERSIONS:
        assert convert(convert(own, other), version) == own


@pytest.mark.parametrize("key", ["ips", "routes", "interfaces"])
@pytest.mark.parametrize("version", VERSIONS)
def test_null_for_a_list_is_an_empty_one(key: str, version: str) -> None:
    """Go writes a nil slice as null."""
    assert not convert(result("1.0.0", **{key: None}), version).get(key)


@pytest.mark.parametrize(
    "recorded", [{"ips": "x"}, {"ips": [1]}, {"ip4": "m"}, {"routes": [{"dst": 1}]}], ids=str
)
def test_what_is_no_result_is_refused_by_name(recorded: dict[str, Any]) -> None:
    for version in VERSIONS:
        with pytest.raises(CniError, match=r"\$\.result\.(ip|routes).*: expected") as caught:
            convert(recorded, version)
        assert caught.value.code == BAD_CHECKPOINT
