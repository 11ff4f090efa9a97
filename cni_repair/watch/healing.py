"""Healing: which pods, when, and by which task."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_repair.base.errors import TRY_AGAIN
from cni_repair.network.planning.plan import HEALTHY
from cni_repair.watch.attachments import Place
from cni_repair.watch.crew import PATIENCE_SECONDS, TaskFailed
from cni_repair.watch.policy import DRIFT, is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachment, Attachments
    from cni_repair.watch.crew import Crew, Task
    from cni_repair.watch.policy import Mode, Restraint
    from cni_repair.watch.telling import Telling


class Group(NamedTuple):
    """What one task heals: the pods over an uplink, or those that are tried on their own."""

    directory: str
    uplink: str  # empty: on their own


@dataclass
class _Heal:
    """A task at work."""

    group: Group
    places: set[Place]
    task: Task | None = None
    is_waiting: bool = False  # for its master
    is_news: bool = False  # a link has come, or changed, since it last looked for it
    armed: int = 0
    restored: dict[str, float] = field(default_factory=dict)  # when, by file
    # Lost again since it began to repair: what it says of them is out of date.
    overtaken: set[Place] = field(default_factory=set)


class Healing:
    """All that is healed at a time: one task for each uplink of each directory."""

    def __init__(
        self,
        crew: Crew,
        attachments: Attachments,
        restraint: Restraint,
        telling: Telling,
        look_again: Callable[[Iterable[Place]], None],
    ) -> None:
        """`look_again` is called with what a task has worked on, once it has ended."""
        self._look_again = look_again
        self._crew = crew
        self._attachments = attachments
        self._restraint = restraint
        self._telling = telling
        self._mode: Mode | None = None
        self._heals: dict[Group, _Heal] = {}
        self._tried: set[Place] = set()  # with all of their uplink, since they were last well
        self._runs: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def set_mode(self, mode: Mode) -> None:
        """Heal, or leave be, from now on; what is at work in a pod ends its work."""
        self._mode = mode
        if not mode.heals:
            for heal in self._heals.values():
                if heal.is_waiting and heal.task is not None:
                    heal.task.kill()
        self.consider()

    @property
    def is_at_work(self) -> bool:
        return bool(self._heals)

    @property
    def armed_in_all(self) -> int:
        return sum(heal.armed for heal in self._heals.values())

    def armed(self, name: str) -> int:
        """How many pods over an uplink are ready to be made at once."""
        return sum(heal.armed for group, heal in self._heals.items() if group.uplink == name)

    def is_refused(self, one: Attachment) -> bool:
        """Whether it is not tried again until something about it changes."""
        return not self._restraint.may_try(one.place, one.try_mark)

    # --- What happens ---

    def uplink_lost(self, name: str, gone: Iterable[Attachment]) -> None:
        """These are lost with a link: another loss than the last one."""
        self._restraint.uplink_lost(name, time.monotonic())
        places = {one.place for one in gone}
        self._tried -= places
        for heal in self._heals.values():
            heal.overtaken |= places

    def link_changed(self) -> None:
        """A link has come, or is otherwise than it was: it may be what is waited for."""
        for heal in self._heals.values():
            heal.is_news = True
            self._go(heal)

    def consider(self) -> None:
        """Begin what is to be healed, and may be."""
        if self._mode is None or not self._mode.heals:
            return
        now = time.monotonic()
        waits = []
        for group, places in self._wanted().items():
            if group in self._heals:
                continue
            if group.uplink:
                wait = self._restraint.may_heal(group.uplink, now)
                places = places if not wait else set()
            else:
                times = {place: self._restraint.may_heal(_name(place), now) for place in places}
                places = {place for place, seconds in times.items() if not seconds}
                wait = min((seconds for seconds in times.values() if seconds), default=0.0)
            if wait:
                waits.append(wait)
            if places:
                self._begin(group, places)
        if waits:
            self._consider_in(min(waits))

    def _consider_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.consider)

    def _wanted(self) -> dict[Group, set[Place]]:
        busy = {place for heal in self._heals.values() for place in heal.places}
        found: dict[Group, set[Place]] = {}
        for one in self._attachments:
            if not one.is_damaged:
                self._tried.discard(one.place)
            elif (
                one.place not in busy
                and is_wanted(self._telling.settings.heal, one.cause, one.state)
                and not self.is_refused(one)
            ):
                is_alone = one.cause == DRIFT or one.place in self._tried
                group = Group(one.place.directory, "" if is_alone else one.uplink)
                found.setdefault(group, set()).add(one.place)
        return found

    # --- One task ---

    def _begin(self, group: Group, places: set[Place]) -> None:
        heal = self._heals[group] = _Heal(group, places)
        run = asyncio.get_running_loop().create_task(self._run(heal))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _run(self, heal: _Heal) -> None:
        group = heal.group
        files = None if group.uplink else [place.file for place in heal.places]
        request = {
            "task": "heal",
            "directory": group.directory,
            "uplink": group.uplink,
            "files": files,
            "wait": bool(group.uplink),
            "except": self._refused_in(group.directory),
        }
        try:
            async with self._crew.task(request) as task:
                heal.task = task
                async for line in task.lines():
                    self._take(heal, line)
        except TaskFailed as error:
            if self._mode is not None and self._mode.heals:
                self._telling.trouble(f"healing over {group.uplink or group.directory}: {error}")
                self._tried |= heal.places
                self._note_heal(heal)
        finally:
            del self._heals[group]
        self._look_again(heal.places)
        self.consider()
        self._telling.changed()

    def _refused_in(self, directory: str) -> list[str]:
        return [
            one.place.file
            for one in self._attachments
            if one.place.directory == directory and self.is_refused(one)
        ]

    def _take(self, heal: _Heal, line: dict[str, Any]) -> None:
        if "verdict" in line:
            self._judge(heal, line)
        elif "restored" in line:
            heal.restored[line["restored"]] = line["at"]
        elif "firing" in line:
            heal.is_waiting = False
            heal.armed = 0
            heal.overtaken.clear()
            self._note_heal(heal)
        elif "armed" in line:
            heal.armed = line["armed"]
            self._telling.armed(heal.group.uplink, line["armed"], line["of"])
        elif "waiting" in line:
            heal.is_waiting = True
            assert heal.task is not None
            heal.task.patience = None
            self._go(heal)
        elif "gone" in line:
            self._attachments.drop(Place(heal.group.directory, line["file"]))
        self._telling.changed()

    def _note_heal(self, heal: _Heal) -> None:
        now = time.monotonic()
        names = [heal.group.uplink] if heal.group.uplink else map(_name, heal.places)
        for name in names:
            self._restraint.healed(name, now)

    def _go(self, heal: _Heal) -> None:
        """Have a task look for its master again, where it waits and something has happened."""
        if not heal.is_waiting or not heal.is_news or heal.task is None:
            return
        wait = self._restraint.may_heal(heal.group.uplink, time.monotonic())
        if wait:
            asyncio.get_running_loop().call_later(wait, self._go, heal)
            return
        heal.is_news = heal.is_waiting = False
        heal.task.patience = PATIENCE_SECONDS
        heal.task.tell({"go": True})

    def _judge(self, heal: _Heal, line: dict[str, Any]) -> None:
        """Take in what became of a pod."""
        place = Place(heal.group.directory, line["file"])
        if place in heal.overtaken:
            return
        one = self._attachments.get(place)
        cause = one.cause if one is not None else ""
        change = self._attachments.saw(heal.group.directory, line, time.monotonic())
        one = change.one
        if one.state == HEALTHY and not line["code"]:
            one.remember_at = time.monotonic() + self._telling.settings.remember_after
            if line["steps"]:
                self._telling.healed(change, cause, heal.restored.get(line["file"]))
            return
        if not one.is_damaged and not line["code"]:
            return  # stale, renamed: no pod to be healed
        one.cause = one.cause or cause
        self._tried.add(one.place)
        if line["code"] != TRY_AGAIN:
            self._restraint.refused(one.place, one.try_mark)
            self._telling.refused(change, cause, line["code"])


def _name(place: Place) -> str:
    """What restraint knows one by that is tried on its own. (No link's name has a slash.)"""
    return f"{place.directory}/{place.file}"
