"""Documents that people write, to be broken at any place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str | int, ...]
Change: TypeAlias = Callable[[Any, Any], None]  # of what stands in a container under a key


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


def changed(document: Any, place: Place, change: Change) -> Any:
    """A copy of a document with a change made at a place."""
    made = copy.deepcopy(document)
    container = made
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    return made


def put(value: object) -> Change:
    """Put it in the place of what is there, if anything is."""
    return lambda container, key: container.__setitem__(key, value)


def take(_: object) -> Change:
    """Take away what is there."""
    return lambda container, key: container.__delitem__(key)


def add(value: object) -> Change:
    """Put it beside what is there."""

    def change(container: Any, _: Any) -> None:
        if isinstance(container, dict):
            container["odd"] = value
        else:
            container.append(value)

    return change


MUTATIONS: list[Callable[[object], Change]] = [take, put, add]
