"""Which pods the daemon heals together, and which by themselves: pure."""

from __future__ import annotations

import pytest

from cni_repair.base.errors import FOREIGN, IO, REPAIR_FAILED, TRY_AGAIN
from cni_repair.watch.attachments import Attachment, Attachments
from cni_repair.watch.choosing import Choosing, Group, are_left, left_out
from cni_repair.watch.policy import Restraint
from cni_repair.watch.settings import DRIFT, OFF, UPLINK
from tests.unit.test_watch_attachments import DIRECTORY, line, place

ALL = Group(DIRECTORY, "eth0")
SOME = Group(DIRECTORY, "")


@pytest.fixture
def known() -> Attachments:
    """Two pods over eth0.3, and one over eth1, all well."""
    known = Attachments()
    for name in "ab":
        known.saw(DIRECTORY, line(name), 1.0)
    known.saw(DIRECTORY, line("c", chain=["eth1"]), 1.0)
    return known


@pytest.fixture
def choosing(known: Attachments) -> Choosing:
    return Choosing(known, Restraint(1.0, 8.0))


def lose(known: Attachments, choosing: Choosing, now: float = 2.0, uplink: str = "eth0") -> None:
    known.uplink_lost(uplink, now)
    choosing.lost(uplink, known.over(uplink), now)


def one(known: Attachments, name: str) -> Attachment:
    found = known.get(place(name))
    assert found is not None
    return found


def test_what_an_uplink_took_is_healed_together(known: Attachments, choosing: Choosing) -> None:
    assert choosing.groups(UPLINK, (), ()) == {}
    lose(known, choosing)
    assert choosing.groups(UPLINK, (), {"eth0", "eth0.3"}) == {ALL: {place("a"), place("b")}}


def test_what_is_busy_is_left(known: Attachments, choosing: Choosing) -> None:
    lose(known, choosing)
    assert choosing.groups(UPLINK, {place("a")}, ()) == {ALL: {place("b")}}


@pytest.mark.parametrize(("heal", "is_healed"), [(UPLINK, False), (DRIFT, True), (OFF, False)])
def test_drift_is_healed_by_itself(
    known: Attachments, choosing: Choosing, heal: str, is_healed: bool
) -> None:
    known.saw(DIRECTORY, line("a", "degraded"), 2.0)
    assert choosing.groups(heal, (), ()) == ({SOME: {place("a")}} if is_healed else {})


def test_the_last_step_of_a_heal_is_done_by_itself(known: Attachments, choosing: Choosing) -> None:
    known.saw(DIRECTORY, line("a", unverified=True), 2.0)
    assert choosing.groups(UPLINK, (), ()) == {SOME: {place("a")}}


def test_what_may_be_healed_now_has_no_wait(choosing: Choosing) -> None:
    assert choosing.ready(SOME, {place("a")}, 3.0) == ({place("a")}, 0.0)


def test_an_uplink_that_is_lost_again_has_not_calmed(
    known: Attachments, choosing: Choosing
) -> None:
    choosing.begun(ALL, [place("a")], 0.0)
    lose(known, choosing, 8.5)
    choosing.begun(ALL, [place("a")], 10.0)
    assert choosing.ready(ALL, {place("a")}, 10.0) == (set(), 2.0)


class TestWhatAHealLeftDamaged:
    @pytest.mark.parametrize("code", [TRY_AGAIN, IO])
    def test_is_tried_by_itself(self, known: Attachments, choosing: Choosing, code: int) -> None:
        lose(known, choosing)
        choosing.not_healed(one(known, "a"), code)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("b")}, SOME: {place("a")}}

    def test_waits_for_its_uplink(self, known: Attachments, choosing: Choosing) -> None:
        lose(known, choosing)
        choosing.not_healed(one(known, "a"), TRY_AGAIN)
        assert choosing.groups(UPLINK, (), {"eth0"}) == {ALL: {place("b")}}

    def test_does_not_count_against_its_uplink(
        self, known: Attachments, choosing: Choosing
    ) -> None:
        lose(known, choosing)
        choosing.begun(SOME, [place("a")], 3.0)
        assert choosing.ready(ALL, {place("b")}, 3.1) == ({place("b")}, 0.0)
        ready, wait = choosing.ready(SOME, {place("a"), place("b")}, 3.5)
        assert ready == {place("b")}
        assert wait == pytest.approx(0.5)

    def test_is_healed_with_the_others_after_the_next_loss(
        self, known: Attachments, choosing: Choosing
    ) -> None:
        """Whatever it was: the link that is made then is another one."""
        lose(known, choosing)
        choosing.not_healed(one(known, "a"), REPAIR_FAILED)
        choosing.not_healed(one(known, "b"), FOREIGN)
        lose(known, choosing, 5.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}

    def test_is_healed_with_the_others_once_it_was_well(
        self, known: Attachments, choosing: Choosing
    ) -> None:
        lose(known, choosing)
        choosing.not_healed(one(known, "a"), TRY_AGAIN)
        known.saw(DIRECTORY, line("a"), 3.0)
        choosing.groups(UPLINK, (), ())
        known.saw(DIRECTORY, line("a", "lost", over=0), 4.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}

    def test_is_tried_once_a_look_has_seen_something_else(
        self, known: Attachments, choosing: Choosing
    ) -> None:
        lost = one(known, "a")
        lost.state, lost.reason = "lost", "its name is another's"
        choosing.not_healed(lost, FOREIGN)
        choosing.looked(lost)
        assert choosing.why_refused(lost) == "its name is another's"
        lost.reason = "eth0 is gone"
        assert choosing.why_refused(lost) == ""

    @pytest.mark.parametrize("code", [FOREIGN, REPAIR_FAILED])
    def test_is_not_tried_where_it_was_refused(
        self, known: Attachments, choosing: Choosing, code: int
    ) -> None:
        known.saw(DIRECTORY, line("a", "lost", over=0), 2.0)
        one(known, "a").reason = "its name is another's"
        choosing.not_healed(one(known, "a"), code)
        assert choosing.groups(UPLINK, (), ()) == {}
        assert choosing.why_refused(one(known, "a")) == "its name is another's"
        choosing.forget(place("a"))
        assert choosing.why_refused(one(known, "a")) == ""


