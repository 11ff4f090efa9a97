"""How the demo looks: plain text of 80 columns, for a serial console as well as for a terminal."""

from __future__ import annotations

import os
import sys
import textwrap

_COLUMNS = 79
_INDENT = "    "
_BOLD, _GREEN, _RED = "1", "32", "31"


class Console:
    """Prints steps, commands, what these say, and verdicts; each line at once."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = terminal and not os.environ.get("NO_COLOR")
        self._steps = 0

    def title(self, text: str) -> None:
        self._print(text, _BOLD)

    def step(self, text: str) -> None:
        """Begin a numbered step."""
        self._steps += 1
        self._print("")
        self._print(f"{self._steps}. {text}", _BOLD)

    def end(self, text: str) -> None:
        self._print("")
        self._print(text, _BOLD)

    def command(self, text: str) -> None:
        """A command as one would type it; long ones go on after a backslash."""
        lines = self._wrap(text, _COLUMNS - 2, "", _INDENT)
        self._print(" \\\n".join(lines))

    def output(self, text: str) -> None:
        """What a command said."""
        for line in text.rstrip().splitlines():
            self._print("\n".join(self._wrap(line, _COLUMNS, _INDENT, 2 * _INDENT)))

    def ok(self, text: str) -> None:
        """A check that passed."""
        self._print("\n".join(self._wrap(f"ok: {text}", _COLUMNS, _INDENT, 2 * _INDENT)), _GREEN)

    def failed(self, text: str) -> None:
        """Why the demo ends here."""
        self._print(f"FAILED: {text}", _RED)

    @staticmethod
    def _wrap(text: str, width: int, first: str, others: str) -> list[str]:
        if len(first + text) <= width:
            return [first + text]  # as it is: it may be a row of a table
        return textwrap.wrap(
            text,
            width,
            initial_indent=first,
            subsequent_indent=others,
            break_long_words=False,
            break_on_hyphens=False,
        )

    def _print(self, text: str, colour: str = "") -> None:
        if colour and self._colours:
            text = f"\033[{colour}m{text}\033[0m"
        print(text, flush=True)
