"""Contexts that are made of several others."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

T = TypeVar("T", bound="WithCleanup")


class WithCleanup:
    """Context: what `_open` puts on the stack `_cleanup` is undone at the end of the block; at
    once, where `_open` fails halfway."""

    _cleanup: ExitStack

    def _open(self) -> None:
        raise NotImplementedError

    def __enter__(self: T) -> T:
        self._cleanup = ExitStack()
        with ExitStack() as failing:
            failing.push(self._cleanup)
            self._open()
            failing.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.__exit__(kind, error, trace)
