"""`help`: the manual, where there is no browser."""

from __future__ import annotations

import difflib
import io
import os
import shutil
import subprocess
import sys

from cni_repair.cli.arguments import columns
from cni_repair.cli.common import USAGE, print_error
from cni_repair.cli.manual import Styled, listed, pages, rendered, spelt_for
from cni_repair.cli.parser import parsers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_NARROWEST, _WIDEST = 20, 100  # longer lines are hard to read
_STYLES = {"heading": "bold", "code": "cyan"}


def run(options: argparse.Namespace) -> int:
    """Show a page, or the list of all; 2 where there is no such page."""
    known = pages()
    if options.topic is None:
        more = rendered("`cni-repair help TOPIC` shows one of them.", _width())
        _show([*listed(known, _width()), Styled(""), *more])
        return 0
    topic = options.topic.lower()
    if topic in known:
        text = spelt_for(known[topic].text, sys.stdout.encoding or "ascii")
        _show(rendered(text, _width()))
        return 0
    commands = parsers()
    if topic in commands:
        commands[topic].print_help()
        return 0
    near = difflib.get_close_matches(topic, [*known, *commands], 1)
    hint = f"did you mean {near[0]}? " if near else ""
    print_error(f"help: no page {options.topic!r}: {hint}cni-repair help lists them")
    return USAGE


def _width() -> int:
    return max(_NARROWEST, min(columns(), _WIDEST))


def _show(lines: list[Styled]) -> None:
    """Plain in a pipe and on a dumb terminal; else in colours, a screen at a time."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        for line in lines:
            print(line.text)
        return
    text = _coloured(lines)
    pager = shutil.which("less")
    if pager is None:
        print(text, end="")
        return
    sys.stdout.flush()
    # -F: a page that fits is just printed; -X: and stays when `less` ends.
    environ = {**os.environ, "LESSSECURE": "1"}
    subprocess.run([pager, "-FRX"], input=text.encode(errors="replace"), env=environ, check=False)


def _coloured(lines: list[Styled]) -> str:
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text(line.text, _STYLES.get(line.style, "")))
    return out.getvalue()
