"""Checkpoints on disk: one file an attachment, durable, never followed through a link.

<containerID>@<ifname>.json       a committed attachment
<containerID>@<ifname>.intent     an ADD began and has not committed: the next one cleans up
<containerID>@<ifname>.deleting   the tombstone of a DEL: nobody repairs this any more
<12 characters>                   the seed's own checkpoints, read only
"""

from __future__ import annotations

import os
import stat

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import BAD_CHECKPOINT, IO, CniError
from cni_repair.base.frozen import frozen
from cni_repair.checkpoint.locks import make_private

CHECKPOINT_DIR = "/var/lib/cni-repair/checkpoints"
MAX_BYTES = 1 << 20
COMMITTED = ".json"
INTENT = ".intent"
DELETING = ".deleting"
_SEED_NAME_LENGTH = 12


@frozen
class Key:
    """What names an attachment (SPEC, "Section 2": container id and ifname are unique together)."""

    container_id: str
    ifname: str

    @property
    def name(self) -> str:
        return f"{self.container_id}@{self.ifname}"


class Store(Closeable):
    """An open checkpoint directory."""

    def __init__(self, directory: str, create: bool = False) -> None:
        """Raises CniError (I/O) where the directory cannot be used, FileNotFoundError where there
        is none and `create` is not asked for."""
        self.directory = directory
        if create:
            try:
                make_private(directory)
            except OSError as error:
                raise _unusable(directory, error) from error
        try:
            self._fd = os.open(
                directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unusable(directory, error) from error
        status = os.fstat(self._fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            os.close(self._fd)
            raise CniError(
                IO,
                f"checkpoint directory {directory} is not trusted",
                f"it must belong to uid {os.geteuid()} and be writable by nobody else (mode 0700)",
            )

    def close(self) -> None:
        os.close(self._fd)

    def committed(self) -> list[str]:
        """The file names of committed attachments, ours and the seed's, sorted."""
        return sorted(
            name
            for name in os.listdir(self._fd)
            if not name.startswith(".") and (name.endswith(COMMITTED) or is_legacy(name))
        )

    def unfinished(self) -> list[str]:
        """The file names of ADDs and DELs that have not ended, or were killed; sorted."""
        return sorted(name for name in os.listdir(self._fd) if name.endswith((INTENT, DELETING)))

    def phase(self, key: Key) -> str | None:
        """COMMITTED, INTENT, DELETING or None: how far the attachment's life has come."""
        for phase in (COMMITTED, INTENT, DELETING):
            try:
                os.lstat(key.name + phase, dir_fd=self._fd)
            except FileNotFoundError:
                continue
            return phase
        return None

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises FileNotFoundError, or CniError for a file not to trust."""
        try:
            # O_NONBLOCK: a FIFO must not hang us.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=self._fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._refused(name, f"cannot open it: {error.strerror}") from error
        try:
            self._check(name, os.fstat(fd))
            return _read_all(fd)
        except OSError as error:
            raise self._refused(name, f"cannot read it: {error.strerror}") from error
        finally:
            os.close(fd)

    def _check(self, name: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self._refused(name, "it is no regular file")
        if status.st_uid != os.geteuid():
            raise self._refused(name, f"it belongs to uid {status.st_uid}")
        if status.st_mode & 0o022:
            raise self._refused(name, "others may write to it")
        if status.st_size > MAX_BYTES:
            raise self._refused(name, f"{status.st_size} bytes; at most {MAX_BYTES} are read")

    def _refused(self, name: str, why: str) -> CniError:
        return CniError(BAD_CHECKPOINT, f"checkpoint {self.directory}/{name} is not used", why)

    def write_intent(self, key: Key, text: str) -> None:
        """Note durably that an ADD is about to change something."""
        self._write(key.name + INTENT, text)

    def commit(self, key: Key, text: str) -> None:
        """Put the attachment's checkpoint in place durably; its intent has served."""
        self._write(key.name + COMMITTED, text)
        self._unlink(key.name + INTENT)

    def tombstone(self, key: Key) -> None:
        """From now on nobody repairs this attachment.

        A rename, so that the process may die right after it; not synced, since after a power cut
        the pods are gone and the boot id says so.
        """
        for phase in (INTENT, COMMITTED):
            try:
                os.rename(
                    key.name + phase, key.name + DELETING, src_dir_fd=self._fd, dst_dir_fd=self._fd
                )
            except FileNotFoundError:
                pass
            except OSError as error:
                raise _unusable(self.directory, error) from error

    def remove(self, key: Key) -> None:
        """Forget an attachment that is gone. What is not there is not looked for on a disk that
        cannot be written to (it would be EROFS, not ENOENT)."""
        for phase in (INTENT, DELETING):
            self._unlink(key.name + phase)
        for phase in (INTENT, COMMITTED):  # of a writer that was killed
            self._unlink(_temporary(key.name + phase))

    def remove_seed(self, name: str) -> None:
        """Forget one of the seed's checkpoints, for which there is one of ours now."""
        self._unlink(name)

    def _unlink(self, name: str) -> None:
        try:
            os.lstat(name, dir_fd=self._fd)
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def _write(self, name: str, text: str) -> None:
        """Write, fsync, rename, fsync the directory: without any one of them a power cut can leave
        an empty file, a torn one, or none."""
        temporary = _temporary(name)
        try:
            self._unlink(temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=self._fd)
            try:
                os.fchmod(fd, 0o600)  # a umask may have taken bits away
                _write_all(fd, text.encode("ascii"))
                os.fsync(fd)
                os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except BaseException:
                os.unlink(temporary, dir_fd=self._fd)
                raise
            finally:
                os.close(fd)
            os.fsync(self._fd)
        except OSError as error:
            raise _unusable(self.directory, error) from error


def is_legacy(name: str) -> bool:
    """Whether a file name has the form of the seed's checkpoints (a container id, cut short)."""
    return len(name) == _SEED_NAME_LENGTH and name.isascii() and name.isalnum()


def _temporary(name: str) -> str:
    return f".{name}.tmp"


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _unusable(directory: str, error: OSError) -> CniError:
    return CniError(
        IO, f"cannot use the checkpoint directory {directory}", error.strerror or str(error)
    )


def _read_all(fd: int) -> bytes:
    """All of a file, or one byte more than may be read of it."""
    parts = []
    left = MAX_BYTES + 1
    while left and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
