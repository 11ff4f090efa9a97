"""Healing: which pods, when, and by which task."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_repair.base.errors import TRY_AGAIN
from cni_repair.network.planning.plan import HEALTHY
from cni_repair.watch.attachments import Place
from cni_repair.watch.crew import PATIENCE_SECONDS, TaskFailed
from cni_repair.watch.policy import DRIFT, is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cni_repair.watch.attachments import Attachment, Attachments
    from cni_repair.watch.crew import Crew, Task
    from cni_repair.watch.policy import Mode, Restraint
    from cni_repair.watch.telling import Telling


# Tasks at a time, of those that are for one pod each.
_MOST_ALONE = 4


class Group(NamedTuple):
    """What one task heals: the pods over an uplink, or those that are tried on their own."""

    directory: str
    uplink: str  # empty: on their own
    file: str = ""  # of the one that it is alone for: with others it may have ended their task


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
    # Why and since when they were lost as it began: a look that sees one well before its verdict
    # is told would take that away.
    lost: dict[Place, tuple[str, float | None]] = field(default_factory=dict)
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
        self._away: Collection[str] = ()
        self._look_again = look_again
        self._crew = crew
        self._attachments = attachments
        self._restraint = restraint
        self._telling = telling
        self._mode: Mode | None = None
        self._heals: dict[Group, _Heal] = {}
        self._tried: set[Place] = set()  # with all of their uplink, since they were last well
        self._failures: Counter[Group] = Counter()  # tasks that did not end well, in a row
        self._suspects: set[Place] = set()  # what they were for
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

    def why_refused(self, one: Attachment) -> str:
        """Why it is not tried again until something about it changes; empty where it is."""
        return self._restraint.why_not(one.place, one.mark, one.seen)

    # --- What happens ---

    def uplink_lost(self, name: str, gone: Iterable[Attachment], away: Collection[str]) -> None:
        """These are lost with a link: another loss than the last one."""
        self._away = away
        self._restraint.uplink_lost(name, time.monotonic())
        places = {one.place for one in gone}
        self._tried -= places
        self._suspects -= places
        for heal in self._heals.values():
            heal.overtaken |= places

    def link_changed(self, away: Collection[str]) -> None:
        """A link has come, or is otherwise than it was: it may be what is waited for. `away`: the
        masters that are not there."""
        self._away = away
        for heal in self._heals.values():
            heal.is_news = True
            self._go(heal)
        if self._tried or self._suspects:
            self.consider()

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
                times = {
                    place: self._restraint.may_heal(name_alone(place), now) for place in places
                }
                places = {place for place, seconds in times.items() if not seconds}
                wait = min((seconds for seconds in times.values() if seconds), default=0.0)
            if wait:
                waits.append(wait)
            if places and (not group.file or len(self._heals) < _MOST_ALONE):
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
                self._suspects.discard(one.place)
            if one.place not in busy and self._is_wanted(one) and not self.why_refused(one):
                group = self._group_of(one)
                if group.uplink or one.uplink not in self._away:
                    found.setdefault(group, set()).add(one.place)
        return found

    def _is_wanted(self, one: Attachment) -> bool:
        """Whether it is to be healed; or a heal of it, that was interrupted, to be ended."""
        return one.unverified or is_wanted(self._telling.settings.heal, one.cause, one.state)

    def _group_of(self, one: Attachment) -> Group:
        directory, file = one.place
        if one.place in self._suspects:
            return Group(directory, "", file)
        if not one.is_damaged or one.cause == DRIFT or one.place in self._tried:
            return Group(directory, "")
        return Group(directory, one.uplink)

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
            "ipv6Detection": self._telling.settings.ipv6_detection,
        }
        try:
            async with self._crew.task(request) as task:
                heal.task = task
                async for line in task.lines():
                    self._take(heal, line)
            self._failures.pop(group, None)
        except TaskFailed as error:
            if self._mode is not None and self._mode.heals:
                self._failed(heal, error)
        finally:
            del self._heals[group]
        self._look_again(heal.places)
        self.consider()
        self._telling.changed()

    def _failed(self, heal: _Heal, error: TaskFailed) -> None:
        """Try again later; after the second time each on its own, since one of them may be what
        ends their task."""
        group = heal.group
        self._telling.trouble(f"a heal over {group.uplink or group.directory} failed: {error}")
        self._note_heal(heal)
        self._failures[group] += 1
        if self._failures[group] > 1:
            self._suspects |= heal.places
            del self._failures[group]

    def _refused_in(self, directory: str) -> list[str]:
        return [
            one.place.file
            for one in self._attachments
            if one.place.directory == directory and self.why_refused(one)
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
            heal.lost = {one.place: (one.cause, one.lost_at) for one in self._attachments}
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
        names = [heal.group.uplink] if heal.group.uplink else map(name_alone, heal.places)
        for name in names:
            self._restraint.healed(name, now)

    def _go(self, heal: _Heal) -> None:
        """Have a task look for its master again, where it waits and something has happened."""
        if not heal.is_waiting or not heal.is_news or heal.task is None:
            return
        wait = self._restraint.may_heal(heal.group.uplink, time.monotonic())
        if wait:  # it flaps
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
        was = self._attachments.get(place)
        was_unverified = was is not None and was.unverified
        cause, lost_at = heal.lost.get(place, ("", None))
        change = self._attachments.saw(heal.group.directory, line, time.monotonic())
        one = change.one
        if one.state == HEALTHY and not line["code"]:
            one.remember_at = time.monotonic() + self._telling.settings.remember_after
            if line["steps"] and not was_unverified:
                change = change._replace(lost_at=lost_at)
                self._telling.healed(change, cause, heal.restored.get(line["file"]))
            return
        if not one.is_damaged and not line["code"]:
            return  # stale, renamed: no pod to be healed
        one.cause = one.cause or cause
        self._tried.add(one.place)
        if line["code"] != TRY_AGAIN:
            self._restraint.refused(one.place, one.mark, one.reason)
            self._telling.refused(change, cause, line["code"])


def name_alone(place: Place) -> str:
    """What restraint knows one by that is tried on its own. (No link's name has a slash.)"""
    return f"{place.directory}/{place.file}"
