"""Waiting for something to happen, for a time at most."""

from __future__ import annotations

import asyncio


async def is_set_within(seconds: float, event: asyncio.Event) -> bool:
    """Whether an event is set within a time.

    asyncio.wait_for would not do: until Python 3.12 it loses a cancellation that comes together
    with the event (CPython issue 86296). The daemon was told to end then, and never did.
    """
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([waiter], timeout=seconds)
    finally:
        waiter.cancel()
    return event.is_set()
