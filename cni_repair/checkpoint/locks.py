"""Locks in the run directory: one for each attachment, and one for the links below them.

They live in /run, so that repairing needs no writable disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from cni_repair.base.closeable import Closeable, close_fd
from cni_repair.base.errors import IO, TRY_AGAIN, CniError, with_remedy
from cni_repair.base.files import Untrusted, open_private, why_untrusted
from cni_repair.base.names import title_of

RUN_DIR = "/run/cni-repair"
PARENTS = "parents"
_POLL_SECONDS = 0.01
WAIT_SECONDS = 45.0
# How long a plugin whose cni-repair died may go on while somebody waits for its lock.
_ORPHANS_SECONDS = 30.0
_END_SECONDS = 5.0  # for the kernel to close the files of who was killed
_SUFFIX = ".lock"
# The run directory that is open, at most one: by its path, the descriptor and what is opened.
_KEPT: dict[str, tuple[int, os.stat_result]] = {}


def path_of(run_dir: str, name: str) -> str:
    """The file of the lock of that name; it comes with the first who takes it."""
    return f"{run_dir}/{name}{_SUFFIX}"


def names_in(run_dir: str) -> list[str]:
    """The names of the locks that have a file. Raises FileNotFoundError where nobody ever took
    one."""
    files = os.listdir(run_dir)
    return [name.removesuffix(_SUFFIX) for name in files if name.endswith(_SUFFIX)]


def open_run_dir(run_dir: str, create: bool = False) -> int:
    """Open the run directory; the caller closes it. Raises OSError, or CniError where others could
    write there: they could hold, or remove, every lock."""
    try:
        return open_private(run_dir, create)
    except Untrusted as error:
        what = f"run directory {run_dir} is not trusted"
        raise CniError(IO, what, f"{error}; {making_private(run_dir)}") from error


def making_private(directory: str) -> str:
    """What an administrator does about a directory that is not trusted."""
    from cni_repair.base.files import why_untrusted
    from cni_repair.network.operations.iproute2 import quoted

    path = quoted(directory)
    if os.path.isdir(directory) and why_untrusted(os.stat(directory)):
        return f"see what others have put there, then chown 0:0 {path}; chmod 0700 {path}"
    return f"only root may change it, and what is above it: namei -l {path}"


def is_held(run_dir: str, name: str) -> bool:
    """Whether somebody has the lock of that name. Raises CniError where nobody can tell."""
    try:
        directory = open_run_dir(run_dir)
        try:
            fd = _open(directory, name, os.O_RDONLY)
        finally:
            os.close(directory)
    except FileNotFoundError:
        return False
    except OSError as error:
        path = path_of(run_dir, name)
        raise CniError(IO, f"cannot look at {path}", with_remedy(error, run_dir)) from error
    try:
        # Shared: two that ask at once do not take each other for one who has it.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _open(directory: int, name: str, flags: int) -> int:
    return os.open(
        f"{name}{_SUFFIX}", flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )


def kept_open(run_dir: str) -> int:
    """The run directory, which stays open until another one is asked for: a repair takes a lock
    for each of thousands of pods. Raises as :func:`open_run_dir`.

    As long as the path leads to it, nobody has put another in its place.
    """
    if run_dir in _KEPT:
        fd, was = _KEPT.pop(run_dir)
        try:
            now = os.stat(run_dir)
            if os.path.samestat(was, now) and not why_untrusted(now):
                _KEPT[run_dir] = fd, was
                return fd
        except OSError:
            pass  # it is gone
        os.close(fd)
    fd = open_run_dir(run_dir, create=True)
    for other, _ in _KEPT.values():
        os.close(other)
    _KEPT.clear()
    _KEPT[run_dir] = fd, os.fstat(fd)
    return fd


class Lock(Closeable):
    """Context: holds the lock of that name. Waits `seconds` at most, then raises code 11."""

    def __init__(
        self, run_dir: str, name: str, seconds: float = WAIT_SECONDS, directory: int = -1
    ) -> None:
        """`directory`: what :func:`kept_open` has just given for `run_dir`, for who takes many."""
        self._path = path_of(run_dir, name)
        self._run_dir = run_dir
        self._name = name
        self._seconds = seconds
        self._directory = directory
        self.fd = -1
        # Whether who had it last noted that it was doing something, and never that it was done.
        self.is_unfinished = False

    def __enter__(self) -> Lock:
        deadline = time.monotonic() + self._seconds
        while True:
            self.fd = self._open()
            if self._wait_until(deadline) and self.is_named():
                return self
            os.close(self.fd)
            self._directory = -1  # it may be another by now

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT
        if self._directory >= 0:
            try:
                return _open(self._directory, self._name, flags)
            except OSError:
                self._directory = -1  # it may be gone by now
        try:
            return _open(kept_open(self._run_dir), self._name, flags)
        except OSError as error:
            why = with_remedy(error, self._run_dir)
            raise CniError(IO, f"cannot make a lock in {self._run_dir}", why) from error

    def _wait_until(self, deadline: float) -> bool:
        may_end_orphans = self._seconds >= _ORPHANS_SECONDS
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() >= deadline:
                if may_end_orphans:
                    may_end_orphans = False
                    from cni_repair.checkpoint.orphans import end_orphans

                    if end_orphans(self.fd):
                        deadline = time.monotonic() + _END_SECONDS
                        continue
                os.close(self.fd)
                raise CniError(
                    TRY_AGAIN,
                    f"another cni-repair is at work on {_shown(self._name)}",
                    f"{_waited(self._seconds)}lslocks shows who holds {self._path}",
                )
            time.sleep(_POLL_SECONDS)

    def is_named(self) -> bool:
        """Whether the next process that opens the path will get the file that we locked."""
        try:
            named = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        own = os.fstat(self.fd)
        self.is_unfinished = own.st_size > 0
        return os.path.samestat(named, own)

    def note_unfinished(self, is_unfinished: bool) -> None:
        """Note that something is being done which, if we are killed, the next holder has to look
        after; or that it is done. (A file's size costs nothing, where the disk is full, too.)"""
        os.ftruncate(self.fd, int(is_unfinished))
        self.is_unfinished = is_unfinished

    def forget(self) -> None:
        """Remove the lock's file, once its attachment no longer exists.

        Otherwise /run would keep an inode for every pod that the node ever had. This is safe:
        whoever waits for the removed file checks (:meth:`is_named`) before it believes that it
        has the lock. What is noted there must be looked after first.
        """
        if self.is_unfinished:
            return
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def close(self) -> None:
        # A delegate's daemon may still hold the descriptor that it inherited: only an explicit
        # unlock ends the lock for all of them. (Where it is refused, closing does for the others.)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        except OSError:
            pass
        close_fd(self.fd)

    def drop(self) -> None:
        """As :meth:`close`, where no other process has inherited the descriptor."""
        close_fd(self.fd)


def _shown(name: str) -> str:
    """What a lock is of, for people: an attachment's long id is in the lock's path, too."""
    container_id, at, ifname = name.partition("@")
    if at:
        return title_of("", container_id, ifname)
    return "the node's links" if name == PARENTS else name


def _waited(seconds: float) -> str:
    """How long we waited, for people: several locks may share a deadline, which leaves one of them
    44.9998 s, or nothing."""
    tenths = round(seconds, 1)
    return f"waited {tenths:g} s; " if tenths else ""
