"""What a disk was told, in order, as QEMU's blklogwrites driver writes it down (the format of the
kernel's dm-log-writes): a superblock, then for each request a sector with its header, and its data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECTOR = 512
MARK_BYTES = 4096  # one block of any disk
_HEADER = struct.Struct("<QQQQ")  # sector, sectors, flags, bytes of data
_MAGIC, _SUPERBLOCK = 0x6A736677736872, struct.Struct("<QQQI")
_FLUSH, _FUA, _DISCARD = 1, 2, 4


class LogError(Exception):
    """This is no such log."""


@dataclass(frozen=True)
class Write:
    """Bytes that were sent to the disk."""

    offset: int  # on the disk
    data: bytes
    durable: bool = False  # it was to bypass the disk's cache (FUA)


@dataclass(frozen=True)
class Flush:
    """All that was written before it is durable."""


@dataclass(frozen=True)
class Mark:
    """What was noted behind the file system's end: where in the log something happened."""

    document: dict[str, Any]


Event = Write | Flush | Mark


def mark(document: dict[str, Any]) -> bytes:
    """What is written behind the file system's end to note something."""
    return json.dumps(document).encode().ljust(MARK_BYTES)


def read_log(path: Path, marks_at: int) -> Iterator[Event]:
    """All requests, in the order in which they were made; writes from `marks_at` on are marks.

    A flush that carries data comes before its data.
    """
    log = path.read_bytes()
    if len(log) < SECTOR or _SUPERBLOCK.unpack_from(log)[0] != _MAGIC:
        raise LogError(f"{path}: not a log of writes")
    at = SECTOR
    # Behind the last one the file ends, or has not been written to.
    while at + SECTOR <= len(log) and any(header := _HEADER.unpack_from(log, at)):
        sector, sectors, flags, _ = header
        at += SECTOR
        if flags & _FLUSH:
            yield Flush()
        length = sectors * SECTOR
        if length == 0:
            continue
        if flags & _DISCARD:  # it carries none; what is read there afterwards is anything
            continue
        data, offset = log[at : at + length], sector * SECTOR
        at += length
        if offset >= marks_at:
            yield Mark(json.loads(data))
        else:
            yield Write(offset, data, bool(flags & _FUA))
