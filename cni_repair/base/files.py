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
_DIRECTORY = _FOR_READING | os.O_DIRECTORY
_PASSING = _DIRECTORY | os.O_PATH  # for those who may not list it, too
_OTHERS_WRITE = 0o022
MOST_LINKS = 40  # symbolic links in a path: as many as the kernel follows (MAXSYMLINKS)
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
    if status.st_mode & _OTHERS_WRITE:
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
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise kind(f"cannot open it: {why}") from error
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


def open_regular(path: str) -> int:
    """Open a regular file for reading, symbolic links followed: of what is believed whoever wrote
    it. The caller closes it. Raises Untrusted, or OSError."""
    # O_NONBLOCK: opening a FIFO would wait for its writer.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _OF_THE_FILE:
            raise Untrusted(f"cannot open {path}: {error.strerror}") from error
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    close_fd(fd)
    raise Untrusted(f"{path} is not a regular file")


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


def is_directory(path: str) -> bool:
    """Whether a path leads to a directory. Raises OSError where nobody can tell."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def open_private(path: str, create: bool = False, last_may_be_link: bool = False) -> int:
    """Open a directory that nobody else can write to, and for which nobody else can put another
    under its path; the caller closes it. Raises Untrusted, or OSError.

    From the root each name is opened by the descriptor of the directory before it, which is looked
    at first. A directory in which others may write could be renamed by them, between our look and
    our use; unless it has the sticky bit, as /tmp has: there they cannot touch what is not theirs.
    A symbolic link leads on (/var/run) where nobody else could have made it, and not as the last
    name, unless `last_may_be_link`.

    `create`: what is missing is made, mode 0700 whatever the umask says, and its parents, 0755; it
    outlives a power cut, or what is synced into it would be lost with it.
    """
    fd = _walk(path, create, last_may_be_link)
    why = why_untrusted(os.fstat(fd))
    if why:
        close_fd(fd)
        raise Untrusted(why)
    return fd


def make_private(path: str) -> None:
    """Make a directory as :func:`open_private` does, or see that it is private."""
    close_fd(open_private(path, create=True))


def _walk(path: str, create: bool, last_may_be_link: bool) -> int:
    names = names_in(path if path.startswith("/") else f"{os.getcwd()}/{path}")
    links = 0
    here = os.open("/", _PASSING if names else _DIRECTORY)
    try:
        while names:
            _check_passable(here)
            name = names.pop()
            try:
                below = _open_below(here, name, not names, create)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                target = _target_of(here, name, bool(names) or last_may_be_link)
                links += 1
                if not target or links > MOST_LINKS:
                    raise
                names += names_in(target)
                below = os.open("/" if target.startswith("/") else ".", _PASSING, dir_fd=here)
            close_fd(here)
            here = below
    except BaseException:
        close_fd(here)
        raise
    return here


def names_in(path: str) -> list[str]:
    """What a path leads through, the last name first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _open_below(directory: int, name: str, is_last: bool, create: bool) -> int:
    flags = _DIRECTORY if is_last else _PASSING
    try:
        return os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        if not create:
            raise
    # With the mode that it is to have: to change it afterwards, one would have to be sure that
    # nothing else has got the name meanwhile.
    mask = os.umask(0)
    try:
        os.mkdir(name, 0o700 if is_last else 0o755, dir_fd=directory)
    except FileExistsError:
        pass  # somebody was quicker; whose it is will be seen
    finally:
        os.umask(mask)
    _sync_entries(directory)
    return os.open(name, flags, dir_fd=directory)


def _sync_entries(directory: int) -> None:
    """Have the names in a directory survive a power cut. (Whoever was quicker may not have.)"""
    fd = os.open(".", _DIRECTORY, dir_fd=directory)  # an O_PATH descriptor cannot be synced
    try:
        os.fsync(fd)
    finally:
        close_fd(fd)


def _check_passable(directory: int) -> None:
    """Refuse a directory whose entries others could rename, or replace by others."""
    status = os.fstat(directory)
    if status.st_uid not in (0, os.geteuid()):
        who = f"uid {status.st_uid}, whose it is,"
    elif status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        who = f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o}), and"
    else:
        return
    raise Untrusted(f"it is below {_path_of(directory)}: {who} could put another in its place")


def _target_of(directory: int, name: str, may_be_link: bool) -> str:
    """Where a symbolic link leads; empty for what is none. Raises Untrusted."""
    try:
        target = os.readlink(name, dir_fd=directory)
    except OSError:
        return ""
    if not may_be_link:
        raise Untrusted("it is a symbolic link: name the directory itself")
    if os.fstat(directory).st_mode & _OTHERS_WRITE:
        where = _path_of(directory)
        raise Untrusted(f"{name} in {where}, where others may write, is a symbolic link")
    return target


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def is_there(path: str, directory: int | None = None) -> bool:
    """Whether something has that name. Raises OSError where nobody can tell, for which
    os.path.exists and os.access say no."""
    try:
        os.stat(path, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


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
