"""Commands, and how they end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.errors import LabError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    returncode: int  # minus the signal, where one ended it
    stdout: str
    stderr: str
    seconds: float

    @property
    def document(self) -> Any:
        """The JSON document on stdout; raises LabError where it is none."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise LabError(f"not one JSON document: {self.stdout[:200]!r}") from error


def run(
    command: Sequence[str], env: Mapping[str, str], stdin: str | Path, seconds: float
) -> Outcome:
    """Run a command, with `env` and PATH as its whole environment.

    LabError if it has not ended in `seconds`.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us: we end it, in our own time
        encoding="utf-8",
        errors="surrogateescape",  # whatever bytes: a call may have a hostile stdin
    )
    text = stdin.read_text() if isinstance(stdin, Path) else stdin
    try:
        stdout, stderr = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{shlex.join(command)}: no end after {seconds:g} s") from error
    finally:
        _end(process)
    return Outcome(process.returncode, stdout, stderr, time.monotonic() - started)


def _end(process: subprocess.Popen[str]) -> None:
    """See that a command does not go on without us; the plugins that cni-repair starts never do."""
    with process:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
