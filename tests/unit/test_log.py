"""`cni-repair log`: what journalctl prints, read, chosen and shown; without a journal.

With a real one: tests/netns/test_log.py."""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import re
import time
import uuid

import pytest

from cni_repair.base.log import KINDS
from cni_repair.cli.arguments import count, since
from cni_repair.cli.commands.log import is_about, shown
from cni_repair.cli.journal import Entry, entries_in
from tests.unit.samples import REPOSITORY

PACKAGE = REPOSITORY / "cni_repair"
MANUAL = PACKAGE / "manual" / "log.md"
AT = 1_700_000_000.0
ID = "0123456789abcdef" * 4
LOST = Entry(
    AT,
    {
        "EVENT": "lost",
        "POD": "shop/web-1",
        "CNI_CONTAINERID": ID,
        "IFNAME": "eth0",
        "COMMAND": "watch",
        "CAUSE": "eth0 vanished",
    },
)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


# --- the kinds --------------------------------------------------------------------------------


def test_each_kind_has_an_id_of_its_own() -> None:
    ids = [message_id for message_id, _ in KINDS.values()]
    assert len({*ids}) == len(ids)
    for message_id in ids:
        assert uuid.UUID(hex=message_id).version == 4 and message_id == message_id.lower()
    assert {level for _, level in KINDS.values()} <= {3, 4, 5, 6}


def fields_written() -> set[str]:
    """The names of the fields that the source gives to events."""
    found = {"EVENT", "VERSION", "CALLER"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                if name in ("event", "failure", "set_common"):
                    found |= {word.arg for word in node.keywords if word.arg}
            elif isinstance(node, ast.Dict):
                keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
                if "IFNAME" in keys:
                    found |= {*map(str, keys)}
    return {name for name in found if name.isupper()}


def test_the_manual_names_every_kind_and_field() -> None:
    """Alerts and searches are made from them."""
    text = MANUAL.read_text("utf-8")
    told = {*re.findall(r"`([A-Za-z_-]+)`", text)}
    assert [kind for kind in KINDS if kind not in told] == []
    assert sorted(fields_written() - told) == []
    for kind, (message_id, _) in KINDS.items():
        assert f"`{kind}`" in text and message_id in text, kind


# --- reading ----------------------------------------------------------------------------------


def line(**fields: object) -> bytes:
    return json.dumps({"__REALTIME_TIMESTAMP": "1700000000250000", **fields}).encode() + b"\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("two\nlines", "two\nlines"),
        ([104, 105, 255], "hi\ufffd"),  # bytes that are no text
        (["first", "second"], "first"),  # a field that is there twice
        ([[104, 105], "second"], "hi"),
        (None, ""),  # too long, where --all is not given
        ([], ""),
        ([-1, 300], ""),
        (7, ""),
    ],
)
def test_a_value_as_journalctl_prints_it(value: object, text: str) -> None:
    assert [*entries_in([line(POD=value)])] == [
        Entry(AT + 0.25, {"__REALTIME_TIMESTAMP": "1700000000250000", "POD": text})
    ]


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"\n",
        b"{",
        b"[]\n",
        b"null\n",
        b'{"POD":"x"}\n',
        b'{"__REALTIME_TIMESTAMP":"x"}\n',
        b"[" * 100_000,
        b"\xff\n",
    ],
)
def test_a_line_that_is_none_ends_nothing_but_itself(odd: bytes) -> None:
    assert [one.field("POD") for one in entries_in([odd, line(POD="a")])] == ["a"]


@pytest.mark.parametrize("text", ["", "x", "-1", "٣", "1.5"])
def test_an_outage_that_is_no_number(text: str) -> None:
    assert Entry(AT, {"OUTAGE_MS": text}).outage_ms is None


# --- choosing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pods", "chosen"),
    [
        ((), True),
        (("shop/web-1",), True),
        (("web-1",), True),
        ((ID,), True),
        ((ID[:1],), True),
        (("shop/db-0", "web-1"), True),
        (("shop/web",), False),
        (("shop",), False),
        (("other/web-1",), False),
        ((ID[1:],), False),
    ],
)
def test_who_is_meant(pods: tuple[str, ...], chosen: bool) -> None:
    assert is_about(LOST, pods) is chosen


