"""Checkpoint documents that are refused, by the reader as by the published schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.checkpoint import model
from tests.unit.checkpointdocuments import (
    FULL,
    VALIDATOR,
    ack,
    document_of,
    is_read,
    places_in,
    sealed,
)
from tests.unit.documents import MUTATIONS, Change, Place, changed, put
from tests.unit.examples import examples
from tests.unit.strategies import checkpoints

ROUTE_PATH = ("routes", 0)
ADDRESS_PATH = ("addresses", 0)

BAD_VALUES: dict[str, tuple[Place, object]] = {
    "id-with-path": (("containerId",), "../x"),
    "id-with-newline": (("containerId",), "abc\n"),
    "id-empty": (("containerId",), ""),
    "ifname-too-long": (("ifname",), "x" * 16),
    "ifname-with-newline": (("ifname",), "eth0\n"),
    "ifname-dots": (("ifname",), ".."),
    "ifname-number": (("ifname",), 5),
    "network-null": (("network",), None),
    "pod-list": (("pod",), []),
    "pod-name-number": (("pod", "name"), 1),
    "pod-name-too-long": (("pod", "name"), "x" * 4097),
    "attached-negative": (("attachedAt",), -1),
    "attached-text": (("attachedAt",), "1"),
    "attached-fraction": (("attachedAt",), 1.5),
    "attached-true": (("attachedAt",), True),
    "netns-null": (("netns",), None),
    "netns-dev-huge": (("netns", "dev"), 1 << 64),
    "netns-pid-huge": (("netns", "pid"), 1 << 31),
    "netns-cookie-null": (("netns", "cookie"), None),
    "delegate-path": (("delegate",), "../../evil"),
    "netconf-list": (("netconf",), []),
    "result-text": (("result",), "{}"),
    "link-kind": (("link", "kind"), "veth"),
    "link-mode": (("link", "mode"), "source"),
    "link-alias-number": (("link", "alias"), 7),
    "link-altnames-text": (("link", "altnames"), "podnet0"),
    "link-altname-path": (("link", "altnames"), ["../x"]),
    "link-altname-empty": (("link", "altnames"), [""]),
    "link-altname-too-long": (("link", "altnames"), ["x" * 128]),
    "link-group-negative": (("link", "group"), -1),
    "link-queue-huge": (("link", "bcqueuelen"), 1 << 32),
    "link-device-flags-huge": (("link", "deviceFlags"), 1 << 16),
    "link-device-flags-null": (("link", "deviceFlags"), None),
    "settled-1": (("settled",), 1),
    "way-of-addresses-4": (("addrGenMode",), 4),
    "way-of-addresses-null": (("addrGenMode",), None),
    "lifetimes-negative": (("lifetimesAt",), -1),
    "lifetimes-before-never": (("lifetimesAt",), 1 << 54),
    "link-mode-list": (("link", "mode"), ["bridge"]),
    "link-flags-huge": (("link", "flags"), 1 << 16),
    "link-ifindex-negative": (("link", "ifindex"), -1),
    "link-mtu-float": (("link", "mtu"), 1500.5),
    "mac-short": (("link", "mac"), "6e:92:1a:b4:fc"),
    "mac-signs": (("link", "mac"), "+e:92:1a:b4:fc:34"),
    "mac-blanks": (("link", "mac"), " e:92:1a:b4:fc:34"),
    "mac-underscores": (("link", "mac"), "6e:92:1a:b4:fc:3_"),
    "mac-letters": (("link", "mac"), "6g:92:1a:b4:fc:34"),
    "mac-digits-of-others": (("link", "mac"), "\u0661\u0661:92:1a:b4:fc:34"),
    "mac-newline": (("link", "mac"), "6e:92:1a:b4:fc:34\n"),
    "parents-none": (("parents",), []),
    "parents-object": (("parents",), {}),
    "parent-name": (("parents", 0, "name"), "a/b"),
    "parent-mtu": (("parents", 0, "mtu"), "1500"),
    "vlan-0": (("parents", 0, "vlan", "id"), 0),
    "vlan-4095": (("parents", 0, "vlan", "id"), 4095),
    "vlan-protocol": (("parents", 0, "vlan", "protocol"), 0x0800),
    "vlan-null": (("parents", 0, "vlan"), None),
    "address-family": ((*ADDRESS_PATH, "family"), 5),
    "address-family-true": ((*ADDRESS_PATH, "family"), True),
    "address-word": ((*ADDRESS_PATH, "address"), "localhost"),
    "address-leading-zero": ((*ADDRESS_PATH, "address"), "010.1.1.1"),
    "address-scoped": (("addresses", 1, "address"), "fe80::1%eth0"),
    "address-newline": ((*ADDRESS_PATH, "address"), "10.0.0.1\n"),
    "address-not-ascii": ((*ADDRESS_PATH, "address"), "10.0.0.\u0661"),
    "prefix-129": ((*ADDRESS_PATH, "prefix"), 129),
    "prefix-negative": ((*ADDRESS_PATH, "prefix"), -1),
    "scope-256": ((*ADDRESS_PATH, "scope"), 256),
    "lifetime-huge": ((*ADDRESS_PATH, "valid"), 1 << 32),
    "address-metric-text": ((*ADDRESS_PATH, "metric"), "50"),
    "address-proto-256": ((*ADDRESS_PATH, "proto"), 256),
    "dst-no-length": ((*ROUTE_PATH, "dst"), "10.0.0.0"),
    "dst-empty-length": ((*ROUTE_PATH, "dst"), "10.0.0.0/"),
    "dst-negative": ((*ROUTE_PATH, "dst"), "10.0.0.0/-1"),
    "dst-two-lengths": ((*ROUTE_PATH, "dst"), "10.0.0.0/8/8"),
    "dst-long-length": ((*ROUTE_PATH, "dst"), "10.0.0.0/0008"),
    "dst-5000-digits": ((*ROUTE_PATH, "dst"), "10.0.0.0/" + "0" * 5000),
    "dst-digits-of-others": ((*ROUTE_PATH, "dst"), "10.0.0.0/\u0668"),
    "gateway-word": ((*ROUTE_PATH, "gateway"), "gw"),
    "onlink-1": ((*ROUTE_PATH, "onlink"), 1),
    "src-no-length": (("routes", 4, "src"), "fd00::1"),
    "congctl-null": ((*ROUTE_PATH, "congctl"), None),
    "congctl-too-long": ((*ROUTE_PATH, "congctl"), "x" * 4097),
    "realm-huge": ((*ROUTE_PATH, "realm"), 1 << 32),
    "pref-256": ((*ROUTE_PATH, "pref"), 256),
    "weight-0": ((*ROUTE_PATH, "weight"), 0),
    "weight-257": ((*ROUTE_PATH, "weight"), 257),
    "shared-1": ((*ROUTE_PATH, "shared"), 1),
    "hops-object": (("routes", 2, "hops"), {}),
    "hop-text": (("routes", 2, "hops", 0), "eth0"),
    "hop-no-name": (("routes", 2, "hops", 0), {"weight": 1}),
    "hop-name-path": (("routes", 2, "hops", 0, "ifname"), "../x"),
    "hop-gateway-word": (("routes", 2, "hops", 0, "gateway"), "gw"),
    "hop-weight-0": (("routes", 2, "hops", 0, "weight"), 0),
    "hop-onlink-1": (("routes", 2, "hops", 1, "onlink"), 1),
    "hop-realm-negative": (("routes", 2, "hops", 1, "realm"), -1),
    "metrics-object": ((*ROUTE_PATH, "metrics"), {}),
    "metrics-triple": ((*ROUTE_PATH, "metrics"), [[1, 2, 3]]),
    "metrics-more-than-there-are": ((*ROUTE_PATH, "metrics"), [[2, 1400]] * 8192),
    "metrics-text": ((*ROUTE_PATH, "metrics"), [["mtu", 1400]]),
    "metrics-key-beyond-an-attribute": ((*ROUTE_PATH, "metrics"), [[1 << 16, 1]]),
    "sysctl-elsewhere": (("sysctls", "../../kernel/panic"), "1"),
    "sysctl-number": (("sysctls", "ipv4/arp_notify"), 1),
    "sysctl-words": (("sysctls", "ipv4/arp_notify"), "1; reboot"),
    "sysctl-empty": (("sysctls", "ipv4/arp_notify"), ""),
    "sysctl-minus": (("sysctls", "ipv4/arp_notify"), "-"),
    "sysctl-minuses": (("sysctls", "ipv4/arp_notify"), "--1"),
    "sysctl-12-digits": (("sysctls", "ipv4/arp_notify"), "1" * 12),
    "sysctl-superscript": (("sysctls", "ipv4/arp_notify"), "\u00b2"),
    "secret-no-address": (("sysctls", "ipv6/stable_secret"), "::12345"),
    "secret-number": (("sysctls", "ipv6/stable_secret"), "5"),
    "secret-words": (("sysctls", "ipv6/stable_secret"), "::1; reboot"),
    "sysctl-address": (("sysctls", "ipv4/arp_notify"), "2001:db8::1"),
    "sysctl-digits-of-others": (("sysctls", "ipv4/arp_notify"), "\u0661"),
    "rules-object": (("rules",), {}),
    "rules-null": (("rules",), None),
    "rule-family": (("rules", 0, "family"), 5),
    "rule-priority-huge": (("rules", 0, "priority"), 1 << 32),
    "rule-src-word": (("rules", 0, "src"), "all"),
    "rule-iif-path": (("rules", 1, "iif"), "../x"),
    "rule-tos-256": (("rules", 0, "tos"), 256),
    "rule-ports-one": (("rules", 1, "sport"), [80]),
    "rule-ports-number": (("rules", 1, "sport"), 80),
    "rule-port-0": (("rules", 1, "sport"), [0, 80]),
    "rule-port-huge": (("rules", 1, "dport"), [80, 1 << 16]),
    "rule-uids-text": (("rules", 0, "uidRange"), ["0", "1"]),
    "rule-action-goto": (("rules", 1, "action"), 2),
    "rule-action-true": (("rules", 1, "action"), True),
    "rule-suppress-all": (("rules", 0, "suppressPrefixlength"), 0xFFFFFFFF),
    "rule-invert-1": (("rules", 0, "invert"), 1),
    "neighbour-family": (("neighbours", 0, "family"), 6.5),
    "neighbour-word": (("neighbours", 0, "address"), "gateway"),
    "neighbour-mac-short": (("neighbours", 0, "mac"), "52:54"),
    "neighbour-flags-use": (("neighbours", 0, "flags"), 1),
    "neighbour-protocol": (("neighbours", 0, "protocol"), -1),
    "absent-dst": (("absentRoutes", 0, "dst"), "main"),
    "min-reader-0": (("minReader",), 0),
    "min-reader-true": (("minReader",), True),
}


@pytest.mark.parametrize(("path", "value"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_value_is_refused_here_and_by_the_schema(path: Place, value: object) -> None:
    document = changed(document_of(FULL), path, put(value))
    assert not VALIDATOR.is_valid(document)
    assert not is_read(document)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("link", "mtu"), "big", "$.link.mtu: expected an integer"),
        (("routes", 1, "dst"), "x", "$.routes[1].dst: expected an address with its prefix length"),
        (("parents", 0, "vlan", "id"), 0, "$.parents[0].vlan.id: expected an integer from 1"),
        (("Settled",), True, "$.Settled: unknown key: settled is meant"),
        (("link", "AltNames"), [], "$.link.AltNames: unknown key: altnames is meant"),
        (("routes", 0, "TOS"), 4, "$.routes[0].TOS: unknown key: tos is meant"),
        (("sysctls", "kernel/panic"), "1", "$.sysctls: 'kernel/panic' is not a key that any"),
        (("sysctls", "ipv6/stable_secret"), "5", "$.sysctls.ipv6/stable_secret: expected an IP"),
        (("link", "mode"), "l3", "$.link.mode: expected one of private, vepa, bridge, passthru"),
        (("link", "kind"), "ipvlan", "$.link.mode: expected one of l2, l3, l3s"),
        (("link", "altnames"), ["a/b"], "$.link.altnames[0]: expected an interface's other name"),
        (("routes", 0, "hops"), [{"ifname": "a b"}], "$.routes[0].hops[0].ifname: expected"),
    ],
)
def test_error_says_where_and_what(path: Place, value: object, words: str) -> None:
    assert words in ack(sealed(changed(document_of(), path, put(value)))).details


# What the schema cannot say, or says otherwise:
READ_MORE_STRICTLY: dict[str, tuple[Place, object]] = {
    # an interface name is 15 bytes, a schema counts characters
    "ifname-in-bytes": (("ifname",), "\u00e4" * 8),
    # a NUL in a text would cut it short in the kernel
    "nul": (("pod", "name"), "a\0b"),
    # half of a surrogate pair is no character, and has no bytes
    "lone-surrogate": (("parents", 0, "name"), "\ud800"),
    # families of addresses, and lengths that depend on the family
    "address-of-the-other-family": ((*ADDRESS_PATH, "address"), "fd00::1"),
    "broadcast-of-the-other-family": ((*ADDRESS_PATH, "broadcast"), "fd00::1"),
    "dst-of-the-other-family": ((*ROUTE_PATH, "dst"), "fd00::/64"),
    "dst-too-long-for-ipv4": ((*ROUTE_PATH, "dst"), "10.0.0.0/33"),
    "rule-src-of-the-other-family": (("rules", 0, "src"), "fd00::/64"),
    "rule-dst-too-long-for-ipv4": (("rules", 0, "dst"), "10.0.0.0/33"),
    "neighbour-of-the-other-family": (("neighbours", 0, "address"), "fd00::1"),
    "neighbour-flags-with-a-point": (("neighbours", 0, "flags"), 128.0),
    "prefix-too-long-for-ipv4": ((*ADDRESS_PATH, "prefix"), 33),
    "dst-no-address": ((*ROUTE_PATH, "dst"), "1.2.3/8"),
    "src-of-the-other-family": (("routes", 4, "src"), "10.0.0.0/8"),
    # modes of the other kind of links
    "mode-of-ipvlan": (("link", "mode"), "l3"),
    "kind-with-a-mode-of-macvlan": (("link", "kind"), "ipvlan"),
    # a link's other name is 127 bytes
    "altname-in-bytes": (("link", "altnames"), ["\u00e4" * 64]),
    # JSON Schema calls 1.0 an integer
    "integer-with-a-point": (("link", "mtu"), 1500.0),
    "family-with-a-point": ((*ADDRESS_PATH, "family"), 4.0),
    "protocol-with-a-point": (("parents", 0, "vlan", "protocol"), 33024.0),
    "schema-version-with-a-point": (("schemaVersion",), 1.0),
}


@pytest.mark.parametrize(
    ("path", "value"), READ_MORE_STRICTLY.values(), ids=READ_MORE_STRICTLY.keys()
)
def test_reading_is_stricter_than_the_schema(path: Place, value: object) -> None:
    document = changed(document_of(FULL), path, put(value))
    assert VALIDATOR.is_valid(document)
    assert not is_read(document)


def test_ipv4_route_may_have_an_ipv6_gateway() -> None:
    document = changed(document_of(), (*ROUTE_PATH, "gateway"), put("fd00::1"))
    assert VALIDATOR.is_valid(document)
    assert is_read(document)


# --- mutated documents --------------------------------------------------------------------------


PLACES = [place for place in places_in(document_of(FULL)) if place != ("checksum",)]
# No text with NUL, no float without a fraction: READ_MORE_STRICTLY has them.
VALUES: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, 1, 2, 4, 5, 128, 129, 255, 256, 4095, 1 << 16, 1 << 31, 1 << 32,
    1 << 53, (1 << 53) + 1, 1 << 64, -1, 1.5, -0.5, "", "a", "eth0", "x" * 16, "x" * 4097, "a b",
    "a/b", "../x", "bridge", "macvlan", "-1", "1", "\u0661", "10.0.0.1", "10.0.0.0/8", "/",
    "6E:92:1a:b4:fc:34", "crc32:00000000", [], [0], [[]], [[2, 1400]], {}, {"id": 3}, {"a": 1},
])  # fmt: skip
# The schema does not compare an address with the family beside it.
WITH_FAMILY = ("addresses", "routes", "absentRoutes", "rules", "neighbours")
DEPENDS_ON_FAMILY = ("family", "address", "broadcast", "peer", "prefix", "dst", "prefsrc", "src")


@given(st.sampled_from(PLACES), st.sampled_from(MUTATIONS), VALUES)
@examples(250)
def test_reader_and_schema_agree_on_mutated_documents(
    place: Place, mutation: Callable[[object], Change], value: object
) -> None:
    document = changed(document_of(FULL), place, mutation(value))
    if {*WITH_FAMILY} & {*place} and place[-1] in DEPENDS_ON_FAMILY:
        assert VALIDATOR.is_valid(document) or not is_read(document)
    else:
        assert is_read(document) == VALIDATOR.is_valid(document)


@given(checkpoints(), st.data())
@examples(40)
def test_mutated_documents_never_raise_anything_else(
    checkpoint: model.Checkpoint, data: st.DataObject
) -> None:
    document = document_of(checkpoint)
    places = [place for place in places_in(document) if place != ("checksum",)]
    place = data.draw(st.sampled_from(places))
    is_read(changed(document, place, put(data.draw(VALUES | st.text(st.characters())))))
