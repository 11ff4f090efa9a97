"""Lifetimes of addresses and IPv6 routes: they run on while nobody looks."""

from __future__ import annotations

import time

from cni_repair.base.frozen import replace
from cni_repair.network.model import FOREVER, Address, Attachment, Route


def now() -> int:
    """Seconds since boot, sleep included: no clock that somebody may set, and a record of another
    boot is not used anyway."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def stamped(attachment: Attachment, at: int) -> Attachment:
    """The attachment as seen at a time; one without lifetimes says nothing of time."""
    return replace(attachment, lifetimes_at=at if attachment.has_lifetimes else 0)


def aged(attachment: Attachment, at: int) -> Attachment:
    """What is left of it at a later time: lifetimes are shorter, and what has expired is gone."""
    if not attachment.lifetimes_at:
        return attachment
    passed = max(0, at - attachment.lifetimes_at)
    addresses = (_aged(address, passed) for address in attachment.addresses)
    return replace(
        attachment,
        addresses=tuple(one for one in addresses if one.valid),
        routes=tuple(_older(one, passed) for one in attachment.routes if _lives(one, passed)),
        lifetimes_at=at,
    )


def _aged(address: Address, passed: int) -> Address:
    return replace(
        address, valid=_less(address.valid, passed), preferred=_less(address.preferred, passed)
    )


def _lives(route: Route, passed: int) -> bool:
    return not route.expires or route.expires > passed


def _older(route: Route, passed: int) -> Route:
    return replace(route, expires=route.expires - passed) if route.expires else route


def _less(seconds: int, passed: int) -> int:
    return FOREVER if seconds == FOREVER else max(0, seconds - passed)
