"""The proof: records, cuts, and counts what held."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cni_repair.demo.lab import Lab, product
from cni_repair.demo.private import RUN, isolate
from integration.errors import RigError
from integration.packages import need_programs
from integration.trust.power.disk import FILE_SYSTEMS, can_mount
from integration.trust.power.examine import Examination, Found, Sample
from integration.trust.power.guestrecording import record_in_guest
from integration.trust.power.reboot import another_boot
from integration.trust.power.recording import PROGRAMS, Recording, record_here, recording_in
from integration.trust.proof import Extent, Failure, Outcome

NAME = "power cut"
WHAT = "the power goes at any write: no acknowledged record lost, no torn one believed"

# Of all cuts, and of these, those after which the runtime takes the pods away.
_SAMPLE, _FULL = (0.08, 0.08), (1.0, 0.2)
_LEAST = 10  # cuts of each file system, however slow the machine is


@dataclass
class _Tally:
    tried: int = 0
    reboots: int = 0
    torn: int = 0  # reboots that found an address which host-local had lost
    failures: list[Failure] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, recording: Recording, found: Found) -> None:
        self.tried += 1
        self.reboots += found.rebooted
        self.torn += bool(found.torn_leases)
        case = f"{recording.directory}:{found.cut}"
        self.failures += [Failure(case, broken) for broken in found.broken[:1]]


def prove(extent: Extent) -> Outcome:
    """Record on each file system, and look at what each cut leaves."""
    if why := missing():
        return Outcome(0, left_out=why)
    isolate()
    if extent.case is not None:
        directory, _, cut = extent.case.rpartition(":")
        sample = Sample(extent.seed, 1.0, 1.0, cut)
        return _outcome(_examined([recording_in(Path(directory))], sample, None))
    share, reboots = _FULL if extent.full else _SAMPLE
    deadline = None if extent.full else time.monotonic() + extent.seconds
    with tempfile.TemporaryDirectory(prefix="power-", dir=RUN) as above:
        try:
            recordings = [*_recorded_here(Path(above))]
        except RigError as error:  # of the machine: what cni-repair does wrong is a LabError
            return Outcome(0, left_out=str(error))
        notes = []
        if extent.full:
            try:
                recordings += record_in_guest(Path(above))
            except RigError as error:
                notes.append(("guest", f"left out: {error}"))
        tally = _examined(recordings, Sample(extent.seed, share, reboots), deadline)
        tally.figures += notes
        if tally.failures:
            tally.failures = _kept(tally.failures, Path(above))
    return _outcome(tally)


def missing() -> str:
    """Why nothing can be recorded here; empty where it can."""
    if not os.path.exists("/dev/fuse"):
        return "no FUSE here (/dev/fuse): nobody can write down what a disk is told"
    unable = [can_mount(system) for system in FILE_SYSTEMS]
    if all(unable):
        return unable[0]
    try:
        need_programs({**PROGRAMS, **{system.make[0]: system.package for system in FILE_SYSTEMS}})
    except RigError as error:
        return str(error)
    return ""


def _recorded_here(above: Path) -> Iterator[Recording]:
    for system in FILE_SYSTEMS:
        if not can_mount(system):
            yield record_here(system, above, product())


def _examined(recordings: list[Recording], sample: Sample, deadline: float | None) -> _Tally:
    """What was found; all recordings get their share of the time until the deadline."""
    tally = _Tally()
    for number, recording in enumerate(recordings):
        before, left = tally.tried, len(recordings) - number
        now = time.monotonic()
        until = None if deadline is None else now + (deadline - now) / left
        for found in _each(recording, sample):
            tally.add(recording, found)
            late = until is not None and time.monotonic() >= until
            if late and tally.tried - before >= _LEAST:
                break
        calls = len(recording.done.steps)
        tally.figures.append((recording.name, f"{tally.tried - before} cuts of {calls} calls"))
    return tally


def _each(recording: Recording, sample: Sample) -> Iterator[Found]:
    with (
        tempfile.TemporaryDirectory(prefix="power-", dir=RUN) as work,
        Lab(ipv6=False) as lab,
        another_boot(Path(work)),
    ):
        yield from Examination(recording, lab, Path(work)).each(sample)


def _kept(failures: list[Failure], above: Path) -> list[Failure]:
    """The failures, by the names of recordings that stay: no two recordings are the same."""
    kept = Path(tempfile.mkdtemp(prefix="cni-repair-power-", dir="/var/tmp"))
    shutil.copytree(above, kept, dirs_exist_ok=True)
    return [Failure(one.case.replace(str(above), str(kept)), one.saw) for one in failures]


def _outcome(tally: _Tally) -> Outcome:
    reboots = (
        f"{tally.reboots}; host-local (which does not fsync) had lost an address in {tally.torn}"
    )
    figures = (*tally.figures, ("boots with all pods deleted", reboots))
    return Outcome(tally.tried, tuple(tally.failures), figures)
