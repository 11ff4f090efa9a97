"""When the watcher heals, and when it leaves be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.network.planning.plan import DEGRADED, FOREIGN, LOST, RELEASED, STALE
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

# --- the mode -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heal", "upgrading", "paused", "name", "reason"),
    [
        (settings.UPLINK, False, "", HEALING, ""),
        (settings.DRIFT, False, "", HEALING, ""),
        (settings.OFF, False, "", LOOKING, "heal: off"),
        (settings.UPLINK, False, "paused by bob", PAUSED, "paused by bob"),
        (settings.OFF, False, "paused by bob", PAUSED, "paused by bob"),
        (settings.UPLINK, True, "", UPGRADING, "upgrade is at work"),
        (settings.OFF, True, "paused by bob", UPGRADING, "upgrade is at work"),
    ],
)
def test_mode(heal: str, upgrading: bool, paused: str, name: str, reason: str) -> None:
    found = mode_of(heal, upgrading, paused)
    assert (found.name, found.heals) == (name, name == HEALING)
    assert reason in found.reason
    assert (found == Mode(HEALING, "")) == found.heals


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


@given(HAPPENINGS, st.floats(0, 1000))
def test_a_heal_is_never_put_off_for_longer_than_the_most(
    happenings: list[tuple[str, float]], moment: float
) -> None:
    restraint = Restraint(FIRST, MOST)
    now = 0.0
    for what, after in happenings:
        now += after
        if what == "lost":
            restraint.uplink_lost("eth0", now)
        else:
            restraint.healed("eth0", now)
    assert 0.0 <= restraint.may_heal("eth0", now + moment) <= MOST
    assert restraint.may_heal("eth0", now + MOST) == 0.0


@given(HAPPENINGS)
def test_after_a_calm_time_nothing_is_left_of_it(happenings: list[tuple[str, float]]) -> None:
    restraint, fresh = Restraint(FIRST, MOST), Restraint(FIRST, MOST)
    now = 0.0
    for what, after in happenings:
        now += after
        if what == "lost":
            restraint.uplink_lost("eth0", now)
        else:
            restraint.healed("eth0", now)
    now += 2 * MOST  # the longest wait, and as much
    for one in (restraint, fresh):
        one.uplink_lost("eth0", now)
        assert one.may_heal("eth0", now) == 0.0
        one.healed("eth0", now)
        assert one.may_heal("eth0", now) == FIRST


# --- pods that were refused ---------------------------------------------------------------------

POD, OTHER = ("dir", "a@eth0"), ("dir", "b@eth0")


@pytest.mark.parametrize("state", [FOREIGN, STALE, RELEASED])
def test_a_refused_pod_is_not_tried_until_it_changes(state: str) -> None:
    restraint = Restraint(FIRST, MOST)
    assert restraint.may_try(POD, ("1:2:3", state))
    restraint.refused(POD, ("1:2:3", state))
    assert not restraint.may_try(POD, ("1:2:3", state))
    assert restraint.may_try(POD, ("1:2:4", state))  # its record did
    assert restraint.may_try(POD, ("1:2:3", LOST))  # its state did
    assert restraint.may_try(OTHER, ("1:2:3", state))
    assert list(restraint.refusals) == [POD]


def test_a_healed_pod_is_refused_no_more() -> None:
    restraint = Restraint(FIRST, MOST)
    restraint.refused(POD, 1)
    restraint.accepted(POD)
    assert restraint.may_try(POD, 1)
    restraint.accepted(POD)
    assert not restraint.refusals


MARKS = st.integers(0, 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2), MARKS), max_size=40))
def test_refused_until_something_changes(events: list[tuple[bool, int, int]]) -> None:
    """Whatever happens to others, and however often it is asked."""
    restraint = Restraint(FIRST, MOST)
    last: dict[int, int] = {}
    for is_refused, pod, mark in events:
        assert restraint.may_try(pod, mark) == (last.get(pod) != mark)
        if is_refused:
            restraint.refused(pod, mark)
            last[pod] = mark


def test_pods_and_uplinks_that_are_no_more_are_forgotten() -> None:
    """A daemon that runs for years must not know every pod that ever was."""
    restraint = Restraint(FIRST, MOST)
    restraint.refused(POD, 1)
    restraint.refused(OTHER, 1)
    restraint.healed("eth0", 100.0)
    restraint.healed("eth1", 100.0)
    restraint.keep([OTHER], ["eth1"])
    assert list(restraint.refusals) == [OTHER]
    assert (restraint.may_heal("eth0", 100.0), restraint.may_heal("eth1", 100.0)) == (0.0, FIRST)
