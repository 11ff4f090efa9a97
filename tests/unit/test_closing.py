"""Sockets that are closed by a child: it holds nothing else, and it always ends."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_repair.network.reachability import closing
from cni_repair.network.reachability.closing import close_aside
from tests.netns.rig import eventually
from tests.processes import descriptors, is_alive
from tests.unit.test_workers import descriptors_and_children

SECONDS = 60.0
NOBODY = 65534


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = descriptors_and_children()
    yield
    for child in closing._children:
        eventually(lambda child=child: os.waitpid(child, os.WNOHANG)[0] == child, "its end")  # type: ignore[misc]
    closing._children.clear()
    assert descriptors_and_children() == before


class Socket(socket.socket):
    """One that looks around when it is closed here: the child waits for that."""

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._look = look

    def close(self) -> None:
        if self.fileno() >= 0:
            self._look()
        super().close()


def test_the_child_holds_the_sockets_and_its_pipe_alone() -> None:
    found: list[set[str]] = []

    def look() -> None:
        (child,) = closing._children
        eventually(lambda: len(descriptors(child)) == 3, "all else to be closed")
        found.append(descriptors(child))

    looking, other = Socket(look), Socket()
    wanted = {os.readlink(f"/proc/self/fd/{one.fileno()}") for one in (looking, other)}
    close_aside([looking, other])
    (held,) = found
    assert wanted < held
    (pipe,) = held - wanted
    assert pipe.startswith("pipe:")


def test_a_lock_and_a_stream_end_although_the_child_lives(tmp_path: Path) -> None:
    """flock(2) is held by whoever has the descriptor; a runtime reads a plugin's stdout until its
    end."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    stream, written = os.pipe()

    def is_free() -> bool:
        with (tmp_path / "lock").open() as another:
            try:
                fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def look() -> None:
        os.close(lock)  # as a process that is killed does, without an unlock
        os.close(written)
        eventually(is_free, "the lock")
        assert select.select([stream], [], [], SECONDS)[0]
        assert os.read(stream, 1) == b""
        (child,) = closing._children
        assert os.waitpid(child, os.WNOHANG) == (0, 0)

    close_aside([Socket(look)])
    os.close(stream)


def test_the_child_ends_when_this_process_is_killed() -> None:
    """It is seen by the socket's other end, which only the two hold."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    process = os.fork()
    if process == 0:
        ours.close()
        killed = Socket(lambda: os.kill(os.getpid(), signal.SIGKILL))
        close_aside([killed, theirs])
        os._exit(1)
    theirs.close()
    _, status = os.waitpid(process, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    ours.settimeout(SECONDS)
    assert ours.recv(1) == b""
    ours.close()


def test_without_a_process_to_be_had_it_closes_them_itself() -> None:
    """(The limit is not root's.)"""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            one = Socket()
            before = len(os.listdir("/proc/self/fd"))
            close_aside([one])
            closed = one.fileno() == -1 and len(os.listdir("/proc/self/fd")) == before - 1
            code = 0 if closed and not closing._children else 2
            os.fork()
            code = 3
        except OSError as error:
            code = code if error.errno == errno.EAGAIN else 4
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.WEXITSTATUS(status) == 0


def test_children_of_before_are_reaped() -> None:
    for _ in range(3):
        close_aside([Socket()])
        *before, last = closing._children
        assert before == []
        eventually(lambda child=last: not is_alive(child), "its end")  # type: ignore[misc]


def test_nothing_to_close_forks_nothing() -> None:
    close_aside([])
    assert closing._children == []


def test_signals_are_heard_again() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    close_aside([Socket()])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
