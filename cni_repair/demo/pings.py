"""Pings that go on all the time, to measure an outage as a pod has it."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Sequence

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.process import PATH

INTERVAL = 0.05  # seconds
_WORDS = ("ping", "-n", "-D", "-i", str(INTERVAL))
# Whatever ends us ends them: without answers they would not notice that nobody listens.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_ANSWER = re.compile(r"\[(?P<at>[\d.]+)\] \d+ bytes from .* time=(?P<took>[\d.]+) ms")
_END_SECONDS = 5.0


class Pings(WithCleanup):
    """Context: `ping` in a namespace; `enter` is what to put before it to have it there."""

    def __init__(self, enter: Sequence[str], gateway: str) -> None:
        self.command = (*_WORDS, gateway)
        self._enter = enter
        self._answers: list[float] = []

    def _open(self) -> None:
        self._process = subprocess.Popen(
            [*_WITH_US, *self._enter, *self.command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # "Network is unreachable" is no answer
            env={"PATH": PATH, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._cleanup.callback(self._end)

    def _end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_END_SECONDS)
        self._reader.join(_END_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = _ANSWER.match(line)
            if found:
                self._answers.append(float(found["at"]) - float(found["took"]) / 1000)

    @property
    def answered(self) -> tuple[float, ...]:
        """When those were sent that were answered by now (seconds since 1970)."""
        return tuple(self._answers)
