"""What commands share: exit statuses, and words for the user on stderr."""

from __future__ import annotations

import sys

from cni_repair.base.errors import CniError
from cni_repair.cli.printable import say

DAMAGED, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130


class UsageError(CniError):
    """What the command line names is not there, or is not meant so: exit status 2."""


class RefusedError(CniError):
    """Refused for safety, and nothing was touched: exit status 3."""


def print_error(text: str, *following: str) -> None:
    """Say what is wrong, in one line, and what to do in the lines `following`."""
    if sys.stderr is None:  # as it is where the caller has closed it
        return
    try:
        for line in (f"cni-repair: {text}", *following):
            say(line, sys.stderr)
    except OSError:
        pass  # the terminal is gone
