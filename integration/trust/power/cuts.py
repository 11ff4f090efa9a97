"""What a disk may hold after its power was cut: all that was durable, and any part of the rest.

A disk may keep what it was sent in a cache until it is asked to flush it, and write that to its
medium in any order, block by block. So between two flushes everything is possible: none of the
writes, the first ones, any choice of them, and of a long write any of its blocks. Pure.

The log has requests as they end. So what ended while a flush was under way counts as flushed, which
is more than a disk promises; but whoever needs it flushed (a journal) waits before it asks.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from integration.trust.power.writelog import Event, Flush, Mark, Write

_CHOICES = 4  # by chance, an epoch: the same ones each time
# What today's disks write as a whole; of a torn block ext4 itself cannot tell what it was (its
# superblock is longer than the sectors of old).
_BLOCK = 4096


@dataclass(frozen=True)
class Cut:
    """One moment and one choice."""

    name: str
    lasted: tuple[Write, ...]  # of what was not durable, in the order in which it was sent
    marks: tuple[dict[str, Any], ...]  # all that were made before


@dataclass
class Epoch:
    """From one flush to the next."""

    number: int
    durable: list[Write]  # what the flush at its beginning has made so, since the epoch before
    events: list[Write | Mark] = field(default_factory=list)

    @property
    def writes(self) -> list[Write]:
        return [event for event in self.events if isinstance(event, Write)]


def epochs(events: Iterable[Event]) -> Iterator[Epoch]:
    """The log, cut at its flushes."""
    epoch = Epoch(0, [])
    for event in events:
        if isinstance(event, Flush):
            if epoch.writes or not epoch.number:
                yield epoch
                epoch = Epoch(epoch.number + 1, epoch.writes, [])
        else:
            epoch.events.append(event)
    yield epoch


def cuts(epoch: Epoch, before: Iterable[dict[str, Any]]) -> Iterator[Cut]:
    """What the disk may hold in an epoch: nothing of it, each beginning, and some by chance.

    `before` are the marks of earlier epochs. With nothing of it lasting, most was promised: the
    power went right before the next flush.
    """
    marks = tuple(before)
    all_marks = marks + tuple(one.document for one in epoch.events if isinstance(one, Mark))
    own = tuple(write for write in epoch.writes if write.durable)
    yield Cut(f"{epoch.number}/none", own, all_marks)
    lasted: list[Write] = []
    for event in epoch.events:
        if isinstance(event, Mark):
            marks = (*marks, event.document)
        else:
            lasted.append(event)
            yield Cut(f"{epoch.number}/first-{len(lasted)}", tuple(lasted), marks)
    for number in range(_CHOICES if sum(1 for write in lasted for _ in _blocks(write)) > 1 else 0):
        chance = random.Random(f"{epoch.number}/{number}")
        chosen = tuple(part for write in lasted for part in _some(write, chance))
        yield Cut(f"{epoch.number}/choice-{number}", chosen, all_marks)


def _some(write: Write, chance: random.Random) -> Iterator[Write]:
    """All of it, nothing, or some of its blocks."""
    what = "all" if write.durable else chance.choice(("all", "all", "nothing", "nothing", "some"))
    if what == "all":
        yield write
    elif what == "some":
        yield from (block for block in _blocks(write) if chance.random() < 0.5)


def _blocks(write: Write) -> Iterator[Write]:
    """The parts of a write, cut where the disk's blocks begin."""
    end = write.offset + len(write.data)
    starts = [write.offset, *range((write.offset // _BLOCK + 1) * _BLOCK, end, _BLOCK), end]
    for start, stop in itertools.pairwise(starts):
        yield Write(start, write.data[start - write.offset : stop - write.offset])
