"""Healing: the tasks that are at it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cni_repair.network.planning.plan import HEALTHY
from cni_repair.watch import journal
from cni_repair.watch.attachments import Attachment, Place, is_gone
from cni_repair.watch.choosing import left_out
from cni_repair.watch.crew import WAITING_SECONDS, TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cni_repair.watch.attachments import Attachments
    from cni_repair.watch.choosing import Choosing, Group
    from cni_repair.watch.crew import Crew, Task
    from cni_repair.watch.policy import Mode
    from cni_repair.watch.telling import Telling

# Tasks at a time, of those that are for one pod each.
_MOST_ALONE = 4


@dataclass
class _Heal:
    """A task at work."""

    group: Group
    places: set[Place]
    task: Task | None = None
    is_waiting: bool = False  # for its master
    is_news: bool = False  # a link has come, or changed, since it last looked for it
    later: asyncio.TimerHandle | None = None  # when it may look for it again: its uplink flaps
    arming: Place | None = None  # the one that is being prepared
    armed: int = 0
    restored: dict[str, float] = field(default_factory=dict)  # when, by file
    # How they were as it began: a look that sees one well before its verdict is told would take
    # away why, and since when, it was lost.
    before: dict[Place, Attachment] = field(default_factory=dict)
    # Lost again since it began to repair: what it says of them is out of date.
    overtaken: set[Place] = field(default_factory=set)


class Healing:
    """All that is healed at a time: one task for each uplink of each directory, and for others."""

    def __init__(
        self,
        crew: Crew,
        attachments: Attachments,
        choosing: Choosing,
        telling: Telling,
        look_again: Callable[[Iterable[Place]], None],
    ) -> None:
        """`look_again` is called with what a task has worked on, once it has ended."""
        self.choosing = choosing
        self._crew = crew
        self._attachments = attachments
        self._telling = telling
        self._look_again = look_again
        self._mode: Mode | None = None
        self._away: Collection[str] = ()
        self._heals: dict[Group, _Heal] = {}
        self._runs: set[asyncio.Task[None]] = set()
        # Has what ended a heal and was no failure of its task: a bug.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_at_work(self) -> bool:
        return bool(self._heals)

    def armed(self, name: str = "") -> int:
        """How many pods are ready to be made at once: over an uplink, or all."""
        return sum(heal.armed for group, heal in self._heals.items() if name in ("", group.uplink))

    # --- What happens ---

    def set_mode(self, mode: Mode) -> None:
        """Heal, or leave be, from now on; what is at work in a pod ends its work."""
        self._mode = mode
        if not mode.heals:
            for heal in self._heals.values():
                if heal.is_waiting and heal.task is not None:
                    heal.task.kill()
        self.consider()

    def uplink_lost(self, name: str, away: Collection[str]) -> None:
        """A link of the node is gone. `away`: all that are not there."""
        gone = self._attachments.over(name)
        self._away = away
        self.choosing.lost(name, gone, time.monotonic())
        for heal in self._heals.values():
            heal.overtaken.update(one.place for one in gone)

    def link_changed(self, away: Collection[str]) -> None:
        """A link has come, or is otherwise than it was: it may be what is waited for."""
        self._away = away
        for heal in self._heals.values():
            heal.is_news = True
            self._go(heal)

    def consider(self) -> None:
        """Begin what is to be healed, and may be."""
        if self._mode is None or not self._mode.heals:
            return
        now = time.monotonic()
        busy = {place for heal in self._heals.values() for place in heal.places}
        alone = sum(bool(group.file) for group in self._heals)
        waits = []
        groups = self.choosing.groups(self._telling.settings.heal, busy, self._away)
        for group, places in groups.items():
            if group in self._heals:
                continue
            ready, wait = self.choosing.ready(group, places, now)
            if wait:
                waits.append(wait)
            if ready and (not group.file or alone < _MOST_ALONE):
                alone += bool(group.file)
                self._begin(group, ready)
        if self._timer is not None:
            self._timer.cancel()
        if waits:
            self._timer = asyncio.get_running_loop().call_later(min(waits), self.consider)

    # --- One task ---

    def _begin(self, group: Group, places: set[Place]) -> None:
        heal = self._heals[group] = _Heal(group, places)
        run = asyncio.get_running_loop().create_task(self._run(heal))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        run.add_done_callback(partial(_note_bug, self.failed))

    async def _run(self, heal: _Heal) -> None:
        group = heal.group
        request = {
            "task": "heal",
            "directory": group.directory,
            "uplink": group.uplink,
            "files": None if group.uplink else [place.file for place in heal.places],
            "wait": bool(group.uplink),
            "ipv6Detection": self._telling.settings.ipv6_detection,
            "except": left_out(self._attachments, self.choosing, group),
        }
        try:
            async with self._crew.task(request) as task:
                heal.task = task
                async for line in task.lines():
                    self._take(heal, line)
            self.choosing.ended(group)
        except TaskFailed as error:
            if self._mode is not None and self._mode.heals:
                culprit, at = heal.arming, ""
                if culprit is not None:
                    known = self._attachments.get(culprit)
                    at = f" arming {known.title if known else culprit.file}, which is healed alone"
                over = group.uplink or group.directory
                self._telling.trouble(f"a heal over {over} failed{at}: {error}")
                self.choosing.failed(group, heal.places, time.monotonic(), culprit)
        finally:
            heal.is_waiting = False
            del self._heals[group]
        self._look_again(heal.places)
        self.consider()
        self._telling.changed()

    def _take(self, heal: _Heal, line: dict[str, Any]) -> None:
        if "verdict" in line:
            self._judge(heal, line)
        elif "restored" in line:
            heal.restored[line["restored"]] = line["at"]
        elif "arming" in line:
            heal.arming = Place(heal.group.directory, line["arming"])
            return  # nothing to be told
        elif "firing" in line:
            assert heal.task is not None
            heal.task.patience = WAITING_SECONDS
            heal.armed = 0
            heal.overtaken.clear()
            heal.before = {one.place: replace(one) for one in self._attachments}
            self.choosing.begun(heal.group, heal.places, time.monotonic())
        elif "armed" in line:
            heal.arming, heal.armed = None, line["armed"]
            journal.armed(heal.group.uplink, line["armed"], line["of"])
        elif "waiting" in line:
            assert heal.task is not None
            heal.is_waiting = True
            heal.task.patience = None
            for why in line["refusals"]:
                self._telling.trouble(f"what is over {heal.group.uplink} is not healed: {why}")
            self._go(heal)
        elif "gone" in line:
            self._attachments.drop(Place(heal.group.directory, line["file"]))
        self._telling.changed()

    def _go(self, heal: _Heal) -> None:
        """Have a task look for its master again, where it waits and something has happened."""
        if not heal.is_waiting or not heal.is_news or heal.task is None:
            return
        _, wait = self.choosing.ready(heal.group, heal.places, time.monotonic())
        if heal.later is not None:
            heal.later.cancel()  # one for each message would be thousands
        if wait:
            heal.later = asyncio.get_running_loop().call_later(wait, self._go, heal)
            return
        heal.is_news = heal.is_waiting = False
        heal.task.patience = WAITING_SECONDS
        heal.task.tell({"go": True})

    def _judge(self, heal: _Heal, line: dict[str, Any]) -> None:
        """Take in what became of a pod."""
        place = Place(heal.group.directory, line["file"])
        if place in heal.overtaken or is_gone(self._attachments, place):
            return
        before = heal.before.get(place, Attachment(place))
        now = time.monotonic()
        one = self._attachments.saw(heal.group.directory, line, now).one
        if one.state == HEALTHY and not line["code"]:
            one.remember_at = now + self._telling.settings.remember_after
            if line["steps"] and not before.unverified:
                self._telling.healed(one, before, heal.restored.get(line["file"]))
        elif one.is_damaged or line["code"]:  # else it is stale, or renamed: nothing to be healed
            one.cause = one.cause or before.cause
            self.choosing.not_healed(one, line["code"])
            self._telling.not_healed(one, line["code"])


def _note_bug(failed: asyncio.Future[None], run: asyncio.Task[None]) -> None:
    if not run.cancelled() and (error := run.exception()) and not failed.done():
        failed.set_exception(error)
