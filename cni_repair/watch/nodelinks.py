"""What a message of the node's links means for its pods."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from cni_repair.network.planning.plan import LOST
from cni_repair.watch import journal
from cni_repair.watch.links import Links

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_repair.watch.attachments import Attachments, Place
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
        on_loss: Callable[[str], None],
    ) -> None:
        """`look` has some looked at soon; `on_loss` is called with a link that pods were lost
        with."""
        self._on_loss = on_loss
        self.links = Links()
        self._look = look
        self._looked_at: dict[str, float] = {}
        self.attachments = attachments
        self.healing = healing
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
        self.healing.link_changed(self.away)

    def note_missing(self) -> None:
        """Pods were found that stand on links which are not there: since when, nobody knows."""
        for name in self.attachments.masters():
            if self.links.get(name) is None and name not in self.away:
                self.away[name] = time.monotonic(), time.time()
                # Lost while no watcher was there, as one that was killed: kubelet may not know yet.
                if any(one.state == LOST for one in self.attachments.over(name)):
                    self._on_loss(name)

    def saw(self, event: LinkEvent) -> None:
        """One message."""
        is_news = self.links.saw(event)
        masters = self.attachments.masters()
        for name in event.names:
            if event.gone and name in masters:
                self._lost(name)
            elif not event.gone:
                self._back(name)
        if is_news and not masters.keys().isdisjoint(event.names):
            self._telling.changed()  # down, without carrier, or up again: that is asked for at once
        if is_news and not event.gone:
            self.healing.link_changed(self.away)
        if not event.gone and not self.healing.is_at_work:
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
        known_lost = {one.place for one in self.attachments.over(name) if one.state == LOST}
        gone = self.attachments.uplink_lost(name, now)
        if gone:
            self._on_loss(name)
        self.healing.uplink_lost(name, self.away)
        loop = asyncio.get_running_loop()
        loop.call_later(_TOGETHER_SECONDS, self.healing.consider)
        journal.uplink_lost(name, len(gone))
        # As they are now: they may be back before it is said.
        news = [replace(one) for one in gone if one.place not in known_lost]
        loop.call_later(_TELL_SECONDS, journal.lost, news)
        self._telling.changed()

    def _back(self, name: str) -> None:
        if name in self.away:
            since, _ = self.away.pop(name)
            journal.uplink_back(name, time.monotonic() - since)
            self._telling.changed()
