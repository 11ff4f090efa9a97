"""The command line: arguments in, an exit status out.

0 fine, 1 something is damaged or failed, 2 wrong usage, 3 refused for safety.
"""

from __future__ import annotations

import errno
import io
import os
import sys

from cni_repair.base import log
from cni_repair.base.errors import SYSTEM_ERRORS, CniError, of_system, set_last_words
from cni_repair.cli.common import DAMAGED, REFUSED, USAGE, RefusedError, UsageError, print_error
from cni_repair.cli.parser import check_command, make_parser
from cni_repair.cli.privileges import why_refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from typing_extensions import Buffer

# What they do is for the journal; the others look only, and fail on the screen alone.
_CHANGING = ("repair", "snapshot", "adopt", "forget", "upgrade", "watch")
# How long the journal may take for what it had no room for: the report is shown by then.
_DRAIN_SECONDS = 1.0
_REPORT = "the report"


def run(arguments: list[str]) -> int:
    """Run one command; never raises for what a user, or the system, can cause."""
    set_last_words(lambda error: _fail(arguments, error))
    try:
        _open_standard_streams()
        return _run(arguments)
    except CniError as error:
        return _fail(arguments, error)
    except BrokenPipeError:
        return DAMAGED  # `status | head`: the reader has seen enough
    except SYSTEM_ERRORS as error:
        if isinstance(error, OSError) and error.filename == _REPORT:
            # `repair --all >/full/disk/log`: what was done is done.
            print_error(f"cannot write {_REPORT}: {error.strerror}; see cni-repair status")
            return DAMAGED
        return _fail(arguments, of_system(error))


def _run(arguments: list[str]) -> int:
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


def _fail(arguments: list[str], error: CniError) -> int:
    """Tell the user, and the journal; the exit status."""
    print_error(str(error))
    if arguments and arguments[0] in _CHANGING and not isinstance(error, UsageError):
        try:
            log.failure(arguments[0], error)
        except SYSTEM_ERRORS:
            pass  # the user knows it
    return _status_of(error)


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
    if sys.stdout is None:  # closed by the caller, who then wants the exit status alone
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif sys.__stdout__ is not None and sys.stdout is sys.__stdout__:
        given = sys.__stdout__
        raw = _Stdout(given.fileno(), "wb", closefd=False)
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(raw), given.encoding, line_buffering=given.line_buffering
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a serial console's locale may be small


class _Stdout(io.FileIO):
    """Says of a write that fails that it was the report's: else it would be taken for a failure of
    what the command does. Says once that nobody reads any more: the interpreter would complain at
    its end, when it writes what is left."""

    _has_reader = True

    def write(self, data: Buffer) -> int:
        if not self._has_reader:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._has_reader = error.errno != errno.EPIPE
            raise OSError(error.errno, error.strerror, _REPORT) from error


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
