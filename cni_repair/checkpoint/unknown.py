"""Keys of a record that this version does not know: set aside when it is read, and put back where
they stood when it is written. Imported only where there are any."""

from __future__ import annotations

from cni_repair.base.frozen import asdict, frozen
from cni_repair.base.kinds import Kind, Misfit, camel
from cni_repair.base.strictjson import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Path = tuple[str | int, ...]


@frozen
class Unknown:
    """A key that a newer version wrote: where it stands, and what it holds.

    `path`: keys of objects; an entry of a list is named by what the kernel tells it apart by, as
    its place may be another one by the time when the record is written. What a newer version keeps
    apart may be alike here: so the how-manieth of that name it is stands beside.
    """

    path: tuple[Any, ...]
    value: Any


def without_unknown(kind: Kind, value: Any) -> tuple[Any, list[tuple[Path, Any]]]:
    """A value without the keys that its kind does not know, and those: the path of each (keys of
    objects, places in lists) and what it holds.

    Raises Misfit for a key that no version can have, and for one that is known but for its case:
    Go's JSON, and so the wrapped plugin, would take it for that one.
    """
    unknown: list[tuple[Path, Any]] = []
    return _known_of(kind, value, (), unknown), unknown


def _known_of(kind: Kind, value: Any, path: Path, unknown: list[tuple[Path, Any]]) -> Any:
    if kind.entry is not None and isinstance(value, list):
        return [
            _known_of(kind.entry, one, (*path, place), unknown) for place, one in enumerate(value)
        ]
    if kind.fields is None or not isinstance(value, dict):
        return value
    folded = {fold(key): key for key in kind.fields}
    kept = {}
    for key, held in value.items():
        if key in kind.fields:
            kept[key] = _known_of(kind.fields[key], held, (*path, key), unknown)
            continue
        meant = folded.get(fold(key))
        if meant is not None:
            raise Misfit(f"{_in_words(path)}.{key}: unknown key: {meant} is meant")
        if not kind.newer(key):
            raise Misfit(f"{_in_words(path)}: {key!r} is not a key that any version has there")
        unknown.append(((*path, key), held))
    return kept


def _in_words(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _step(value: Any, key: object) -> Any:
    """What a value has under a key of its document; None where it has nothing."""
    if isinstance(value, dict):
        return value.get(key)
    held = asdict(value) if hasattr(type(value), "__annotations__") else {}
    return next((held[name] for name in held if camel(name) == key), None)


def _name_of(entry: Any) -> object:
    """What tells an entry from the others of its list."""
    return getattr(entry, "key", None) or getattr(entry, "name", None) or entry


def named(values: dict[str, Any], path: tuple[str | int, ...]) -> tuple[object, ...]:
    """A path with names for the places in lists."""
    value: Any = values
    named: list[object] = []
    for step in path:
        if isinstance(step, int):
            name = _name_of(value[step])
            named.append((name, sum(_name_of(one) == name for one in value[:step])))
            value = value[step]
        else:
            named.append(step)
            value = _step(value, step)
    return tuple(named)


def put_back(document: Any, value: Any, unknown: Unknown) -> None:
    """Write a key of a newer version where it stood, if that is still there."""
    *way, key = unknown.path
    for step in way:
        if isinstance(document, list):
            name, number = step
            places = [place for place, one in enumerate(value) if _name_of(one) == name]
            if len(places) <= number:
                return
            document, value = document[places[number]], value[places[number]]
        elif step in document:
            document, value = document[step], _step(value, step)
        else:
            return
    document.setdefault(key, unknown.value)
