"""How far an upgrade has come: cut short anywhere, and gone on with, it ends the same."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.upgrade import journal as journals
from cni_repair.upgrade import procedure
from cni_repair.upgrade.context import Upgrade
from cni_repair.upgrade.events import Events
from cni_repair.upgrade.planfile import plan_of
from cni_repair.upgrade.progress import (
    CUT_SHORT,
    DRIVER,
    ENDED,
    FAILED,
    FINE,
    HOLD,
    MASTERS,
    PHASES,
    PREFLIGHT,
    REBOOTED,
    REFUSED,
    RELEASE,
    REPAIR,
    RUNNING,
    SNAPSHOT,
    START,
    VERIFY,
    Progress,
    Run,
    progress_of,
    remaining,
)
from cni_repair.upgrade.progress import GIVEN_UP as BY_RELEASE
from cni_repair.upgrade.progress import RESUME as RESUMED
from cni_repair.upgrade.settings import Settings
from cni_repair.upgrade.verdict import (
    FAILED_SO_FAR,
    GIVEN_UP,
    HEALED,
    NOT_BEGUN,
    WELL,
    how_it_ended,
    verdict_of,
)

Event = dict[str, Any]
BEGIN: Event = {"event": "begin", "at": 1.0, "version": 1, "bootId": "boot", "pid": 7}
BEGIN |= {"plan": {}, "planFile": "plan.yaml", "options": {}}
RESUME: Event = {"event": "resume", "at": 2.0, "bootId": "boot", "pid": 8}
PLAN = plan_of({"version": 1, "driver": {"command": "true"}})
HARMLESS = PHASES[: PHASES.index(DRIVER)]  # as long as the driver command has not begun
MENDING = (DRIVER, MASTERS, REPAIR)


def phase(name: str) -> Event:
    return {"event": "phase", "at": 1.0, "phase": name}


def done(name: str, ok: bool = True) -> Event:
    return {"event": "done", "at": 1.5, "phase": name, "ok": ok, "words": "", "data": {}}


def of(*events: Event) -> Progress:
    return progress_of([BEGIN, *events])


def went_well(*names: str) -> list[Event]:
    return [event for name in names for event in (phase(name), done(name))]


KUBELET: Event = {"event": "kubelet", "at": 1.0, "unit": "k", "active": True, "masked": False}
DRIVER_NOTED: Event = {"event": "driver", "at": 1.0, "pid": 1, "start": 1, "deadline": 1.0}


RELEASED: Event = {"event": "end", "at": 9.0, "status": 1, "givenUp": True}


def end(status: int) -> Event:
    return {"event": "end", "at": 3.0, "status": status}


# --- the whole loop, with phases of paper --------------------------------------------------------


def in_memory() -> tempfile.TemporaryDirectory[str]:
    """A directory in which fsync() costs nothing."""
    return tempfile.TemporaryDirectory(dir="/dev/shm")


class Killed(BaseException):
    pass


class Trial:
    """Starts and resumes of one upgrade, the outcomes of its phases being given."""

    def __init__(self, directory: str, outcomes: dict[str, bool]) -> None:
        self.directory = directory
        self.outcomes = outcomes
        self.did: list[list[str]] = []  # phases, by start and resume
        self.commands = 0  # driver commands begun

    def go(self, dies_at: int | None = None) -> int | None:
        """Start, or resume what was killed; None where it dies, after so many events."""
        if not self.did:
            begin = {key: BEGIN[key] for key in BEGIN if key not in ("event", "at", "version")}
            journal, event = journals.begin(self.directory, begin)
            events = [event]
        else:
            journal = journals.go_on(self.directory)
            events = journals.read(self.directory)
            events.append(journal.append(RESUME))
        self.did.append([])
        count = 0

        def on_progress(_: Event) -> None:
            nonlocal count
            count += 1
            if count == dies_at:
                raise Killed

        settings = Settings("", "", self.directory, lambda: None)
        upgrade = Upgrade(PLAN, settings, Events(journal, events, on_progress))
        with journal:
            try:
                return procedure.run(upgrade, {name: self._phase(name) for name in PHASES})
            except Killed:
                return None

    def _phase(self, name: str) -> Callable[[Upgrade], tuple[bool, str, Any]]:
        def work(upgrade: Upgrade) -> tuple[bool, str, Any]:
            self.did[-1].append(name)
            if name == DRIVER and not upgrade.events.progress.touched:
                self.commands += 1
                upgrade.events.commit("driver", pid=1, start=1, deadline=1.0)
            return self.outcomes[name], "", {}

        return work

    @property
    def progress(self) -> Progress:
        return progress_of(journals.read(self.directory))


outcomes = st.fixed_dictionaries({name: st.booleans() for name in PHASES})
good_start = outcomes.map(lambda one: {**one, **dict.fromkeys(HARMLESS, True)})


@given(good_start, st.lists(st.integers(1, 20), max_size=3))
def test_cut_short_anywhere_it_ends_the_same(outcomes: dict[str, bool], cuts: list[int]) -> None:
    with in_memory() as straight, in_memory() as crooked:
        wanted = Trial(straight, outcomes)
        status = wanted.go()
        run = Trial(crooked, outcomes)
        last = None
        for cut in cuts:
            if last is None:
                last = run.go(cut)
        if last is None:
            last = run.go()
        assert last == status == (FINE if all(outcomes.values()) else FAILED)
        assert results(run.progress) == results(wanted.progress) == outcomes
        assert run.commands == 1
        for did in run.did:
            assert_in_order(did)


def results(progress: Progress) -> dict[str, bool]:
    return {name: one.ok for name, one in progress.done.items()}


def assert_in_order(did: list[str]) -> None:
    assert did == sorted(did, key=PHASES.index)
    if set(did) & set(MENDING):
        assert did[: did.index(next(name for name in did if name in MENDING))][-1] == HOLD


@given(outcomes)
def test_failure_before_the_driver_command_ends_it(outcomes: dict[str, bool]) -> None:
    with in_memory() as directory:
        run = Trial(directory, outcomes)
        status = run.go()
        failed = [name for name in HARMLESS if not outcomes[name]]
        if not failed:
            assert run.did == [list(PHASES)]
            return
        assert run.commands == 0
        upto = list(PHASES[: PHASES.index(failed[0]) + 1])
        if failed[0] == HOLD:
            assert (status, run.did) == (FAILED, [[*upto, RELEASE]])
        else:
            assert (status, run.did) == (REFUSED, [upto])


@given(good_start, good_start)
def test_resumed_once_the_trouble_is_gone(first: dict[str, bool], second: dict[str, bool]) -> None:
    """What went well is not done again, the driver command never."""
    with in_memory() as directory:
        run = Trial(directory, first)
        run.go()
        todo = remaining(run.progress)
        failed = [name for name in PHASES if not first[name] and name != DRIVER]
        assert bool(todo) == bool(failed)
        if not todo:
            return
        assert [name for name in todo if name != HOLD] == list(PHASES[PHASES.index(failed[0]) :])
        run.outcomes = {**second, DRIVER: first[DRIVER]}
        status = run.go()
        assert run.did[-1] == list(todo)
        assert run.commands == 1
        since = {name: ok for name, ok in results(run.progress).items() if name != DRIVER}
        assert status == (FINE if all(since.values()) else FAILED)
        assert results(run.progress)[DRIVER] == first[DRIVER]
        assert verdict_of(run.progress) == (HEALED if status == FINE else FAILED_SO_FAR)
        assert [one.status for one in run.progress.runs] == [FAILED, status]
        assert set(run.progress.runs[0].failed) == {name for name in PHASES if not first[name]}
        assert set(run.progress.runs[1].failed) == {name for name in since if not since[name]}


@given(good_start, st.integers(1, 20))
def test_resume_goes_on_after_a_failing_hold_once_the_driver_was_touched(
    outcomes: dict[str, bool], cut: int
) -> None:
    with in_memory() as directory:
        run = Trial(directory, outcomes)
        if run.go(cut) is not None or not run.progress.touched:
            return
        todo = remaining(run.progress)
        run.outcomes = {**outcomes, HOLD: False}
        run.go()
        assert run.did[-1] == list(todo)
        if DRIVER in run.progress.done:
            assert DRIVER not in remaining(run.progress)


def test_bug_in_a_phase_is_its_failure(tmp_path: Path) -> None:
    run = Trial(str(tmp_path), dict.fromkeys(PHASES, True))
    run.outcomes.pop(VERIFY)  # a KeyError
    assert run.go() == FAILED
    assert run.did == [list(PHASES)]
    assert "a bug in cni-repair: KeyError" in run.progress.done[VERIFY].words


# --- what a journal tells ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "left"),
    [
        ([], PHASES),
        ([phase(PREFLIGHT)], PHASES),
        (went_well(PREFLIGHT), PHASES[1:]),
        (went_well(PREFLIGHT, SNAPSHOT), PHASES[2:]),
        (went_well(*PHASES[:3]), (HOLD, *PHASES[3:])),
        ([*went_well(*PHASES[:3]), phase(DRIVER), done(DRIVER, False)], (HOLD, *PHASES[4:])),
        (went_well(*PHASES[:7]), (RELEASE,)),
        (went_well(*PHASES), ()),
        ([*went_well(*PHASES[:6]), done(VERIFY, False), done(RELEASE)], (VERIFY, RELEASE)),
        ([*went_well(*PHASES[:6]), KUBELET, done(VERIFY, False)], (HOLD, VERIFY, RELEASE)),
        ([*went_well(*PHASES), phase(VERIFY)], (VERIFY, RELEASE)),
        ([*went_well(*PHASES), phase(MASTERS), done(MASTERS)], (HOLD, REPAIR, VERIFY, RELEASE)),
    ],
)
def test_what_is_left_to_do(events: list[Event], left: tuple[str, ...]) -> None:
    assert remaining(of(*events)) == left


def test_kubelet_that_is_held_again_is_held() -> None:
    released = [*went_well(*PHASES[:3]), KUBELET, *went_well(*PHASES[3:7], RELEASE)]
    assert not of(*released).holds_kubelet
    again = of(*released, end(1), RESUME, phase(HOLD))
    assert again.holds_kubelet
    assert again.done[DRIVER].ok
    assert again.done[REPAIR].ok


def test_failure_that_somebody_was_told_of() -> None:
    failed = [*went_well(*PHASES[:3]), DRIVER_NOTED, done(DRIVER, False)]
    assert of(*failed).failed_since == (DRIVER,)
    assert of(*failed, RESUME).failed_since == (DRIVER,)  # killed before its end
    assert of(*failed, end(1), RESUME).failed_since == ()
    assert of(*failed, end(1), RESUME).failed == (DRIVER,)
    assert of(*failed, end(1), RESUME, done(DRIVER, False)).failed_since == (DRIVER,)


AGAIN = [RESUME, *went_well(MASTERS, REPAIR, VERIFY, RELEASE)]
FAILED_DRIVER = [*went_well(*PHASES[:3]), DRIVER_NOTED, done(DRIVER, False), done(MASTERS, False)]


@pytest.mark.parametrize(
    ("events", "verdict", "words"),
    [
        ([], None, ""),
        ([*went_well(*PHASES), end(0)], WELL, "^ended well$"),
        ([*went_well(*PHASES[:5]), *AGAIN, end(0)], WELL, "^ended well$"),  # killed, that is all
        ([done(PREFLIGHT, False), end(3)], NOT_BEGUN, "^refused, nothing was touched$"),
        ([*FAILED_DRIVER, end(1)], FAILED_SO_FAR, "^ended, FAILED$"),
        ([*FAILED_DRIVER, end(1), *AGAIN], None, ""),
        ([*FAILED_DRIVER, end(1), RESUME, done(MASTERS, False), end(1)], FAILED_SO_FAR, "FAILED$"),
        ([*FAILED_DRIVER, end(1), RELEASED], GIVEN_UP, "^ended, FAILED, and given up$"),
        ([*went_well(*PHASES), end(0), {**RELEASED, "status": 0}], WELL, "^ended well$"),
        (
            [*went_well(*PHASES[:4]), done(MASTERS, False), end(1), *AGAIN, end(0)],
            HEALED,
            r"^FAILED at \S+ \S+ \(masters\), healed at \S+ \S+ by --resume$",
        ),
        (
            [*FAILED_DRIVER, end(1), RESUME, done(MASTERS, False), end(1), *AGAIN, end(0)],
            HEALED,
            r"^FAILED at .* \(driver, masters\), FAILED at .* \(masters\), healed at .* by"
            " --resume;"
            " the driver command was not run again: begin a new upgrade for that$",
        ),
    ],
)
def test_verdict_tells_what_went_before(
    events: list[Event], verdict: str | None, words: str
) -> None:
    progress = of(*events)
    assert verdict_of(progress) == verdict
    if verdict is not None:
        assert re.search(words, how_it_ended(progress))


def test_every_run_is_kept() -> None:
    found = of(*FAILED_DRIVER, RESUME, end(1), {**RELEASED, "at": 9.0}).runs
    assert found == (
        Run(START, 1.0),  # killed
        Run(RESUMED, 2.0, 3.0, 1, (DRIVER, MASTERS)),
        Run(BY_RELEASE, 9.0, 9.0, 1, (DRIVER, MASTERS)),
    )


def test_where_it_stands() -> None:
    assert of().standing("boot", True) == RUNNING
    assert of().standing("boot", False) == CUT_SHORT
    assert of().standing("another", True) == REBOOTED
    assert of(end(1)).standing("boot", True) == ENDED
    assert of(end(1)).standing("another", True) == REBOOTED  # what was left to do is no more
    assert of(end(1), RELEASED).standing("another", True) == ENDED
    assert of(end(1), RELEASED).given_up
    assert remaining(of(end(1), RELEASED)) == ()
    assert of(end(1), RESUME).standing("boot", True) == RUNNING
    assert of(RESUME, RESUME).resumes == 2


def test_first_loss_and_last_return_count() -> None:
    def link(kind: str, at: float) -> Event:
        return {"event": kind, "link": "eth0", "at": at}

    found = of(link("lost", 5.0), link("back", 6.0), link("lost", 7.0), link("back", 8.0))
    assert (found.lost, found.back) == ({"eth0": 5.0}, {"eth0": 8.0})


def test_phase_whose_beginning_a_full_disk_has_swallowed() -> None:
    found = of(phase(REPAIR), done(VERIFY)).done[VERIFY]
    assert (found.began, found.ended) == (1.5, 1.5)
