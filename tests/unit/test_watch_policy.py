"""When the watcher heals, and when it leaves be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.network.planning.plan import DEGRADED, LOST
from cni_repair.node.report import STATES
from cni_repair.watch import settings
from cni_repair.watch.policy import (
    DRIFT,
    HEALING,
    LOOKING,
    PAUSED,
    START,
    UPGRADING,
    UPLINK,
    Mode,
    Restraint,
    is_wanted,
    mode_of,
)

FIRST, MOST = 1.0, 60.0

AT_WORK = "cni-repair upgrade is at work, and repairs the pods itself"

# --- the mode -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heal", "upgrading", "paused", "name", "reason"),
    [
        (settings.UPLINK, False, "", HEALING, ""),
        (settings.DRIFT, False, "", HEALING, ""),
        (settings.OFF, False, "", LOOKING, "heal: off in its configuration"),
        (settings.UPLINK, False, "paused by bob", PAUSED, "paused by bob"),
        (settings.OFF, False, "paused by bob", PAUSED, "paused by bob"),
        (settings.UPLINK, True, "", UPGRADING, AT_WORK),
        (settings.OFF, True, "paused by bob", UPGRADING, AT_WORK),
    ],
)
def test_mode(heal: str, upgrading: bool, paused: str, name: str, reason: str) -> None:
    found = mode_of(heal, upgrading, paused)
    assert found == Mode(name, reason)
    assert found.heals == (name == HEALING)


@pytest.mark.parametrize(
    ("heal", "cause", "is_healed"),
    [
        (settings.UPLINK, UPLINK, True),
        (settings.UPLINK, START, True),
        (settings.UPLINK, DRIFT, False),
        (settings.DRIFT, UPLINK, True),
        (settings.DRIFT, START, True),
        (settings.DRIFT, DRIFT, True),
        (settings.OFF, UPLINK, False),
        (settings.OFF, START, False),
        (settings.OFF, DRIFT, False),
    ],
)
def test_what_is_healed(heal: str, cause: str, is_healed: bool) -> None:
    for state in STATES:
        assert is_wanted(heal, cause, state) == (is_healed and state in (LOST, DEGRADED))


# --- an uplink that flaps -----------------------------------------------------------------------


def test_first_heal_comes_at_once() -> None:
    restraint = Restraint(FIRST, MOST)
    restraint.uplink_lost("eth0", 100.0)
    assert restraint.may_heal("eth0", 100.0) == 0.0


def test_each_further_one_waits_twice_as_long_up_to_the_most() -> None:
    restraint = Restraint(FIRST, MOST)
    now, waits = 100.0, []
    for _ in range(8):
        restraint.uplink_lost("eth0", now)
        waits.append(restraint.may_heal("eth0", now))
        now += waits[-1]
        assert restraint.may_heal("eth0", now) == 0.0
        restraint.healed("eth0", now)
    assert waits == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]


def test_waiting_counts_from_the_heal_not_from_the_loss() -> None:
    restraint = Restraint(10.0, MOST)
    restraint.healed("eth0", 100.0)
    restraint.uplink_lost("eth0", 104.0)
    assert restraint.may_heal("eth0", 105.0) == 5.0
    assert restraint.may_heal("eth0", 110.0) == 0.0


def test_uplinks_do_not_wait_for_each_other() -> None:
    restraint = Restraint(10.0, MOST)
    restraint.healed("eth0", 100.0)
    assert restraint.may_heal("eth1", 100.0) == 0.0


@pytest.mark.parametrize(("calm", "wait"), [(FIRST + MOST - 0.5, 2.0), (FIRST + MOST, 1.0)])
def test_a_calm_time_is_forgiven(calm: float, wait: float) -> None:
    """The wait after the heal that follows it: as after the first one again."""
    restraint = Restraint(FIRST, MOST)
    restraint.healed("eth0", 100.0)
    restraint.uplink_lost("eth0", 100.0 + calm)
    restraint.healed("eth0", 100.0 + calm)
    assert restraint.may_heal("eth0", 100.0 + calm) == wait


def test_a_time_of_waiting_is_no_calm() -> None:
    """Whether for the uplink, or for the next try of a heal that did not work."""
    restraint = Restraint(FIRST, MOST)
    now = 100.0
    for number in range(12):
        restraint.healed("eth0", now)
        if number % 2:
            restraint.uplink_lost("eth0", now)
        now += restraint.may_heal("eth0", now)
    restraint.healed("eth0", now)
    assert restraint.may_heal("eth0", now) == MOST


def test_a_heal_now_and_then_makes_none_wait() -> None:
    """With `heal: drift` a node may be healed once a day, and lose nothing in between."""
    restraint = Restraint(FIRST, MOST)
    for day in range(30):
        restraint.healed("eth0", 86400.0 * day)
        assert restraint.may_heal("eth0", 86400.0 * day) == FIRST


def test_a_loss_is_no_calm() -> None:
    """An uplink that flaps without being healed (it is never there for long) has not calmed."""
    restraint = Restraint(FIRST, MOST)
    now = 100.0
    for _ in range(7):
        restraint.healed("eth0", now)
    for _ in range(5):
        now += MOST - 1
        restraint.uplink_lost("eth0", now)
    restraint.healed("eth0", now)
    assert restraint.may_heal("eth0", now) == MOST


def test_other_settings_count_from_the_next_heal() -> None:
    restraint = Restraint(FIRST, MOST)
    restraint.healed("eth0", 100.0)
    restraint.change(5.0, 7.0)
    assert restraint.may_heal("eth0", 100.0) == 1.0
    restraint.healed("eth0", 101.0)
    assert restraint.may_heal("eth0", 101.0) == 2.0
    restraint.healed("eth1", 101.0)
    assert restraint.may_heal("eth1", 101.0) == 5.0


# What happens to an uplink: it is lost, or a heal of it is wanted; each some time after the last.
HAPPENINGS = st.lists(
    st.tuples(st.sampled_from(["lost", "heal"]), st.floats(0, 3 * MOST, width=32)), max_size=60
)


@given(HAPPENINGS, st.floats(0.25, 10, width=32), st.floats(10, MOST, width=32))
def test_never_more_often_than_configured(
    happenings: list[tuple[str, float]], first: float, most: float
) -> None:
    """No heal comes sooner after the last one than `first`; and while there is no calm time, each
    wait is twice the one before it, or the most."""
    restraint = Restraint(first, most)
    now, last_heal, last_loss, expected = 0.0, -1e9, -1e9, 0.0
    for what, after in happenings:
        now += after
        wait = restraint.may_heal("eth0", now)
        if what == "heal":
            now += wait
        if now - max(last_loss, last_heal + expected) >= most:
            expected = 0.0
        if what == "lost":
            restraint.uplink_lost("eth0", now)
            last_loss = now
            assert restraint.may_heal("eth0", now) == wait  # a loss changes nothing of it
            continue
        assert now - last_heal >= max(first, expected) - 1e-6
        restraint.healed("eth0", now)
        last_heal = now
        expected = min(2 * expected, most) if expected else first
        assert restraint.may_heal("eth0", now) == pytest.approx(expected)


def after(happenings: list[tuple[str, float]]) -> tuple[Restraint, float]:
    """What holds an uplink back to which this has happened, and the time of the last of it."""
    restraint, now = Restraint(FIRST, MOST), 0.0
    for what, pause in happenings:
        now += pause
        happened = restraint.uplink_lost if what == "lost" else restraint.healed
        happened("eth0", now)
    return restraint, now


@given(HAPPENINGS, st.floats(0, 1000))
def test_a_heal_is_never_put_off_for_longer_than_the_most(
    happenings: list[tuple[str, float]], moment: float
) -> None:
    restraint, now = after(happenings)
    assert 0.0 <= restraint.may_heal("eth0", now + moment) <= MOST
    assert restraint.may_heal("eth0", now + MOST) == 0.0


@given(HAPPENINGS)
def test_after_a_calm_time_nothing_is_left_of_it(happenings: list[tuple[str, float]]) -> None:
    restraint, now = after(happenings)
    fresh = Restraint(FIRST, MOST)
    now += 2 * MOST  # the longest wait, and as much
    for one in (restraint, fresh):
        one.uplink_lost("eth0", now)
        assert one.may_heal("eth0", now) == 0.0
        one.healed("eth0", now)
        assert one.may_heal("eth0", now) == FIRST


# --- pods that were refused ---------------------------------------------------------------------

POD, OTHER = ("dir", "a@eth0"), ("dir", "b@eth0")
RECORD = "1:2:3"
SEEN = (LOST, "eth0 is gone")


def refused() -> Restraint:
    restraint = Restraint(FIRST, MOST)
    restraint.refused(POD, RECORD, "somebody else has its MAC")
    return restraint


def test_a_refused_pod_is_not_tried_whatever_a_look_says_of_it() -> None:
    """A repair that fails says more of a pod than a look, which comes next."""
    restraint = refused()
    assert restraint.why_not(POD, RECORD, (LOST, "eth0 was not repaired")) != ""
    restraint.looked(POD, RECORD, SEEN)
    for _ in range(3):
        assert restraint.why_not(POD, RECORD, SEEN) == "somebody else has its MAC"
        restraint.looked(POD, RECORD, SEEN)


@pytest.mark.parametrize(
    ("record", "seen"),
    [
        ("1:2:4", SEEN),
        (RECORD, (DEGRADED, "eth0 is gone")),
        (RECORD, (LOST, "eth0 is gone; the node's master eth0 does not exist")),
    ],
    ids=["record", "state", "findings"],
)
def test_it_is_tried_once_something_about_it_has_changed(
    record: str, seen: tuple[str, str]
) -> None:
    restraint = refused()
    restraint.looked(POD, RECORD, SEEN)
    assert restraint.why_not(POD, record, seen) == ""
    restraint.looked(POD, record, seen)  # and that is remembered
    assert restraint.why_not(POD, RECORD, SEEN) == ""


def test_another_record_counts_before_a_look_has_seen_it() -> None:
    restraint = refused()
    assert restraint.why_not(POD, "1:2:4", SEEN) == ""
    restraint.looked(POD, "1:2:4", SEEN)
    assert restraint.why_not(POD, "1:2:4", SEEN) == ""


def test_a_pod_that_was_not_refused_is_tried() -> None:
    restraint = refused()
    restraint.looked(OTHER, RECORD, SEEN)
    assert restraint.why_not(OTHER, RECORD, SEEN) == ""


EVENTS = st.lists(
    st.tuples(st.sampled_from(["refused", "looked"]), st.integers(0, 1), st.integers(0, 2)),
    max_size=40,
)


@given(EVENTS)
def test_refused_until_something_changes(events: list[tuple[str, int, int]]) -> None:
    """After each look the pod is tried if, and only if, it was not refused, or the record or what
    is seen is not what it was at the first look after that."""
    restraint = Restraint(FIRST, MOST)
    first: tuple[int, int | None] | None = None  # the record, and what was seen, since a refusal
    for what, record, seen in events:
        if what == "refused":
            restraint.refused(POD, record, "why")
            first = (record, None)
            continue
        if first == (record, None):
            first = (record, seen)
        elif first != (record, seen):
            first = None
        restraint.looked(POD, record, seen)
        assert (restraint.why_not(POD, record, seen) == "why") == (first is not None)


def test_a_pod_whose_uplink_was_lost_again_is_tried() -> None:
    restraint = refused()
    restraint.looked(POD, RECORD, SEEN)
    restraint.reconsider(POD)
    assert restraint.why_not(POD, RECORD, SEEN) == ""


def test_pods_that_are_no_more_are_forgotten() -> None:
    """A daemon that runs for years must not know every pod that ever was."""
    restraint = refused()
    restraint.healed("dir/a@eth0", 100.0)
    restraint.forget(POD, "dir/a@eth0")
    assert restraint.why_not(POD, RECORD, SEEN) == ""
    assert restraint.may_heal("dir/a@eth0", 100.0) == 0.0
    restraint.forget(POD, "dir/a@eth0")
