"""The man page cni-repair(8), from the parser: `python3 -m cni_repair.cli.manpage` prints it.

install.sh has it made by the version that it installs; it is kept nowhere else.
"""

from __future__ import annotations

import argparse
import time

from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import CHECKPOINT_DIR
from cni_repair.cli.manual import pages
from cni_repair.cli.parser import make_parser, parsers
from cni_repair.cli.version import version
from cni_repair.upgrade.journal import STATE_DIR
from cni_repair.watch.settings import CONFIG_FILE

_NAME = "brings pods' macvlan interfaces back after the node's uplink was lost"
_SIGNS = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti", "`": "\\(ga"}
_FILES = {
    CHECKPOINT_DIR: "the records (checkpoints) of pods' interfaces",
    STATE_DIR: "the journal of the last upgrade",
    CONFIG_FILE: "what cni-repair watch does; conf/watch.yaml of the source tree explains it",
    RUN_DIR: "locks, the status of cni-repair watch, a pause of it",
}


def page(made_at: int | None = None) -> str:
    """The whole page, as man reads it; with the day of that time (seconds since 1970), or today."""
    whole = make_parser([])
    date = time.strftime("%Y-%m-%d", time.gmtime(made_at))
    lines = [
        f'.TH CNI\\-REPAIR 8 "{date}" "{_text(f"cni-repair {version()}")}" "System Administration"',
        ".nh",
        ".ad l",
        ".SH NAME",
        f"cni\\-repair \\- {_text(_NAME)}",
        ".SH SYNOPSIS",
        ".B cni\\-repair",
        ".RI [ OPTION \\&...]",
        ".I COMMAND",
        ".RI [ ARGUMENT \\&...]",
        ".SH DESCRIPTION",
        *_as_typed(whole.description or ""),
        *_as_typed(whole.epilog or ""),
        ".SH COMMANDS",
    ]
    for name, parser in parsers().items():
        lines += _command(name, parser)
    lines.append(".SH FILES")
    for path, what in _FILES.items():
        lines += [".TP", f".I {_text(path)}", _text(what)]
    lines += [".SH MANUAL", "Pages that", ".B cni\\-repair help", ".I TOPIC", "shows:"]
    for one in pages().values():
        lines += [".TP", f".B {_text(one.topic)}", _text(one.summary)]
    return "\n".join([*lines, ""])


def _command(name: str, parser: argparse.ArgumentParser) -> list[str]:
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: cni-repair ")
    lines = [
        f".SS {_text(name)}",
        ".B cni\\-repair",
        _text(usage),
        *_as_typed(parser.description or ""),
    ]
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and action.help:
            words = _text(_help_of(action, parser))
            lines += [".TP", f".B {_text(_heading(action))}", words]
    return lines


def _heading(action: argparse.Action) -> str:
    """An option as it is given, or an argument."""
    value = _value_of(action)
    if not action.option_strings:
        return value
    return ", ".join(f"{option} {value}".rstrip() for option in action.option_strings)


def _value_of(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


def _help_of(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return " ".join(((action.help or "") % {**vars(action), "prog": parser.prog}).split())


def _as_typed(text: str) -> list[str]:
    """Paragraphs whose lines stay as they are."""
    if not text:
        return []
    return [".PP", ".nf", *(_text(line) for line in text.splitlines()), ".fi"]


def _text(text: str) -> str:
    """Text that roff takes for nothing else."""
    safe = "".join(_SIGNS.get(character, character) for character in text)
    return f"\\&{safe}" if safe.startswith((".", "\\(aq")) else safe


if __name__ == "__main__":
    print(page(), end="")
