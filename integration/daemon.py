"""A program that runs beside the rig, for as long as it is needed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import PATH, LabError, poll_until

START_SECONDS = 60.0


class Daemon(WithCleanup):
    """Context: a command that runs until it is left, and is sent `ending` then.

    `log_file` has what it says; `path` its PATH.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_file: Path,
        *,
        path: str = PATH,
        ending: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._name, self._command = name, command
        self._log_file, self._path, self._ending = log_file, path, ending

    def _open(self) -> None:
        log = self._cleanup.enter_context(self._log_file.open("ab"))
        self.process = subprocess.Popen(
            # With us ends the program, whatever ended us.
            ["setpriv", "--pdeathsig", "KILL", *self._command],
            env={"PATH": self._path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us
        )
        self._cleanup.callback(self.process.wait)
        self._cleanup.callback(self.process.send_signal, self._ending)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace")

    def until(self, is_ready: Callable[[], object], seconds: float = START_SECONDS) -> None:
        """Wait until it serves. Raises LabError where it ends instead."""
        poll_until(lambda: not self.is_running or is_ready(), seconds, self._name)
        if not self.is_running:
            raise LabError(f"{self._name}: exit {self.process.returncode}: {self.log[-2000:]}")
