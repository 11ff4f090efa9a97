"""The checkpoint document: written, read, refused; and its published schema, which must agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_repair.checkpoint import model
from cni_repair.errors import BAD_CHECKPOINT, CniError
from cni_repair.record import replace
from cni_repair.strictjson import dumps
from tests.unit.samples import CHECKPOINT, RICH
from tests.unit.strategies import checkpoints

Path = tuple[str | int, ...]
NAME = f"{CHECKPOINT.key.name}.json"
FULL = replace(CHECKPOINT, attachment=RICH)


def _pattern(
    _: object, pattern: str, instance: object, __: object
) -> Iterator[jsonschema.ValidationError]:
    """`pattern` as ECMA-262 has it, where `$` does not match before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


SCHEMA = json.loads(
    (resources.files("cni_repair.checkpoint") / "schema" / "checkpoint.json").read_text()
)
VALIDATOR = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"pattern": _pattern}
)(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def document_of(checkpoint: model.Checkpoint = CHECKPOINT) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(model.encode(checkpoint))
    return document


def sealed(document: dict[str, Any]) -> bytes:
    """The file of a document that somebody changed and gave a right checksum again."""
    zeros = "crc32:00000000"
    raw = dumps({**document, "checksum": zeros}).encode()
    return dumps({**document, "checksum": model.checksum(raw, zeros)}).encode()


def refusal(raw: bytes, name: str = NAME) -> CniError:
    with pytest.raises(CniError) as caught:
        model.decode(raw, name)
    assert caught.value.code == BAD_CHECKPOINT
    assert name in caught.value.msg
    return caught.value


def is_read(document: dict[str, Any]) -> bool:
    try:
        name = f"{document.get('containerId')}@{document.get('ifname')}.json"
        model.decode(sealed(document), name)
    except CniError as error:
        assert error.code == BAD_CHECKPOINT
        return False
    return True


def changed(document: Any, path: Path, change: Callable[[Any, Any], None]) -> Any:
    """A copy of a document with `change(container, key)` done at a path."""
    copy = json.loads(json.dumps(document))
    container = copy
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return copy


def put(value: object) -> Callable[[Any, Any], None]:
    return lambda container, key: container.__setitem__(key, value)


def drop(container: Any, key: Any) -> None:
    del container[key]


# --- written and read ---------------------------------------------------------------------------


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_sample_as_a_document() -> None:
    document = document_of()
    assert document["schemaVersion"] == 1
    assert document["pod"] == {"namespace": "shop", "name": "cart-0", "uid": "6c1c0f4e"}
    assert document["parents"][1]["busAddress"] == "0000:00:03.0"
    assert "permanentMac" not in document["parents"][0]


@given(checkpoints())
@settings(max_examples=50)
def test_what_is_written_is_read_and_fits_the_schema(checkpoint: model.Checkpoint) -> None:
    text = model.encode(checkpoint)
    assert text.isascii()
    assert text.endswith("}\n")
    assert model.decode(text.encode(), f"{checkpoint.key.name}.json") == checkpoint
    assert [error.message for error in VALIDATOR.iter_errors(json.loads(text))] == []


def test_what_a_pod_has_not_needs_no_newer_reader() -> None:
    """cni-repair 0.1.0 refuses keys that it does not know; it wrote checkpoints without them."""
    optional = {"rules", "neighbours", "absentRoutes"}
    assert not optional & document_of().keys()
    assert optional <= document_of(FULL).keys()
    read = model.decode(model.encode(CHECKPOINT).encode(), NAME).attachment
    assert (read.rules, read.neighbours, read.absent_routes) == ((), (), ())


@pytest.mark.parametrize("key", ["rules", "neighbours", "absentRoutes"])
def test_empty_list_is_as_good_as_none(key: str) -> None:
    document = {**document_of(FULL), key: []}
    assert VALIDATOR.is_valid(document)
    assert is_read(document)


def test_text_that_looks_like_a_checksum_stays_as_it_is() -> None:
    netconf = {**CHECKPOINT.netconf, "note": "crc32:00000000"}
    checkpoint = replace(CHECKPOINT, netconf=netconf, pod=model.Pod(name="crc32:00000000"))
    assert model.decode(model.encode(checkpoint).encode(), NAME) == checkpoint


# --- envelope -----------------------------------------------------------------------------------


RAW = model.encode(CHECKPOINT).encode()


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    refusal(RAW[:place] + bytes([RAW[place] ^ change]) + RAW[place + 1 :])


@pytest.mark.parametrize(
    "found", ["", "crc32:", "crc32:00000000", "\ud800", 0, None, []], ids=ascii
)
def test_odd_checksum_is_refused(found: object) -> None:
    assert refusal(dumps({**document_of(), "checksum": found}).encode())


@pytest.mark.parametrize("length", [0, 1, 100, -100, -3], ids=lambda n: f"to-{n}")
def test_torn_file_is_refused(length: int) -> None:
    refusal(RAW[:length])


def test_damage_is_called_damage() -> None:
    raw = RAW.replace(b"cart-0", b"cart-1")
    assert "checksum" in refusal(raw).details


def test_missing_checksum_is_refused() -> None:
    document = document_of()
    del document["checksum"]
    assert "checksum" in refusal(dumps(document).encode()).details


@pytest.mark.parametrize(
    "name",
    ["other@eth0.json", f"{CHECKPOINT.key.container_id}@eth1.json", f"{CHECKPOINT.key.name}"],
)
def test_file_of_another_name_is_refused(name: str) -> None:
    assert CHECKPOINT.key.name in refusal(RAW, name).details


@pytest.mark.parametrize("version", [2, 99])
def test_newer_version_says_upgrade(version: int) -> None:
    """Whatever else a newer document holds."""
    raw = dumps({"schemaVersion": version, "news": True}).encode()
    details = refusal(raw).details
    assert f"schemaVersion {version}" in details
    assert "upgrade" in details


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True, None, []], ids=repr)
def test_odd_version_is_refused(version: object) -> None:
    assert "$.schemaVersion" in refusal(sealed({**document_of(), "schemaVersion": version})).details


