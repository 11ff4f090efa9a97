"""The healer: a light process that forks a child for each task, and reaps it.

The daemon forks it before asyncio, pyroute2 and the others are imported: children that are forked
from a process without threads and with little memory start in a millisecond. It knows nothing of
tasks but their children: each talks to the daemon by a socket of its own.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from cni_repair.watch.leash import Leash

_START, _KILL = "start", "kill"
_MAX_REQUEST = 64


class Healer:
    """The daemon's end."""

    def __init__(self, leash: Leash) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            _live(theirs, self.control, leash)
        theirs.close()
        self.control.setblocking(False)  # whatever ails the healer, the daemon goes on
        self._tasks = 0

    def start(self) -> tuple[int, socket.socket]:
        """Have a child forked; its number, and the socket by which it talks. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            self._tasks += 1
            request = f"{_START} {self._tasks}".encode()
            socket.send_fds(self.control, [request], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return self._tasks, ours

    def kill(self, task: int) -> None:
        """End a task's child, and what it has forked. The healer knows whether it still lives."""
        try:
            self.control.send(f"{_KILL} {task}".encode())
        except OSError:
            pass  # the healer has died, and its children end with the daemon

    def close(self) -> None:
        """It ends by itself then."""
        self.control.close()


def _live(control: socket.socket, other_end: socket.socket, leash: Leash) -> NoReturn:
    """The healer's whole life."""
    try:
        other_end.close()
        leash.let_go()
        leash.tie()
        # A service manager sends it to all of the unit: the daemon says when to end.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        from cni_repair.watch.tasks import work

        gc.collect()
        gc.freeze()  # a collection in a child would touch, and so copy, every page
        _Children(control, leash, work).serve()
    except Exception:
        sys.excepthook(*sys.exc_info())  # a bug: all that the daemon can tell is that we died
    finally:
        os._exit(0)


class _Children:
    """Those that live, by the numbers of their tasks."""

    def __init__(
        self, control: socket.socket, leash: Leash, work: Callable[[socket.socket], None]
    ) -> None:
        self._control = control
        self._leash = leash
        self._work = work
        self._living: dict[int, int] = {}

    def serve(self) -> None:
        """Do as the daemon says, until it has closed the socket."""
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        while True:
            request, fds, _, _ = socket.recv_fds(self._control, _MAX_REQUEST, 1)
            if not request:
                break
            word, number = request.decode().split()
            # No child may be reaped, and its process id be another's, in between.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            if word == _START:
                self._start(int(number), fds[0])
            else:
                self._kill(int(number))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        for task in self._living:
            self._kill(task)

    def _start(self, number: int, fd: int) -> None:
        try:
            process = os.fork()
        except OSError:
            os.close(fd)  # the daemon reads the end of a task that never began
            return
        if process == 0:
            self._live_as_child(fd)
        os.close(fd)
        self._living[number] = process

    def _live_as_child(self, fd: int) -> NoReturn:
        try:
            self._control.close()
            self._leash.tie()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            self._work(socket.socket(fileno=fd))
        finally:
            os._exit(0)

    def _kill(self, number: int) -> None:
        process = self._living.get(number)
        if process is None:
            return
        for kill in (os.killpg, os.kill):
            try:
                kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has not come to lead a group yet; or is dead, and not reaped yet

    def _reap(self) -> None:
        while True:
            try:
                process, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            self._living = {task: pid for task, pid in self._living.items() if pid != process}
