"""What commands share: exit statuses, and words for the user on stderr."""

from __future__ import annotations

import sys

from cni_repair.cli.printable import printable

DAMAGED, USAGE, REFUSED, INTERRUPTED = 1, 2, 3, 130


def print_error(text: str) -> None:
    if sys.stderr is None:  # as it is where the caller has closed it
        return
    try:
        print(f"cni-repair: {printable(text)}", file=sys.stderr)
    except OSError:
        pass  # the terminal is gone
