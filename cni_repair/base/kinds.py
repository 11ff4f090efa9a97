"""Kinds of JSON values: each is a reader, and knows the JSON Schema that says the same.

A reader takes a JSON value and gives ours, or raises Misfit with the place and the want. It stays a
plain function, since a REPAIR calls thousands of them; what it knows besides hangs on it
(:class:`Kind`).
"""

from __future__ import annotations

from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_pton
from cni_repair.base.names import valid_id, valid_ifname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    from typing_extensions import Protocol

    T = TypeVar("T")
    Reader = Callable[[Any], Any]
    Path = tuple[str | int, ...]

    class Kind(Protocol):
        """A reader, with what describes its values."""

        # JSON Schema; where a value in it is a reader, that one's schema stands there.
        schema: Mapping[str, Any]
        name: str  # under which the schema has it once for all; empty: it stands where it is used
        keys: Mapping[str, Reader]  # of an object of ours, by its keys in JSON
        entry: Reader | None  # of a list
        newer: Callable[[str], bool]  # whether a newer version may have a key of that name

        def __call__(self, value: Any) -> Any: ...


_MAX_ENTRIES = 8192
_MAX_TEXT = 4096
_RTAX_MAX = 17  # RTAX_FASTOPEN_NO_COOKIE, include/uapi/linux/rtnetlink.h
_HEX = frozenset("0123456789abcdefABCDEF")


def camel(name: str) -> str:
    """A field's name as the document has it."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


class Misfit(ValueError):
    """A value that the document may not hold; the message begins with its path."""


class UnknownKey(Misfit):
    """A key that this version does not know: see :func:`without_unknown`."""


def describe(
    read: Callable[[Any], T],
    schema: Mapping[str, Any],
    name: str = "",
    keys: Mapping[str, Reader] | None = None,
    entry: Reader | None = None,
    newer: Callable[[str], bool] = bool,
) -> Callable[[Any], T]:
    """Make a reader a :class:`Kind`."""
    kind: Any = read
    kind.schema, kind.name, kind.keys = schema, name, keys or {}
    kind.entry, kind.newer = entry, newer
    return read


def described(**schema: Any) -> Callable[[Callable[[Any], T]], Callable[[Any], T]]:
    """As :func:`describe`, for a function's definition; the schema has it under its name."""
    return lambda read: describe(read, schema, camel(read.__name__))


def as_described(read: Callable[[Any], T], kind: Any) -> Callable[[Any], T]:
    """A reader that looks closer at what another one takes, and is described as that is."""
    return describe(read, kind.schema, kind.name, kind.keys, kind.entry, kind.newer)


def _expected(what: str) -> Misfit:
    return Misfit(f": expected {what}")


