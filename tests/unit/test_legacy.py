"""The checkpoints of the incident's own plugin, as its write-up shows them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.checkpoint import legacy as seed
from cni_repair.checkpoint.model import Checkpoint
from cni_repair.checkpoint.store import is_legacy
from cni_repair.network.model import Address, Route
from tests.unit.examples import examples
from tests.unit.samples import CONTAINER, LINK, MASTER, SEED, SEED_NAME, UPLINK
from tests.unit.strategies import json_values

PARENTS = (MASTER, UPLINK)


def decode(document: Any, name: str = SEED_NAME) -> Checkpoint:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return seed.decode(raw, name, PARENTS)


def with_result(**changes: Any) -> dict[str, Any]:
    return {**SEED, "result": {**SEED["result"], **changes}}


def test_sample_of_the_write_up() -> None:
    checkpoint = decode(SEED)
    assert checkpoint.key.name == f"{CONTAINER}@eth0"
    assert checkpoint.pod.name == "xxxx"
    assert checkpoint.netns is None
    assert checkpoint.netns_path == "/proc/111576/ns/net"
    assert checkpoint.delegate == "macvlan"
    assert checkpoint.result == SEED["result"]
    attachment = checkpoint.attachment
    assert (attachment.ifname, attachment.parents) == ("eth0", PARENTS)
    assert (attachment.link.mac, attachment.link.mode) == (LINK.mac, "bridge")
    assert (attachment.link.ifindex, attachment.link.mtu) == (0, 0)  # not known
    assert attachment.addresses == (
        Address(4, "10.161.75.155", 22, broadcast="10.161.75.255", label="eth0"),
    )
    assert attachment.routes == (Route(4, "0.0.0.0/0", gateway="10.161.72.1"),)


def test_what_it_lacks_comes_from_the_caller() -> None:
    link = seed.decode(
        json.dumps(SEED).encode(), SEED_NAME, PARENTS, "private", 1400
    ).attachment.link
    assert (link.mode, link.mtu) == ("private", 1400)


def test_name_is_the_sandboxes_beginning() -> None:
    assert is_legacy(SEED_NAME)
    assert CONTAINER.startswith(SEED_NAME)


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([], []),
        (None, []),
        ([{"dst": "10.0.0.0/8"}], [("10.0.0.0/8", "10.161.72.1")]),
        ([{"dst": "10.0.0.0/8", "gw": ""}], [("10.0.0.0/8", "10.161.72.1")]),
        ([{"dst": "10.0.0.0/8", "gw": "10.161.72.9"}], [("10.0.0.0/8", "10.161.72.9")]),
        ([{"dst": "10.1.2.3/8"}], [("10.0.0.0/8", "10.161.72.1")]),
        (
            [{"dst": "0.0.0.0/0", "gw": "10.161.72.1"}, {"dst": "0.0.0.0/0", "gw": "10.161.72.2"}],
            # The plugin adds both, and the kernel puts the second before the first.
            [("0.0.0.0/0", "10.161.72.2"), ("0.0.0.0/0", "10.161.72.1")],
        ),
        ([{"dst": "fd01::/64"}], [("fd01::/64", None)]),
    ],
    ids=[
        "none",
        "null",
        "by-the-gateway",
        "empty-gw",
        "own-gw",
        "host-bits",
        "two-gateways",
        "ipv6",
    ],
)
def test_routes(routes: Any, expected: list[tuple[str, str | None]]) -> None:
    found = decode(with_result(routes=routes)).attachment.routes
    assert [(route.dst, route.gateway) for route in found] == expected


def test_ipv6_is_restored_as_the_kernel_shows_it() -> None:
    ips = [{"version": "6", "interface": 0, "address": "FD00::155/64", "gateway": "fd00::1"}]
    attachment = decode(with_result(ips=ips, routes=[{"dst": "::/0"}])).attachment
    assert attachment.addresses == (Address(6, "fd00::155", 64),)
    assert attachment.routes == (Route(6, "::/0", gateway="fd00::1", metric=1024),)


@pytest.mark.parametrize("prefix", [31, 32])
def test_narrow_networks_have_no_broadcast(prefix: int) -> None:
    (address,) = decode(with_result(ips=[{"address": f"10.0.0.1/{prefix}"}])).attachment.addresses
    assert address.broadcast is None


def test_address_of_another_interface_is_not_given_to_this_one() -> None:
    interfaces = [*SEED["result"]["interfaces"], {"name": "net1", "mac": "02:00:00:00:00:01"}]
    ips = [*SEED["result"]["ips"], {"version": "4", "interface": 1, "address": "192.0.2.1/24"}]
    try:
        found = decode(with_result(interfaces=interfaces, ips=ips)).attachment.addresses
    except CniError as error:
        assert error.code == BAD_CHECKPOINT
    else:
        assert [address.address for address in found] == ["10.161.75.155"]


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda document: {name: value for name, value in document.items() if name != key}


BAD: dict[str, Any] = {
    "empty": b"",
    "torn": json.dumps(SEED).encode()[:100],
    "nul": bytes(512),
    "not-utf-8": b'{"a":"\xff"}',
    "list": [],
    "brackets": b"[" * 100_000,
    "no-sandbox": without("sandbox")(SEED),
    "no-ifname": without("ifname")(SEED),
    "no-result": without("result")(SEED),
    "result-null": {**SEED, "result": None},
    "result-list": {**SEED, "result": []},
    "sandbox-of-another": {**SEED, "sandbox": "f" * 64},
    "sandbox-with-path": {**SEED, "sandbox": f"{SEED_NAME}/../x"},
    "sandbox-with-newline": {**SEED, "sandbox": f"{SEED_NAME}\n"},
    "sandbox-number": {**SEED, "sandbox": 5},
    "ifname-path": {**SEED, "ifname": "../x"},
    "ifname-list": {**SEED, "ifname": []},
    "netns-number": {**SEED, "netns": 5},
    "podname-null": {**SEED, "podname": None},
    "no-interface": with_result(interfaces=[]),
    "interface-of-another-name": with_result(interfaces=[{"name": "net1", "mac": LINK.mac}]),
    "no-mac": with_result(interfaces=[{"name": "eth0"}]),
    "bad-mac": with_result(interfaces=[{"name": "eth0", "mac": "6e:92"}]),
    "word-mac": with_result(interfaces=[{"name": "eth0", "mac": "zz:92:1a:b4:fc:34"}]),
    "interfaces-object": with_result(interfaces={}),
    "interfaces-of-words": with_result(interfaces=["eth0"]),
    "ips-object": with_result(ips={"a": 1}),
    "ips-of-words": with_result(ips=["10.0.0.1/8"]),
    "ip-without-address": with_result(ips=[{"gateway": "10.0.0.1"}]),
    "ip-word": with_result(ips=[{"address": "localhost"}]),
    "ip-number": with_result(ips=[{"address": 167772161}]),
    "ip-prefix": with_result(ips=[{"address": "10.0.0.1/33"}]),
    "ip-scoped": with_result(ips=[{"address": "fe80::1%eth0/64"}]),
    "gateway-word": with_result(ips=[{"address": "10.0.0.1/8", "gateway": "gw"}]),
    "gateway-number": with_result(ips=[{"address": "10.0.0.1/8", "gateway": 5}]),
    "route-without-dst": with_result(routes=[{"gw": "10.0.0.1"}]),
    "route-dst-null": with_result(routes=[{"dst": None}]),
    "route-gw-word": with_result(routes=[{"dst": "0.0.0.0/0", "gw": "gw"}]),
    "routes-text": with_result(routes="0.0.0.0/0"),
}


@pytest.mark.parametrize("document", BAD.values(), ids=BAD.keys())
def test_bad_checkpoint_is_refused_by_name(document: Any) -> None:
    with pytest.raises(CniError, match=SEED_NAME) as caught:
        decode(document)
    assert caught.value.code == BAD_CHECKPOINT
    assert caught.value.details


PLACES: list[tuple[str | int, ...]] = [
    ("netns",), ("podname",), ("sandbox",), ("ifname",), ("result",), ("result", "interfaces"),
    ("result", "interfaces", 0), ("result", "interfaces", 0, "mac"), ("result", "ips"),
    ("result", "ips", 0), ("result", "ips", 0, "address"), ("result", "ips", 0, "gateway"),
    ("result", "ips", 0, "interface"), ("result", "routes"), ("result", "routes", 0),
    ("result", "routes", 0, "dst"), ("result", "routes", 0, "gw"), ("result", "dns"),
]  # fmt: skip


@given(st.sampled_from(PLACES), json_values | st.text())
@examples(200)
def test_mutated_checkpoint_never_raises_anything_else(
    place: tuple[str | int, ...], value: Any
) -> None:
    document = json.loads(json.dumps(SEED))
    container = document
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = value
    try:
        decode(document)
    except CniError as error:
        assert error.code == BAD_CHECKPOINT
