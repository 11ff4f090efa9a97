"""A program that runs beside the rig, for as long as it is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from cni_repair.demo.lab import PATH, LabError, poll_until

START_SECONDS = 60.0


class Daemon:
    """Context: a command that runs until it is left, and is killed then.

    `log_file` has what it says; `path` its PATH.
    """

    def __init__(self, name: str, command: Sequence[str], log_file: Path, path: str = PATH) -> None:
        self._name, self._command = name, command
        self._log_file, self._path = log_file, path
        self._cleanup = ExitStack()

    def __enter__(self) -> Daemon:
        with ExitStack() as cleanup:
            log = cleanup.enter_context(self._log_file.open("ab"))
            self.process = subprocess.Popen(
                # With us ends the program, whatever ended us.
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                env={"PATH": self._path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us
            )
            cleanup.callback(self.process.wait)
            cleanup.callback(self.process.kill)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)

    @property
    def log(self) -> str:
        return self._log_file.read_text("utf-8", "replace")

    def until(self, is_ready: Callable[[], object], seconds: float = START_SECONDS) -> None:
        """Wait until it serves. Raises LabError where it ends instead."""
        poll_until(lambda: self.process.poll() is not None or is_ready(), seconds, self._name)
        if self.process.poll() is not None:
            raise LabError(f"{self._name}: exit {self.process.returncode}: {self.log[-2000:]}")
