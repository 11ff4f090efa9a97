"""When the kubelet is held, and when it is released: each takes as long as systemd does, and the
daemon does not wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cni_repair.base.errors import CniError
from cni_repair.watch import journal
from cni_repair.watch.choosing import are_left
from cni_repair.watch.kubelet import Holder
from cni_repair.watch.settings import ON_LOSS
from cni_repair.watch.successor import another_comes
from cni_repair.watch.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.watch.attachments import Attachments
    from cni_repair.watch.healing import Healing
    from cni_repair.watch.kubelet import Held
    from cni_repair.watch.telling import Telling

# How often it is looked at whether the deadline has come, or all are well.
_LOOK_SECONDS = 1.0


class Keeping:
    """The kubelet, by what happens to pods."""

    def __init__(
        self,
        attachments: Attachments,
        telling: Telling,
        healing: Healing,
        is_known: Callable[[], bool],
    ) -> None:
        """`is_known` says whether all attachments were looked at: before, none is known as lost."""
        self._attachments = attachments
        self._telling = telling
        self._healing = healing
        self._is_known = is_known
        self._is_asked_to_end = True
        self._why = ""
        self._lost = asyncio.Event()
        self.held: Held | None = None

    def lost(self, uplink: str) -> None:
        """Pods have lost their network with an uplink: before the kubelet sees it, stop it."""
        if self._telling.settings.hold_kubelet == ON_LOSS:
            self._why = f"{uplink} is gone, and pods with it"
            self._lost.set()

    def ends_of_itself(self) -> None:
        """The watcher cannot go on: nobody has asked it to end."""
        self._is_asked_to_end = False

    async def run(self) -> None:
        """Hold and release, for ever. What a watcher before this one has held is found here; at the
        end it is released, since nobody is there to heal its pods any more; but not where another
        watcher comes at once, and finds it. (Its timer runs on, should that one fail.)"""
        await self._note(Holder(self._telling.settings))
        try:
            while True:
                await self._turn()
        finally:
            await self._note(Holder(self._telling.settings))
            if self.held is not None and not another_comes(self._is_asked_to_end):
                await self._do("released", Holder.release)

    async def _turn(self) -> None:
        if await is_set_within(_LOOK_SECONDS, self._lost):
            self._lost.clear()
            await self._do("held", Holder.hold, self._why)
        elif self.held is not None:
            await self._release_in_time()

    async def _release_in_time(self) -> None:
        """Once all are well that can be; or its timer has come first."""
        holder = Holder(self._telling.settings)
        await self._note(holder)
        is_over = self.held is None
        is_wanted = (
            not self._is_known()
            or self._healing.is_at_work
            or are_left(self._attachments, self._healing.choosing)
        )
        if is_over or not is_wanted:
            await self._do("released", Holder.release)

    async def _do(self, kind: str, work: Callable[..., str], *arguments: str) -> None:
        holder = Holder(self._telling.settings)
        doing = asyncio.ensure_future(asyncio.to_thread(work, holder, *arguments))
        try:
            words = await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait([doing])  # what is half held could not be released
            doing.exception()
            raise
        except CniError as error:
            self._telling.trouble(str(error))
        else:
            if words:
                journal.kubelet(kind == "held", words)
        await self._note(holder)

    async def _note(self, holder: Holder) -> None:
        try:
            self.held = holder.held
        except CniError as error:
            self._telling.trouble(str(error))
        self._telling.changed()