# --- bad values ---------------------------------------------------------------------------------

ROUTE_PATH = ("routes", 0)
ADDRESS_PATH = ("addresses", 0)

BAD_VALUES: dict[str, tuple[Path, object]] = {
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
    "link-kind": (("link", "kind"), "ipvlan"),
    "link-mode": (("link", "mode"), "source"),
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
    "dst-no-length": ((*ROUTE_PATH, "dst"), "10.0.0.0"),
    "dst-empty-length": ((*ROUTE_PATH, "dst"), "10.0.0.0/"),
    "dst-negative": ((*ROUTE_PATH, "dst"), "10.0.0.0/-1"),
    "dst-two-lengths": ((*ROUTE_PATH, "dst"), "10.0.0.0/8/8"),
    "dst-long-length": ((*ROUTE_PATH, "dst"), "10.0.0.0/0008"),
    "dst-5000-digits": ((*ROUTE_PATH, "dst"), "10.0.0.0/" + "0" * 5000),
    "dst-digits-of-others": ((*ROUTE_PATH, "dst"), "10.0.0.0/\u0668"),
    "gateway-word": ((*ROUTE_PATH, "gateway"), "gw"),
    "onlink-1": ((*ROUTE_PATH, "onlink"), 1),
    "metrics-object": ((*ROUTE_PATH, "metrics"), {}),
    "metrics-triple": ((*ROUTE_PATH, "metrics"), [[1, 2, 3]]),
    "metrics-more-than-there-are": ((*ROUTE_PATH, "metrics"), [[2, 1400]] * 8192),
    "metrics-text": ((*ROUTE_PATH, "metrics"), [["mtu", 1400]]),
    "metrics-key-beyond-an-attribute": ((*ROUTE_PATH, "metrics"), [[1 << 16, 1]]),
    "sysctl-unknown": (("sysctls", "ipv4/tag"), "1"),
    "sysctl-elsewhere": (("sysctls", "../../kernel/panic"), "1"),
    "sysctl-number": (("sysctls", "ipv4/arp_notify"), 1),
    "sysctl-words": (("sysctls", "ipv4/arp_notify"), "1; reboot"),
    "sysctl-empty": (("sysctls", "ipv4/arp_notify"), ""),
    "sysctl-minus": (("sysctls", "ipv4/arp_notify"), "-"),
    "sysctl-minuses": (("sysctls", "ipv4/arp_notify"), "--1"),
    "sysctl-12-digits": (("sysctls", "ipv4/arp_notify"), "1" * 12),
    "sysctl-superscript": (("sysctls", "ipv4/arp_notify"), "\u00b2"),
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
    "unknown-key-in-rule": (("rules", 0, "goto"), 100),
    "unknown-key": (("news",), 1),
    "unknown-key-inside": (("link", "colour"), "red"),
}


