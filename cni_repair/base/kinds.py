"""Readers: each takes a JSON value and gives ours, or raises Misfit with the place and the want."""

from __future__ import annotations

from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_pton
from cni_repair.base.names import valid_id, valid_ifname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")
    Reader = Callable[[Any], Any]

_MAX_ENTRIES = 8192
_MAX_TEXT = 4096
_RTAX_MAX = 17  # RTAX_FASTOPEN_NO_COOKIE, include/uapi/linux/rtnetlink.h
_HEX = frozenset("0123456789abcdefABCDEF")


class Misfit(ValueError):
    """A value that the document may not hold; the message begins with its path."""


def camel(name: str) -> str:
    """A field's name as the document has it."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _expected(what: str) -> Misfit:
    return Misfit(f": expected {what}")


def integer(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _expected(f"an integer from {low} to {high}")
        return value

    return read


def text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise _expected("a text")
    return value


def ifname(value: Any) -> str:
    if not isinstance(value, str) or not valid_ifname(value):
        raise _expected("an interface name")
    return value


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

    return read


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false")
    return value


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


def ip_prefix(value: Any) -> str:
    address, _, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    family = family_of(address)
    longest = 32 if family == 4 else 128
    digits = length.isascii() and length.isdigit() and len(length) <= 3
    if family is None or not digits or int(length) > longest:
        raise _expected("an address with its prefix length")
    return str(value)


def any_value(value: Any) -> Any:
    return value


def any_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object")
    return value


def altname(value: Any) -> str:
    """One of a link's other names (ALTIFNAMSIZ, include/uapi/linux/if.h)."""
    name = text(value)
    if not name or len(name.encode("utf-8", "surrogateescape")) > 127 or "/" in name:
        raise _expected("an interface's other name")
    return name


def metrics(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = list_of(lambda pair: pair)(value)
    read_key, read = integer(1, _RTAX_MAX), integer(0, 0xFFFFFFFF)
    if len(pairs) > _RTAX_MAX or any(
        not isinstance(pair, list) or len(pair) != 2 for pair in pairs
    ):
        raise _expected("pairs of metric and value")
    return tuple((read_key(key), read(setting)) for key, setting in pairs)


def pair_of(low: int, high: int) -> Reader:
    end = integer(low, high)

    def read(value: Any) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2:
            raise _expected("a list of two numbers")
        return end(value[0]), end(value[1])

    return read


def list_of(entry: Reader) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
            raise _expected(f"a list of at most {_MAX_ENTRIES} entries")
        entries: list[Any] = []
        try:
            for one in value:
                entries.append(entry(one))
        except Misfit as error:
            raise Misfit(f"[{len(entries)}]{error}") from error
        return tuple(entries)

    return read


def some_of(entry: Reader) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        entries: tuple[Any, ...] = list_of(entry)(value)
        if not entries:
            raise _expected("at least one entry")
        return entries

    return read


def record_of(cls: type[T], readers: Mapping[str, Reader]) -> Callable[[Any], T]:
    """A reader of one of our records; a field with a default may be absent."""
    required = [name for name in readers if not hasattr(cls, name)]
    read_fields = object_of(readers, required)

    def read(value: Any) -> T:
        return cls(**read_fields(value))

    return read


def object_of(
    readers: Mapping[str, Reader], required: Iterable[str]
) -> Callable[[Any], dict[str, Any]]:
    """A reader of an object's values, by the names of their fields."""
    by_key = {camel(name): (name, reader) for name, reader in readers.items()}
    needed = {camel(name) for name in required}

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
            raise Misfit(f".{key}{error}") from error
        if not needed <= value.keys():
            raise Misfit(f".{min(needed - value.keys())}: missing")
        return found

    return read


def _refuse(_: Any) -> Any:
    raise Misfit(": unknown key")


_UNKNOWN = ("", _refuse)


def record_of_family(cls: type[T], readers: Mapping[str, Reader], names: str) -> Callable[[Any], T]:
    """As :func:`record_of`, for records whose addresses must be of the family that they say."""
    read_record = record_of(cls, readers)

    def read(value: Any) -> T:
        made: Any = read_record(value)
        for name in names.split():
            found = getattr(made, name)
            if found is not None and family_of(found.partition("/")[0]) != made.family:
                raise Misfit(f".{camel(name)}: expected an IPv{made.family} address")
        if made.family == 4 and getattr(made, "prefix", 0) > 32:
            raise Misfit(".prefix: expected an integer from 0 to 32")
        return made  # type: ignore[no-any-return]

    return read
