"""Tombstones in the run directory: of DELs that came while the checkpoint directory was read-only.

The record is still there then, as good as new. What tells it from the record of a later ADD with
the same name, which the tombstone is not for, is its checksum. After a reboot both are of no use:
/run is empty, and the boot id makes the record stale.
"""

from __future__ import annotations

import binascii
import os

from cni_repair.base.errors import IO, CniError, with_remedy
from cni_repair.base.files import Unreadable, Untrusted, read_trusted, replace_durably
from cni_repair.checkpoint.locks import open_run_dir
from cni_repair.checkpoint.store import COMMITTED, DELETING, tombstone_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.store import Key, Store

_MAX_BYTES = 16


def put(run_dir: str, store: Store, key: Key) -> None:
    """Note that the attachment is being deleted, where it has a record that others would repair.

    Raises CniError (I/O).
    """
    try:
        raw = store.read(key.name + COMMITTED)
    except FileNotFoundError:
        return
    except CniError:
        raw = b""  # nobody can read it
    try:
        directory = open_run_dir(run_dir)
        try:
            replace_durably(directory, key.name + DELETING, _mark(raw))
        finally:
            os.close(directory)
    except OSError as error:
        raise CniError(
            IO,
            f"cannot note that {key.name} is being deleted, neither in {store.directory} nor in"
            f" {run_dir}",
            f"{with_remedy(error, run_dir)}; nothing was taken away: then call again",
        ) from error


def is_deleted(run_dir: str, key: Key, raw: bytes) -> bool:
    """Whether the record with these bytes has a tombstone there. Raises CniError (I/O) where that
    cannot be told."""
    path = tombstone_in(run_dir, key)
    try:
        return read_trusted(path, _MAX_BYTES)[0] == _mark(raw)
    except Unreadable as error:
        raise CniError(IO, f"{path} cannot be read", str(error)) from error
    except (FileNotFoundError, Untrusted):
        return False


def _mark(raw: bytes) -> bytes:
    return b"%08x" % binascii.crc32(raw)
