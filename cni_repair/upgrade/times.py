"""Times as people read them."""

from __future__ import annotations

import time


def clock(at: float) -> str:
    """A Unix time with its date and zone, as RFC 3339 has it: a report is read the next day, by
    somebody far away. In UTC it takes 20 columns, so that a usual line fits into 80."""
    local = time.localtime(at)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + zone
