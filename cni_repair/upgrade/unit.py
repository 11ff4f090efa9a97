"""The upgrade as a systemd unit of its own: it does not end with the terminal that started it.

The operator's SSH session runs over the NIC that is about to vanish.
"""

from __future__ import annotations

import os
import sys

from cni_repair.base.errors import ENVIRONMENT, IO, TRY_AGAIN, CniError
from cni_repair.upgrade.command import run
from cni_repair.upgrade.kubelet import booted_with_systemd

_NAME = "cni-repair-upgrade"
_MARK = "CNI_REPAIR_UPGRADE_UNIT"  # in the environment of what a unit runs


def name_of(resumes: int) -> str:
    """The unit of an upgrade's start, or of its n-th resume.

    Each has one of its own: that of a killed start is there as long as the driver command, which
    is in its cgroup, still works.
    """
    return f"{_NAME}-resume-{resumes}.service" if resumes else f"{_NAME}.service"


def start(name: str, arguments: list[str]) -> None:
    """Run our own command line with `arguments` as a transient unit. Raises CniError."""
    if not booted_with_systemd():
        raise CniError(
            ENVIRONMENT,
            "systemd does not run here",
            "say --foreground, on a console that does not depend on the NIC",
        )
    status, said = run(
        [
            "systemd-run", "--quiet", "--collect", f"--unit={name}",
            "--description=cni-repair upgrade",
            f"--setenv={_MARK}={name}",
            # A node that runs short of memory meanwhile must not lose this of all processes.
            "--property=OOMScoreAdjust=-1000",
            # The driver command outlives us: half a driver's installation is worse than none.
            "--property=KillMode=process",
            *(_literally(word) for word in (*_own_command(), *arguments)),
        ]
    )  # fmt: skip
    if status == 0:
        return
    if _is_loaded(name):
        raise CniError(
            TRY_AGAIN,
            f"{name} is at work, or a driver command that it has started",
            f"wait for its end: systemctl status {name}",
        )
    raise CniError(IO, f"systemd does not start {name}", " ".join(said.split()))


def is_this_process() -> bool:
    """Whether this process is an upgrade's unit."""
    return _MARK in os.environ


def is_running(name: str) -> bool:
    """Whether the unit is at work."""
    if not booted_with_systemd():
        return False
    status, _ = run(["systemctl", "is-active", "--quiet", name])
    return status == 0


def _is_loaded(name: str) -> bool:
    _, said = run(["systemctl", "show", "-p", "LoadState", "--value", name])
    return said.strip() == "loaded"


def _literally(word: str) -> str:
    """A word in which systemd finds no variable to expand (systemd.service(5), "Command Lines")."""
    return word.replace("$", "$$")


def _own_command() -> list[str]:
    """How this very program was started, without its arguments: by the same interpreter, in the
    same isolation. The unit's working directory is not ours."""
    ours = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    if not sys.executable or not ours:
        raise CniError(IO, "cannot tell how cni-repair was started", "say --foreground")
    *options, program = ours
    return [sys.executable, *options, os.path.abspath(program) if _is_file(program) else program]


def _is_file(word: str) -> bool:
    """Whether that is a program's file, and not the text after -c, or a module's name after -m."""
    return word == sys.argv[0] and os.path.exists(word)
