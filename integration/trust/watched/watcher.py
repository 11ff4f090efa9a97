"""The daemon under test: started as its unit does, killed, started again, and measured."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import PATH, Lab, poll_until
from integration.errors import RigError

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Use:
    """What the daemon and its processes take."""

    processes: int
    descriptors: int
    kib: int  # of memory, what several share counted once (PSS)
    seconds: float  # of a processor, of those that live


class Watcher:
    """`cni-repair watch` on a lab's node."""

    def __init__(self, lab: Lab, config: Path, log: Path) -> None:
        self._lab = lab
        self._config = config
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it looks."""
        command = [*self._lab.command, "watch", "--config", str(self._config)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._lab.ground.entering(self._lab.node), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": PATH},
                start_new_session=True,
            )
        poll_until(self._looks, _START_SECONDS, f"the watcher to look; see {self._log}")

    def _looks(self) -> bool:
        if self._running.poll() is not None:
            raise RigError(f"cni-repair watch ended: {self._log.read_text()[-1000:]}")
        asked = self._lab.cli("watch", "--status", "--config", str(self._config), "-o", "json")
        status: Any = asked.document["status"] if asked.returncode == 0 else None
        return bool(status) and status["pid"] == self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """As the kernel does where memory is short: nothing is put in order."""
        family = [*self._family()]
        self._running.kill()
        self._running.wait(_STOP_SECONDS)
        poll_until(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in family),
            _STOP_SECONDS,
            "the killed watcher's processes to be gone",
        )

    def stop(self) -> int:
        """As systemd does; the exit status."""
        if self._running.poll() is None:
            self._running.terminate()
        try:
            return self._running.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
            return -signal.SIGKILL

    def use(self) -> Use:
        """What it takes at this moment."""
        family = [*self._family()]
        descriptors = kib = ticks = 0
        for pid in family:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a task that ended
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
                kib += _pss(pid)
                ticks += _ticks(pid)
        return Use(len(family), descriptors, kib, ticks / _TICKS)

    def _family(self) -> Iterator[int]:
        waiting = [self._running.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                waiting += map(int, children.split())


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _ticks(pid: int) -> int:
    """User and system time, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
