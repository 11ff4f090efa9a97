"""How the demo looks: plain text, as wide as the terminal, for a serial console as well."""

from __future__ import annotations

import os
import re
import sys
import textwrap

_COLUMNS, _LEAST, _MOST = 80, 40, 100
_INDENT = "    "
_BOLD, _GREEN, _RED = "1", "32", "31"
# A quoted word that means the same in double quotes, where a line may end after a backslash.
_QUOTED = re.compile(r"(?P<name>\w+=)'(?P<value>[\w;=./:-]+)'")


def columns_of_terminal() -> int:
    """How wide stdout is: within reason, and 80 where it is no terminal, or tells no width."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        columns = 0
    return min(max(columns or _COLUMNS, _LEAST), _MOST)


class Console:
    """Prints steps, commands, what these say, and verdicts; each line at once."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = terminal and not os.environ.get("NO_COLOR")
        self._steps = 0
        # Of a line as wide as the terminal some make two.
        self.columns = columns_of_terminal() - 1
        self.columns_of_output = self.columns - len(_INDENT)

    def title(self, text: str) -> None:
        self._lines(text, "", "", _BOLD)

    def step(self, text: str) -> None:
        """Begin a numbered step."""
        self._steps += 1
        self._print("")
        self._lines(f"{self._steps}. {text}", "", " " * len(f"{self._steps}. "), _BOLD)

    def end(self, text: str) -> None:
        self._print("")
        self._lines(text, "", "", _BOLD)

    def command(self, text: str) -> None:
        """A command as one would type it; long ones go on after a backslash."""
        lines = []
        for line in self._wrap(text, self.columns - 2, "", _INDENT):
            lines += _parts_of_word(line, self.columns - 2)
        joined = [line if line.endswith("\\") else f"{line} \\" for line in lines[:-1]]
        self._print("\n".join([*joined, lines[-1]]))

    def output(self, text: str) -> None:
        """What a command said."""
        for line in text.rstrip().splitlines():
            self._lines(line, _INDENT, 2 * _INDENT)

    def ok(self, text: str) -> None:
        """A check that passed."""
        self._lines(f"ok: {text}", _INDENT, 2 * _INDENT, _GREEN)

    def failed(self, text: str) -> None:
        """Why the demo ends here."""
        self._lines(f"FAILED: {text}", "", _INDENT, _RED)

    def _lines(self, text: str, first: str, others: str, colour: str = "") -> None:
        self._print("\n".join(self._wrap(text, self.columns, first, others)), colour)

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


def _parts_of_word(line: str, width: int) -> list[str]:
    """The line; or, where it is one word that is too long, that word in parts, with backslashes.

    What follows a backslash within quotes begins without a blank: it would be part of the word.
    """
    found = _QUOTED.fullmatch(line.strip())
    if len(line) <= width or not found:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    items = found["value"].split(";")
    first = f'{indent}{found["name"]}"{items[0]};\\'
    return [first, *(f"{item};\\" for item in items[1:-1]), f'{items[-1]}"']
