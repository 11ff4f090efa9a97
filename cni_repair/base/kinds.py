"""Kinds of value: how a document's reader takes each, and how a JSON Schema describes it.

A reader gives our value for the JSON one, or raises Misfit with the place and the want. The schema
is made only when somebody asks for it: ADD and REPAIR never do.
"""

from __future__ import annotations

from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_pton
from cni_repair.base.names import valid_id, valid_ifname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Reader = Callable[[Any], Any]
    Schema = dict[str, Any]
    # Describes a kind that stands inside another: as a whole, or by a reference to a definition.
    Inner = Callable[["Kind"], Schema]

_MAX_ENTRIES = 8192
_MAX_TEXT = 4096
_MAX_ALTNAME = 127  # ALTIFNAMSIZ less its NUL, include/uapi/linux/if.h
_HEX = frozenset("0123456789abcdefABCDEF")


class Misfit(ValueError):
    """A value that the document may not hold; the message begins with its path."""


class UnknownKey(Misfit):
    """An object has a key that its reader does not know: see checkpoint/unknown."""


class Kind:
    """One kind of value.

    `read` is a plain function, which readers of lists and objects call without a detour by
    `__call__`: a repair reads hundreds of documents.
    """

    __slots__ = ("_describe", "entry", "fields", "newer", "read")

    def __init__(
        self,
        read: Reader,
        describe: Callable[[Inner], Schema],
        entry: Kind | None = None,
        fields: Mapping[str, Kind] | None = None,
        newer: Callable[[str], bool] = bool,
    ) -> None:
        self.read = read
        self._describe = describe
        self.entry = entry  # of a list
        self.fields = fields  # of an object, by the names that the document has
        self.newer = newer  # whether a newer version may have a field of that name

    def __call__(self, value: Any) -> Any:
        return self.read(value)

    def schema(self, inner: Inner | None = None) -> Schema:
        """The JSON Schema of the kind; `inner` describes what is inside, by default as a whole."""
        return self._describe(inner or _whole)


def _whole(kind: Kind) -> Schema:
    return kind.schema()


def camel(name: str) -> str:
    """A field's name as the document has it."""
    if "_" not in name:
        return name
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def checked(kind: Kind, check: Callable[[Any], object]) -> Kind:
    """The kind, with one more check of the value read, which no schema can express."""
    read_first = kind.read

    def read(value: Any) -> Any:
        made = read_first(value)
        check(made)
        return made

    return Kind(read, kind.schema, kind.entry, kind.fields, kind.newer)


def _expected(what: str) -> Misfit:
    return Misfit(f": expected {what}")


# --- numbers, texts -------------------------------------------------------------------------------


def integer(low: int, high: int) -> Kind:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _expected(f"an integer from {low} to {high}")
        return value

    return Kind(read, lambda _: {"type": "integer", "minimum": low, "maximum": high})


def _read_text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise _expected("a text")
    return value


text = Kind(_read_text, lambda _: {"type": "string", "maxLength": _MAX_TEXT})


def _read_ifname(value: Any) -> str:
    if not isinstance(value, str) or not valid_ifname(value):
        raise _expected("an interface name")
    return value


ifname = Kind(
    _read_ifname,
    lambda _: {
        "type": "string",
        "minLength": 1,
        "maxLength": 15,
        "pattern": r"^[^/:\s]+$",
        "not": {"enum": [".", ".."]},
    },
)


def _read_altname(value: Any) -> str:
    name = _read_text(value)
    if not name or len(name.encode("utf-8", "surrogateescape")) > _MAX_ALTNAME or "/" in name:
        raise _expected("an interface's other name")
    return name


altname = Kind(
    _read_altname,
    lambda _: {"type": "string", "minLength": 1, "maxLength": _MAX_ALTNAME, "pattern": "^[^/]+$"},
)


def _read_identifier(value: Any) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise _expected("letters, digits, '_', '.', '-', first a letter or digit")
    return value


