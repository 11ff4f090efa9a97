"""What a message of the node's links means for its pods."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from cni_repair.watch.links import Links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachment, Attachments, Place
    from cni_repair.watch.events import LinkEvent
    from cni_repair.watch.healing import Healing
    from cni_repair.watch.telling import Telling

# A VLAN's end is told just before that of the link below it: by then there is nothing to be made.
_TOGETHER_SECONDS = 0.005
# From a master's message to a look at its pods; and from one look to the next.
_QUIET_SECONDS = 1.0
_AGAIN_SECONDS = 10.0
_TELL_SECONDS = 0.1  # what there is to be done comes before what there is to be said


class NodeLinks:
    """The node's links, and what stands on them."""

    def __init__(
        self,
        attachments: Attachments,
        healing: Healing,
        telling: Telling,
        look: Callable[[Iterable[Place]], None],
    ) -> None:
        """`look` has some looked at soon."""
        self.links = Links()
        self._look = look
        self._looked_at: dict[str, float] = {}
        self.attachments = attachments
        self._healing = healing
        self._telling = telling
        # Links that pods stand on and that are gone: monotonic and Unix time of their end.
        self.away: dict[str, tuple[float, float]] = {}

    def begin(self, links: list[LinkEvent]) -> None:
        """These are all that there are; what was told last may be long ago."""
        self.links.begin(links)
        for name in self.attachments.masters():
            if self.links.get(name) is None:
                self._lost(name)
            else:
                self._back(name)
        self._healing.link_changed()

    def saw(self, event: LinkEvent) -> None:
        """One message."""
        is_news = self.links.saw(event)
        masters = self.attachments.masters()
        for name in event.names:
            if event.gone and name in masters:
                self._lost(name)
            elif name in self.away:
                self._back(name)
        if is_news and not event.gone:
            self._healing.link_changed()
        if not event.gone and not self._healing.is_at_work:
            for name in event.names:
                if name in masters:
                    self._look_over(name)

    def _look_over(self, name: str) -> None:
        """A master's message says that a pod's link over it has come or gone, not which: see, but
        not with each."""
        now = time.monotonic()
        last = self._looked_at.get(name, 0.0)
        if last > now:
            return  # there will be a look
        at = self._looked_at[name] = max(now + _QUIET_SECONDS, last + _AGAIN_SECONDS)
        asyncio.get_running_loop().call_later(at - now, self._look_at_all_over, name)

    def _look_at_all_over(self, name: str) -> None:
        self._look(one.place for one in self.attachments.over(name))

    def _lost(self, name: str) -> None:
        if name in self.away:
            return
        now = time.monotonic()
        self.away[name] = now, time.time()
        gone = self.attachments.uplink_lost(name, now)
        self._healing.uplink_lost(name, gone)
        loop = asyncio.get_running_loop()
        loop.call_later(_TOGETHER_SECONDS, self._healing.consider)
        loop.call_later(_TELL_SECONDS, self._tell_lost, name, gone)

    def _tell_lost(self, name: str, gone: list[Attachment]) -> None:
        self._telling.uplink_lost(name, len(gone))
        self._telling.lost(gone)

    def _back(self, name: str) -> None:
        if name in self.away:
            since, _ = self.away.pop(name)
            self._telling.uplink_back(name, time.monotonic() - since)
