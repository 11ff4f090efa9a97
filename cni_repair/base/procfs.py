"""What /proc tells of processes, and of this boot.

Files are read as bytes where that is enough: opening one as text imports a codec.
"""

from __future__ import annotations

import os

from cni_repair.base.frozen import frozen

_boot_id: list[str] = []
# Of a process that does not exist (any more), before and after its file was opened. Whoever took
# another errno for its end would take away what it has.
_ENDED = (FileNotFoundError, NotADirectoryError, ProcessLookupError)
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


@frozen
class ProcessStat:
    """Some fields of /proc/PID/stat (proc(5))."""

    state: str
    group: int
    session: int
    start: int  # clock ticks since boot: together with the PID it is unique in this boot


def boot_id() -> str:
    """The id of this boot. It is read once: no process outlives its boot."""
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            _boot_id.append(file.read().strip().decode("ascii"))
    return _boot_id[0]


def process_ids() -> list[int]:
    """The ids of all processes, sorted."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def stat_of(pid: int) -> ProcessStat | None:
    """A process's state, group, session and start; None where there is no such process (any more).
    Of a thread's id, too: they are of one kind."""
    return stat_in(f"/proc/{pid}")


def stat_in(directory: str) -> ProcessStat | None:
    """As :func:`stat_of`, of a process's or thread's directory, wherever proc is mounted."""
    try:
        with open(f"{directory}/stat", "rb") as file:
            # The name in the second field may hold blanks and brackets: begin after its last one.
            fields = file.read(4096).rpartition(b")")[2].split()
        group, session, start = int(fields[2]), int(fields[3]), int(fields[19])
        return ProcessStat(fields[0].decode("ascii"), group, session, start)
    except (*_ENDED, IndexError, ValueError):
        return None


def start_of(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None where it does not exist."""
    found = stat_of(pid)
    return found.start if found else None


def cgroups_of(pid: int) -> str:
    """The text of /proc/PID/cgroup; empty where there is no such process (any more)."""
    return cgroups_in(f"/proc/{pid}")


def cgroups_in(directory: str) -> str:
    """As :func:`cgroups_of`, of a process's or thread's directory, wherever proc is mounted."""
    try:
        with open(f"{directory}/cgroup", "rb") as file:
            return file.read(1 << 16).decode("utf-8", "replace")
    except _ENDED:
        return ""


def sees_all_processes() -> bool:
    """Whether /proc shows every process of the machine, not only those of a container."""
    return os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE


def comm_of(pid: int) -> str:
    """A process's name; empty where there is no such process (any more)."""
    try:
        # (ADD asks, too: open() would take twice as long.)
        fd = os.open(f"/proc/{pid}/comm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 64).decode("utf-8", "replace").strip()
        finally:
            os.close(fd)
    except OSError:
        return ""
