"""Tables on stdout: coloured on a terminal."""

from __future__ import annotations

import sys

from cni_repair.base.columns import Row, table_of
from cni_repair.cli.printable import printable, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.base.columns import Line

_COLOURS = {
    "healthy": "green",
    "lost": "red",
    "unreachable": "red",
    "conflict": "red",
    "degraded": "yellow",
    "configured-not-verified": "yellow",
}


def print_table(columns: tuple[str, ...], rows: list[Row]) -> None:
    """Long lines run over the edge as they are: a pod's name must stay one piece, to be copied."""
    header, *lines = table_of(columns, rows)
    _print(header, "bold")
    for line in lines:
        _print(line, _COLOURS.get(line.state, "magenta") if line.state else "")


def _print(line: Line, colour: str) -> None:
    if not sys.stdout.isatty():
        say(line.text)
        return
    from rich.console import Console
    from rich.text import Text

    text = printable(line.text)
    first, rest = text[: len(line.state)], text[len(line.state) :]
    Console(highlight=False, soft_wrap=True).print(Text.assemble((first, colour), rest))
