"""When the API server is told what. Pure: no I/O, and every time is handed in.

What is told is the newest state; of what came and went while nobody could be told, nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.watch.kubernetes.condition import Condition, Occurrence

# From one telling of the condition to the next: where its status is another one, where only its
# words are (counts change with every pod that is healed), and where nothing is, as a sign of life.
FLAP_SECONDS = 1.0
WORDS_SECONDS = 10.0
LIFE_SECONDS = 300.0
# From one writing of an Event to the next of the same reason: what happens meanwhile is counted.
EVENT_SECONDS = 30.0
# After a failure, doubled with each further one. A server that comes back is not met by all of its
# nodes at once: `chance` is of [0, 1).
_FIRST_SECONDS, _MOST_SECONDS = 1.0, 60.0


@frozen
class Told:
    """What the server was told last, and when, in seconds of a clock that never goes back."""

    condition: Condition
    at: float


def condition_due(told: Told | None, wanted: Condition) -> float:
    """When the condition is to be told."""
    if told is None:
        return 0.0
    if told.condition.status != wanted.status:
        return told.at + FLAP_SECONDS
    return told.at + (LIFE_SECONDS if told.condition == wanted else WORDS_SECONDS)


@dataclass
class BackOff:
    """How long nobody is asked after failures."""

    failures: int = 0
    until: float = 0.0

    def failed(self, now: float, chance: float) -> None:
        wait = min(_FIRST_SECONDS * 2.0 ** min(self.failures, 16), _MOST_SECONDS)
        self.failures += 1
        self.until = now + wait * (0.5 + chance / 2)

    def went_well(self) -> None:
        self.failures, self.until = 0, 0.0


@dataclass
class Series:
    """An Event: what happened of one reason, again and again."""

    occurrence: Occurrence
    first: float  # Unix time
    last: float
    count: int = 1
    name: str = ""  # on the server; empty: it is not there
    written: int = 0  # the count by then
    written_at: float = 0.0  # on the clock of `due`

    @property
    def due(self) -> float | None:
        """When it is to be written; None: the server has all of it."""
        if self.written == self.count:
            return None
        return self.written_at + EVENT_SECONDS if self.name else 0.0


class Events:
    """The Events of a node: one of each reason, so that they never grow."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}

    def note(self, occurrence: Occurrence, now: float) -> None:
        """Something has happened; `now` is Unix time."""
        known = self._series.get(occurrence.reason)
        if known is None:
            self._series[occurrence.reason] = Series(occurrence, now, now)
        else:
            known.occurrence, known.last = occurrence, now
            known.count += 1

    def due(self) -> float | None:
        """When the next is to be written; None: the server has all."""
        return min(
            (at for one in self._series.values() if (at := one.due) is not None), default=None
        )

    def to_write(self, now: float) -> list[Series]:
        """Those that are to be written now, in the order in which they happened."""
        due = [one for one in self._series.values() if (at := one.due) is not None and at <= now]
        return sorted(due, key=lambda one: one.last)

    def written(self, series: Series, name: str, count: int, now: float) -> None:
        """The server has it, by that name, with that count."""
        series.name, series.written, series.written_at = name, count, now

    def gone(self, series: Series) -> None:
        """The server has thrown it away, as it does with old ones: what is new is another."""
        series.count -= series.written
        series.first, series.name, series.written = series.last, "", 0
