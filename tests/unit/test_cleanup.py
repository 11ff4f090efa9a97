"""Contexts that are made of several others: what of them is undone, and when."""

from __future__ import annotations

import pytest

from cni_repair.demo.cleanup import WithCleanup


class Failure(Exception):
    pass


class Whole(WithCleanup):
    def __init__(self, *, fails: bool = False) -> None:
        self.undone: list[str] = []
        self._fails = fails

    def _open(self) -> None:
        self._cleanup.callback(self.undone.append, "first")
        if self._fails:
            raise Failure
        self._cleanup.callback(self.undone.append, "second")


def test_all_is_undone_at_the_end_last_made_first() -> None:
    with Whole() as whole:
        assert not whole.undone
    assert whole.undone == ["second", "first"]


def test_what_was_made_before_a_failure_is_undone_at_once() -> None:
    whole = Whole(fails=True)
    with pytest.raises(Failure):
        whole.__enter__()
    assert whole.undone == ["first"]


def test_it_can_be_opened_again() -> None:
    whole = Whole()
    for times in (1, 2):
        with whole:
            pass
        assert whole.undone == ["second", "first"] * times


def test_the_failure_of_the_block_is_not_hidden() -> None:
    whole = Whole()
    with pytest.raises(Failure), whole:
        raise Failure
    assert whole.undone == ["second", "first"]
