"""Network namespaces: opened once, verified, and entered by file descriptor only.

What a path leads to may change at any time (a PID is used again); an open descriptor is the
namespace itself.
"""

from __future__ import annotations

import errno
import fcntl
import os

from cni_repair.base import lightsocket as socket
from cni_repair.base.errors import IO, STALE, CniError, end_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703  # ioctl, include/uapi/linux/nsfs.h, since 4.11
_SO_NETNS_COOKIE = 71  # include/uapi/asm-generic/socket.h, since 5.14


# What it means that a path leads nowhere (any more): the name is gone, or the process is. Any other
# errno says nothing of the namespace: whoever took that for its end would take away what is alive.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ESRCH)
# A socket's, or a device's, in the place of the namespace; of other files, the ioctl's.
_OTHER_FILE = (errno.ENXIO, errno.ENODEV)
_NOT_NSFS = (errno.ENOTTY, errno.EINVAL)


class NoNetns(CniError):
    """The path leads to no network namespace (any more)."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(STALE, f"netns {path} is gone", why)


def open_netns(path: str) -> int:
    """Open a network namespace; raises NoNetns where the path leads to nothing, or to anything
    else; CniError (I/O) where that cannot be told.

    The caller closes the descriptor.
    """
    fd = open_to_enter(path)
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as error:
        os.close(fd)
        if error.errno in _NOT_NSFS:
            raise NoNetns(path, "it is not a namespace file") from error
        raise _unknown(path, error) from error
    if kind != CLONE_NEWNET:
        os.close(fd)
        raise NoNetns(path, "it is a namespace of another type")
    return fd


def open_to_enter(path: str) -> int:
    """As :func:`open_netns`, for who enters it next: setns(2) refuses, by an OSError, what is no
    network namespace."""
    try:
        # O_NONBLOCK: a FIFO in the place of the namespace must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:  # no path: it has a NUL inside
        raise NoNetns(path, str(error)) from error
    except OSError as error:
        if error.errno in _ABSENT:
            raise NoNetns(path, os.strerror(error.errno)) from error
        if error.errno in _OTHER_FILE:
            raise NoNetns(path, "it is not a namespace file") from error
        raise _unknown(path, error) from error
    return fd


def _unknown(path: str, error: OSError) -> CniError:
    why = f"{error.strerror}; whether its pod lives cannot be told, call again"
    return CniError(IO, f"cannot open netns {path}", why)


def open_own() -> int:
    """Open the namespace of the calling thread: for a plugin, the node's."""
    return open_netns("/proc/thread-self/ns/net")


def netns_id(netns: int | str) -> tuple[int, int]:
    """Device and inode of an open namespace, or of the one that a path leads to: unique among the
    namespaces that exist at one time. Raises OSError."""
    status = os.stat(netns)
    return status.st_dev, status.st_ino


def netns_id_at(path: str) -> tuple[int, int] | None:
    """As :func:`netns_id`; None where the path leads nowhere (any more)."""
    try:
        return netns_id(path)
    except ValueError:
        return None
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def netns_id_if_seen(path: str) -> tuple[int, int] | None:
    """As :func:`netns_id_at`; None, too, where a process hides: as init may, which is in no pod."""
    try:
        return netns_id_at(path)
    except PermissionError:
        return None


def same_netns(one: int, other: int) -> bool:
    """Whether two open descriptors are of the same namespace."""
    return netns_id(one) == netns_id(other)


def cookie_of(sock: socket.socket) -> int | None:
    """The number of the namespace that a socket was made in, never used twice; None before 5.14."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError as error:
        if error.errno == errno.ENOPROTOOPT:
            return None
        raise  # without it another namespace of that inode would pass for this one
    return int.from_bytes(raw, "little")  # as are both architectures on which the option is 71


def cookie_inside(netns: int, home: int) -> int | None:
    """The number of an open namespace, as :func:`cookie_of`; `home` is the caller's own."""
    with entered(netns, home):
        # A socket of any kind: only its namespace counts.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        return cookie_of(sock)
    finally:
        sock.close()


_found: list[Callable[[int, int], None]] = []


def setns_function() -> Callable[[int, int], None]:
    """setns(2). Looked up once, and only when needed: before Python 3.12 it loads libffi."""
    if not _found:
        native = getattr(os, "setns", None)  # Python 3.12
        _found.append(native if native is not None else _setns_of_libc())
    return _found[0]


def _setns_of_libc() -> Callable[[int, int], None]:
    """Call it with the C half of ctypes: the other half would cost DEL 1.2 ms."""
    import _ctypes

    class Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # no generic at run time
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = Int

    libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # the libc that is loaded already
    call = Function(_ctypes.dlsym(libc, "setns"))

    def setns(fd: int, kind: int) -> None:
        if call(fd, kind) != 0:
            number = _ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return setns


class entered:  # noqa: N801 - reads as a word: `with entered(fd):`
    """Context: the calling thread is in another network namespace (and only in that).

    Import everything that is needed inside before: the pod's files are out of reach (the mount
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
            # No exception: whatever a caller did about it, such as cleaning up, it would do in the
            # pod's namespace.
            why = failure.strerror or str(failure)
            end_process(CniError(IO, "cannot return to the node's network namespace", why))
