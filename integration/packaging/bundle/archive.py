"""A tree as one file: the same tree gives the same bytes, whoever packs it, and when."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path


def pack(root: Path, directory: Path, epoch: int, target: Path) -> None:
    """Pack a directory below `root`, named from there, after the directories that lead to it."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in _members(root, directory):
            member = archive.gettarinfo(path, str(path.relative_to(root)))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch
            if member.isreg():
                with path.open("rb") as data:
                    archive.addfile(member, data)
            else:
                archive.addfile(member)


def _members(root: Path, directory: Path) -> Iterator[Path]:
    leading = [path for path in directory.parents if path != root and path.is_relative_to(root)]
    yield from [*reversed(leading), directory]
    yield from sorted(directory.rglob("*"))