def integer(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _expected(f"an integer from {low} to {high}")
        return value

    return describe(read, {"type": "integer", "minimum": low, "maximum": high})


@described(type="string", maxLength=_MAX_TEXT)
def text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise _expected("a text")
    return value


@described(
    type="string",
    minLength=1,
    maxLength=15,
    pattern=r"^[^/:\s]+$",
    **{"not": {"enum": [".", ".."]}},
)
def ifname(value: Any) -> str:
    if not isinstance(value, str) or not valid_ifname(value):
        raise _expected("an interface name")
    return value


@described(type="string", pattern="^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
def identifier(value: Any) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise _expected("letters, digits, '_', '.', '-', first a letter or digit")
    return value


def one_of(*allowed: Any) -> Reader:
    kinds = {(type(one), one) for one in allowed}

    def read(value: Any) -> Any:
        # 4.0 == 4 and True == 1, but not here. (A list or an object cannot be looked up.)
        if not isinstance(value, (str, int, float)) or (type(value), value) not in kinds:
            raise _expected(f"one of {', '.join(map(str, allowed))}")
        return value

    return describe(read, {"enum": list(allowed)})


@described(type="boolean")
def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false")
    return value


@described(type="string", pattern="^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$")
def mac(value: Any) -> str:
    is_mac = (
        isinstance(value, str)
        and len(value) == 17
        and value[2::3] == ":::::"
        and _HEX.issuperset(value[0::3] + value[1::3])
    )
    if not is_mac:
        raise _expected("a MAC address")
    return str(value)


@described(type="string", anyOf=[{"format": "ipv4"}, {"format": "ipv6"}])
def ip_address(value: Any) -> str:
    if not isinstance(value, str) or family_of(value) is None:
        raise _expected("an IP address")
    return value


def family_of(address: str) -> int | None:
    """4, 6, or None for what is no address."""
    number, family = (6, AF_INET6) if ":" in address else (4, AF_INET)
    try:
        inet_pton(family, address)
    except (OSError, ValueError):
        return None
    return number


@described(type="string", pattern="^[0-9a-fA-F:.]+/[0-9]{1,3}$")
def ip_prefix(value: Any) -> str:
    address, _, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    family = family_of(address)
    longest = 32 if family == 4 else 128
    digits = length.isascii() and length.isdigit() and len(length) <= 3
    if family is None or not digits or int(length) > longest:
        raise _expected("an address with its prefix length")
    return str(value)


@described()
def any_value(value: Any) -> Any:
    return value


@described(type="object")
def any_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object")
    return value


@described(type="string", minLength=1, maxLength=127, pattern="^[^/]+$")
def altname(value: Any) -> str:
    """One of a link's other names (ALTIFNAMSIZ, include/uapi/linux/if.h)."""
    name = text(value)
    if not name or len(name.encode("utf-8", "surrogateescape")) > 127 or "/" in name:
        raise _expected("an interface's other name")
    return name


_METRIC, _VALUE = integer(1, _RTAX_MAX), integer(0, 0xFFFFFFFF)


@described(
    type="array",
    maxItems=_RTAX_MAX,
    items={"type": "array", "minItems": 2, "maxItems": 2, "prefixItems": [_METRIC, _VALUE]},
)
def metrics(value: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or len(value) > _RTAX_MAX:
        raise _expected(f"a list of at most {_RTAX_MAX} entries")
    if any(not isinstance(pair, list) or len(pair) != 2 for pair in value):
        raise _expected("pairs of metric and value")
    return tuple((_METRIC(metric), _VALUE(setting)) for metric, setting in value)


def pair_of(low: int, high: int) -> Reader:
    end = integer(low, high)

    def read(value: Any) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2:
            raise _expected("a list of two numbers")
        return end(value[0]), end(value[1])

    return describe(read, {"type": "array", "minItems": 2, "maxItems": 2, "items": end})


def list_of(entry: Reader) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
            raise _expected(f"a list of at most {_MAX_ENTRIES} entries")
        entries: list[Any] = []
        try:
            for one in value:
                entries.append(entry(one))
        except Misfit as error:
            raise type(error)(f"[{len(entries)}]{error}") from error
        return tuple(entries)

    schema = {"type": "array", "maxItems": _MAX_ENTRIES, "items": entry}
    return describe(read, schema, entry=entry)


def some_of(entry: Reader) -> Reader:
    read_list: Any = list_of(entry)

    def read(value: Any) -> tuple[Any, ...]:
        entries: tuple[Any, ...] = read_list(value)
        if not entries:
            raise _expected("at least one entry")
        return entries

    return describe(read, {**read_list.schema, "minItems": 1}, entry=entry)


def record_of(cls: type[T], readers: Mapping[str, Reader]) -> Callable[[Any], T]:
    """A reader of one of our records; a field with a default may be absent."""
    required = [name for name in readers if not hasattr(cls, name)]
    read_fields: Any = object_of(readers, required)

    def read(value: Any) -> T:
        return cls(**read_fields(value))

    name = cls.__name__[0].lower() + cls.__name__[1:]
    return describe(read, read_fields.schema, name, read_fields.keys)


def object_of(
    readers: Mapping[str, Reader], required: Iterable[str]
) -> Callable[[Any], dict[str, Any]]:
    """A reader of an object's values, by the names of their fields."""
    by_key = {camel(name): (name, reader) for name, reader in readers.items()}
    return _object(by_key, {camel(name) for name in required})


def exactly(readers: Mapping[str, Reader]) -> Callable[[Any], dict[str, Any]]:
    """A reader of an object whose keys are no names of fields; each may be absent."""
    return _object({key: (key, reader) for key, reader in readers.items()}, set())


def _object(
    by_key: Mapping[str, tuple[str, Reader]], needed: set[str]
) -> Callable[[Any], dict[str, Any]]:
    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _expected("an object")
        found = {}
        key = ""
        try:
            for key, one in value.items():
                name, reader = by_key.get(key, _UNKNOWN)
                found[name] = reader(one)
        except Misfit as error:
            raise type(error)(f".{key}{error}") from error
        if not needed <= value.keys():
            raise Misfit(f".{min(needed - value.keys())}: missing")
        return found

    keys = {key: reader for key, (_, reader) in by_key.items()}
    schema: dict[str, Any] = {"type": "object", "properties": keys}
    if needed:
        schema["required"] = [key for key in by_key if key in needed]
    return describe(read, schema, keys=keys)


def _refuse(_: Any) -> Any:
    raise UnknownKey(": unknown key")


_UNKNOWN = ("", _refuse)


def record_of_family(cls: type[T], readers: Mapping[str, Reader], names: str) -> Callable[[Any], T]:
    """As :func:`record_of`, for records whose addresses must be of the family that they say."""
    read_record: Any = record_of(cls, readers)

    def read(value: Any) -> T:
        made: Any = read_record(value)
        for name in names.split():
            found = getattr(made, name)
            if found is not None and family_of(found.partition("/")[0]) != made.family:
                raise Misfit(f".{camel(name)}: expected an IPv{made.family} address")
        if made.family == 4 and getattr(made, "prefix", 0) > 32:
            raise Misfit(".prefix: expected an integer from 0 to 32")
        return made  # type: ignore[no-any-return]

    return as_described(read, read_record)


# --- what another version wrote -------------------------------------------------------------------


def without_unknown(kind: Any, value: Any) -> tuple[Any, list[tuple[Path, Any]]]:
    """A value without the keys that its kind does not know, and those: the path of each (keys of
    objects, places in lists) and what it holds.

    Raises Misfit for a key that no version can have, and for one that is known but for its case:
    Go's JSON, and so the wrapped plugin, would take it for that one.
    """
    unknown: list[tuple[Path, Any]] = []
    return _known_of(kind, value, (), unknown), unknown


def _known_of(kind: Any, value: Any, path: Path, unknown: list[tuple[Path, Any]]) -> Any:
    if kind.entry is not None and isinstance(value, list):
        return [
            _known_of(kind.entry, one, (*path, place), unknown) for place, one in enumerate(value)
        ]
    if not kind.keys or not isinstance(value, dict):
        return value
    folded = {key.lower(): key for key in kind.keys}
    kept = {}
    for key, held in value.items():
        if key in kind.keys:
            kept[key] = _known_of(kind.keys[key], held, (*path, key), unknown)
            continue
        meant = folded.get(key.lower())
        if meant is not None:
            raise Misfit(f"{_in_words(path)}.{key}: unknown key: {meant} is meant")
        if not kind.newer(key):
            raise Misfit(f"{_in_words(path)}: {key!r} is not a key that any version has there")
        unknown.append(((*path, key), held))
    return kept


def _in_words(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
