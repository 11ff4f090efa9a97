"""Plugins that outlive the cni-repair which started them, and keep its lock.

They have inherited the lock's open file, and are to finish what they do (see cni/delegate). One
that hangs would keep the attachment from being deleted for ever.
"""

from __future__ import annotations

import os
import signal

from cni_repair.base.procfs import process_ids, stat_of


def end_orphans(fd: int) -> bool:
    """Kill those who hold the lock of this open file although whoever took it is dead; whether
    there was anyone. A daemon that a plugin has left running is spared: it has its own session."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    takers: dict[int, int] = {}  # of each process that holds the lock: who took it
    for pid in process_ids():
        taker = _taker(pid, path)
        if taker is not None:
            takers[pid] = taker
    if any(pid == taker for pid, taker in takers.items()):
        return False
    groups = {stat.group for stat in map(stat_of, takers) if stat and stat.group != stat.session}
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return bool(groups)


def _taker(pid: int, path: str) -> int | None:
    """Who took the lock by the open file that a process has; None where it has no such file. Of the
    dead the kernel says 0 (proc_pid_fdinfo(5); locks_translate_pid())."""
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == path:
                with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as file:
                    for line in file:
                        if line.startswith(b"lock:"):
                            return int(line.split()[5])
    except OSError:
        pass  # it has ended
    return None
