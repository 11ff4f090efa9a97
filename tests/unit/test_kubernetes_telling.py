"""What the API server is told of a node, and when: its condition, and Events. All pure."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.watch.kubernetes.condition import (
    STOPPED,
    Condition,
    Occurrence,
    Seen,
    compared,
    condition_of,
)
from cni_repair.watch.kubernetes.documents import event_of, event_patch, status_patch
from cni_repair.watch.kubernetes.pace import BackOff, Events, Told, condition_due
from cni_repair.watch.status import Status

CONNECTED = Condition(
    "False", "PodsConnected", "all pod interfaces that cni-repair knows have their network"
)
LOST = Condition("True", "UplinkDown", "eth0 down, 3 pod interfaces on it: cni-repair status")


def master(name: str = "eth0", up: bool = True, attachments: int = 3) -> dict[str, Any]:
    away = None if up else 1798000000.0
    return {
        "name": name, "up": up, "carrier": up, "awaySince": away, "attachments": attachments,
        "armed": 0,
    }  # fmt: skip


def status(up: bool = True, healthy: int = 3, on_up: int = 0, **changes: Any) -> Status:
    """Three pods over eth0."""
    lost = 3 - healthy
    document: Any = {
        "lastLook": 1798000000.0,
        "attachments": {"healthy": healthy, "lost": lost},
        "damaged": {"uplinkUp": on_up, "uplinkDown": lost - on_up},
        "masters": [master(up=up)],
        "heals": {"total": 0, "failed": 0, "lastAt": None, "lastOutageMs": None},
        "unmanaged": 0,
        "coverage": {"restorable": 3, "interfaces": 3},
        **changes,
    }
    return document  # type: ignore[no-any-return]


def heals(total: int, outage: int | None = 408) -> dict[str, Any]:
    return {"total": total, "failed": 0, "lastAt": 1798000001.0, "lastOutageMs": outage}


# --- the condition --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (status(), CONNECTED),
        (status(lastLook=None), None),
        (status(up=False, healthy=0), LOST),
        # Its pods have not been looked at yet.
        (status(up=False), LOST),
        (
            status(healthy=1, on_up=2),
            Condition(
                "True", "PodsLost",
                "2 pod interfaces lost or damaged, uplink up: cni-repair status",
            ),
        ),
        (
            status(healthy=0, on_up=1, masters=[master(), master("eth1", False, 2)]),
            Condition(
                "True", "PodsLost",
                "1 pod interface lost or damaged, uplink up: cni-repair status;"
                " eth1 down, 2 pod interfaces on it: cni-repair status",
            ),
        ),
        # What cannot be restored is no loss.
        (status(unmanaged=4), CONNECTED),
        # An uplink that nobody stands on is nobody's loss.
        (status(masters=[master("eth1", False, 0)]), CONNECTED),
    ],
    ids=["well", "not looked", "lost", "just lost", "drift", "both", "unmanaged", "spare"],
)  # fmt: skip
def test_the_condition(seen: Status, expected: Condition | None) -> None:
    assert condition_of(seen) == expected


def patched(condition: Condition, conditions: list[dict[str, Any]] | None) -> dict[str, Any]:
    node: dict[str, Any] = {"status": {} if conditions is None else {"conditions": conditions}}
    (found,) = status_patch(condition, node, 1798000000.9)["status"]["conditions"]
    assert isinstance(found, dict)
    return found


NOW, BEFORE = "2026-12-23T04:26:40Z", "2026-12-01T00:00:00Z"


@pytest.mark.parametrize(
    ("conditions", "since"),
    [
        (None, NOW),
        ([], NOW),
        ([{"type": "Ready", "status": "True", "lastTransitionTime": BEFORE}], NOW),
        ([{"type": "PodNetworkLost", "status": "False", "lastTransitionTime": BEFORE}], NOW),
        ([{"type": "PodNetworkLost", "status": "True", "lastTransitionTime": BEFORE}], BEFORE),
        ([{"type": "PodNetworkLost", "status": "True", "lastTransitionTime": None}], NOW),
    ],
    ids=["no status", "none", "another's", "changed", "the same", "without a time"],
)
def test_since_when(conditions: list[dict[str, Any]] | None, since: str) -> None:
    """Whoever had the condition before: a watcher that was started anew changes nothing."""
    assert patched(LOST, conditions) == {
        "type": "PodNetworkLost", "status": "True", "reason": "UplinkDown",
        "message": LOST.message, "lastHeartbeatTime": NOW, "lastTransitionTime": since,
    }  # fmt: skip


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"status": "Ready"},
        {"status": {"conditions": 5}},
        {"status": {"conditions": {"type": "PodNetworkLost"}}},
        {"status": {"conditions": ["PodNetworkLost"]}},
    ],
    ids=["nothing", "text", "number", "mapping", "texts"],
)
def test_a_node_whose_status_is_none(node: dict[str, Any]) -> None:
    assert status_patch(STOPPED, node, 0.0)["status"]["conditions"][0]["status"] == "Unknown"


@pytest.mark.parametrize(
    ("told", "wanted", "due"),
    [
        (None, LOST, 0.0),
        (CONNECTED, LOST, 101.0),
        (LOST, CONNECTED, 101.0),
        (LOST, Condition("True", "PodsLost", "2 …"), 110.0),
        (LOST, LOST, 400.0),
    ],
    ids=["first", "lost", "healed", "words", "sign of life"],
)
def test_when_the_condition_is_told(told: Condition | None, wanted: Condition, due: float) -> None:
    assert condition_due(Told(told, 100.0) if told else None, wanted) == due


# --- Events ---------------------------------------------------------------------------------------


def told_of(*seen: Status) -> list[tuple[str, str]]:
    """The Events of what was seen, one after the other."""
    before, told = Seen(), []
    for one in seen:
        before, found = compared(before, one)
        told += [(occurrence.reason, occurrence.message) for occurrence in found]
    return told


HEALED_3 = ("PodNetworkHealed", "3 pod interfaces healed, the last after 408 ms")


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ([status(), status()], []),
        ([status(lastLook=None, up=False)], []),
        (
            [status(), status(up=False, healthy=0), status(heals=heals(3))],
            [("PodNetworkLost", LOST.message), HEALED_3],
        ),
        # Pod by pod.
        (
            [
                status(up=False, healthy=0),
                status(healthy=1, on_up=2, heals=heals(1, 300)),
                status(heals=heals(3)),
            ],
            [("PodNetworkLost", LOST.message), HEALED_3],
        ),
        # Lost and healed between two looks.
        ([status(), status(heals=heals(3))], [HEALED_3]),
        (
            [status(heals=heals(3)), status(heals=heals(4, None))],
            [HEALED_3, ("PodNetworkHealed", "1 pod interface healed")],
        ),
        # By somebody else; or the pods are gone.
        (
            [status(healthy=0, on_up=3), status()],
            [
                (
                    "PodNetworkLost",
                    "3 pod interfaces lost or damaged, uplink up: cni-repair status",
                ),
                ("PodNetworkHealed", "no pod interface is without its network any more"),
            ],
        ),
        (
            [status(unmanaged=2), status(unmanaged=2), status(unmanaged=1), status(unmanaged=2)],
            [
                ("PodNetworkNotRestorable", "2 pod interfaces not restorable: cni-repair snapshot"),
                ("PodNetworkNotRestorable", "2 pod interfaces not restorable: cni-repair snapshot"),
            ],
        ),
    ],
    ids=["well", "not looked", "outage", "by turns", "between", "again", "by others", "records"],
)
def test_events(seen: list[Status], told: list[tuple[str, str]]) -> None:
    assert told_of(*seen) == told


LOSS, HEAL = Occurrence("PodNetworkLost", "lost"), Occurrence("PodNetworkHealed", "healed")


def test_what_happens_again_is_counted() -> None:
    events = Events()
    assert events.due() is None
    events.note(LOSS, 1000.0)
    (series,) = events.to_write(0.0)
    events.written(series, "the-name", series.count, 50.0)
    assert events.due() is None
    for second in range(20):
        events.note(Occurrence(LOSS.reason, f"lost {second}"), 1001.0 + second)
    assert events.due() == 80.0
    assert events.to_write(79.9) == []
    (again,) = events.to_write(80.0)
    assert (again.name, again.count, again.first, again.last) == ("the-name", 21, 1000.0, 1020.0)
    assert again.occurrence.message == "lost 19"


def test_one_that_the_server_has_thrown_away_begins_anew() -> None:
    events = Events()
    for second in (1000.0, 1001.0):
        events.note(LOSS, second)
    (series,) = events.to_write(0.0)
    events.written(series, "old", series.count, 50.0)
    events.note(LOSS, 9000.0)
    events.gone(series)
    (new,) = events.to_write(80.0)
    assert (new.name, new.count, new.first, new.last) == ("", 1, 9000.0, 9000.0)


def test_what_happened_while_it_was_written_is_written_next() -> None:
    events = Events()
    events.note(LOSS, 1000.0)
    (series,) = events.to_write(0.0)
    count = series.count
    events.note(LOSS, 1001.0)
    events.written(series, "name", count, 50.0)
    assert events.due() == 80.0


def test_they_are_written_as_they_happened() -> None:
    events = Events()
    events.note(HEAL, 1000.0)
    events.note(LOSS, 1001.0)
    events.note(HEAL, 1002.0)
    assert [one.occurrence for one in events.to_write(0.0)] == [LOSS, HEAL]


@given(st.lists(st.sampled_from([LOSS, HEAL]), max_size=50))
def test_they_never_grow(happened: list[Occurrence]) -> None:
    """However long no server can be told."""
    events = Events()
    for second, one in enumerate(happened):
        events.note(one, float(second))
    waiting = events.to_write(0.0)
    assert len(waiting) == len({one.reason for one in happened})
    assert sum(one.count for one in waiting) == len(happened)


def test_the_documents_of_an_event() -> None:
    events = Events()
    events.note(HEAL, 1798000000.0)
    (series,) = events.to_write(0.0)
    document = event_of(series, "node-1")
    assert document["metadata"] == {
        "name": "node-1.podnetworkhealed.663457f4e6000", "namespace": "default",
    }  # fmt: skip
    assert document["involvedObject"]["name"] == document["involvedObject"]["uid"] == "node-1"
    assert (document["type"], document["count"]) == ("Normal", 1)
    assert document["firstTimestamp"] == document["lastTimestamp"] == NOW
    events.written(series, "kept", 1, 0.0)
    events.note(HEAL, 1798000060.0)
    again = event_of(series, "node-1")
    assert again["metadata"]["name"] == "kept"
    assert event_patch(again) == {
        "message": "healed", "count": 2, "lastTimestamp": "2026-12-23T04:27:40Z",
    }  # fmt: skip


def test_the_name_of_an_event_of_a_node_with_a_long_name() -> None:
    events = Events()
    events.note(HEAL, 1798000000.0)
    (series,) = events.to_write(0.0)
    assert len(event_of(series, "n" * 253)["metadata"]["name"]) <= 253


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chance", "share"), [(0.0, 0.5), (0.5, 0.75)])
def test_failures_are_less_and_less_often_repeated(chance: float, share: float) -> None:
    pause, waits = BackOff(), []
    for _ in range(9):
        pause.failed(1000.0, chance)
        waits.append((pause.until - 1000.0) / share)
    assert [round(wait, 6) for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    pause.went_well()
    assert pause.until == 0.0
    pause.failed(0.0, 0.0)
    assert pause.until == 0.5


def test_failures_for_years() -> None:
    pause = BackOff(failures=10**9)
    pause.failed(0.0, 0.999)
    assert math.isfinite(pause.until)
