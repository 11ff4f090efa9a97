"""The program of the image: its name, and its voice, which is the container's log."""

from __future__ import annotations

import sys

from cni_repair.cli.printable import say

PROGRAM = "cni-repair-node"


def tell(line: str) -> None:
    """Say a line at once: it is read while the container runs."""
    say(f"{PROGRAM}: {line}")
    sys.stdout.flush()
