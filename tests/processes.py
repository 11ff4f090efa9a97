"""Processes of tests: each may have ended by the time that it is looked at, or sent a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import AnyStr

from cni_repair.base.procfs import stat_of
from tests.patience import HANG_SECONDS


def is_alive(pid: int) -> bool:
    """Whether a process runs. (One that was killed may wait for a parent that does not care.)"""
    stat = stat_of(pid)
    return stat is not None and stat.state not in "ZX"


def descriptors(pid: int) -> set[str]:
    """What a process has open, but for what it closes meanwhile."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(path))
    return found


def signalled(pid: int, number: int) -> bool:
    """Send a process a signal; whether it was still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


@contextlib.contextmanager
def ended(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Context: a process that has ended when the block has. It is waited for; where the block
    fails, what it waits for may never come: it is ended."""
    with process:
        try:
            yield process
        except BaseException:
            end(process)
            raise


def end(process: subprocess.Popen[AnyStr]) -> None:
    """Politely, since it may have something to remove; not for longer than it may take."""
    process.terminate()
    process.send_signal(signal.SIGCONT)
    try:
        process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
