"""Looks at attachments, and their records brought up to date: the tasks that do it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cni_repair.network.planning.plan import HEALTHY
from cni_repair.node.report import UNREADABLE
from cni_repair.watch.attachments import Place, is_gone
from cni_repair.watch.crew import WAITING_SECONDS, TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachments, Change
    from cni_repair.watch.crew import Crew
    from cni_repair.watch.telling import Telling

LOOK, REMEMBER = "look", "remember"
# A record is brought up to date without a known reason after so many looks.
_LOOKS_TO_REMEMBER = 5
# Of one task: a hung pod is passed by, and what ails all of them is not tried with each.
_MOST_FAILURES = 3


class Looks:
    """The tasks, one at a time."""

    def __init__(
        self,
        crew: Crew,
        attachments: Attachments,
        telling: Telling,
        changed: Callable[[list[Change]], None],
    ) -> None:
        """`changed` is called after each task with all that it saw."""
        self._crew = crew
        self._attachments = attachments
        self._telling = telling
        self._changed = changed

    async def each_directory(self, kind: str, places: Iterable[Place]) -> None:
        """Look at some, or remember them."""
        files: dict[str, list[str]] = {}
        for place in places:
            files.setdefault(place.directory, []).append(place.file)
        for directory, names in files.items():
            await self.task(kind, directory, names)

    async def task(self, kind: str, directory: str, files: list[str]) -> None:
        """Have some looked at; where that fails with one, go on with the next, but not for ever.
        What failed the last time comes last: the others do not wait for it again."""
        left = sorted(files, key=lambda file: self._is_unreadable(Place(directory, file)))
        why = ""
        for _ in range(_MOST_FAILURES):
            began = time.monotonic()
            changes: list[Change] = []
            request = {"task": kind, "directory": directory, "files": left}
            try:
                async with self._crew.task(request) as task:
                    if kind == REMEMBER:
                        task.patience = WAITING_SECONDS  # for locks
                    async for line in task.lines():
                        left = left[1:]
                        change = self._take(kind, directory, line, began)
                        if change is not None:
                            changes.append(change)
            except TaskFailed as error:
                why = str(error)
                self._failed(kind, directory, left, why)
                left = left[1:]
            finally:
                self._changed(changes)
            if not left:
                return
        places = [Place(directory, file) for file in left]
        if kind == LOOK:
            self._note_unseen(places, why)
        self._give_up(places)

    def _is_unreadable(self, place: Place) -> bool:
        one = self._attachments.get(place)
        return one is not None and one.state == UNREADABLE

    def _take(self, kind: str, directory: str, line: dict[str, Any], began: float) -> Change | None:
        """Take in what a task that began then says of one; None where that is no news."""
        now = time.monotonic()
        place = Place(directory, line["file"])
        if "gone" in line:
            self._attachments.drop(place)
            return None
        known = self._attachments.get(place)
        if is_gone(self._attachments, place) or (known and known.was_lost_since(began)):
            return None
        change = self._attachments.saw(directory, line, now)
        one = change.one
        if kind == REMEMBER:
            self._remembered(change, line, now)
        elif one.state == HEALTHY and (known is None or change.before != HEALTHY):
            one.remember_at = now + self._telling.settings.remember_after
        return change

    def _remembered(self, change: Change, line: dict[str, Any], now: float) -> None:
        one = change.one
        one.remember_at = None
        if one.state == HEALTHY:
            one.remember_at = now + self._remember_again
        if line["trouble"]:
            why = line["trouble"]
            self._telling.trouble(f"the record of {one.title} was not brought up to date: {why}")

    @property
    def _remember_again(self) -> float:
        return _LOOKS_TO_REMEMBER * self._telling.settings.look_every

    def _failed(self, kind: str, directory: str, files: list[str], why: str) -> None:
        """It is the first of the files, if any, that the task did not come past."""
        verb = "be looked at" if kind == LOOK else "be remembered"
        if not files:
            self._telling.trouble(f"what is in {directory} cannot {verb}: {why}")
            return
        place = Place(directory, files[0])
        if is_gone(self._attachments, place):
            return
        one = self._attachments.get(place)
        if kind == LOOK or one is None:
            one = self._attachments.cannot_see(place, why, time.monotonic())
        self._telling.trouble(f"{one.title} cannot {verb}: {why}")
        self._give_up([place])

    def _note_unseen(self, places: Iterable[Place], why: str) -> None:
        """Only what is known has its turn again."""
        for place in places:
            if self._attachments.get(place) is None and not is_gone(self._attachments, place):
                self._attachments.cannot_see(place, why, time.monotonic())

    def _give_up(self, places: Iterable[Place]) -> None:
        """They are looked at, and remembered, again in their turn, and not at once."""
        now = time.monotonic()
        for place in places:
            one = self._attachments.get(place)
            if one is not None:
                one.looked_at = now
                if one.remember_at is not None:
                    one.remember_at = now + self._remember_again

    async def survey(self) -> list[str] | None:
        """The pods' interfaces that no record is of, in words; None where nobody can tell."""
        request = {"task": "survey", "directories": self._telling.settings.checkpoint_dirs}
        found: list[str] | None = None
        try:
            async with self._crew.task(request) as task:
                task.patience = WAITING_SECONDS  # it says one word, of all pods
                async for line in task.lines():
                    found = line["unmanaged"]
        except TaskFailed as error:
            self._telling.trouble(f"pods without a record cannot be looked for: {error}")
        return found
