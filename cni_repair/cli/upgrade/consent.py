"""Asking whoever sits at a terminal before an upgrade begins: it may be the wrong node."""

from __future__ import annotations

import os
import sys

from cni_repair.cli.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_YES = (b"y", b"yes")


def is_given(options: argparse.Namespace) -> bool:
    """Whether the upgrade may begin. A script, which has no terminal on stdin, is not asked."""
    # (The question is no part of what a reader of stdout waits for; closed streams are None.)
    out = sys.stderr or sys.stdout
    if options.yes or out is None or sys.stdin is None or not sys.stdin.isatty():
        return True
    where = printable(os.uname().nodename)
    try:
        print(f"begin the upgrade of {where} now? [y/N] ", end="", file=out, flush=True)
        answer = sys.stdin.buffer.readline()
    except OSError:  # the terminal is gone
        return False
    if not answer.endswith(b"\n"):  # Ctrl-D: the terminal's line is not ended
        print(file=out)
    return answer.strip().lower() in _YES
