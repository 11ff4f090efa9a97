"""How many examples hypothesis tries: all of them, or with `tests/run --fast` a part."""

from __future__ import annotations

from hypothesis import settings

WHOLE, FAST = 60, 12  # of a test that says nothing else


def examples(count: int) -> settings:
    """A decorator: so many examples, or with --fast a part of them."""
    default = settings.default
    assert default is not None
    return settings(max_examples=max(1, count * default.max_examples // WHOLE))
