"""Each cut of a recording, on a disk: mounted as on a boot, and compared with the promises."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cni_repair.base.errors import CniError
from cni_repair.checkpoint.store import Store
from cni_repair.demo.lab import Lab
from integration.errors import RigError
from integration.trust.power.cuts import Cut, cuts, epochs
from integration.trust.power.disk import apply, copy, mounted
from integration.trust.power.promises import Promises
from integration.trust.power.reboot import Reboot
from integration.trust.power.recording import Recording
from integration.trust.power.workload import CHECKPOINTS, Done
from integration.trust.power.writelog import Mark


@dataclass
class Found:
    """What was on the disk after one cut."""

    cut: str
    broken: list[str]
    rebooted: bool = False  # what a runtime does next was done, too
    torn_leases: int = 0  # addresses that host-local has lost


@dataclass(frozen=True)
class Sample:
    """Which cuts are examined."""

    seed: int
    share: float  # of all cuts
    reboots: float  # of the examined ones
    only: str | None = None  # the one of this name

    def takes(self, cut: Cut) -> bool:
        if self.only is not None:
            return cut.name == self.only
        return self._chance("cut", cut) < self.share

    def reboots_after(self, cut: Cut) -> bool:
        return self.only is not None or self._chance("reboot", cut) < self.reboots

    def _chance(self, what: str, cut: Cut) -> float:
        return random.Random(f"{self.seed}/{what}/{cut.name}").random()


class Examination:
    """Of one recording, by a lab whose pods are gone."""

    def __init__(self, recording: Recording, lab: Lab, directory: Path) -> None:
        self._recording, self._lab = recording, lab
        self._done: Done = recording.done
        self._durable, self._disk = directory / "durable", directory / "cut"
        self._place = directory / "mnt"
        copy(recording.begin, self._durable)

    def each(self, sample: Sample) -> Iterator[Found]:
        marks: list[dict[str, object]] = []
        for epoch in epochs(self._recording.events()):
            apply(self._durable, epoch.durable)
            for cut in cuts(epoch, marks):
                if sample.takes(cut):
                    yield self._look(cut, sample.reboots_after(cut))
            marks += [event.document for event in epoch.events if isinstance(event, Mark)]

    def _look(self, cut: Cut, reboot: bool) -> Found:
        copy(self._durable, self._disk)
        apply(self._disk, cut.lasted)
        promises = Promises(self._done.steps, cut.marks)
        found = Found(cut.name, [], reboot)
        try:
            with mounted(self._disk, self._recording.system, self._place) as place:
                with _opened(place / CHECKPOINTS) as store:
                    found.broken += promises.broken(store)
                if reboot:
                    boot = Reboot(self._lab, place, promises.pods())
                    found.broken += boot.trouble()
                    found.torn_leases = boot.torn_leases()
        except (RigError, CniError) as error:
            found.broken.append(str(error))
        return found


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[Store | None]:
    """Context: the store in a directory; None where there is none."""
    try:
        store = Store(str(directory))
    except FileNotFoundError:
        yield None
        return
    with store:
        yield store
