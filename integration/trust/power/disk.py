"""Disks in files: with a file system that nobody has mounted yet, and as they are after a cut."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.packages import run
from integration.trust.power.writelog import Write

_MIB = 1 << 20
_ROOM_FOR_MARKS = _MIB


@dataclass(frozen=True)
class FileSystem:
    """A kind of file system, and how an empty one is made."""

    name: str
    size: int
    make: tuple[str, ...]
    package: str
    options: tuple[str, ...] = ()  # of mount

    @property
    def marks_at(self) -> int:
        """Behind its end the disk has room for marks."""
        return self.size


# As small as each may be: a disk is copied for each cut. 4096: what a node has. nouuid: the disk of
# the cut before may be there still, in the mount namespace of a child that is about to end.
FILE_SYSTEMS = (
    FileSystem("ext4", 24 * _MIB, ("/sbin/mkfs.ext4", "-q", "-F", "-b", "4096"), "e2fsprogs"),
    FileSystem("xfs", 300 * _MIB, ("/sbin/mkfs.xfs", "-q", "-f"), "xfsprogs", ("nouuid",)),
)


def make_disk(system: FileSystem, path: Path) -> None:
    """An empty file system, with room behind it."""
    with path.open("wb") as file:
        file.truncate(system.size)
    run([*system.make, str(path)])
    run(["fallocate", "--dig-holes", str(path)])  # so that a copy takes no time
    with path.open("r+b") as file:
        file.truncate(system.size + _ROOM_FOR_MARKS)


def copy(source: Path, target: Path) -> None:
    """A copy of a disk, its holes included; a new file, whoever may still write to the old one."""
    target.unlink(missing_ok=True)
    run(["cp", "--sparse=always", str(source), str(target)])


def apply(disk: Path, writes: Iterable[Write]) -> None:
    """What the medium holds once these have reached it."""
    fd = os.open(disk, os.O_WRONLY)
    try:
        for write in writes:
            os.pwrite(fd, write.data, write.offset)
    finally:
        os.close(fd)


@contextlib.contextmanager
def mounted(device: Path, system: FileSystem, place: Path) -> Iterator[Path]:
    """Context: a disk at a place; of a file, by a loop device that goes with it.

    What a recovery needs is done first, as on a boot. Raises RigError where it cannot be mounted.
    """
    loop = () if device.is_block_device() else ("loop", f"sizelimit={system.size}")
    options = ",".join(("rw", *system.options, *loop))
    place.mkdir(exist_ok=True)
    run(["mount", "-t", system.name, "-o", options, str(device), str(place)])
    try:
        yield place
    finally:
        run(["umount", str(place)])


def can_mount(system: FileSystem) -> str:
    """Why this machine cannot mount one from a file; empty where it can."""
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices here"
    known = Path("/proc/filesystems").read_text().split()
    if system.name not in known:
        loaded = subprocess.run(["modprobe", system.name], check=False, capture_output=True)
        if loaded.returncode != 0:
            return f"no {system.name} in this kernel"
    return ""
