"""What a test leaves running, or open, is no other's fault: its processes are ended, and told, at
its own end, and what the frames of a failed test still hold is let go before the next one begins.

(Found by Python when the next test runs, a process "still running" would be told as that one's.)
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import HANG_SECONDS, eventually
from tests.processes import is_alive

SECONDS = HANG_SECONDS


def register(config: pytest.Config) -> None:
    config.pluginmanager.register(Strays())


class Strays:
    """Looks at the children of this process before each test, and after it."""

    def __init__(self) -> None:
        self._kept = set[int]()  # they are older than the test, or another one may use them, too
        self._has_failed = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        self._kept = children()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        before = children()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._kept |= children() - before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, None, None]:
        try:
            yield
        finally:
            told = [*_told(children() - self._kept)]
        if told:
            pytest.fail("left behind: " + ", ".join(told), pytrace=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._has_failed |= report.failed

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        result = yield
        if self._has_failed:
            self._has_failed = False
            _forget_failure()
        return result


def children() -> set[int]:
    """The processes that this one has started, and not waited for."""
    return {int(pid) for text in _tables() for pid in text.split()}


def _tables() -> Iterator[str]:
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            yield (thread / "children").read_text()


def _told(pids: set[int]) -> Iterator[str]:
    """End what a test has left; what it was."""
    for pid in sorted(pids):
        started = [one for one in gc.get_objects() if _is_of(one, pid)]
        if not started and _has_ended(pid):
            continue
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        os.kill(pid, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(BrokenPipeError), process:  # it closes the pipes, and waits
                pass
        if not started:
            os.waitpid(pid, 0)
        yield f"process {pid}: {' '.join(words)}"


def _is_of(thing: object, pid: int) -> bool:
    return type(thing) is subprocess.Popen and thing.pid == pid and thing.returncode is None


def _has_ended(pid: int) -> bool:
    """A fork that nobody waits for, as the product's are where nobody could, is given its time."""
    with contextlib.suppress(AssertionError):
        return eventually(lambda: not is_alive(pid), seconds=SECONDS)
    return False


def _forget_failure() -> None:
    """Let go of the frames of a failed test, and of what they hold."""
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):  # for debuggers
        with contextlib.suppress(AttributeError):
            delattr(sys, name)
    told, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = told
