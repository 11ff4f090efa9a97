"""Tables as text: aligned columns, and each row's reason below it. Pure."""

from __future__ import annotations

import itertools

from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


@frozen
class Row:
    """One attachment: its state, the other columns, and the reason for its state."""

    state: str
    cells: tuple[str, ...]
    reason: str = ""


@frozen
class Line:
    """A line to print. Where there is a state, the text begins with it."""

    text: str
    state: str = ""  # empty for the header's and the reasons' lines


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
    """The lines, each with its reason below it. Consecutive lines with the same reason share one,
    below the last: so 200 pods that miss one gateway fit on fewer screens."""
    shown: list[Line] = []
    for reason, sharing in itertools.groupby(lines, lambda pair: pair[1]):
        group = [line for line, _ in sharing]
        shown += group
        if reason:
            shown.append(Line(f"    all {len(group)}: {reason}" if group[1:] else f"    {reason}"))
    return shown
