"""The command line: arguments in, an exit status out.

0 fine, 1 something is damaged or failed, 2 wrong usage, 3 refused for safety.
"""

from __future__ import annotations

import io
import os
import sys

from cni_repair.base import log
from cni_repair.base.errors import IO, CniError
from cni_repair.cli.common import DAMAGED, REFUSED, USAGE, RefusedError, UsageError, print_error
from cni_repair.cli.parser import check_command, make_parser
from cni_repair.cli.privileges import why_refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

# What they do is for the journal; the others look only, and fail on the screen alone.
_CHANGING = ("repair", "snapshot", "adopt", "forget", "upgrade", "watch")
# How long the journal may take for what it had no room for: the report is shown by then.
_DRAIN_SECONDS = 1.0


def run(arguments: list[str]) -> int:
    """Run one command; never raises for what a user can cause."""
    _open_standard_streams()
    if sys.stdout is None:  # closed by the caller, who then wants the exit status alone
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a serial console's locale may be small
    try:
        options = _parse(arguments)
        refusal = why_refused() if options.needs_root else ""
        if refusal:
            print_error(refusal)
            return REFUSED
        command: Callable[[argparse.Namespace], int] = options.run
        log.set_common(COMMAND=arguments[0], SUDO_USER=os.environ.get("SUDO_USER"))
        status = command(options)
        log.drain(_DRAIN_SECONDS)
        sys.stdout.flush()  # here, where a reader that has gone is nothing to complain about
        return status
    except CniError as error:
        print_error(str(error))
        _log_failure(arguments[0], error)
        return _status_of(error)
    except BrokenPipeError:
        # `status | head`: the reader has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DAMAGED
    except OSError as error:
        if error.filename is not None:
            text = f"cannot use {error.filename}: {error.strerror}"
            print_error(f"{text}; put that right, call again")
            _log_failure(arguments[0], CniError(IO, text))
            return DAMAGED
        # `repair --all >/full/disk/log`: what was done is done.
        print_error(f"cannot write the report: {error.strerror}; see cni-repair status")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DAMAGED


def _log_failure(command: str, error: CniError) -> None:
    if command in _CHANGING and not isinstance(error, UsageError):
        log.failure(command, error)


def _status_of(error: CniError) -> int:
    if isinstance(error, UsageError):
        return USAGE
    return REFUSED if isinstance(error, RefusedError) else DAMAGED


def _open_standard_streams() -> None:
    """Where the caller has closed some, a lock or a journal would take their place."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.dup(fd)
    os.close(fd)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = make_parser(arguments)
    try:
        if not arguments:  # (2, not 0: a script whose variable is unset must not go on)
            parser.print_help()
            parser.exit(USAGE)
        check_command(parser, arguments[0])
        return parser.parse_args(arguments)
    except SystemExit:  # --help, --version, wrong usage
        sys.stdout.flush()
        raise
