"""What was measured: runs, and what is told of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COLUMNS = (
    "WHAT",
    "PODS",
    "BY",
    "RUNS",
    "MEDIAN",
    "LOWER",
    "UPPER",
    "LEAST",
    "MOST",
    "A POD",
    "CPU",
    "MB",
)
_LEFT = (0, 2)  # columns of words


@dataclass(frozen=True)
class Run:
    """One whole process."""

    milliseconds: float
    worked: float  # milliseconds of a processor, its children's included
    kib: int  # peak memory
    status: int = 0  # of its exit


@dataclass(frozen=True)
class Spread:
    """How runs were spread: median, lower and upper quartile, least and most."""

    median: float
    lower: float
    upper: float
    least: float
    most: float

    @property
    def noise(self) -> float:
        """The middle half's width, as a part of the median."""
        return (self.upper - self.lower) / self.median


def spread_of(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    if len(values) == 1:
        return Spread(*[values[0]] * 5)
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper, min(values), max(values))


@dataclass
class Figure:
    """The runs of one peer doing one thing for a number of pods."""

    what: str
    pods: int
    peer: str
    runs: list[Run] = field(default_factory=list)

    @property
    def spread(self) -> Spread:
        """In milliseconds."""
        return spread_of([run.milliseconds for run in self.runs])

    @property
    def worked(self) -> float:
        """The median of the processor's time."""
        return statistics.median(run.worked for run in self.runs)

    @property
    def megabytes(self) -> float:
        """The most that one of the runs took."""
        return max(run.kib for run in self.runs) * 1024 / 1e6

    def row(self) -> tuple[str, ...]:
        s = self.spread
        times = (s.median, s.lower, s.upper, s.least, s.most, s.median / self.pods, self.worked)
        return (
            self.what,
            str(self.pods),
            self.peer,
            str(len(self.runs)),
            *(_digits(time) for time in times),
            f"{self.megabytes:.1f}",
        )

    def document(self) -> dict[str, object]:
        s = self.spread
        return {
            "what": self.what,
            "pods": self.pods,
            "peer": self.peer,
            "median": s.median,
            "quartiles": [s.lower, s.upper],
            "least": s.least,
            "most": s.most,
            "cpu": self.worked,
            "megabytes": self.megabytes,
            "milliseconds": [run.milliseconds for run in self.runs],
            "kib": [run.kib for run in self.runs],
        }


class Figures:
    """All figures of a run of the benchmark, in the order in which they began."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, int, str], Figure] = {}

    def add(self, what: str, pods: int, peer: str, run: Run) -> None:
        key = (what, pods, peer)
        self._figures.setdefault(key, Figure(*key)).runs.append(run)

    def find(self, what: str, pods: int, peer: str) -> Figure | None:
        return self._figures.get((what, pods, peer))

    def all(self) -> list[Figure]:
        return list(self._figures.values())


def table(figures: Iterable[Figure]) -> list[str]:
    """The figures as lines, what belongs together side by side; times in milliseconds."""
    by_what: dict[str, list[Figure]] = {}
    for figure in figures:
        by_what.setdefault(figure.what, []).append(figure)
    figures = [figure for group in by_what.values() for figure in group]
    return aligned([COLUMNS, *(figure.row() for figure in figures)], _LEFT)


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Rows as lines, numbers flush right; `left`: the columns of words."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _digits(value: float) -> str:
    """Three digits of it, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
