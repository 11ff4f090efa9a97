"""Closing packet sockets where nobody waits for it.

The kernel closes one only after an RCU grace period (packet_release: synchronize_net, 12-16 ms
measured), bound or not, whatever was sent: half of the repair of one pod. Who closes the last
descriptor waits. So a child is forked that has it, and nothing else.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has none
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from cni_repair.base import lightsocket as socket

_SIGNALS = _signal.valid_signals()

# Forked earlier, and not reaped yet, by a process that lives on after its repair.
_children: list[int] = []


def close_aside(sockets: Sequence[socket.socket]) -> None:
    """Close sockets of the node; the process may end before that is done.

    For those of a pod it is the wrong way: its namespace would live on for as long.
    """
    _reap()
    parent_lives = -1
    try:
        if sockets:
            parent_lives = _fork_holder([sock.fileno() for sock in sockets])
    except OSError:
        pass  # no process, or no descriptor, is to be had: then the wait is ours
    finally:
        for sock in sockets:
            sock.close()
        if parent_lives >= 0:
            os.close(parent_lives)


def _fork_holder(descriptors: list[int]) -> int:
    """Fork a child that holds these until the answer, the end of a pipe, is closed: the last to
    close is the child, however slow this process is, or if it is killed."""
    wait, parent_lives = os.pipe()
    # A signal's exception in the child would make it a second first process.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
    try:
        child = os.fork()
        if child == 0:
            _hold(descriptors, wait)
        _children.append(child)
    except OSError:
        os.close(parent_lives)
        raise
    finally:
        os.close(wait)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    return parent_lives


def _hold(descriptors: list[int], wait: int) -> NoReturn:
    """The child's life. First of all it lets go of what must not last as long as it does: locks,
    streams that a runtime reads to their end, namespaces."""
    try:
        for inherited in {*map(int, os.listdir("/proc/self/fd"))} - {*descriptors, wait}:
            try:
                os.close(inherited)
            except OSError:
                pass  # by which they were listed
        os.read(wait, 1)
    finally:
        os._exit(0)


def _reap() -> None:
    """A process that ends leaves that to init; one that lives on does it at its next repair."""
    for child in [*_children]:
        try:
            gone, _ = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:  # somebody else did (SIGCHLD is ignored)
            gone = child
        if gone:
            _children.remove(child)
