"""A cgroup in every hierarchy of the machine, to know, and to end, all that is started in it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

from cni_repair.base.closeable import Closeable
from cni_repair.demo.lab import LabError, poll_until

END_SECONDS = 60.0
MOUNTED = Path("/sys/fs/cgroup")

_PROCS = "cgroup.procs"
_CPUSET = ("cpuset.cpus", "cpuset.mems")  # empty at first, and then of no use


class Cgroup(Closeable):
    """Context: a cgroup of a random or given name; on leaving, whatever is in it is killed.

    Runtimes make its directory in the other hierarchies as they need it; all are removed.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name or f"cni-repair-{secrets.token_hex(4)}"

    @property
    def path(self) -> str:
        """As runtimes and kubelet want to be told."""
        return f"/{self.name}"

    def close(self) -> None:
        poll_until(self._killed, END_SECONDS, f"the processes in cgroup {self.name} to end")
        poll_until(self._removed, END_SECONDS, f"cgroup {self.name} to be removable")

    def made(self) -> list[Path]:
        """Its directory in every hierarchy, with every controller that there is."""
        for hierarchy in hierarchies():
            _enable_controllers(hierarchy)
            make(hierarchy / self.name)
        return self._tops()

    def started(self, command: list[str]) -> list[str]:
        """The command, to be run in a part of this cgroup that is not any container's.

        In one hierarchy: that will do to know its processes.
        """
        # A cgroup of version 2 that has children must have no processes of its own.
        part = hierarchies()[0] / self.name / "daemons"
        part.mkdir(parents=True, exist_ok=True)
        return entering([part], command)

    def _killed(self) -> bool:
        pids = set(self._pids())
        for pid in pids - {0}:  # 0: of another PID namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    def _pids(self) -> Iterator[int]:
        for top in self._tops():
            for directory, _, _ in os.walk(top):
                with contextlib.suppress(OSError):  # ENOENT, ENODEV: just removed
                    yield from map(int, Path(directory, _PROCS).read_text().split())

    def _removed(self) -> bool:
        for top in self._tops():
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # EBUSY: those killed take a moment to go
                    os.rmdir(directory)
        return not self._tops()

    def _tops(self) -> list[Path]:
        tops = (hierarchy / self.name for hierarchy in hierarchies())
        return [top for top in tops if top.is_dir()]


def make(cgroup: Path) -> Path:
    """Make a cgroup that processes can be put into."""
    cgroup.mkdir()
    if (cgroup / "tasks").exists():  # version 1
        for name in _CPUSET:
            if (cgroup / name).exists():
                (cgroup / name).write_text((cgroup.parent / name).read_text())
    return cgroup


def _enable_controllers(hierarchy: Path) -> None:
    """Have the cgroups of version 2 in this one controlled, as runc does wherever it is started.

    They stay so: somebody else may have come to rely on it.
    """
    for controllers in hierarchy.glob("cgroup.controllers"):
        for name in controllers.read_text().split():
            with contextlib.suppress(OSError):  # `cpu` is refused if there are real-time processes
                (hierarchy / "cgroup.subtree_control").write_text(f"+{name}")


def entering(cgroups: list[Path], command: list[str]) -> list[str]:
    """The command, to be run in those cgroups, one of each hierarchy."""
    script = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit; shift; done; shift; exec "$@"'
    return [
        "/bin/sh",
        "-c",
        script,
        "sh",
        *(f"{path}/{_PROCS}" for path in cgroups),
        "--",
        *command,
    ]


def hierarchies() -> list[Path]:
    """Where the hierarchies are mounted; where there is one of version 2, it is the first."""
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        kind, point = source.split()[0], Path(mount.split()[4])
        if kind in ("cgroup", "cgroup2") and point not in found and point.is_relative_to(MOUNTED):
            found.insert(0 if kind == "cgroup2" else len(found), point)
    if not found:
        raise LabError(f"no cgroups are mounted on {MOUNTED}")
    return found
