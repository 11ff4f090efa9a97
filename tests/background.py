"""A command that runs beside the tests, from their beginning on."""

from __future__ import annotations

import os
import subprocess
import tempfile

# Opened before the tests leave it: what the command does there is no trace of theirs.
_MACHINES_MOUNTS = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
_END_SECONDS = 120.0


def in_machines_mounts() -> list[str]:
    """What to put before a command, to run it in the machine's own mount namespace."""
    return ["nsenter", f"--mount=/proc/{os.getpid()}/fd/{_MACHINES_MOUNTS}"]


class Background:
    """A run of a command in the machine's own mount namespace, as a user would start it."""

    def __init__(self, command: list[str]) -> None:
        self._out, self._err = (
            tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # `stop` closes them
            for _ in range(2)
        )
        self._process = subprocess.Popen(
            [*in_machines_mounts(), *command],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
        )

    def wait(self, seconds: float) -> tuple[str, str]:
        """What it has written to stdout and stderr in the end."""
        self._process.wait(seconds)
        for file in (self._out, self._err):
            file.seek(0)
        return self._out.read(), self._err.read()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(_END_SECONDS)
        self._out.close()
        self._err.close()