def test_refused_ones_are_not_left_to_be_healed(known: Attachments, choosing: Choosing) -> None:
    """One hostile pod would hold the kubelet of all others to its deadline."""
    assert not are_left(known, choosing)
    lose(known, choosing)
    assert are_left(known, choosing)
    known.saw(DIRECTORY, line("b"), 3.0)
    known.saw(DIRECTORY, line("a", "lost", over=0), 3.0)
    one(known, "a").reason = "its name is another's"
    choosing.not_healed(one(known, "a"), FOREIGN)
    assert not are_left(known, choosing)


def test_what_is_no_more_is_forgotten(known: Attachments, choosing: Choosing) -> None:
    """Pods come and go for months: nothing of those that went is kept."""
    lose(known, choosing)
    choosing.not_healed(one(known, "a"), TRY_AGAIN)
    assert choosing.groups(UPLINK, (), ()) == {SOME: {place("a")}, ALL: {place("b")}}
    choosing.begun(SOME, [place("a")], 3.0)
    choosing.forget(place("a"))
    assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}
    assert choosing.ready(SOME, {place("a")}, 3.0) == ({place("a")}, 0.0)


def alone(name: str) -> Group:
    return Group(DIRECTORY, "", place(name).file)


class TestATaskThatFails:
    def test_is_tried_again_as_it_was(self, known: Attachments, choosing: Choosing) -> None:
        lose(known, choosing)
        choosing.failed(ALL, [place("a"), place("b")], 3.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}
        assert choosing.ready(ALL, {place("a")}, 3.0) == (set(), 1.0)

    def test_has_each_on_its_own_in_the_end(self, known: Attachments, choosing: Choosing) -> None:
        lose(known, choosing)
        for now in (3.0, 5.0):
            choosing.failed(ALL, [place("a"), place("b")], now)
        assert choosing.groups(UPLINK, (), ()) == {alone(name): {place(name)} for name in "ab"}
        choosing.forget(place("a"))
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a")}, alone("b"): {place("b")}}

    def test_has_all_together_again_after_the_next_loss(
        self, known: Attachments, choosing: Choosing
    ) -> None:
        """What it was may have gone with the link; and the count begins anew."""
        lose(known, choosing)
        for now in (3.0, 5.0):
            choosing.failed(ALL, [place("a"), place("b")], now)
        for now in (6.0, 7.0):
            lose(known, choosing, now)
            assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}
        choosing.failed(ALL, [place("a"), place("b")], 8.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}

    def test_has_its_culprit_alone_where_that_is_known_and_the_others_at_once(
        self, known: Attachments, choosing: Choosing
    ) -> None:
        lose(known, choosing)
        choosing.failed(ALL, [place("a"), place("b")], 3.0, culprit=place("a"))
        assert choosing.groups(UPLINK, (), ()) == {alone("a"): {place("a")}, ALL: {place("b")}}
        assert choosing.ready(ALL, {place("b")}, 3.0) == ({place("b")}, 0.0)

    def test_has_those_wait_that_it_was_for(self, choosing: Choosing) -> None:
        choosing.failed(SOME, [place("a")], 3.0)
        assert choosing.ready(SOME, {place("a"), place("b")}, 3.0) == ({place("b")}, 1.0)

    def test_counts_only_in_a_row(self, known: Attachments, choosing: Choosing) -> None:
        lose(known, choosing)
        choosing.ended(ALL)
        choosing.failed(ALL, [place("a")], 3.0)
        choosing.ended(ALL)
        choosing.failed(ALL, [place("a")], 5.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}

    def test_is_forgotten_of_one_that_is_well(self, known: Attachments, choosing: Choosing) -> None:
        lose(known, choosing)
        for now in (3.0, 5.0):
            choosing.failed(ALL, [place("a")], now)
        known.saw(DIRECTORY, line("a"), 6.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("b")}}
        known.saw(DIRECTORY, line("a", "lost", over=0), 7.0)
        assert choosing.groups(UPLINK, (), ()) == {ALL: {place("a"), place("b")}}


@pytest.mark.parametrize(
    ("group", "files"),
    [(ALL, ["a", "b"]), (SOME, ["a"]), (Group("/other", "eth0"), [])],
    ids=["all of an uplink", "some", "another directory"],
)
def test_what_a_task_is_not_to_touch(
    known: Attachments, choosing: Choosing, group: Group, files: list[str]
) -> None:
    """Those that are refused; and of an uplink those, too, that may have ended the last task."""
    lose(known, choosing)
    one(known, "a").reason = "its name is another's"
    choosing.not_healed(one(known, "a"), FOREIGN)
    choosing.failed(ALL, [place("b")], 3.0, culprit=place("b"))
    assert left_out(known, choosing, group) == [place(name).file for name in files]