def test_nerdctls_id() -> None:
    entry = Entry(AT, {"CNI_CONTAINERID": f"default-{ID}"})
    assert is_about(entry, (ID[:12],)) and is_about(entry, (f"default-{ID}",))


def test_what_is_about_no_pod_is_shown_where_none_is_named() -> None:
    uplink = Entry(AT, {"EVENT": "uplink-lost"})
    assert is_about(uplink, ()) and not is_about(uplink, ("web-1",))


# --- showing ----------------------------------------------------------------------------------


def test_a_table_of_a_night() -> None:
    gone = Entry(AT - 86400, {"EVENT": "uplink-lost", "MESSAGE": "eth0 is lost", "MASTER": "eth0"})
    healed = {**LOST.fields, "EVENT": "healed", "OUTAGE_MS": "612", "REASON": "r " * 60}
    bare = {"EVENT": "added", "CNI_CONTAINERID": ID, "COMMAND": "ADD", "ADDRESSES": "10.0.0.2/24"}
    events = [gone, LOST, Entry(AT + 0.6125, healed), Entry(AT + 60, bare)]
    assert shown(events, 60) == [
        "TIME          EVENT        POD           IFNAME  OUTAGE",
        "2023-11-13 +0000",
        "22:13:20.000  uplink-lost  -             -       -",
        "    eth0 is lost",
        "2023-11-14 +0000",
        "22:13:20.000  lost         shop/web-1    eth0    -",
        "    watch: eth0 vanished",
        "22:13:20.612  healed       shop/web-1    eth0    612 ms",
        "    watch: eth0 vanished; r r r r r r r r r r r r r r r r r",
        "    r r r r r r r r r r r r r r r r r r r r r r r r r r r r",
        "    r r r r r r r r r r r r r r r",
        "22:14:20.000  added        0123456789ab  -       -",
        "    ADD: 10.0.0.2/24",
    ]


@pytest.mark.parametrize(
    ("cause", "reason", "words"),
    [
        ("lost: it is gone", "it is gone; in use by x", "watch: lost: it is gone; in use by x"),
        ("lost: it is gone", "it is gone", "watch: lost: it is gone"),
        ("it is gone", "it is gone", "watch: it is gone"),
        ("start", "it is gone", "watch: start; it is gone"),
        ("", "it is gone", "watch: it is gone"),
        ("start", "", "watch: start"),
        ("lost: it is gone", "it is gone: try again", "watch: lost: it is gone; try again"),
    ],
)
def test_nothing_is_said_twice(cause: str, reason: str, words: str) -> None:
    entry = Entry(AT, {**LOST.fields, "CAUSE": cause, "REASON": reason})
    assert shown([entry], 80)[-1].strip() == words


def test_no_event_is_no_table() -> None:
    assert shown([], 80) == []


# --- when -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-29", "2026-11-29T00:00:00+00:00"),
        ("2026-11-29 03:00", "2026-11-29T03:00:00+00:00"),
        ("2026-11-29T03:00:12", "2026-11-29T03:00:12+00:00"),
        ("2026-11-29 03:00:12Z", "2026-11-29T03:00:12+00:00"),  # as cni-repair prints times
        ("2026-11-29 03:00:12+08:00", "2026-11-28T19:00:12+00:00"),
    ],
)
def test_since_a_date(text: str, moment: str) -> None:
    assert since(text) == datetime.datetime.fromisoformat(moment).timestamp()


@pytest.mark.parametrize(("text", "ago"), [("30s", 30), ("5m", 300), ("2h", 7200), ("3d", 259200)])
def test_since_so_long_ago(text: str, ago: float) -> None:
    first = time.time()
    moment = since(text)
    assert first - ago <= moment <= time.time() - ago


def test_since_a_time_of_today() -> None:
    days = {datetime.date.today()}
    moment = since("03:00")
    days |= {datetime.date.today()}
    assert datetime.datetime.fromtimestamp(moment).time() == datetime.time(3)
    assert datetime.datetime.fromtimestamp(moment).date() in days


@pytest.mark.parametrize(
    "text", ["", "x", "30", "-30m", "1w", "d", "٣d", "25:00", "2026-13-01", "9999999999d", "now"]
)
def test_since_no_moment(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected 30m"):
        since(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1.5", "٣", "9" * 10])
def test_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number"):
        count(text)


def test_a_count() -> None:
    assert count("20") == 20
