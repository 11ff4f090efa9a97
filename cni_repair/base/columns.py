"""Tables as text: aligned columns, each row's reason below it. Pure."""

from __future__ import annotations

import itertools

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


@frozen
class Row:
    """One attachment: its state, what else is to be seen of it, and why it is so."""

    state: str
    cells: tuple[str, ...]
    reason: str = ""


@frozen
class Line:
    """A line to print. Text that is `state` and more begins with it."""

    text: str
    state: str = ""  # of a row; a line of reasons has none


def table_of(columns: tuple[str, ...], rows: list[Row]) -> list[Line]:
    """The header, and the rows with their reasons."""
    texts = [columns, *((row.state, *row.cells) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts)]
    header, *lines = (
        Line("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip(), cells[0])
        for cells in texts
    )
    return [header, *with_reasons(zip(lines, (row.reason for row in rows)))]


def with_reasons(lines: Iterable[tuple[Line, str]]) -> list[Line]:
    """Each line's reason below it; one that lines in a row share is said once, below the last:
    200 pods that miss one gateway fit on fewer screens."""
    shown: list[Line] = []
    for reason, sharing in itertools.groupby(lines, lambda one: one[1]):
        group = [line for line, _ in sharing]
        shown += group
        if reason:
            shown.append(Line(f"    all {len(group)}: {reason}" if group[1:] else f"    {reason}"))
    return shown
