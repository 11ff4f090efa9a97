"""JSON as a plugin needs it: bounded, strict, and without :mod:`json`.

`import json` takes 8.1 ms, for it imports `re` and compiles expressions; this takes 1.0 ms, for the
C scanner and encoder behind `json` can be used alone. (Python 3.11.2, median of 100 processes' CPU
time. The bare macvlan plugin's whole ADD takes about 9 ms.)

Duplicate keys, and keys that differ only in case, are refused: Go's encoding/json ignores case and
takes the last, so the delegate would read another document than we do. Network configurations are
written by people, and read by Go: :func:`load_configuration` takes what can only be read one way.
"""

from __future__ import annotations

import _json
import codecs

from cni_repair.base.errors import DECODE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Scan = Callable[[str, int], tuple[Any, int]]

MAX_BYTES = 4 << 20
MAX_DEPTH = 64
_SPACE = " \t\n\r"

# Go's numbers are float64, of which the greatest integer has 309 digits. (So many in a row are at
# least ten in a row of every 30th character.)
_INFINITE = (1 << 1024) - (1 << 970)
_DIGITS, _STRIDE = 309, 30
_AS_ZERO = str.maketrans("123456789", "000000000")
_REPLACE = "cni-repair.replace"


class _Refused(ValueError):
    """The document is JSON, but not accepted; the message says why."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # (Of what Go folds to the same, Python does, too, and at the speed of C.)
    if len(set(map(str.casefold, found))) != len(pairs):
        _refuse_twice(pairs)
    return found


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for key, _ in pairs:
        folded = fold(key)
        if folded in seen:
            raise _Refused(
                f"key {key!r} appears twice (as {seen[folded]!r}); case makes no difference"
            )
        seen[folded] = key


def fold(key: str) -> str:
    """A key as Go compares it: letter by letter, so that ß is not ss."""
    return key.lower() if key.isascii() else "".join(map(_fold_letter, key))


def _fold_letter(letter: str) -> str:
    """Unicode's simple folding (CaseFolding.txt, C and S); Python has only the full one."""
    alone = (one for one in (letter.casefold(), letter.lower()) if len(one) == 1)
    return next(alone, letter)


