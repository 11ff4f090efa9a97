"""Tables as text: aligned columns, and each row's reason below it. Pure."""

from __future__ import annotations

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
    """The lines, each with its reason below it. Lines with the same reason stand together, and
    share one, below the last: so 200 pods that miss one gateway fit on fewer screens, and five that
    miss one are not told as three and two."""
    shown: list[Line] = []
    groups: dict[tuple[str, int], list[Line]] = {}
    for place, (line, reason) in enumerate(lines):
        groups.setdefault((reason, 0 if reason else place), []).append(line)
    for (reason, _), group in groups.items():
        shown += group
        if reason:
            shown.append(Line(f"    all {len(group)}: {reason}" if group[1:] else f"    {reason}"))
    return shown
