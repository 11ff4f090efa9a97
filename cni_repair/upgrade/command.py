"""Calling the machine's own programs (systemctl, systemd-run)."""

from __future__ import annotations

import os
import signal
import subprocess

from cni_repair.base.errors import IO, CniError
from cni_repair.upgrade.drivercommand import SEARCH_PATH

# `systemctl stop` waits for the unit's TimeoutStopSec, 90 s by default.
_SECONDS = 150.0


def call(command: list[str]) -> str:
    """Run a command to its end; what it printed. Raises CniError where it fails."""
    status, output = run(command)
    if status != 0:
        raise CniError(IO, f"{' '.join(command)}: exit {status}", " ".join(output.split())[-500:])
    return output


def run(command: list[str]) -> tuple[int, str]:
    """Run a command to its end: (exit status, what it printed). Raises CniError where it cannot."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for us
        )
    except OSError as error:
        raise CniError(IO, f"cannot run {command[0]}", error.strerror or str(error)) from error
    with process:
        try:
            output, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            what = f"{' '.join(command)}: no end after {_SECONDS:g} s"
            raise CniError(IO, what, "see systemctl list-jobs") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output.decode("utf-8", "replace")
