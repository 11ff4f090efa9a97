"""Looking at the attachments in turn, and bringing their records up to date: one task at a time."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from cni_repair.base.errors import CniError
from cni_repair.checkpoint.store import Store
from cni_repair.network.planning.plan import HEALTHY
from cni_repair.watch.attachments import Place
from cni_repair.watch.crew import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachments, Change
    from cni_repair.watch.crew import Crew
    from cni_repair.watch.telling import Telling

# So many parts of the time in which each is looked at once: a look at a few costs little more a pod
# than one at all, and what one sees is a moment of the processor, not half a second.
_PARTS = 6
# A record is brought up to date without a known reason after so many looks.
_LOOKS_TO_REMEMBER = 5
# Events come in crowds.
_SOON_SECONDS = 0.25
_SURVEY_SECONDS = 300.0
# Of one task: a hung pod is passed by, and what ails all of them is not tried with each.
_MOST_FAILURES = 3


class Looking:
    """What is to be looked at, and when."""

    def __init__(
        self,
        crew: Crew,
        attachments: Attachments,
        telling: Telling,
        changed: Callable[[list[Change]], None],
    ) -> None:
        """`changed` is called after each task with all that it saw."""
        self._telling = telling
        self._crew = crew
        self._attachments = attachments
        self._changed = changed
        self._whole: dict[str, None] = {}  # directories of which all is to be looked at
        self._soon: set[Place] = set()
        self._woken = asyncio.Event()
        self._survey_at = 0.0
        self.unmanaged: list[str] = []
        self.finished_at: float | None = None  # Unix time of the last look at all

    def whole(self, directories: Iterable[str]) -> None:
        """Look at all attachments of some directories: nothing is known of them."""
        self._whole.update(dict.fromkeys(directories))
        self._woken.set()

    def soon(self, places: Iterable[Place]) -> None:
        """Look at some, in a moment."""
        self._soon.update(places)
        self._woken.set()

    def came(self, place: Place) -> None:
        """A record is new, or another."""
        if self._attachments.get(place) is None:
            self._survey_at = min(
                self._survey_at, time.monotonic() + self._telling.settings.remember_after
            )
        self.soon([place])

    def went(self, place: Place) -> None:
        """A record is gone."""
        self._soon.discard(place)
        self._attachments.drop(place)

    async def run(self) -> None:
        """Look for ever."""
        turn_at = 0.0
        while True:
            if self._whole:
                await self._look_at_all()
            if self._soon:
                await asyncio.sleep(_SOON_SECONDS)
                some, self._soon = self._soon, set()
                await self._each_directory("look", some)
            now = time.monotonic()
            due = [one.place for one in self._attachments.due_to_remember(now)]
            await self._each_directory("remember", due)
            if now >= turn_at:
                turn_at = now + self._telling.settings.look_every / _PARTS
                await self._look_in_turn(now)
            if now >= self._survey_at and self.finished_at is not None:
                self._survey_at = now + _SURVEY_SECONDS
                await self._survey()
            await self._sleep(min([turn_at, self._survey_at, *self._times_to_remember()]))

    def _times_to_remember(self) -> list[float]:
        return [one.remember_at for one in self._attachments if one.remember_at is not None]

    async def _sleep(self, until: float) -> None:
        """Until then, or until something else is to be looked at."""
        if not self._whole and not self._soon:
            self._woken.clear()
            seconds = max(0.01, until - time.monotonic())
            try:
                await asyncio.wait_for(self._woken.wait(), seconds)
            except asyncio.TimeoutError:
                pass

    # --- What to look at ---

    async def _look_at_all(self) -> None:
        while self._whole:
            directory = next(iter(self._whole))
            del self._whole[directory]
            files = self._files_of(directory)
            self._attachments.keep_files(directory, files)
            await self._task("look", directory, files)
        self.finished_at = time.time()
        self._changed([])

    def _files_of(self, directory: str) -> list[str]:
        try:
            with Store(directory) as store:
                return store.committed()
        except FileNotFoundError:
            return []
        except (CniError, OSError) as error:
            self._telling.trouble(str(error))
            return []

    async def _look_in_turn(self, now: float) -> None:
        count = math.ceil(len(self._attachments) / _PARTS)
        since = now - self._telling.settings.look_every * (_PARTS - 1) / _PARTS
        due = self._attachments.oldest_looks(count, since)
        await self._each_directory("look", [one.place for one in due])
        self.finished_at = time.time()

    async def _each_directory(self, kind: str, places: Iterable[Place]) -> None:
        files: dict[str, list[str]] = {}
        for place in places:
            files.setdefault(place.directory, []).append(place.file)
        for directory, names in files.items():
            await self._task(kind, directory, names)

    # --- The tasks ---

    async def _task(self, kind: str, directory: str, files: list[str]) -> None:
        """Have some looked at; where that fails with one, go on with the next, but not for ever."""
        left = files
        for _ in range(_MOST_FAILURES):
            began = time.monotonic()
            changes: list[Change] = []
            try:
                async with self._crew.task(
                    {"task": kind, "directory": directory, "files": left}
                ) as task:
                    async for line in task.lines():
                        left = left[1:]
                        change = self._take(kind, directory, line, began)
                        if change is not None:
                            changes.append(change)
            except TaskFailed as error:
                self._failed(kind, directory, left, error)
                left = left[1:]
            finally:
                self._changed(changes)
            if not left:
                return
        self._give_up([Place(directory, file) for file in left])

    def _take(self, kind: str, directory: str, line: dict[str, Any], began: float) -> Change | None:
        """Take in what a task that began then says of one; None where that is no news."""
        now = time.monotonic()
        place = Place(directory, line["file"])
        if "gone" in line:
            self._attachments.drop(place)
            return None
        if self._attachments.was_lost_since(place, began):
            return None
        is_new = self._attachments.get(place) is None
        change = self._attachments.saw(directory, line, now)
        one = change.one
        if kind == "remember":
            self._remembered(change, line, now)
        elif one.state == HEALTHY and (is_new or change.before != HEALTHY):
            one.remember_at = now + self._telling.settings.remember_after
        return change

    def _remembered(self, change: Change, line: dict[str, Any], now: float) -> None:
        one = change.one
        one.remember_at = None
        if one.state == HEALTHY:
            one.remember_at = now + _LOOKS_TO_REMEMBER * self._telling.settings.look_every
        if line["trouble"]:
            self._telling.trouble(
                f"the record of {one.title} was not brought up to date: {one.reason}"
            )

    def _failed(self, kind: str, directory: str, files: list[str], error: TaskFailed) -> None:
        """It is the first of the files, if any, that the task did not come past."""
        verb = "be looked at" if kind == "look" else "be remembered"
        if not files:
            self._telling.trouble(f"what is in {directory} cannot {verb}: {error}")
            return
        place = Place(directory, files[0])
        one = self._attachments.get(place)
        if kind == "look" or one is None:
            one = self._attachments.cannot_see(place, str(error), time.monotonic())
        self._telling.trouble(f"{one.title} cannot {verb}: {error}")
        self._give_up([place])

    def _give_up(self, places: Iterable[Place]) -> None:
        """They are looked at again in their turn, and not at once."""
        for place in places:
            one = self._attachments.get(place)
            if one is not None:
                one.looked_at = time.monotonic()
                one.remember_at = None

    async def _survey(self) -> None:
        request = {"task": "survey", "directories": self._telling.settings.checkpoint_dirs}
        try:
            async with self._crew.task(request) as task:
                async for line in task.lines():
                    self.unmanaged = line["unmanaged"]
        except TaskFailed as error:
            self._telling.trouble(f"looking for pods without a record: {error}")
