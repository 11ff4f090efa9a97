"""Which attachments are looked at when."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from cni_repair.base.errors import CniError
from cni_repair.checkpoint.store import Store
from cni_repair.watch.looks import LOOK, REMEMBER
from cni_repair.watch.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.watch.attachments import Attachments, Place
    from cni_repair.watch.looks import Looks
    from cni_repair.watch.telling import Telling

# So many parts of the time in which each is looked at once: a look at a few costs little more a pod
# than one at all, and what one sees is a moment of the processor, not half a second.
_PARTS = 6
# Events come in crowds.
_SOON_SECONDS = 0.25
_SURVEY_SECONDS = 300.0


class Looking:
    """What is to be looked at, by turns and by what happens."""

    def __init__(self, looks: Looks, attachments: Attachments, telling: Telling) -> None:
        self._looks = looks
        self._attachments = attachments
        self._telling = telling
        self._whole: dict[str, None] = {}  # directories of which all is to be looked at
        self._soon: set[Place] = set()
        self._woken = asyncio.Event()
        self._turn_at = 0.0
        self._survey_at = 0.0
        self.unmanaged: list[str] = []
        self.finished_at: float | None = None  # Unix time of the last look at all

    # --- What happens ---

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
            after = time.monotonic() + self._telling.settings.remember_after
            self._survey_at = min(self._survey_at, after)
        self.soon([place])

    def went(self, place: Place) -> None:
        """A record is gone."""
        self._soon.discard(place)
        self._attachments.drop(place)

    # --- What is done about it ---

    async def run(self) -> None:
        """Look for ever."""
        while True:
            if self._whole:
                await self._look_at_all()
            if self._soon:
                await asyncio.sleep(_SOON_SECONDS)
                some, self._soon = self._soon, set()
                await self._looks.each_directory(LOOK, some)
            await self._remember()
            await self._look_in_turn()
            await self._survey()
            await self._sleep()

    async def _look_at_all(self) -> None:
        while self._whole:
            directory = next(iter(self._whole))
            del self._whole[directory]
            files = self._files_of(directory)
            self._attachments.keep_files(directory, files)
            if files:
                await self._looks.task(LOOK, directory, files)
        self.finished_at = time.time()
        self._telling.changed()

    def _files_of(self, directory: str) -> list[str]:
        try:
            with Store(directory) as store:
                return store.committed()
        except FileNotFoundError:
            return []
        except (CniError, OSError) as error:
            self._telling.trouble(str(error))
            return []

    async def _remember(self) -> None:
        now = time.monotonic()
        times = ((one.place, one.remember_at) for one in self._attachments)
        due = [place for place, at in times if at is not None and at <= now]
        await self._looks.each_directory(REMEMBER, due)

    async def _look_in_turn(self) -> None:
        """Look at those whose last look is the oldest."""
        now = time.monotonic()
        if now < self._turn_at:
            return
        every = self._telling.settings.look_every
        self._turn_at = now + every / _PARTS
        count = math.ceil(len(self._attachments) / _PARTS)
        since = now - every * (_PARTS - 1) / _PARTS
        due = sorted(
            (one for one in self._attachments if one.looked_at < since),
            key=lambda one: one.looked_at,
        )
        await self._looks.each_directory(LOOK, [one.place for one in due[:count]])
        self.finished_at = time.time()

    async def _survey(self) -> None:
        now = time.monotonic()
        if now >= self._survey_at:
            self._survey_at = now + _SURVEY_SECONDS
            found = await self._looks.survey()
            if found is not None:
                self.unmanaged = found
                self._telling.changed()

    async def _sleep(self) -> None:
        """Until something is due, or something happens."""
        if self._whole or self._soon:
            return
        self._woken.clear()
        times = [one.remember_at for one in self._attachments if one.remember_at is not None]
        until = min([self._turn_at, self._survey_at, *times])
        await is_set_within(max(0.01, until - time.monotonic()), self._woken)
