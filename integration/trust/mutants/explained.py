"""The changes that no test can see, or should: explained.txt says of each why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from integration.trust.mutants.change import Change, Mutant

_TABLE = Path(__file__).with_name("explained.txt")


class Explained(NamedTuple):
    """A change, and why nobody can see it."""

    change: Change
    why: str


@dataclass(frozen=True)
class Judged:
    """What the survivors are."""

    explained: tuple[Explained, ...]
    unexplained: tuple[Mutant, ...]
    outdated: tuple[Change, ...]  # explained, but the module has no such line any more


def explained() -> list[Explained]:
    return rows(_TABLE.read_text())


def rows(text: str) -> list[Explained]:
    """A reason begins at the margin, after its module; each change that it is for is indented, as
    the proof prints it: `function: - line + line`. Empty lines, and what follows a #, are for
    people."""
    found = []
    module = why = ""
    for line in text.splitlines():
        if line.startswith(" "):
            function, _, diff = line.strip().partition(": ")
            found.append(Explained(Change(module, function, diff), why))
        elif line and not line.startswith("#"):
            module, _, why = line.partition(": ")
    return found


def judge(mutants: Iterable[Mutant], table: list[Explained], whole: bool) -> Judged:
    """`whole`: the mutants are all of the table's modules, so that what a row is for is among them.

    A function may have the same line twice: then the same change is explained twice.
    """
    mutants = list(mutants)
    why = {row.change: row.why for row in table}
    free = Counter(row.change for row in table)
    known, unknown = [], []
    for one in mutants:
        if one.is_killed:
            continue
        if free[one.change] > 0:
            free[one.change] -= 1
            known.append(Explained(one.change, why[one.change]))
        else:
            unknown.append(one)
    there = {one.change for one in mutants}
    outdated = tuple(change for change in why if change not in there) if whole else ()
    return Judged(tuple(known), tuple(unknown), outdated)
