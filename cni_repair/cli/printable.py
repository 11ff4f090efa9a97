"""Text that is safe to show on a terminal: names come from pods and files."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def printable(text: str) -> str:
    """The text on one line, without what could steer a terminal."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isprintable():
        return char
    return " " if char.isspace() else "?"


def one_line(text: str) -> str:
    """Text from elsewhere as one line that a terminal can show, a blank between its words."""
    return printable(" ".join(text.split()))


def say(line: str = "", file: TextIO | None = None) -> None:
    """Print a line of a command's report, on stdout. (Documents are ASCII: `strictjson.dumps`.)"""
    print(printable(line), file=file)
