"""The checkpoint document: written and read; and its published schema, which must agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint import model
from tests.unit.checkpointdocuments import (
    FULL,
    NAME,
    SCHEMA,
    VALIDATOR,
    ack,
    document_of,
    is_read,
    places_in,
    sealed,
)
from tests.unit.documents import Place
from tests.unit.examples import examples
from tests.unit.samples import CHECKPOINT, RICH, SETTLED
from tests.unit.strategies import checkpoints

# What cni-repair 0.1.0 wrote for an attachment of which it knew everything.
OLD = (Path(__file__).parents[1] / "records" / "0.1.0.dev" / "sample.json").read_bytes()


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_sample_as_a_document() -> None:
    document = document_of()
    assert document["schemaVersion"] == 1
    assert document["pod"] == {"namespace": "shop", "name": "cart-0", "uid": "6c1c0f4e"}
    assert document["parents"][1]["busAddress"] == "0000:00:03.0"
    assert "permanentMac" not in document["parents"][0]


@given(checkpoints())
@examples(50)
def test_what_is_written_is_read_and_fits_the_schema(checkpoint: model.Checkpoint) -> None:
    text = model.encode(checkpoint)
    assert text.isascii()
    assert text.endswith("}\n")
    assert model.decode(text.encode(), f"{checkpoint.key.name}.json") == checkpoint
    assert [error.message for error in VALIDATOR.iter_errors(json.loads(text))] == []


OPTIONAL = {
    "rules", "neighbours", "absentRoutes", "settled", "addrGenMode", "lifetimesAt", "nodeLinks",
    "acceptedAddresses", "gatewayMacs",
}  # fmt: skip


def test_what_a_pod_has_not_needs_no_newer_reader() -> None:
    """cni-repair 0.1.0 refuses keys that it does not know."""
    assert not OPTIONAL & document_of().keys()
    assert document_of(FULL).keys() >= OPTIONAL
    read = model.decode(model.encode(CHECKPOINT).encode(), NAME).attachment
    assert (read.rules, read.neighbours, read.absent_routes) == ((), (), ())
    assert (read.settled, read.addr_gen_mode, read.lifetimes_at) == (False, None, 0)


def test_document_of_an_older_version_is_read() -> None:
    assert model.decode(OLD, NAME) == replace(CHECKPOINT, attachment=RICH)
    assert VALIDATOR.is_valid(json.loads(OLD))


def test_older_version_knows_all_keys_of_what_it_could_have_written() -> None:
    """After a downgrade the checkpoints of most pods are still of use."""
    ours, theirs = document_of(replace(CHECKPOINT, attachment=RICH)), json.loads(OLD)
    missing = [place for place in places_in(ours) if not has(theirs, place)]
    assert missing == []


def has(document: Any, place: Place) -> bool:
    for key in place:
        if isinstance(document, dict) and key not in document:
            return False
        document = document[key]
    return True


def test_what_says_nothing_is_left_out() -> None:
    document = document_of()
    assert document["addresses"][1] == {"family": 6, "address": "fd00::155", "prefix": 64}
    assert document["routes"][0] == {"family": 4, "dst": "0.0.0.0/0", "gateway": "10.161.72.1"}
    assert document["link"].keys() == {
        "ifindex", "mac", "mtu", "kind", "mode", "flags", "txqueuelen"
    }  # fmt: skip


def test_settled_sample_as_a_document() -> None:
    document = document_of(FULL)
    assert document["settled"] is True
    assert (document["addrGenMode"], document["lifetimesAt"]) == (2, 4711)
    assert document["link"]["deviceFlags"] == 0x1200
    assert document["addresses"][0]["metric"] == 50
    assert document["routes"][2]["hops"] == [
        {"ifname": "eth0", "gateway": "10.161.72.1", "weight": 3},
        {"ifname": "net1", "onlink": True, "realm": 9},
    ]
    assert document["routes"][4]["shared"] is True
    assert document["parents"][0]["vlan"] == {
        "id": 3, "protocol": 0x88A8, "flags": 3, "egress": [[0, 3], [1, 2]], "ingress": [[5, 1]],
    }  # fmt: skip
    vlan, shim = document["nodeLinks"]["links"]
    assert vlan.keys() == {"name", "addresses", "routes"}
    assert (shim["master"], shim["shim"]["mode"], shim["up"]) == ("eth0.3", "bridge", False)


def test_no_flag_at_all_is_not_the_same_as_none_known() -> None:
    for flags in (0, None):
        link = replace(FULL.attachment.link, device_flags=flags)
        checkpoint = replace(FULL, attachment=replace(SETTLED, link=link, addr_gen_mode=flags))
        assert model.decode(model.encode(checkpoint).encode(), NAME) == checkpoint


@pytest.mark.parametrize("key", ["rules", "neighbours", "absentRoutes"])
def test_empty_list_is_as_good_as_none(key: str) -> None:
    document = {**document_of(FULL), key: []}
    assert VALIDATOR.is_valid(document)
    assert is_read(document)


@pytest.mark.parametrize(
    ("ips", "announceable"),
    [
        (None, set()),
        ({"address": "10.0.0.9/24"}, set()),
        ([{"address": "10.0.0.9/24"}, {"address": "FD00:0::9/64"}], {"10.0.0.9", "fd00::9"}),
        ([{"address": "10.0.0.9"}, {"address": 7}, "10.0.0.8/24", {}], {"10.0.0.9"}),
        ([{"address": "a.b/24"}, {"address": "10.0.0.9/24", "interface": 4}], {"10.0.0.9"}),
    ],
    ids=["none", "no list", "both families", "odd entries", "odd address"],
)
def test_only_addresses_of_the_result_are_announced(ips: object, announceable: set[str]) -> None:
    """And those that an operator accepted; those that the pod has, it may have taken itself."""
    checkpoint = replace(CHECKPOINT, result={"cniVersion": "1.0.0", "ips": ips})
    assert checkpoint.announceable == announceable
    accepted = replace(checkpoint, accepted_addresses=("10.9.9.9",))
    assert accepted.announceable == announceable | {"10.9.9.9"}


def test_text_that_looks_like_a_checksum_stays_as_it_is() -> None:
    netconf = {**CHECKPOINT.netconf, "note": "crc32:00000000"}
    checkpoint = replace(CHECKPOINT, netconf=netconf, pod=model.Pod(name="crc32:00000000"))
    assert model.decode(model.encode(checkpoint).encode(), NAME) == checkpoint


# --- envelope -----------------------------------------------------------------------------------


RAW = model.encode(CHECKPOINT).encode()


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
@examples(200)
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    ack(RAW[:place] + bytes([RAW[place] ^ change]) + RAW[place + 1 :])


@pytest.mark.parametrize(
    "found", ["", "crc32:", "crc32:00000000", "\ud800", 0, None, []], ids=ascii
)
def test_odd_checksum_is_refused(found: object) -> None:
    assert ack(dumps({**document_of(), "checksum": found}).encode())


@pytest.mark.parametrize("length", [0, 1, 100, -100, -3], ids=lambda n: f"to-{n}")
def test_torn_file_is_refused(length: int) -> None:
    ack(RAW[:length])


def test_damage_is_called_damage() -> None:
    raw = RAW.replace(b"cart-0", b"cart-1")
    assert "checksum" in ack(raw).details


def test_missing_checksum_is_refused() -> None:
    document = document_of()
    del document["checksum"]
    assert "checksum" in ack(dumps(document).encode()).details


@pytest.mark.parametrize(
    "name",
    ["other@eth0.json", f"{CHECKPOINT.key.container_id}@eth1.json", f"{CHECKPOINT.key.name}"],
)
def test_file_of_another_name_is_refused(name: str) -> None:
    assert CHECKPOINT.key.name in ack(RAW, name).details


@pytest.mark.parametrize("version", [2, 99])
def test_newer_version_says_upgrade(version: int) -> None:
    """Whatever else a newer document holds."""
    raw = dumps({"schemaVersion": version, "news": True}).encode()
    details = ack(raw).details
    assert f"schemaVersion {version}" in details
    assert "upgrade" in details


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", True, None, []], ids=repr)
def test_odd_version_is_refused(version: object) -> None:
    assert "$.schemaVersion" in ack(sealed({**document_of(), "schemaVersion": version})).details
