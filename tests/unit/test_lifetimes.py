"""Lifetimes of addresses run on while nobody looks."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.network.model import FOREVER, Address, Attachment
from cni_repair.network.planning.lifetimes import aged, now, stamped
from tests.unit.samples import ADDRESS, ADDRESS_6, ATTACHMENT, ROUTE, ROUTE_6

DYNAMIC = replace(ADDRESS_6, valid=86400, preferred=3600)
lifetimes = st.just(FOREVER) | st.integers(0, 1000)
addresses = st.builds(Address, st.just(6), st.just("fd00::1"), st.just(64), valid=lifetimes,
    preferred=lifetimes)  # fmt: skip
times = st.integers(1, 10_000)


def having(*addresses: Address, at: int = 0) -> Attachment:
    return replace(ATTACHMENT, addresses=addresses, lifetimes_at=at)


def test_a_record_of_what_stays_says_nothing_of_time() -> None:
    assert stamped(having(ADDRESS, ADDRESS_6), 1000) == having(ADDRESS, ADDRESS_6)
    assert stamped(having(ADDRESS, ADDRESS_6, at=77), 1000) == having(ADDRESS, ADDRESS_6)


def test_a_record_of_what_ends_says_when_it_was_taken() -> None:
    assert stamped(having(ADDRESS, DYNAMIC), 1000) == having(ADDRESS, DYNAMIC, at=1000)
    deprecated = replace(ADDRESS_6, preferred=0)
    assert stamped(having(deprecated), 1000) == having(deprecated, at=1000)


def test_what_is_left_an_hour_later() -> None:
    left = replace(ADDRESS_6, valid=82800, preferred=0)
    assert aged(having(ADDRESS, DYNAMIC, at=1000), 4600) == having(ADDRESS, left, at=4600)


def test_what_has_expired_is_not_given_back() -> None:
    assert aged(having(ADDRESS, DYNAMIC, at=1000), 1000 + 86400) == having(ADDRESS, at=87400)


def test_a_route_that_ends_does_so_too() -> None:
    brief, long = replace(ROUTE_6, expires=60), replace(ROUTE_6, metric=7, expires=7200)
    record = stamped(replace(ATTACHMENT, routes=(ROUTE, brief, long)), 1000)
    assert record.lifetimes_at == 1000
    left = aged(record, 1060)
    assert left.routes == (ROUTE, replace(long, expires=7140))
    assert aged(record, 1059).routes[1].expires == 1


@given(st.lists(addresses, max_size=3), times)
def test_a_record_without_a_time_is_as_it_was(held: list[Address], at: int) -> None:
    """Of an older cni-repair: it took lifetimes as they were."""
    assert aged(having(*held), at) == having(*held)


@given(st.lists(addresses, max_size=3), times, times)
def test_time_takes_from_lifetimes_alone(held: list[Address], seen: int, at: int) -> None:
    left = aged(having(*held, at=seen), at)
    passed = max(0, at - seen)
    assert replace(left, addresses=(), lifetimes_at=0) == having()
    assert left.addresses == tuple(
        replace(one, valid=less(one.valid, passed), preferred=less(one.preferred, passed))
        for one in held
        if one.valid == FOREVER or one.valid > passed
    )


def less(seconds: int, passed: int) -> int:
    return seconds if seconds == FOREVER else max(0, seconds - passed)


@given(st.lists(addresses, max_size=3), st.lists(times, min_size=3, max_size=3))
def test_two_waits_are_as_one(held: list[Address], moments: list[int]) -> None:
    seen, between, at = sorted(moments)
    record = stamped(having(*held), seen)
    assert aged(aged(record, between), at) == aged(record, at)


@given(st.lists(addresses, max_size=3), times)
def test_nothing_is_lost_at_once(held: list[Address], at: int) -> None:
    """But for what had expired by then, of which the kernel gets rid within seconds."""
    record = stamped(having(*held), at)
    kept = tuple(one for one in held if one.valid)
    assert aged(record, at) == replace(record, addresses=kept)


def test_the_clock_is_one_that_nobody_sets() -> None:
    before = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert before <= now() <= before + 60
