"""Records on disk: one file for each attachment, durable, never reached through a symbolic link.

<containerID>@<ifname>.json       a committed attachment
<containerID>@<ifname>.intent     an ADD began and has not committed: the next one cleans up
<containerID>@<ifname>.deleting   the tombstone of a DEL: nobody repairs this attachment any more
                                  (in the run directory where this one cannot be written)
<12 characters>                   a record of the predecessor plugin (see legacy), never written
"""

from __future__ import annotations

import os

from cni_repair.base.closeable import Closeable, close_fd
from cni_repair.base.errors import BAD_CHECKPOINT, IO, CniError, with_remedy
from cni_repair.base.files import (
    Unreadable,
    Untrusted,
    is_there,
    open_private,
    read_trusted,
    replace_durably,
    replace_whole,
    temporary_name,
    unlink_if_there,
)
from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Mark: TypeAlias = tuple[int, int, int]

CHECKPOINT_DIR = "/var/lib/cni-repair/checkpoints"
MAX_BYTES = 1 << 20
COMMITTED = ".json"
INTENT = ".intent"
DELETING = ".deleting"
NOT_USED = "its record is not used"  # the reason follows, and then the file, whose name is long
_LEGACY_NAME_LENGTH = 12


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
        """Raises CniError (I/O) where the directory cannot be used; FileNotFoundError where it does
        not exist and `create` is false."""
        self.directory = directory
        try:
            self.fd = open_private(directory, create)
        except FileNotFoundError as error:
            if create:
                raise _unusable(self.directory, error) from error
            raise
        except OSError as error:
            raise _unusable(self.directory, error) from error
        except Untrusted as error:
            from cni_repair.checkpoint.locks import making_private  # rare

            what = f"checkpoint directory {directory} is not trusted"
            raise CniError(IO, what, f"{error}; {making_private(directory)}") from error

    def close(self) -> None:
        close_fd(self.fd)

    def committed(self) -> list[str]:
        """The file names of committed attachments, ours and the predecessor's, sorted."""
        return sorted(name for name in os.listdir(self.fd) if is_committed(name))

    def unfinished(self) -> list[str]:
        """The file names of ADDs and DELs that have not ended, or were killed; sorted."""
        return sorted(name for name in os.listdir(self.fd) if name.endswith((INTENT, DELETING)))

    def phase(self, key: Key) -> str | None:
        """How far the attachment has come: COMMITTED, INTENT or DELETING; None if unknown here."""
        for phase in (COMMITTED, INTENT, DELETING):
            if is_there(key.name + phase, self.fd):
                return phase
        return None

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises FileNotFoundError, or CniError: for a file not to trust, or
        (I/O) for one that cannot be read now."""
        try:
            return read_trusted(name, MAX_BYTES, self.fd)[0]
        except Unreadable as error:
            raise CniError(
                IO, "its record cannot be read", f"{error} (file {self.directory}/{name})"
            ) from error
        except Untrusted as error:
            raise CniError(
                BAD_CHECKPOINT, NOT_USED, f"{error} (file {self.directory}/{name})"
            ) from error

    def write_intent(self, key: Key, text: str) -> None:
        """Note durably that an ADD is about to change something; where that fails, it is not."""
        try:
            _write(self, key.name + INTENT, text)
        except CniError:
            self.remove_file(key.name + INTENT)  # it may be there, and only not be durable
            raise

    def fulfil(self, key: Key, text: str) -> None:
        """Put the record of an ADD in the place of its intent, durably.

        The intent's file becomes the record's by a rename: whenever we are killed, there is one of
        them, and never both.
        """
        intent = key.name + INTENT
        try:
            replace_whole(self.fd, intent, text.encode("ascii"), sync=os.fsync)
            os.rename(intent, key.name + COMMITTED, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            os.fsync(self.fd)
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def commit(self, key: Key, text: str) -> None:
        """Put an attachment's record in place durably, as it is now."""
        _write(self, key.name + COMMITTED, text)

    def tombstone(self, key: Key) -> None:
        """Mark the attachment as being deleted: from now on nobody repairs it.

        A rename, so that the process may die right after it. It is not synced: after a power cut
        the pods are gone, and the boot id shows it.
        """
        for phase in (INTENT, COMMITTED):
            try:
                os.rename(
                    key.name + phase, key.name + DELETING, src_dir_fd=self.fd, dst_dir_fd=self.fd
                )
            except FileNotFoundError:
                pass
            except OSError as error:
                raise _unusable(self.directory, error) from error

    def remove(self, key: Key) -> None:
        """Forget an attachment that is gone, and what a writer that was killed has left of it."""
        for phase in (INTENT, DELETING):
            self.remove_file(key.name + phase)
        for phase in (INTENT, COMMITTED):
            self.remove_file(temporary_name(key.name + phase))

    def remove_file(self, name: str) -> None:
        """Remove one file, if it is there."""
        try:
            unlink_if_there(name, self.fd)
        except OSError as error:
            raise _unusable(self.directory, error) from error


def _write(store: Store, name: str, text: str) -> None:
    try:
        replace_durably(store.fd, name, text.encode("ascii"))
    except OSError as error:
        raise _unusable(store.directory, error) from error


def half_written(store: Store) -> list[str]:
    """The names of attachments of which a file is being written, or was when its writer was
    killed."""
    found = []
    for phase in (INTENT, COMMITTED):
        before, after = temporary_name("/" + phase).split("/")
        found += [
            name.removeprefix(before).removesuffix(after)
            for name in os.listdir(store.fd)
            if name.startswith(before) and name.endswith(after)
        ]
    return found


def mark_of(path: str, directory: int | None = None) -> Mark:
    """A file's inode, time of change and size: one that is another, or is written anew, has another
    time. (The kernel's own, ctime: a restored backup has the inode, freed, and mtime of what it
    replaces.) Raises FileNotFoundError."""
    status = os.stat(path, dir_fd=directory, follow_symlinks=False)
    return status.st_ino, status.st_ctime_ns, status.st_size


def tombstone_in(run_dir: str, key: Key) -> str:
    """Where a DEL that could not leave its tombstone in the checkpoint directory has it."""
    return f"{run_dir}/{key.name}{DELETING}"


def is_committed(name: str) -> bool:
    """Whether a file is named as the records of committed attachments are."""
    return not name.startswith(".") and (name.endswith(COMMITTED) or is_legacy(name))


def is_legacy(name: str) -> bool:
    """Whether a file is named as the predecessor's records are: after a container id, cut short."""
    return len(name) == _LEGACY_NAME_LENGTH and name.isascii() and name.isalnum()


def _unusable(directory: str, error: OSError) -> CniError:
    why = with_remedy(error, directory)
    return CniError(IO, f"cannot use the checkpoint directory {directory}", why)
