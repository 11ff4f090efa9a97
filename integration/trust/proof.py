"""What a proof is given, and what comes of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

SAMPLE_SECONDS = 15.0


@dataclass(frozen=True)
class Extent:
    """How much of a proof is wanted."""

    full: bool = False  # everything, however long it takes; else a sample
    seed: int = 1  # what the sample is drawn by: the same seed, the same cases
    seconds: float = SAMPLE_SECONDS  # a sample ends by itself within about this time
    case: str | None = None  # only this one, named as a Failure names it


@dataclass(frozen=True)
class Failure:
    """A case that did not hold."""

    case: str  # names it for --case, without spaces at its ends
    saw: str  # in one line: what was seen instead


@dataclass(frozen=True)
class Outcome:
    """What came of a proof."""

    tried: int  # cases
    failures: tuple[Failure, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()  # what was measured beside: name, value with unit
    # Why it cannot be carried out here (no QEMU, no Go). Never for what is not built yet.
    left_out: str | None = None
    notes: tuple[str, ...] = ()  # to be read one by one, though all holds

    @property
    def holds(self) -> bool:
        return bool(self.left_out) or (self.tried > 0 and not self.failures)

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "figures": dict(self.figures), "holds": self.holds}


class Proof(Protocol):
    """A module of this package that proves one thing."""

    NAME: str  # as people call it
    WHAT: str  # one line: what is done, and to whom

    def prove(self, extent: Extent) -> Outcome:
        """Carry it out; errors.RigError where the machine is to blame."""
