"""Records across versions: those of older ones are read, and those of tomorrow's lose nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import legacy, model, unknown
from tests.unit.checkpointdocuments import (
    FULL,
    NAME,
    VALIDATOR,
    ack,
    document_of,
    places_in,
    sealed,
)
from tests.unit.documents import Place
from tests.unit.examples import examples
from tests.unit.samples import MASTER, REPOSITORY, UPLINK
from tests.unit.strategies import json_values

RECORDS = sorted((Path(__file__).parents[1] / "records").glob("*/*.json"))


def name_of(document: dict[str, Any]) -> str:
    return f"{document['containerId']}@{document['ifname']}.json"


def decoded(document: dict[str, Any]) -> model.Checkpoint:
    return model.decode(sealed(document), name_of(document))


def written(checkpoint: model.Checkpoint) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(model.encode(checkpoint))
    return {key: value for key, value in document.items() if key != "checksum"}


# --- yesterday's --------------------------------------------------------------------------------


def test_there_are_records_of_each_released_version() -> None:
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    released = set(re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE))
    assert {record.parent.name for record in RECORDS} >= released | {"0.1.0"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_older_version_s_record_is_read_and_written_as_it_was(record: Path) -> None:
    raw = record.read_bytes()
    checkpoint = model.decode(raw, name_of(json.loads(raw)))
    assert checkpoint.unknown == ()
    again = model.encode(checkpoint).encode()
    assert model.decode(again, name_of(json.loads(raw))) == checkpoint
    assert again == raw or record.parent.name.endswith(".dev")
    assert VALIDATOR.is_valid(json.loads(raw))


def test_the_predecessors_record_is_read() -> None:
    (record,) = (Path(__file__).parents[1] / "records" / "predecessor").iterdir()
    checkpoint = legacy.decode(record.read_bytes(), record.name, (MASTER, UPLINK))
    assert checkpoint.key.container_id.startswith(record.name)
    assert checkpoint.attachment.addresses


# --- tomorrow's ---------------------------------------------------------------------------------

TODAY = document_of(FULL)


def at(document: Any, place: Place) -> Any:
    for step in place:
        document = document[step]
    return document


OBJECTS = [
    place
    for place in [(), *places_in(TODAY)]
    if isinstance(at(TODAY, place), dict) and place not in (("netconf",), ("result",), ("sysctls",))
]
NEWS = st.text("abcdefgh", min_size=1, max_size=8).map(lambda text: f"new{text.capitalize()}")


@st.composite
def tomorrows(draw: st.DrawFn) -> dict[str, Any]:
    """Today's document with new keys in some of its objects."""
    document = json.loads(json.dumps(TODAY))
    for place in draw(st.lists(st.sampled_from(OBJECTS), min_size=1, unique=True)):
        at(document, place)[draw(NEWS)] = draw(json_values)
    if draw(st.booleans()):
        document["sysctls"]["ipv6/new_one"] = draw(json_values)
    return dict(document)


def without_checksum(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "checksum"}


@given(tomorrows())
@examples(150)
def test_tomorrows_record_is_read_today_and_loses_nothing(document: dict[str, Any]) -> None:
    checkpoint = decoded(document)
    assert checkpoint.unknown
    assert replace(checkpoint, unknown=()) == FULL  # it is as good as today's
    assert written(checkpoint) == without_checksum(document)
    assert VALIDATOR.is_valid(document)


def test_every_kind_of_object_takes_new_keys() -> None:
    assert {place[0] for place in OBJECTS if place} == {
        "pod", "netns", "link", "parents", "addresses", "routes", "rules", "neighbours",
        "absentRoutes", "nodeLinks", "gatewayMacs",
    }  # fmt: skip
    deep = {("parents", 0, "vlan"), ("routes", 2, "hops", 0), ("nodeLinks", "links", 1, "shim")}
    assert deep <= {*OBJECTS}


def with_news(*places: Place) -> model.Checkpoint:
    document = json.loads(json.dumps(TODAY))
    for place in places:
        at(document, place)["news"] = str(place)
    return decoded(document)


def test_news_go_with_what_they_belong_to() -> None:
    """A snapshot finds one address gone, and another one that is new, before the others."""
    checkpoint = with_news(("addresses", 0), ("addresses", 1), ("link",))
    first, *rest = checkpoint.attachment.addresses
    new = replace(first, address="10.77.0.9")
    now = replace(checkpoint, attachment=replace(checkpoint.attachment, addresses=(new, *rest)))
    document = written(now)
    assert "news" not in document["addresses"][0]
    assert document["addresses"][1]["news"] == "('addresses', 1)"
    assert document["link"]["news"] == "('link',)"


def test_news_stay_where_a_known_value_changed() -> None:
    checkpoint = with_news(("addresses", 0), ("routes", 0), ("parents", 1), ("link",))
    attachment = checkpoint.attachment
    addresses = (replace(attachment.addresses[0], metric=77), *attachment.addresses[1:])
    routes = (replace(attachment.routes[0], prefsrc=None, protocol=4), *attachment.routes[1:])
    parents = (attachment.parents[0], replace(attachment.parents[1], ifindex=99))
    link = replace(attachment.link, mtu=1300)
    document = written(
        replace(
            checkpoint,
            attachment=replace(
                attachment, addresses=addresses, routes=routes, parents=parents, link=link
            ),
        )
    )
    for place in (("addresses", 0), ("routes", 0), ("parents", 1), ("link",)):
        assert at(document, place)["news"] == str(place)
    assert document["link"]["mtu"] == 1300


def test_news_do_not_replace_what_is_known_by_now() -> None:
    """The key was unknown when the record was read, and this version wrote it meanwhile."""
    checkpoint = replace(FULL, unknown=(unknown.Unknown(("link", "mtu"), 1),))
    assert written(checkpoint)["link"]["mtu"] == FULL.attachment.link.mtu


@pytest.mark.parametrize("key", ["Settled", "ADDRGENMODE", "minreader"])
def test_a_known_key_in_another_case_is_not_news(key: str) -> None:
    document = without_checksum(TODAY)
    document = {name: value for name, value in document.items() if name.lower() != key.lower()}
    assert "unknown key" in ack(sealed({**document, key: 1})).details


def test_min_reader_of_this_version_is_read_and_kept() -> None:
    checkpoint = decoded({**TODAY, "minReader": model.READER_VERSION})
    assert checkpoint.min_reader == model.READER_VERSION
    assert written(checkpoint)["minReader"] == model.READER_VERSION
    assert "minReader" not in TODAY


def test_a_record_that_needs_a_newer_reader_says_so() -> None:
    """Whatever else it holds: it may be of a form that nobody knows yet."""
    newer = model.READER_VERSION + 1
    words = f"minReader {newer} is newer than this cni-repair ({model.READER_VERSION})"
    for document in ({**TODAY, "minReader": newer}, {"schemaVersion": 1, "minReader": newer}):
        details = ack(sealed(document), NAME).details
        assert words in details
        assert "upgrade" in details


@pytest.mark.parametrize("key", ["routes", "addresses", "rules", "neighbours"])
def test_entries_that_only_a_newer_version_tells_apart_keep_their_own(key: str) -> None:
    entry = TODAY[key][0]
    entries = [{**entry, "newer": 1}, entry, {**entry, "newer": 2}]
    checkpoint = decoded({**TODAY, key: entries})
    assert json.loads(model.encode(checkpoint))[key] == entries
