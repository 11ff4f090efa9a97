"""Words for the user, on stderr."""

from __future__ import annotations

import contextlib
import sys

from cni_repair.cli.printable import printable


def complain(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        if sys.stderr is not None:  # as it is where the caller has closed it
            print(f"cni-repair: {printable(text)}", file=sys.stderr)
