"""A command's own system calls, one by one; and the same command with a fault at one of them.

By strace(1), which follows the command's first process only: the plugins that it starts are other
programs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"(\w+)\((.*)")
_INJECTED = "(INJECTED)"


@dataclass(frozen=True)
class Point:
    """A system call of a run: of its name the `number`th, from 1."""

    name: str
    number: int
    text: str = field(default="", compare=False)  # as strace shows it, without its name

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


def point_named(text: str) -> Point:
    """The point that `str` gave."""
    name, _, number = text.partition(":")
    return Point(name, int(number))


def traced(command: Sequence[str], diary: Path, calls: Collection[str]) -> list[str]:
    """The command, with a diary of these system calls."""
    return ["strace", "-qq", "-y", "-o", str(diary), "-e", f"trace={_set(calls)}", *command]


def refused(command: Sequence[str], diary: Path, point: Point, error: str) -> list[str]:
    """The command, with the system call at `point` not carried out, but answered with `error`."""
    rule = f"inject={point.name}:error={error}:when={point.number}"
    return traced(["-e", rule, *command], diary, [point.name])


def _set(calls: Collection[str]) -> str:
    # '?': machines differ in which of them there are.
    return ",".join(f"?{name}" for name in sorted(calls))


def points_in(diary: Path) -> list[Point]:
    """The system calls of a diary, in their order."""
    counted: Counter[str] = Counter()
    points = []
    for name, text in _calls(diary):
        counted[name] += 1
        points.append(Point(name, counted[name], text))
    return points


def reached(diary: Path) -> Point | None:
    """The call that got its fault; None where the run did not come to it."""
    return next((point for point in points_in(diary) if _INJECTED in point.text), None)


def _calls(diary: Path) -> Iterator[tuple[str, str]]:
    for line in diary.read_text("utf-8", "replace").splitlines():
        match = _LINE.match(line)
        if match:
            yield match[1], match[2]
