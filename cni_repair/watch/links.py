"""The node's links as they are, by what the kernel tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.watch.events import LinkEvent


@dataclass(frozen=True, slots=True)
class Link:
    ifindex: int
    up: bool
    carrier: bool


class Links:
    """By the names that they have."""

    def __init__(self) -> None:
        self._by_index: dict[int, tuple[str, ...]] = {}
        self._links: dict[str, Link] = {}

    def get(self, name: str) -> Link | None:
        return self._links.get(name)

    def begin(self, links: Iterable[LinkEvent]) -> None:
        """These are all that there are."""
        self._by_index.clear()
        self._links.clear()
        for link in links:
            self.saw(link)

    def saw(self, event: LinkEvent) -> bool:
        """Take in a message; whether it says anything new."""
        before = self._by_index.get(event.ifindex, ())
        known = [self._links.get(name) for name in before]
        for name in before:
            if name in self._links and self._links[name].ifindex == event.ifindex:
                del self._links[name]
        if event.gone:
            self._by_index.pop(event.ifindex, None)
            return bool(before)
        link = Link(event.ifindex, event.up, event.carrier)
        self._by_index[event.ifindex] = event.names
        self._links.update(dict.fromkeys(event.names, link))
        return before != event.names or known != [link] * len(known)
