"""One flock an attachment, one for the node's parents; all in the run directory.

They live in /run, so that repairing needs no writable disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from cni_repair.base.errors import IO, TRY_AGAIN, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

RUN_DIR = "/run/cni-repair"
PARENTS = "parents"
_POLL_SECONDS = 0.01


class Lock:
    """Context: the lock of that name is ours. Waits `seconds` at most, then raises code 11."""

    def __init__(self, run_dir: str, name: str, seconds: float = 45.0) -> None:
        self._path = f"{run_dir}/{name}.lock"
        self._run_dir = run_dir
        self._name = name
        self._seconds = seconds
        self.fd = -1

    def __enter__(self) -> Lock:
        deadline = time.monotonic() + self._seconds
        while True:
            self.fd = self._open()
            if self._wait_until(deadline) and self._still_named():
                return self
            os.close(self.fd)

    def _open(self) -> int:
        try:
            try:
                self._check_directory()
            except FileNotFoundError:
                make_private(self._run_dir)
                self._check_directory()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(self._path, flags, 0o600)
        except OSError as error:
            raise CniError(
                IO, f"cannot make the lock {self._path}", error.strerror or str(error)
            ) from error

    def _check_directory(self) -> None:
        """Who could put files there could hold, or take away, anybody's lock."""
        status = os.stat(self._run_dir)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise CniError(
                IO,
                f"run directory {self._run_dir} is not trusted",
                f"it must belong to uid {os.geteuid()} and be writable by nobody else",
            )

    def _wait_until(self, deadline: float) -> bool:
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
            if time.monotonic() >= deadline:
                os.close(self.fd)
                raise CniError(
                    TRY_AGAIN,
                    f"{self._name} is being worked on by another cni-repair",
                    f"{_waited(self._seconds)}lslocks tells who has {self._path}",
                )
            time.sleep(_POLL_SECONDS)

    def _still_named(self) -> bool:
        """Whether the file that we locked is the one that the next comer will open."""
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        mine = os.fstat(self.fd)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def forget(self) -> None:
        """Remove the lock's file, for an attachment that is no more.

        Without it /run would keep an inode for every pod that the node ever had. Safe because
        whoever waits on the removed file looks again (:meth:`_still_named`) before it believes in
        its lock.
        """
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A delegate's daemon may still hold the descriptor that it inherited: only an explicit
        # unlock ends the lock for all of them.
        try:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        finally:
            os.close(self.fd)


def _waited(seconds: float) -> str:
    """For people: what is left of a deadline that several share is 44.9998 s, or nothing."""
    tenths = round(seconds, 1)
    return f"waited {tenths:g} s; " if tenths else ""


def make_private(directory: str) -> None:
    """Make a directory, 0700 whatever the umask says, and those above it, 0755; leave what exists.

    (os.makedirs would leave those above to the umask.)
    """
    _make(directory, 0o700)


def _make(directory: str, mode: int) -> None:
    try:
        os.mkdir(directory, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make(directory.rpartition("/")[0], 0o755)
        os.mkdir(directory, mode)
    os.chmod(directory, mode)
