"""Readers: each takes a JSON value and gives ours, or raises Misfit with the place and the want."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton

from cni_repair.names import valid_id, valid_ifname
from cni_repair.network.sysctls import STABLE_SECRET, SYSCTLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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
    def read(value: Any) -> Any:
        # 4.0 == 4 and True == 1, but not here
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise _expected(f"one of {', '.join(map(str, allowed))}")
        return value

    return read


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false")
    return value


def mac(value: Any) -> str:
    octets = value.split(":") if isinstance(value, str) else []
    if len(octets) != 6 or any(len(octet) != 2 or not _HEX.issuperset(octet) for octet in octets):
        raise _expected("a MAC address")
    return str(value)


def ip_address(value: Any) -> str:
    if not isinstance(value, str) or family_of(value) is None:
        raise _expected("an IP address")
    return value


def family_of(address: str) -> int | None:
    """4, 6, or None for what is no address."""
    for number, family in ((4, AF_INET), (6, AF_INET6)):
        try:
            inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return number
    return None


def ip_prefix(value: Any) -> str:
    address, _, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    family = family_of(address)
    longest = 32 if family == 4 else 128
    digits = length.isascii() and length.isdigit() and len(length) <= 3
    if family is None or not digits or int(length) > longest:
        raise _expected("an address with its prefix length")
    return str(value)


def any_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object")
    return value


def sysctls(value: Any) -> tuple[tuple[str, str], ...]:
    for key, setting in any_object(value).items():
        if key not in SYSCTLS:
            raise Misfit(f": {key!r} is no sysctl that a pod may get back")
        if key == STABLE_SECRET:
            _at(f".{key}", ip_address, setting)
            continue
        digits = setting.removeprefix("-") if isinstance(setting, str) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 11):
            raise Misfit(f".{key}: expected a number in a text")
    return tuple(value.items())


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
        return tuple(_at(f"[{index}]", entry, one) for index, one in enumerate(value))

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
    required = {camel(name) for name in readers if not hasattr(cls, name)}
    by_key = {camel(name): (name, reader) for name, reader in readers.items()}

    def read(value: Any) -> T:
        _check_keys(value, by_key.keys(), required)
        return cls(
            **{by_key[key][0]: _at(f".{key}", by_key[key][1], one) for key, one in value.items()}
        )

    return read


def fields(
    value: Any, path: str, readers: Mapping[str, Reader], optional: Mapping[str, Reader]
) -> dict[str, Any]:
    """The document's values by key; of the optional ones, those that are there."""
    _check_keys(value, {*readers, *optional, "schemaVersion", "checksum"}, set(readers))
    return {
        key: _at(f"{path}.{key}", reader, value[key])
        for key, reader in {**readers, **optional}.items()
        if key in value
    }


def _check_keys(value: Any, known: Any, required: set[str]) -> None:
    if not isinstance(value, dict):
        raise _expected("an object")
    for key in value:
        if key not in known:
            raise Misfit(f".{key}: unknown key")
    for key in sorted(required):
        if key not in value:
            raise Misfit(f".{key}: missing")


def _at(path: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except Misfit as error:
        raise Misfit(f"{path}{error}") from error


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
