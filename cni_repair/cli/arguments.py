"""What argparse is taught: the nearest word to a mistyped one, the terminal's width, values; and
the options that several commands have."""

from __future__ import annotations

import argparse
import gc
import os

from cni_repair.checkpoint.store import CHECKPOINT_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Commands: TypeAlias = argparse._SubParsersAction[Any]

_SHORTEST_WAIT = 0.1  # in seconds
_LONGEST_REASON = 200
_SHORTEST_DATE = len("2026-11-29")
_MOST_DIGITS = 9


class Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse makes one for each option that it is told of; left to itself, each asks for the
    terminal's width, by way of `shutil`, which takes 3 ms to import."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)


class Parser(argparse.ArgumentParser):
    """Says of a wrong option which one is near, and shows the usage of the command it is of."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; but a command answers for its own options: left to itself, argparse
        hands them up, and shows the usage of `cni-repair` as a whole."""
        if self._subparsers is None:  # before argparse misses what a mistyped one stands for
            words = args[: args.index("--")] if "--" in args else args
            long = [word for word in words if word.startswith("--")]
            self._refuse([word for word in long if word.partition("=")[0] not in self._options()])
        known, rest = super().parse_known_args(args, namespace)
        self._refuse(rest)
        return known, rest

    def _options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            near = next(filter(None, (nearest(word, self._options()) for word in unknown)), "")
            hint = f" (did you mean {near}?)" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def nearest(word: str, options: Sequence[str]) -> str:
    """The option, or the command, that a mistyped word may stand for; empty where none is near."""
    import difflib

    word = word.partition("=")[0]
    longer = [one for one in options if one.startswith("--" + word.lstrip("-"))]
    near = longer if word.startswith("-") and word.strip("-") else []
    return next(iter([*near, *difflib.get_close_matches(word, options, 1)]), "")


class Version(argparse.Action):
    """Looks for the commit when it is asked for it, and not before."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from cni_repair.cli.version import version

        print(f"{parser.prog} {version()}")
        parser.exit()


def columns() -> int:
    """The terminal's width, as :func:`shutil.get_terminal_size` finds it."""
    given = os.environ.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:  # no terminal
        return 80


def container(text: str) -> str:
    if not text:  # an unset variable in a script: it must not mean every pod
        raise argparse.ArgumentTypeError("empty; give a container id or NAMESPACE/NAME")
    return text


def subject(text: str) -> str:
    """(argparse's choices refuse the empty list that stands for all of them.)"""
    from cni_repair.watch.problems import SUBJECTS

    if text not in SUBJECTS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {', '.join(SUBJECTS)}")
    return text


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds from 0 to 3600")
    return value


def seconds_to_wait(text: str) -> float:
    """Without a time to answer in, every gateway would be found silent."""
    value = seconds(text)
    if value < _SHORTEST_WAIT:
        raise argparse.ArgumentTypeError(
            f"{text!r}: nobody can answer in that; give {_SHORTEST_WAIT:g} s or more"
        )
    return value


def duration(text: str) -> float:
    """Seconds, of a text such as 30m."""
    from cni_repair.base.keyed import Wrong
    from cni_repair.base.keyed import duration as reader

    try:
        return float(reader("30m")(text))
    except Wrong as wrong:
        raise argparse.ArgumentTypeError(wrong.problems[0].removeprefix(": ")) from wrong


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def count(text: str) -> int:
    value = int(text) if _is_number(text) else 0
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 on")
    return value


def since(text: str) -> float:
    """A moment as Unix time, of how long ago it was, or of its date, its time, or both."""
    import datetime
    import time

    from cni_repair.base.keyed import seconds_in

    days = text[:-1] if text.endswith("d") else ""
    ago = seconds_in(f"{24 * int(days)}h" if _is_number(days) else text)
    if ago is not None:
        return max(0.0, time.time() - ago)
    try:
        if len(text) < _SHORTEST_DATE:
            today = datetime.date.today()
            return datetime.datetime.combine(today, datetime.time.fromisoformat(text)).timestamp()
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected 30m, 2h or 3d (ago), 03:00, 2026-11-29 or '2026-11-29 03:00'"
        ) from None


def reason(text: str) -> str:
    """Words in one line that a terminal can show."""
    words = " ".join(text.split())
    if not words:
        raise argparse.ArgumentTypeError("empty; say why, for whoever finds the node so")
    if len(words) > _LONGEST_REASON or not words.isprintable():
        raise argparse.ArgumentTypeError(f"give at most {_LONGEST_REASON} plain characters")
    return words


# --- what several commands have ---


def command(
    commands: Commands,
    name: str,
    short: str,
    long: str,
    needs_root: bool = True,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=short,
        description=long,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_runner(name), needs_root=needs_root)
    return parser


def _runner(name: str) -> Callable[[argparse.Namespace], int]:
    """What does a command: its module is imported when it is called, so that --help is quick."""

    def run(options: argparse.Namespace) -> int:
        # (importlib would be one more module to load.)
        module = __import__(f"cni_repair.cli.commands.{name}", fromlist=["run"])
        gc.freeze()  # see __main__, and cni/plugin
        gc.enable()
        return int(module.run(options))

    return run


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint-dir",
        metavar="DIR",
        help=f"where the records are (default: --conf's, else {CHECKPOINT_DIR})",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="where locks live (default: as each pod's configuration had it)",
    )
    parser.add_argument(
        "--conf",
        metavar="FILE",
        help="a network configuration (.conf or .conflist): only its network, its directories;"
        " needed for the predecessor plugin's records (12-character files), which name no master",
    )
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        dest="output",
        choices=("table", "json"),
        default="table",
        help="json: one document (schemas: cni_repair/cli/schema)",
    )


def add_containers(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "containers",
        type=container,
        nargs="*",
        default=[],  # without one it would be no optional argument, as plan's group wants it
        metavar="POD",
        help="NAMESPACE/NAME, or a container (sandbox) id or its beginning",
    )
