"""The watcher: what happens on the node, and what is done about it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from cni_repair.base import log
from cni_repair.base.errors import INTERNAL, CniError
from cni_repair.checkpoint.store import is_committed
from cni_repair.upgrade.lock import is_at_work
from cni_repair.watch import journal, pausing, rundir
from cni_repair.watch.attachments import Attachments, Place
from cni_repair.watch.choosing import Choosing
from cni_repair.watch.crew import Crew
from cni_repair.watch.directories import Directories
from cni_repair.watch.document import status_of
from cni_repair.watch.events import LinkEvents
from cni_repair.watch.healing import Healing
from cni_repair.watch.keeping import Keeping
from cni_repair.watch.looking import Looking
from cni_repair.watch.looks import Looks
from cni_repair.watch.nodelinks import NodeLinks
from cni_repair.watch.policy import Mode, Restraint, mode_of
from cni_repair.watch.telling import Telling

if TYPE_CHECKING:
    from cni_repair.checkpoint.locks import Lock
    from cni_repair.watch.attachments import Change
    from cni_repair.watch.events import LinkEvent
    from cni_repair.watch.healer import Healer
    from cni_repair.watch.notify import Notifier
    from cni_repair.watch.settings import Settings
    from cni_repair.watch.status import Status

_TICK_SECONDS = 1.0
# By which the two clocks may differ from one tick to the next before the machine has slept.
_SLEPT_SECONDS = 2.0


class HealerDied(CniError):
    """Without it nothing can be done: whoever started the daemon starts it again."""


class LockLost(CniError):
    """Nobody sees any more that a watcher is at work: a second one would begin."""


class Watcher:
    """The daemon at work."""

    def __init__(self, settings: Settings, healer: Healer, notifier: Notifier, first: Lock) -> None:
        self._healer = healer
        self._first = first
        self._notifier = notifier
        self._attachments = Attachments()
        self._telling = Telling(settings, notifier)
        self._restraint = Restraint(settings.back_off_first, settings.back_off_most)
        choosing = Choosing(self._attachments, self._restraint)
        self._crew = Crew(healer)
        looks = Looks(self._crew, self._attachments, self._telling, self._saw)
        self._looking = Looking(looks, self._attachments, self._telling)
        self._healing = Healing(
            self._crew, self._attachments, choosing, self._telling, self._looking.soon
        )
        self._keeping = Keeping(
            self._attachments,
            self._telling,
            self._healing,
            is_known=lambda: self._looking.finished_at is not None,
        )
        self._node = NodeLinks(
            self._attachments, self._healing, self._telling, self._looking.soon, self._hold
        )
        self._directories = Directories(self._file, self._directory)
        self._mode = Mode("", "")
        self._sleep = Sleep()

    async def run(self) -> None:
        """Watch until it is cancelled, or cannot go on (HealerDied, LockLost)."""
        loop = asyncio.get_running_loop()
        self._directories.listen(loop)
        self._directories.want(self._paths())
        events = LinkEvents(self._node.saw, self._all_links, self._telling.trouble)
        work = [
            events.run(),
            self._looking.run(),
            self._telling.run(self._status),
            self._keeping.run(),
            self._tick(),
            _until_it_dies(self._healer),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            waited = [*tasks, self._healing.failed]
            done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            self._keeping.ends_of_itself()
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._directories.close(loop)
            self._telling.close()

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self._telling.change(settings)
        self._restraint.change(settings.back_off_first, settings.back_off_most)
        self._attachments.keep_directories(settings.checkpoint_dirs)
        self._directories.want(self._paths())
        self._set_mode()
        self._looking.whole(settings.checkpoint_dirs)

    def _paths(self) -> list[str]:
        settings = self._telling.settings
        return [*settings.checkpoint_dirs, settings.run_dir]

    def _status(self) -> Status:
        return status_of(self._mode, self._telling, self._node, self._looking, self._keeping)

    # --- What happens ---

    def _hold(self, uplink: str) -> None:
        self._set_mode()  # an upgrade that began since the last tick has taken it away itself
        if self._mode.heals:
            self._keeping.lost(uplink)

    def _all_links(self, links: list[LinkEvent]) -> None:
        """All the node's links: at the beginning, and after messages were missed."""
        self._node.begin(links)
        self._set_mode()
        self._looking.whole(self._telling.settings.checkpoint_dirs)
        self._notifier.ready()

    def _file(self, directory: str, name: str, came: bool) -> None:
        if directory == self._telling.settings.run_dir and name == pausing.NAME:
            self._set_mode()
        elif directory in self._telling.settings.checkpoint_dirs and is_committed(name):
            place = Place(directory, name)
            if came:
                self._looking.came(place)
            else:
                self._looking.went(place)
                self._healing.choosing.forget(place)
                self._telling.changed()

    def _directory(self, path: str) -> None:
        if path in self._telling.settings.checkpoint_dirs:
            self._looking.whole([path])
        else:
            self._set_mode()

    def _saw(self, changes: list[Change]) -> None:
        self._node.note_missing()
        self._telling.saw(changes)
        for change in changes:
            self._healing.choosing.looked(change.one)
        self._healing.consider()

    # --- Now and then ---

    async def _tick(self) -> None:
        beat = self._notifier.watchdog_seconds
        while True:
            if not self._first.is_named():
                raise LockLost(
                    INTERNAL,
                    f"the run directory {self._telling.settings.run_dir} was replaced",
                    "the watcher ends, and begins anew in the new one",
                )
            self._notifier.alive()
            log.drain(0.0)
            self._crew.end_overdue(time.monotonic())
            self._directories.look_for_missing()
            self._set_mode()
            if self._sleep.is_over():
                self._looking.whole(self._telling.settings.checkpoint_dirs)
            await asyncio.sleep(min(beat, _TICK_SECONDS) if beat else _TICK_SECONDS)

    def _set_mode(self) -> None:
        settings = self._telling.settings
        mode = mode_of(settings.heal, is_at_work(), _why_paused(settings.run_dir))
        before, self._mode = self._mode, mode
        if mode.name != before.name:
            journal.mode(before, mode)
            self._telling.changed()
            if before.name:  # what happened meanwhile was nobody's to heal
                self._looking.whole(settings.checkpoint_dirs)
            self._healing.set_mode(mode)


def _why_paused(run_dir: str) -> str:
    try:
        pause = pausing.read_pause(run_dir)
    except CniError as error:
        return str(error)  # somebody wanted something: leave be until it is known what
    return pause.words(rundir.boot_time()) if pause is not None else ""


async def _until_it_dies(healer: Healer) -> None:
    """Its end of the socket is closed then. Raises HealerDied."""
    loop = asyncio.get_running_loop()
    died = asyncio.Event()
    loop.add_reader(healer.control, died.set)
    try:
        await died.wait()
    finally:
        loop.remove_reader(healer.control)
    raise HealerDied(INTERNAL, "the process that heals has died", "the watcher ends with it")


class Sleep:
    """Whether the machine was suspended: it has told nothing of what it met when it woke."""

    def __init__(self) -> None:
        self._slept = self._seconds()

    @staticmethod
    def _seconds() -> float:
        """What one clock counts and the other does not."""
        return rundir.boot_time() - time.monotonic()

    def is_over(self) -> bool:
        """Whether it was, since the last time that this was asked."""
        before, self._slept = self._slept, self._seconds()
        return self._slept - before > _SLEPT_SECONDS