def _object_as_go(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As :func:`_object`; but the same key twice with the same value is one key."""
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in pairs:
            if not _same(value, found[key]):
                raise _Refused(f"key {key!r} appears twice, with different values: keep one")
    return _object(list(found.items()))


def _same(one: Any, other: Any) -> bool:
    """Whether Go decodes both into the same, whatever the field: 1, 1.0 and true differ."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _constant(name: str) -> Any:
    raise _Refused(f"{name} is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Refused(f"the number {digits} is too large")
    return value


class _Context:
    """What :func:`_json.make_scanner` reads from a `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = staticmethod(_float)
    parse_int = int
    parse_constant = staticmethod(_constant)


class _ContextAsGo(_Context):
    object_pairs_hook = staticmethod(_object_as_go)


_scan = _json.make_scanner(_Context)  # type: ignore[arg-type]  # takes any object with these attributes
_scan_as_go = _json.make_scanner(_ContextAsGo)  # type: ignore[arg-type]  # likewise


def loads(raw: bytes, what: str, max_bytes: int = MAX_BYTES) -> Any:
    """Parse one JSON document.

    `what` is its name in error messages. Raises CniError (code 6) for anything but one well-formed
    UTF-8 document of at most `max_bytes` bytes and :data:`MAX_DEPTH` levels.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise undecodable(what, f"it is not UTF-8 at byte {error.start}") from error
    value = _parse(raw, text, what, _scan, max_bytes)
    if "\\u" in text and _has_surrogate(value):
        raise undecodable(what, "half of a surrogate pair is not a character")
    return value


def load_configuration(raw: bytes, what: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Parse a network configuration: one JSON object, taken where Go's encoding/json takes it.

    The same key twice with the same value is one key. Each byte that is not UTF-8, and each half
    of a surrogate pair, becomes U+FFFD. The limits, and keys that differ in value or in case, as in
    :func:`loads`.
    """
    text = raw.decode("utf-8", _REPLACE)
    value = _parse(raw, text, what, _scan_as_go, max_bytes)
    return _object_in(_without_surrogates(value) if "\\u" in text else value, what)


def _parse(raw: bytes, text: str, what: str, scan: Scan, max_bytes: int) -> Any:
    if len(raw) > max_bytes:
        raise undecodable(what, f"it has {len(raw)} bytes; at most {max_bytes} are read")
    if not raw.strip():
        raise undecodable(what, "it is empty")
    if text.startswith("\ufeff"):
        raise undecodable(what, "it begins with a byte order mark: save it as UTF-8 without one")
    try:
        start = len(text) - len(text.lstrip(_SPACE))
        value, end = scan(text, start)
    except RecursionError as error:
        raise undecodable(what, f"it is nested deeper than {MAX_DEPTH} levels") from error
    except (ValueError, StopIteration, SystemError) as error:
        raise undecodable(what, _reason(text, error)) from error
    if text[end:].strip(_SPACE):
        raise undecodable(what, f"there is more after the document, at character {end}")
    # (With so few brackets in all, it cannot be nested too deep.)
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise undecodable(what, f"it is nested deeper than {MAX_DEPTH} levels")
    if _may_be_infinite(text) and _has_infinite(value):
        raise undecodable(what, f"a number has {_DIGITS} digits or more, which is too large")
    return value


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Go replaces each byte, Python's "replace" what may have been one character."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_REPLACE, _replaced)


def load_object(raw: bytes, what: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Parse one JSON document that must be an object; see :func:`loads`."""
    return _object_in(loads(raw, what, max_bytes), what)


def _object_in(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise undecodable(what, "it is not a JSON object")
    return value


def _reason(text: str, error: Exception) -> str:
    """What is wrong with a text.

    The C scanner takes its exception from `json.decoder`. Where that is not imported (CPython
    before 3.13), it fails without one; only then the slow module is imported, for its message.
    """
    if isinstance(error, ValueError):
        return str(error)
    import json

    try:
        json.loads(text)
    except ValueError as explained:
        return str(explained)
    return "it is not JSON"


def undecodable(what: str, why: str) -> CniError:
    """What is told of a document that is not used."""
    return CniError(DECODE, f"cannot decode {what}", why)


def _deeper_than(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_deeper_than(v, levels - 1) for v in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_deeper_than(v, levels - 1) for v in value)
    return False


def _may_be_infinite(text: str) -> bool:
    return "0" * (_DIGITS // _STRIDE) in text[::_STRIDE].translate(_AS_ZERO)


def _has_infinite(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) >= _INFINITE
    if isinstance(value, dict):
        return any(map(_has_infinite, value.values()))
    return isinstance(value, list) and any(map(_has_infinite, value))


def holds_surrogate(text: str) -> bool:
    """Whether a text contains half of a surrogate pair."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def _has_surrogate(value: Any) -> bool:
    """Go reads such an escape as U+FFFD, and so another document than we do."""
    if isinstance(value, str):
        return holds_surrogate(value)
    if isinstance(value, dict):
        return any(_has_surrogate(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_has_surrogate(part) for part in value)


def _without_surrogates(value: Any) -> Any:
    """The value as Go reads it: U+FFFD in the place of each."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in value)
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return [_without_surrogates(part) for part in value] if isinstance(value, list) else value


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


# What json.JSONEncoder(separators=(",", ":"), allow_nan=False) calls: (markers against circles,
# default, strings, indent, separators, sort_keys, skipkeys, allow_nan).
_encode = _json.make_encoder(
    None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False
)


def dumps(value: Any) -> str:
    """The value as one line of ASCII JSON."""
    return "".join(_encode(value, 0))
