"""A recording: a disk as it was, what it was told then, and what was promised meanwhile.

begin    the disk before anything happened
log      what it was told (writelog)
done     the calls, and what each had left on it (workload), as JSON
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import Lab, LabError, Netns, Outcome
from integration.daemon import Daemon
from integration.errors import RigError
from integration.trust.power.disk import FILE_SYSTEMS, FileSystem, copy, make_disk, mounted
from integration.trust.power.workload import Done, Workload, done_from
from integration.trust.power.writelog import Event, mark, read_log

_DAEMON = "/usr/bin/qemu-storage-daemon"
PROGRAMS = {_DAEMON: "qemu-system-common"}
_PATIENT_SECONDS = 600.0


@dataclass(frozen=True)
class Recording:
    """What was recorded on one file system, in files of a directory."""

    where: str  # on whose kernel
    system: FileSystem
    directory: Path

    @property
    def name(self) -> str:
        return f"{self.where}/{self.system.name}"

    @property
    def begin(self) -> Path:
        return self.directory / "begin"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def done(self) -> Done:
        return done_from(json.loads((self.directory / "done").read_text()))

    def events(self) -> Iterator[Event]:
        return read_log(self.log, self.system.marks_at)


def recording_in(directory: Path) -> Recording:
    """One that was kept. Raises RigError where there is none."""
    where, _, name = directory.name.partition("-")
    for system in FILE_SYSTEMS:
        if system.name == name and (directory / "done").exists():
            return Recording(where, system, directory)
    raise RigError(f"no recording in {directory}: name a case as a failure does")


def prepared(where: str, system: FileSystem, above: Path) -> Recording:
    """A directory with an empty disk, `disk`, and an empty log."""
    recording = Recording(where, system, above / f"{where}-{system.name}")
    recording.directory.mkdir()
    make_disk(system, recording.begin)
    copy(recording.begin, recording.directory / "disk")
    recording.log.touch()
    return recording


def record_here(system: FileSystem, above: Path, command: list[str]) -> Recording:
    """Record on this machine's kernel: a loop device, whose file is QEMU's, by FUSE."""
    recording = prepared("here", system, above)
    with _recorded(recording) as disk, disk.open("r+b", buffering=0) as behind:

        def note(document: dict[str, Any]) -> None:
            os.pwrite(behind.fileno(), mark(document), system.marks_at)

        write_done(recording, work(disk, system, command, note))
    (recording.directory / "disk").unlink()
    return recording


def write_done(recording: Recording, done: Done) -> None:
    (recording.directory / "done").write_text(json.dumps(done.document()))


class _PatientLab(Lab):
    """One whose commands may run in an emulated guest, on a machine that has other work to do."""

    def run(
        self,
        netns: Netns,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str | Path = "",
        seconds: float = _PATIENT_SECONDS,
    ) -> Outcome:
        return super().run(netns, command, env=env, stdin=stdin, seconds=seconds)


def work(
    disk: Path, system: FileSystem, command: list[str], note: Callable[[dict[str, Any]], None]
) -> Done:
    """Do what is to be recorded on a disk."""
    with (
        # Duplicate detection would be waited for, and writes nothing.
        _PatientLab(command=command, ipv6=False) as lab,
        mounted(disk, system, lab.directory / "disk") as place,
    ):
        return Workload(lab, place, note).run()


@contextlib.contextmanager
def _recorded(recording: Recording) -> Iterator[Path]:
    """Context: the file of a disk that writes down what it is told."""
    place = recording.directory / "export"
    place.touch()
    export = f"type=fuse,id=export,node-name=disk,mountpoint={place},writable=on"
    options = [*recorded_disk("disk", recording.directory), "--export", export]
    with Daemon(
        "qemu-storage-daemon",
        [_DAEMON, *options],
        recording.directory / "daemon",
        ending=signal.SIGTERM,  # it closes the log then
    ) as daemon:
        try:
            daemon.until(lambda: place.stat().st_size)
        except LabError as error:
            raise RigError(str(error)) from error  # of the machine
        yield place


def recorded_disk(node: str, directory: Path) -> list[str]:
    """QEMU's options for a disk (a block node of that name) whose writes it writes down."""
    file, log = f"{node}-file", f"{node}-log"
    return [
        *("--blockdev", f"driver=file,node-name={file},filename={directory / 'disk'}"),
        *("--blockdev", f"driver=file,node-name={log},filename={directory / 'log'}"),
        *("--blockdev", f"driver=blklogwrites,node-name={node},file={file},log={log}"),
    ]


def note_on(device: Path, system: FileSystem) -> Callable[[dict[str, Any]], None]:
    """How marks are made on a real disk: past the page cache, or they would come late."""
    fd = os.open(device, os.O_WRONLY | os.O_DIRECT)

    def note(document: dict[str, Any]) -> None:
        data = mark(document)
        with mmap.mmap(-1, len(data)) as aligned:
            aligned.write(data)
            os.pwrite(fd, aligned, system.marks_at)

    return note
