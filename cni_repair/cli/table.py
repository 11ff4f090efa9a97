"""Rows of attachments with their reasons: aligned for people, coloured on a terminal."""

from __future__ import annotations

import itertools
import sys

from cni_repair.record import record

_COLOURS = {
    "healthy": "green",
    "lost": "red",
    "unreachable": "red",
    "conflict": "red",
    "degraded": "yellow",
    "configured-not-verified": "yellow",
}


@record
class Row:
    """One attachment: its state, what else is to be seen of it, and why it is so."""

    state: str
    cells: tuple[str, ...]
    reason: str = ""


def print_table(columns: tuple[str, ...], rows: list[Row]) -> None:
    """A reason that rows in a row share is said once: 200 pods that miss one gateway fit on fewer
    screens."""
    widths = [
        max(len(cell) for cell in column)
        for column in zip(columns, *((row.state, *row.cells) for row in rows))
    ]
    _print(columns[0], columns[1:], widths, "bold")
    for reason, sharing in itertools.groupby(rows, lambda row: row.reason):
        group = list(sharing)
        for row in group:
            _print(row.state, row.cells, widths, _COLOURS.get(row.state, "magenta"))
        if reason:
            print(f"    all {len(group)}: {reason}" if len(group) > 1 else f"    {reason}")


def _print(state: str, cells: tuple[str, ...], widths: list[int], colour: str) -> None:
    """Long lines run over the edge as they are: a pod's name must stay one piece, to be copied."""
    first, *others = (cell.ljust(width) for cell, width in zip((state, *cells), widths))
    rest = f"  {'  '.join(others)}".rstrip()
    if not sys.stdout.isatty():
        print(f"{first}{rest}")
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, soft_wrap=True).print(Text.assemble((first, colour), rest))
