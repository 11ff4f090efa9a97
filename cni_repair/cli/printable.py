"""Text that is safe to show on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The same text without what could steer a terminal: names come from pods and files."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def one_line(text: str) -> str:
    """Text from elsewhere as one line that a terminal can show."""
    return printable(" ".join(text.split()))