identifier = Kind(
    _read_identifier, lambda _: {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"}
)


def one_of(*allowed: Any) -> Kind:
    kinds = {(type(one), one) for one in allowed}

    def read(value: Any) -> Any:
        # 4.0 == 4 and True == 1, but not here. (A list or an object cannot be looked up.)
        if not isinstance(value, (str, int, float)) or (type(value), value) not in kinds:
            raise _expected(f"one of {', '.join(map(str, allowed))}")
        return value

    return Kind(read, lambda _: {"enum": list(allowed)})


def _read_flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false")
    return value


flag = Kind(_read_flag, lambda _: {"type": "boolean"})


# --- addresses ------------------------------------------------------------------------------------


def _read_mac(value: Any) -> str:
    is_mac = (
        isinstance(value, str)
        and len(value) == 17
        and value[2::3] == ":::::"
        and _HEX.issuperset(value[0::3] + value[1::3])
    )
    if not is_mac:
        raise _expected("a MAC address")
    return str(value)


mac = Kind(
    _read_mac, lambda _: {"type": "string", "pattern": "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"}
)


def family_of(address: str) -> int | None:
    """4, 6, or None for what is no address."""
    number, family = (6, AF_INET6) if ":" in address else (4, AF_INET)
    try:
        inet_pton(family, address)
    except (OSError, ValueError):
        return None
    return number


def _read_ip_address(value: Any) -> str:
    if not isinstance(value, str) or family_of(value) is None:
        raise _expected("an IP address")
    return value


ip_address = Kind(
    _read_ip_address,
    lambda _: {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
)


def _read_ip_prefix(value: Any) -> str:
    address, _, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    family = family_of(address)
    longest = 32 if family == 4 else 128
    digits = length.isascii() and length.isdigit() and len(length) <= 3
    if family is None or not digits or int(length) > longest:
        raise _expected("an address with its prefix length")
    return str(value)


ip_prefix = Kind(
    _read_ip_prefix, lambda _: {"type": "string", "pattern": "^[0-9a-fA-F:.]+/[0-9]{1,3}$"}
)


# --- what may hold anything -----------------------------------------------------------------------


def _read_any(value: Any) -> Any:
    return value


any_value = Kind(_read_any, lambda _: {})


def _read_any_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object")
    return value


any_object = Kind(_read_any_object, lambda _: {"type": "object"})


# --- lists ----------------------------------------------------------------------------------------


def pair_of(low: int, high: int) -> Kind:
    end = integer(low, high)
    read_end = end.read

    def read(value: Any) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2:
            raise _expected("a list of two numbers")
        return read_end(value[0]), read_end(value[1])

    return Kind(
        read, lambda inner: {"type": "array", "minItems": 2, "maxItems": 2, "items": inner(end)}
    )


def list_of(entry: Kind) -> Kind:
    read_entry = entry.read

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
            raise _expected(f"a list of at most {_MAX_ENTRIES} entries")
        entries: list[Any] = []
        try:
            for one in value:
                entries.append(read_entry(one))
        except Misfit as error:
            raise type(error)(f"[{len(entries)}]{error}") from error
        return tuple(entries)

    return Kind(
        read,
        lambda inner: {"type": "array", "maxItems": _MAX_ENTRIES, "items": inner(entry)},
        entry=entry,
    )


def some_of(entry: Kind) -> Kind:
    """A list with at least one entry."""
    any_number = list_of(entry)
    read_all = any_number.read

    def read(value: Any) -> tuple[Any, ...]:
        entries: tuple[Any, ...] = read_all(value)
        if not entries:
            raise _expected("at least one entry")
        return entries

    return Kind(read, lambda inner: {**any_number.schema(inner), "minItems": 1}, entry=entry)


# --- objects --------------------------------------------------------------------------------------


def object_of(kinds: Mapping[str, Kind], required: Iterable[str]) -> Kind:
    """An object's values, by the names of our fields."""
    fields = {camel(name): kind for name, kind in kinds.items()}
    names = {camel(name): name for name in kinds}
    return _object(fields, names, [camel(name) for name in required])


def keyed(kinds: Mapping[str, Kind], newer: Callable[[str], bool]) -> Kind:
    """The values under keys that are no names of fields; each may be absent."""
    return _object(kinds, {key: key for key in kinds}, [], newer)


def _object(
    fields: Mapping[str, Kind],
    names: Mapping[str, str],
    required: list[str],
    newer: Callable[[str], bool] = bool,
) -> Kind:
    by_key = {key: (names[key], kind.read) for key, kind in fields.items()}
    needed = {*required}

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _expected("an object")
        found = {}
        key = ""
        try:
            for key, one in value.items():
                name, read_one = by_key.get(key, _UNKNOWN)
                found[name] = read_one(one)
        except Misfit as error:
            raise type(error)(f".{key}{error}") from error
        if not needed <= value.keys():
            raise Misfit(f".{min(needed - value.keys())}: missing")
        return found

    def describe(inner: Inner) -> Schema:
        # (Of other keys it says nothing: a newer version's are kept.)
        return {
            "type": "object",
            "required": required,
            "properties": {key: inner(kind) for key, kind in fields.items()},
        }

    return Kind(read, describe, fields=fields, newer=newer)


def _refuse(_: Any) -> Any:
    raise UnknownKey(": unknown key")


_UNKNOWN = ("", _refuse)


def record_of(cls: type, kinds: Mapping[str, Kind]) -> Kind:
    """One of our values; a field with a default may be absent."""
    values = object_of(kinds, [name for name in kinds if not hasattr(cls, name)])
    read_values = values.read

    def read(value: Any) -> Any:
        return cls(**read_values(value))

    return Kind(read, values.schema, fields=values.fields)


def record_of_family(cls: type, kinds: Mapping[str, Kind], names: str) -> Kind:
    """As :func:`record_of`, for values whose addresses must be of the family that they say."""
    of_family = names.split()

    def check(made: Any) -> None:
        for name in of_family:
            found = getattr(made, name)
            if found is not None and family_of(found.partition("/")[0]) != made.family:
                raise Misfit(f".{camel(name)}: expected an IPv{made.family} address")
        if made.family == 4 and getattr(made, "prefix", 0) > 32:
            raise Misfit(".prefix: expected an integer from 0 to 32")

    return checked(record_of(cls, kinds), check)