@pytest.mark.parametrize(("path", "value"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_value_is_refused_here_and_by_the_schema(path: Path, value: object) -> None:
    document = changed(document_of(FULL), path, put(value))
    assert not VALIDATOR.is_valid(document)
    assert not is_read(document)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("link", "mtu"), "big", "$.link.mtu: expected an integer"),
        (("routes", 1, "dst"), "x", "$.routes[1].dst: expected an address with its prefix length"),
        (("parents", 0, "vlan", "id"), 0, "$.parents[0].vlan.id: expected an integer from 1"),
        (("pod", "colour"), "red", "$.pod.colour: unknown key"),
        (("sysctls", "kernel/panic"), "1", "$.sysctls: 'kernel/panic' is no sysctl"),
    ],
)
def test_error_says_where_and_what(path: Path, value: object, words: str) -> None:
    assert words in refusal(sealed(changed(document_of(), path, put(value)))).details


# What the schema cannot say, or says otherwise:
READ_MORE_STRICTLY: dict[str, tuple[Path, object]] = {
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
    # JSON Schema calls 1.0 an integer
    "integer-with-a-point": (("link", "mtu"), 1500.0),
    "family-with-a-point": ((*ADDRESS_PATH, "family"), 4.0),
    "protocol-with-a-point": (("parents", 0, "vlan", "protocol"), 33024.0),
    "schema-version-with-a-point": (("schemaVersion",), 1.0),
}


@pytest.mark.parametrize(
    ("path", "value"), READ_MORE_STRICTLY.values(), ids=READ_MORE_STRICTLY.keys()
)
def test_reading_is_stricter_than_the_schema(path: Path, value: object) -> None:
    document = changed(document_of(FULL), path, put(value))
    assert VALIDATOR.is_valid(document)
    assert not is_read(document)


def test_ipv4_route_may_have_an_ipv6_gateway() -> None:
    document = changed(document_of(), (*ROUTE_PATH, "gateway"), put("fd00::1"))
    assert VALIDATOR.is_valid(document)
    assert is_read(document)


# --- mutated documents --------------------------------------------------------------------------


def places_in(value: object, path: Path = ()) -> Iterator[Path]:
    """Every place of a document, but not inside the two objects that are free."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if key not in ("netconf", "result"):
            yield from places_in(inner, (*path, key))


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
MUTATIONS: list[Callable[[Any, Any, object], None]] = [
    lambda container, key, _: container.__delitem__(key),
    lambda container, key, value: container.__setitem__(key, value),
    lambda container, _, value: (
        container.__setitem__("odd", value)
        if isinstance(container, dict)
        else container.append(value)
    ),
]


@given(st.sampled_from(PLACES), st.sampled_from(MUTATIONS), VALUES)
@settings(max_examples=250)
def test_reader_and_schema_agree_on_mutated_documents(
    place: Path, mutate: Callable[[Any, Any, object], None], value: object
) -> None:
    document = changed(
        document_of(FULL), place, lambda container, key: mutate(container, key, value)
    )
    if place[0] in WITH_FAMILY and place[-1] in DEPENDS_ON_FAMILY:
        assert VALIDATOR.is_valid(document) or not is_read(document)
    else:
        assert is_read(document) == VALIDATOR.is_valid(document)


@given(checkpoints(), st.data())
@settings(max_examples=40)
def test_mutated_documents_never_raise_anything_else(
    checkpoint: model.Checkpoint, data: st.DataObject
) -> None:
    document = document_of(checkpoint)
    places = [place for place in places_in(document) if place != ("checksum",)]
    place = data.draw(st.sampled_from(places))
    is_read(changed(document, place, put(data.draw(VALUES | st.text(st.characters())))))
