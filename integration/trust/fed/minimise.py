"""The smallest input that still shows a fault."""

from __future__ import annotations

import time

from integration.trust.fed.feeding import READERS, Fault, Judge, interrupted_where_it_hangs
from integration.trust.fed.golang import Go

_SECONDS = 10.0  # for one fault
_TRIES = 3000


def minimised(fault: Fault, go: Go | None) -> Fault:
    """The same fault with as little of its input as can be found in some seconds."""
    until = time.monotonic() + _SECONDS
    best, tries = fault, 0
    size = max(1, len(best.data) // 2)
    with interrupted_where_it_hangs():
        while size and tries < _TRIES and time.monotonic() < until:
            at, was = 0, len(best.data)
            while at < len(best.data) and tries < _TRIES and time.monotonic() < until:
                tries += 1
                shorter = best.data[:at] + best.data[at + size :]
                found = faults_of(fault.reader, shorter, go).get(fault.kind)
                if found is None:
                    at += size
                else:
                    best = found
            if size == 1 and len(best.data) == was:
                break
            size = max(1, size // 2)
    return best


def faults_of(name: str, data: bytes, go: Go | None) -> dict[str, Fault]:
    """What is wrong with one input, by kind."""
    judge = Judge(READERS[name], go)
    judge.try_(data)
    judge.ask()
    return judge.tally.faults
