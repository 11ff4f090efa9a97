"""What the daemon knows of the node's attachments: little of each, by what its children say."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node.report import UNREADABLE
from cni_repair.watch.policy import DRIFT, START, UPLINK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DAMAGED = (LOST, DEGRADED)


class Place(NamedTuple):
    """Where a record is: what an attachment goes by here."""

    directory: str
    file: str


@dataclass(slots=True)
class Attachment:
    """One of them, as it was seen last."""

    place: Place
    container_id: str = ""
    ifname: str = ""
    pod: str = ""
    network: str = ""
    chain: tuple[str, ...] = ()  # the master, and what that stands on, by recorded names
    state: str = ""  # empty: not looked at yet
    reason: str = ""
    mark: str = ""  # of its record
    over: int = 0  # the index of the master that it was healthy over
    cause: str = ""  # why it is not healthy: UPLINK, START or DRIFT
    lost_at: float | None = None  # None: it is not lost, or nobody saw when
    looked_at: float = 0.0
    remember_at: float | None = None  # when its record is to be brought up to date
    restorable: bool = True
    unverified: bool = False  # a repair was interrupted before it knew of no duplicate of its IPv6

    @property
    def uplink(self) -> str:
        return self.chain[-1] if self.chain else ""

    @property
    def title(self) -> str:
        """Which one it is, for people."""
        return f"{self.pod or self.container_id[:12]} {self.ifname}"

    @property
    def is_damaged(self) -> bool:
        return self.state in _DAMAGED

    def was_lost_since(self, began: float) -> bool:
        """Whether it was lost after a look at it began: what that has seen is old."""
        return self.lost_at is not None and self.lost_at >= began

    @property
    def seen(self) -> tuple[str, str]:
        """What has to change before it is tried again, once it was refused."""
        return self.state, self.reason


class Change(NamedTuple):
    """What a look has shown that was not so at the last one."""

    one: Attachment
    before: str  # its state
    lost_at: float | None  # as it was before

    @property
    def is_news(self) -> bool:
        """Whether the look has shown another state. What an uplink took since is told already."""
        return self.one.state != self.before and not self.one.was_lost_since(self.one.looked_at)


class Attachments:
    """All of them. Times are those of time.monotonic()."""

    def __init__(self) -> None:
        self._known: dict[Place, Attachment] = {}
        self.directories: frozenset[str] | None = None  # those that are watched; None: any
        self._masters: Counter[str] | None = None  # asked for with every message of a link

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Attachment]:
        return iter([*self._known.values()])

    def get(self, place: Place) -> Attachment | None:
        return self._known.get(place)

    def drop(self, place: Place) -> None:
        """Its record is gone."""
        self._known.pop(place, None)
        self._masters = None

    def keep_directories(self, directories: Iterable[str]) -> None:
        """Forget what is in others, whatever a look at them that is at work will say."""
        self.directories = frozenset(directories)
        for place in [*self._known]:
            if place.directory not in self.directories:
                self.drop(place)

    def keep_files(self, directory: str, files: Iterable[str]) -> None:
        """Forget what is not among the files that a directory has now."""
        there = set(files)
        for place in [*self._known]:
            if place.directory == directory and place.file not in there:
                self.drop(place)

    def saw(self, directory: str, line: dict[str, Any], now: float) -> Change:
        """Take in what a child says of one (see `seen_of`)."""
        place = Place(directory, line["file"])
        one = self._known.get(place) or Attachment(place)
        self._known[place] = one
        before, was_lost_at = one.state, one.lost_at
        one.container_id, one.ifname, one.pod = line["containerID"], line["ifname"], line["pod"]
        one.network = sys.intern(line["network"])
        chain = tuple(map(sys.intern, line["chain"]))
        if chain != one.chain:
            one.chain, self._masters = chain, None
        one.state, one.reason, one.mark = sys.intern(line["state"]), line["reason"], line["mark"]
        one.restorable = line.get("restorable", one.state in (HEALTHY, *_DAMAGED))
        one.unverified = line["unverified"]
        one.looked_at = now
        if one.state not in _DAMAGED:
            one.cause, one.lost_at = "", None
        elif not one.cause:
            one.cause = _cause(before, one.over, line["over"])
        if one.state == HEALTHY and line["over"]:
            one.over = line["over"]
        return Change(one, before, was_lost_at)

    def cannot_see(self, place: Place, why: str, now: float) -> Attachment:
        """Nobody knows how it is."""
        one = self._known.get(place) or Attachment(place)
        self._known[place] = one
        if not one.container_id:
            one.container_id, _, one.ifname = place.file.removesuffix(".json").partition("@")
        one.state, one.reason, one.cause, one.looked_at = UNREADABLE, why, "", now
        one.restorable, one.remember_at = False, None
        return one

    def uplink_lost(self, name: str, now: float) -> list[Attachment]:
        """A link of the node is gone, and with it what stands on it; those that were there, as far
        as was known. (A look may have been quicker than the message.)"""
        gone = []
        for one in self.over(name):
            if one.state == LOST and one.lost_at is None:
                gone.append(one)
            elif one.state in (HEALTHY, DEGRADED, ""):
                one.state, one.reason = LOST, f"{name} is gone"
                gone.append(one)
            else:
                continue
            one.lost_at, one.cause = now, UPLINK
        return gone

    def over(self, name: str) -> list[Attachment]:
        """Those that stand on a link of the node."""
        return [one for one in self._known.values() if name in one.chain]

    def masters(self) -> Counter[str]:
        """How many stand on each link of the node, at once or through others."""
        if self._masters is None:
            self._masters = Counter(name for one in self._known.values() for name in one.chain)
        return self._masters


def is_gone(attachments: Attachments, place: Place) -> bool:
    """Whether what is said of one comes too late: while the line was on its way its record went, or
    its directory is not watched any more; and nobody would be told again."""
    if attachments.get(place) is not None:
        return False
    watched = attachments.directories
    is_watched = watched is None or place.directory in watched
    return not (is_watched and os.path.lexists(os.path.join(*place)))


def _cause(before: str, healthy_over: int, over: int) -> str:
    """Why one that was not known to be damaged is."""
    if not before:
        return START
    return DRIFT if over and over == healthy_over else UPLINK
