"""Network namespaces: opened once, verified, entered by file descriptor only.

A path is a promise that anyone may break between two looks (/proc/PID is reused); an open
descriptor of nsfs is the namespace itself.
"""

from __future__ import annotations

import _socket
import fcntl
import os

from cni_repair.base.errors import STALE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl, include/uapi/linux/nsfs.h, since 4.11
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since 5.14


class NoNetns(CniError):
    """The path leads to no network namespace (any more)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(STALE, f"netns {path} is gone", why)


def open_netns(path: str) -> int:
    """Open a network namespace; raises NoNetns where the path is anything else.

    The caller closes the descriptor.
    """
    try:
        # O_NONBLOCK: a FIFO in the place of the namespace must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise NoNetns(path, getattr(error, "strerror", None) or str(error)) from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        os.close(fd)
        raise NoNetns(path, "it is no namespace file") from error
    if kind != CLONE_NEWNET:
        os.close(fd)
        raise NoNetns(path, "it is a namespace of another type")
    return fd


def open_own() -> int:
    """The namespace of the calling thread: the node's, for a plugin."""
    return open_netns("/proc/thread-self/ns/net")


def identity_of(netns: int | str) -> tuple[int, int]:
    """nsfs device and inode of an open namespace, or of the one that a path leads to: no other has
    them as long as it lives."""
    status = os.stat(netns)
    return status.st_dev, status.st_ino


def same_netns(netns: int, other: int) -> bool:
    """Whether two open descriptors are the same namespace."""
    return identity_of(netns) == identity_of(other)


def cookie_of(sock: _socket.socket) -> int | None:
    """The never-reused number of the namespace that a socket was made in; None before 5.14."""
    try:
        raw = sock.getsockopt(_socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:
        return None
    return int.from_bytes(raw, "little")  # both architectures that ship SO 71 as such are


_found: list[Callable[[int, int], None]] = []


def setns_function() -> Callable[[int, int], None]:
    """setns(2). Looked for once, and only by those who enter: it takes loading libffi."""
    if not _found:
        native = getattr(os, "setns", None)  # Python 3.12
        _found.append(native if native is not None else _setns_of_libc())
    return _found[0]


def _setns_of_libc() -> Callable[[int, int], None]:
    """By the C half of ctypes: the other half takes DEL 1.2 ms more."""
    import _ctypes

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # no generic at run time
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # what is loaded already
    call = Function(_ctypes.dlsym(libc, "setns"))

    def setns(fd: int, kind: int) -> None:
        if call(fd, kind) != 0:
            number = _ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return setns


class entered:  # noqa: N801 - reads as a word: `with entered(fd):`
    """Context: the calling thread is in another network namespace (and in no other way moved).

    Everything needed inside is imported before: a pod's files are never in reach (the mount
    namespace stays the node's), but a late import would run while /proc/net and sockets are the
    pod's.
    """

    def __init__(self, fd: int, home: int) -> None:
        self._fd = fd
        self._home = home
        self._setns = setns_function()

    def __enter__(self) -> None:
        self._setns(self._fd, CLONE_NEWNET)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._setns(self._home, CLONE_NEWNET)
        except OSError as failure:
            # Not a pod's failure that a caller may step over: whatever came next would be done
            # in the wrong namespace.
            raise RuntimeError("cannot return to the node's network namespace") from failure
