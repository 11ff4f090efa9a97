"""Work shared among processes: every result arrives, whatever becomes of one of them."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cni_repair.repair.scheduler import usable_processors, worker_count
from cni_repair.repair.workers import WaitingWorkers, Workers

DEADLINE = 60.0
BIG = 300_000  # bytes: several times what a pipe holds


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No descriptor and no child is left; and no test hangs."""
    before = descriptors_and_children()
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert descriptors_and_children() == before


def descriptors_and_children() -> tuple[set[str], set[str]]:
    """Of this process; others (the rigs that run beside) may be at work in its threads."""
    children = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return set(os.listdir("/proc/self/fd")), set(" ".join(children).split())


def _late(*_: object) -> None:
    raise TimeoutError(f"not done in {DEADLINE:g} s")


def nothing() -> None:
    pass


def twice(number: int) -> Any:
    return number, 2 * number


def all_of(
    numbers: Sequence[int],
    work: Callable[[int], Any] = twice,
    begin: Callable[[], None] = nothing,
    count: int = 2,
) -> list[Any]:
    """What `count` other processes find; this one takes nothing."""
    with Workers(count, numbers, begin, work) as others:
        return sorted(others.rest())


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Gate:
    """Closed until it is opened, for all processes."""

    def __init__(self) -> None:
        self._inside, self._outside = os.pipe()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        os.close(self._inside)

    def open(self) -> None:
        if self._outside >= 0:
            os.close(self._outside)
            self._outside = -1

    def wait(self) -> None:
        """For other processes than the one that opens it."""
        os.close(self._outside)
        os.read(self._inside, 1)


# --- what arrives --------------------------------------------------------------------------------


def test_every_result_once() -> None:
    assert all_of(range(2000), count=3) == [(number, 2 * number) for number in range(2000)]


def test_this_process_works_too() -> None:
    with Workers(2, range(500), nothing, lambda number: (os.getpid(), number)) as others:
        mine = list(others.mine())
        theirs = list(others.rest())
    assert sorted([*mine, *(number for _, number in theirs)]) == list(range(500))
    assert os.getpid() not in {process for process, _ in theirs}


def test_alone_it_does_all() -> None:
    with Workers(0, [3, 1, 2], nothing, twice) as others:
        assert list(others.mine()) == [3, 1, 2]
        assert list(others.rest()) == []


def test_more_than_a_pipe_takes() -> None:
    numbers = range(1 << 15)
    with Workers(1, numbers, nothing, lambda number: number) as others:
        mine = [*others.mine()]
        assert sorted([*mine, *others.rest()]) == [*numbers]
        assert {*numbers[1 << 14 :]} <= {*mine}


def test_whoever_is_free_takes_the_next() -> None:
    with Gate() as gate:

        def work(number: int) -> Any:
            if number == 0:
                gate.wait()
            return number

        with Workers(2, range(20), nothing, work) as others:
            results = others.rest()
            assert [next(results) for _ in range(19)] == [*range(1, 20)]
            gate.open()
            assert list(results) == [0]


def test_results_bigger_than_a_pipe() -> None:
    found = all_of([1, 2, 3, 4], lambda number: (number, str(number) * BIG))
    assert found == [(number, str(number) * BIG) for number in (1, 2, 3, 4)]


def test_values_of_all_kinds_that_reports_are_made_of() -> None:
    value = ("lost", ("ä\udcff",), (), (999, "msg", ""), [True, None], 2**40)
    assert all_of([1], lambda _: value) == [value]


def test_what_was_done_so_far_is_had_without_waiting() -> None:
    with Gate() as gate, Workers(1, [1, 2], gate.wait, twice) as others:
        assert list(others.done()) == []
        gate.open()
        found: list[Any] = []
        while len(found) < 2:
            found += others.done()
        assert found == [(1, 2), (2, 4)]
        assert list(others.rest()) == []


def test_whoever_is_slow_holds_up_no_other() -> None:
    """Neither what another has found, nor (a pipe is soon full) its further work."""
    with Gate() as gate:

        def work(number: int) -> Any:
            if number == 0:
                gate.wait()
            return number, "x" * BIG

        with Workers(2, [0, 1, 2], nothing, work) as others:
            results = others.rest()
            assert [next(results)[0], next(results)[0]] == [1, 2]
            gate.open()
            assert [number for number, _ in results] == [0]


def test_begins_before_the_work() -> None:
    begun: list[int] = []
    assert all_of([1, 2], lambda _: len(begun), lambda: begun.append(1), 1) == [1, 1]
    assert begun == []


# --- what goes wrong -----------------------------------------------------------------------------


def _raise() -> None:
    raise RuntimeError("a bug")


