"""What ties processes to the daemon's life: they die with it, however it dies."""

from __future__ import annotations

import fcntl
import os
import select
import signal


class Leash:
    """A pipe whose writing end is the daemon's alone. When the kernel closes that, it sends SIGKILL
    to each process group that is tied to it.

    (PR_SET_PDEATHSIG would not reach what a child has forked, nor a grandchild.)
    """

    def __init__(self) -> None:
        self._end, self._held = os.pipe()

    def let_go(self) -> None:
        """In a child, right after the fork: the writing end is not its own."""
        os.close(self._held)

    def tie(self) -> None:
        """Make the calling process the leader of a group that dies with the daemon."""
        os.setpgid(0, 0)
        # An open file of its own: who is told, and with what, belongs to the open file.
        end = os.open(f"/proc/self/fd/{self._end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(end, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(end, fcntl.F_SETFL, os.O_ASYNC)
        if select.select([end], [], [], 0)[0]:
            os._exit(1)  # the daemon has died meanwhile
