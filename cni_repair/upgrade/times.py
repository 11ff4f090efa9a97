"""Times as people read them."""

from __future__ import annotations

import time

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def clock(at: float) -> str:
    """A Unix time with its date and zone, as RFC 3339 has it: a report is read the next day, by
    somebody far away. In UTC it takes 20 columns, so that a usual line fits into 80."""
    local = time.localtime(at)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%d %H:%M:%S", local) + zone


def duration(seconds: float) -> str:
    """How long something takes, in its two largest units: 1h 5m."""
    whole = max(0, round(seconds))
    for size, unit, smaller, name in _UNITS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f" {rest}{name}" if rest else "")
    return f"{whole}s"
