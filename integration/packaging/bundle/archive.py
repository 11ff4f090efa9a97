"""A tree as one file: the same tree gives the same bytes, whoever packs it, and when."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterable
from pathlib import Path


def pack(root: Path, directory: Path, epoch: int, target: Path) -> None:
    """Pack a directory below `root`, named from there, after the directories that lead to it."""
    leading = [path for path in directory.parents if path != root and path.is_relative_to(root)]
    members = [*reversed(leading), directory, *sorted(directory.rglob("*"))]
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        _add(archive, root, members, epoch)


def pack_all(root: Path, epoch: int, target: Path) -> None:
    """Pack what is in a directory, as it is."""
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, root, sorted(root.rglob("*")), epoch)


def _add(archive: tarfile.TarFile, root: Path, paths: Iterable[Path], epoch: int) -> None:
    for path in paths:
        member = archive.gettarinfo(path, str(path.relative_to(root)))
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = epoch
        if member.isreg():
            with path.open("rb") as data:
                archive.addfile(member, data)
        else:
            archive.addfile(member)
