"""How long tests wait for what must come. Longer takes what hangs, on the slowest machine, too: how
fast something is, or how far a process has come by some time, is nothing that a test may ask."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

HANG_SECONDS = 60.0

T = TypeVar("T")


def eventually(
    test: Callable[[], T], what: str = "it", seconds: float = HANG_SECONDS, pause: float = 0.02
) -> T:
    """Poll until `test` gives something true; fails past the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(pause)
