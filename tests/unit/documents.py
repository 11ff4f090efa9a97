"""Documents that people write, to be broken at any place."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str | int, ...]


def places_in(value: object, place: Place = (), closed: Collection[str] = ()) -> Iterator[Place]:
    """Each place of a document, by the keys and indices that lead there; nothing inside of what has
    one of the keys `closed`."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*place, key)
        if key not in closed:
            yield from places_in(inner, (*place, key), closed)
