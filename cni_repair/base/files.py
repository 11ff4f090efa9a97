"""Files in the hands of one owner, and files that survive a power cut.

Whatever tells a program that runs as root what to do (records, caches, journals, locks) must not be
writable by anybody else, and is never reached through a symbolic link that another could have made.
"""

from __future__ import annotations

import errno
import os
import stat

from cni_repair.base.closeable import close_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FOR_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_FOR_WRITING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


# What an open may say of the file itself: it is a link (O_NOFOLLOW), a socket's, a device's.
_OF_THE_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV)


class Untrusted(Exception):
    """A file that is not used; the message says why."""


class Unreadable(Untrusted):
    """The system refuses to read it now, which says nothing of what is in it."""


def why_untrusted(status: os.stat_result) -> str:
    """Who else could have written to a file or directory; empty where nobody could."""
    if status.st_uid != os.geteuid():
        return f"it belongs to uid {status.st_uid}, not to uid {os.geteuid()}"
    if status.st_mode & 0o022:
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def open_trusted(path: str, directory: int | None = None) -> tuple[int, os.stat_result]:
    """Open a regular file for reading: its descriptor, which the caller closes, and its status.

    `directory` is an open directory that a relative path starts from. Raises Untrusted, or
    FileNotFoundError.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        fd = os.open(path, _FOR_READING | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = Untrusted if error.errno in _OF_THE_FILE else Unreadable
        raise kind(f"cannot open it: {error.strerror}") from error
    status = os.fstat(fd)
    regular = stat.S_ISREG(status.st_mode)
    why = why_untrusted(status) if regular else "it is not a regular file"
    if why:
        os.close(fd)
        raise Untrusted(why)
    return fd, status


def read_trusted(
    path: str, max_bytes: int, directory: int | None = None
) -> tuple[bytes, os.stat_result]:
    """The bytes, at most so many, and the status of a file that :func:`open_trusted` opens."""
    fd, status = open_trusted(path, directory)
    try:
        data = read_all(fd, max_bytes + 1)
    finally:
        close_fd(fd)
    if len(data) > max_bytes:
        raise Untrusted(f"it is longer than {max_bytes} bytes")
    return data, status


def read_all(fd: int, max_bytes: int) -> bytes:
    """The rest of an open file, at most `max_bytes` of it. Raises Untrusted where reading fails."""
    parts = []
    left = max_bytes
    try:
        while left and (part := os.read(fd, min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
    except OSError as error:
        raise Unreadable(f"cannot read it: {error.strerror}") from error
    return b"".join(parts)


def is_there(path: str, directory: int | None = None) -> bool:
    """Whether something has that name. Raises OSError where nobody can tell, for which
    os.path.exists and os.access say no."""
    try:
        os.stat(path, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_directory(path: str) -> int:
    """Open a directory, which the last name of the path must be itself; the caller closes it."""
    return os.open(path, _FOR_READING | os.O_DIRECTORY)


def replace_durably(directory: int, name: str, data: bytes) -> None:
    """Put a file into an open directory, mode 0600, so that a power cut leaves the old or the new.

    Write, fsync, rename, fsync the directory: without any one of them a power cut can leave an
    empty file, a torn one, or none.
    """
    replace_whole(directory, name, data, sync=os.fsync)
    os.fsync(directory)


def replace_whole(
    directory: int,
    name: str,
    data: bytes,
    mode: int = 0o600,
    sync: Callable[[int], None] | None = None,
) -> None:
    """Put a file into an open directory, so that whoever reads it reads the old or the new: without
    `sync` enough where nothing outlives a power cut, as in /run."""
    temporary = temporary_name(name)
    unlink_if_there(temporary, directory)
    fd = os.open(temporary, _FOR_WRITING, mode, dir_fd=directory)
    try:
        os.fchmod(fd, mode)  # a umask may have taken bits away
        _write_all(fd, data)
        if sync is not None:
            sync(fd)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        close_fd(fd)


def temporary_name(name: str) -> str:
    """What :func:`replace_whole` calls a file until it is whole; a killed writer leaves it."""
    return f".{name}.tmp"


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def unlink_if_there(name: str, directory: int | None = None) -> None:
    """Remove a file, if there is one: on a read-only disk, too, its absence is no error (unlink
    alone would say EROFS, not ENOENT)."""
    try:
        os.lstat(name, dir_fd=directory)
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def sync_directory(path: str) -> None:
    """Have the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_private(directory: str) -> None:
    """Make a directory, mode 0700 whatever the umask says, and its parents, 0755.

    What exists stays as it is. (os.makedirs would leave the parents to the umask.)
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