def _interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("fail", [_raise, kill_self, _interrupted, _leave])
def test_one_that_fails_leaves_its_number_undone(
    fail: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    def work(number: int) -> Any:
        if number == 2:
            fail()
        return twice(number)

    assert all_of([1, 2, 3, 4], work) == [(1, 2), (3, 6), (4, 8)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("fail", [_raise, kill_self])
def test_one_that_cannot_begin_does_nothing(fail: Callable[[], None]) -> None:
    assert all_of([1, 2], begin=fail) == []


def test_result_of_which_only_a_part_came_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def half(pipe: int, message: bytes) -> int:
        if len(message) < BIG:
            return write(pipe, message)
        write(pipe, message[: BIG // 2])
        os._exit(0)

    monkeypatch.setattr(os, "write", half)
    assert all_of([1, BIG, 3], lambda number: "x" * number) == ["x", "xxx"]


def test_what_cannot_be_sent_is_undone() -> None:
    assert all_of([2, 1], lambda number: object() if number == 2 else number) == [1]


def test_leaving_early_ends_them_all() -> None:
    """Also those that have a pipe full of results, while others are at work that were forked
    later: these must not keep it open for reading."""
    with pytest.raises(KeyError), Workers(3, range(6), nothing, lambda _: "x" * BIG):
        raise KeyError


def test_killed_with_its_workers_at_work_all_of_them_end() -> None:
    """What they inherited, a runtime's pipe among it, is closed then."""
    told, tell = os.pipe()
    first = os.fork()
    if first == 0:
        try:
            os.close(told)
            with Workers(3, range(6), nothing, lambda _: "x" * BIG) as others:
                next(others.rest())
                kill_self()
        finally:
            os._exit(1)
    os.close(tell)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == -signal.SIGKILL
        assert os.read(told, 1) == b""  # comes with the end of the last of them
    finally:
        os.close(told)


@pytest.mark.parametrize("granted", [0, 1])
def test_no_further_process_is_to_be_had(monkeypatch: pytest.MonkeyPatch, granted: int) -> None:
    """As where a limit of processes is reached. (Root has none: RLIMIT_NPROC says nothing here.)"""
    fork, calls = os.fork, []

    def refuse() -> int:
        calls.append(1)
        if len(calls) > granted:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    assert all_of([1]) == [(1, 2)][:granted]


def test_no_descriptor_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe", refuse)
    with Workers(2, [1, 2], nothing, twice) as others:
        assert (list(others.mine()), list(others.rest())) == ([1, 2], [])


def test_children_that_the_kernel_reaps() -> None:
    """SIGCHLD comes ignored from whoever started us so."""
    first = os.fork()  # for this process may have others' children to wait for
    if first == 0:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            os._exit(0 if all_of([1, 2]) == [(1, 2), (2, 4)] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0


@contextmanager
def signals_raise(number: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_right_after_the_fork(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """In the child it must not unwind what is the first process's to unwind (and to print)."""
    fork, first = os.fork, os.getpid()

    def fork_and_signal() -> int:
        process = fork()
        os.kill(os.getpid(), number)
        return process

    monkeypatch.setattr(os, "fork", fork_and_signal)
    with signals_raise(number):
        try:
            with pytest.raises(KeyboardInterrupt), Workers(2, [1, 2], nothing, twice):
                pass
        finally:
            if os.getpid() != first:  # the defect: pytest itself would go on twice
                os._exit(0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


# --- how many ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processors", "attachments", "count"),
    [
        (8, 0, 1),
        (8, 1, 1),
        (8, 31, 1),
        (8, 32, 2),
        (8, 63, 3),
        (8, 1000, 4),
        (2, 1000, 2),
        (1, 1000, 1),
    ],
)
def test_worker_count(processors: int, attachments: int, count: int) -> None:
    assert worker_count(attachments, processors) == count


def test_processors_are_those_that_we_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_processors() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_processors() == len(before)


# --- that wait ------------------------------------------------------------------------------------


def test_those_that_wait_are_given_work_again_and_again() -> None:
    with WaitingWorkers(2, nothing, twice) as others:
        assert sorted(others.results([1, 2, 3])) == [(1, 2), (2, 4), (3, 6)]
        assert [*others.results([])] == []
        assert [*others.results([4])] == [(4, 8)]
        assert sorted(others.results(range(500))) == [(number, 2 * number) for number in range(500)]


def test_those_that_are_never_given_work_end() -> None:
    with WaitingWorkers(2, nothing, twice) as others:
        assert others.are_there


def test_those_that_are_dismissed_end_while_this_process_goes_on() -> None:
    with WaitingWorkers(2, nothing, twice) as others:
        taken = []
        for number, _ in others.results([1, 2, 3]):
            taken.append(number)
            if len(taken) == 3:
                others.dismiss()
        assert sorted(taken) == [1, 2, 3]
        assert [*others.rest()] == []  # it waits until all have ended
        assert [*others.results([4])] == []


def test_none_that_wait() -> None:
    with WaitingWorkers(0, nothing, twice) as others:
        assert not others.are_there
        assert [*others.results([1])] == []


@pytest.mark.parametrize("count", [1, 2])
def test_after_a_death_no_more_is_taken(count: int) -> None:
    """What was given is done, but for what the dead one had."""
    first = os.getpid()
    died, says = os.pipe()

    def work(number: int) -> Any:
        if os.getpid() == first:
            os.read(died, 1)  # it, or the other one, has a number by now
        elif number != 1:
            os._exit(1)
        return number

    with WaitingWorkers(count, nothing, work) as others:
        os.close(says)  # the others have it, until they end
        done = sorted(others.results([1, 2, 3, 4]))
        assert len(done) < 4 and {*done} < {1, 2, 3, 4}
        assert not others.are_there
        assert [*others.results([5])] == []
    os.close(died)


def test_this_process_works_beside_those_that_waited() -> None:
    first = os.getpid()
    other, has = os.pipe()

    def work(number: int) -> Any:
        if os.getpid() == first:
            os.read(other, 1)  # until another one has had a number
        else:
            os.write(has, b".")
        return os.getpid()

    with WaitingWorkers(1, nothing, work) as others:
        assert len({*others.results(range(4))}) == 2
    for end in (other, has):
        os.close(end)


def test_one_that_dies_while_it_waits_is_not_waited_for() -> None:
    first = os.getpid()
    other, has = os.pipe()

    def work(number: int) -> Any:
        if os.getpid() == first and number < 2:
            os.read(other, 1)
        elif number < 2:
            os.write(has, b".")
        return os.getpid(), number

    with WaitingWorkers(2, nothing, work) as others:
        dead = next(pid for pid, _ in others.results([0, 1]) if pid != first)
        os.kill(dead, signal.SIGKILL)
        assert {number for _, number in others.results([2, 3])} <= {2, 3}
    for end in (other, has):
        os.close(end)
