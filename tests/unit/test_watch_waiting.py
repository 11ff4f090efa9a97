"""Waiting for an event: the daemon ends when it is told to, whatever happens in that moment."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cni_repair.watch.waiting import is_set_within
from tests.patience import HANG_SECONDS
from tests.unit.samples import REPOSITORY

LONG = 2 * HANG_SECONDS


async def ends_when_cancelled(turns: int) -> bool:
    """Whether a task that waits again and again ends, if it is cancelled so many turns of the loop
    after what it waits for has happened."""
    event = asyncio.Event()

    async def work() -> None:
        while True:
            await is_set_within(LONG, event)
            event.clear()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    event.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=HANG_SECONDS)
    if not done:
        task.cancel()
    return bool(done)


@pytest.mark.parametrize("turns", range(5))
def test_a_cancellation_together_with_the_event_is_not_lost(turns: int) -> None:
    assert asyncio.run(ends_when_cancelled(turns))


def test_what_it_tells() -> None:
    async def tried() -> tuple[bool, bool, bool]:
        event = asyncio.Event()
        never = await is_set_within(0.01, event)
        asyncio.get_running_loop().call_later(0.01, event.set)
        began = time.monotonic()
        later = await is_set_within(LONG, event)
        assert time.monotonic() - began < LONG
        return never, later, await is_set_within(0.0, event)

    assert asyncio.run(tried()) == (False, True, True)


def test_nothing_that_loses_a_cancellation_is_used() -> None:
    """Its siblings: Python 3.10 and 3.11 are supported, and have it."""
    modules = sorted(Path(REPOSITORY, "cni_repair").rglob("*.py"))
    users = [path.name for path in modules if "asyncio.wait_for(" in path.read_text()]
    assert (len(modules) > 100, users) == (True, [])
