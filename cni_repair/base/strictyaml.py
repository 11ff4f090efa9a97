"""YAML for files that decide what happens to a node: bounded, and without YAML's traps.

Plain words have the types that YAML 1.2 gives them: `yes`, `on` and `12:30` are texts, not true,
true and 750. Keys are texts. A key that appears twice, of which PyYAML would take the last, is
refused; so are aliases (which may expand to gigabytes), tags and a second document. Where several
documents are read, as Kubernetes reads them, aliases and merge keys (<<) are, too, within bounds.
"""

from __future__ import annotations

import re

import yaml
from yaml import events

from cni_repair.base.strictjson import holds_surrogate, undecodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias, TypeVar

    T = TypeVar("T")
    Parse: TypeAlias = Callable[[Iterator[events.Event]], T]

MAX_BYTES = 64 << 10
MAX_DEPTH = 16
_MAX_SHARED = 10_000  # values that a document's aliases stand for
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_IN_QUOTES = "put the text in quotes"
# By the character at which the parser gave up.
_REMEDIES = {
    "\t": "indent with spaces, not with tabs",
    ":": "indent keys of one level alike, and put a text with a colon in quotes",
    **dict.fromkeys("@`%&*!|>'\"{}[],", _IN_QUOTES),
}


class _Refused(ValueError):
    """The document is YAML, but not accepted; the message says why."""


def loads(raw: bytes, what: str) -> object:
    """Parse the only document in `raw`; `what` is its name in errors. Raises CniError (code 6)."""
    return _read(raw, what, MAX_BYTES, _document)


def loads_all(raw: bytes, what: str, max_bytes: int = MAX_BYTES) -> list[object]:
    """Parse every document in `raw`; see :func:`loads`. One without a word in it is None."""
    return _read(raw, what, max_bytes, _documents)


def _read(raw: bytes, what: str, max_bytes: int, parse: Parse[T]) -> T:
    if len(raw) > max_bytes:
        raise undecodable(what, f"it is longer than {max_bytes} bytes: remove what is not needed")
    try:
        text = raw.decode("utf-8-sig")
        return parse(yaml.parse(text, Loader=yaml.SafeLoader))
    except UnicodeDecodeError as error:
        raise undecodable(what, f"not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except _Refused as error:
        raise undecodable(what, str(error)) from error
    except yaml.YAMLError as error:
        raise undecodable(what, _reason(text, error)) from error
    except (ValueError, OverflowError) as error:
        # PyYAML hands an escape such as "\U00110000" to chr().
        raise undecodable(
            what, 'it has a "\\U" escape that is not a character: remove it'
        ) from error


def _reason(text: str, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: the control character {text[error.position]!r}: remove it"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    found = text[mark.index : mark.index + 1]
    since = getattr(error, "context_mark", None)
    begun = f", in what begins at line {since.line + 1}" if since and since.line < mark.line else ""
    remedy = _REMEDIES.get(found, "correct it, or begin again from an example in conf/")
    problem = getattr(error, "problem", None) or "it is not YAML"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{begun}: {remedy}"


def _document(stream: Iterator[events.Event]) -> object:
    value = next(_each(stream, shares=False))
    after = next(stream)
    if not isinstance(after, events.StreamEndEvent):
        raise _Refused(f"{_line(after)}: a second document begins: give it a file of its own")
    return value


def _documents(stream: Iterator[events.Event]) -> list[object]:
    return list(_each(stream, shares=True))


def _each(stream: Iterator[events.Event], shares: bool) -> Iterator[object]:
    next(stream)  # the stream's start
    if isinstance(next(stream), events.StreamEndEvent):
        raise _Refused("it is empty: begin from an example in conf/")
    while True:
        value = _Values(stream, shares).read(next(stream), MAX_DEPTH)
        next(stream)  # the document's end
        yield value
        if isinstance(next(stream), events.StreamEndEvent):
            return


class _Values:
    """The values of one document; `shares`: with aliases and merge keys."""

    def __init__(self, stream: Iterator[events.Event], shares: bool) -> None:
        self._stream = stream
        self._shares = shares
        self._anchored: dict[str, tuple[object, int]] = {}  # value, and how many there are in it
        self._count = 0
        self._shared = 0

    def read(self, event: events.Event, levels: int) -> object:
        """The value that begins with an event."""
        _refuse_extras(event, self._shares)
        if isinstance(event, events.AliasEvent):
            return self._alias(event)
        before = self._count
        self._count += 1
        value = self._value(event, levels)
        if anchor := getattr(event, "anchor", None):
            self._anchored[anchor] = value, self._count - before
        return value

    def _value(self, event: events.Event, levels: int) -> object:
        if isinstance(event, events.ScalarEvent):
            return _scalar(event)
        if levels == 0:
            raise _Refused(f"{_line(event)}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, events.MappingStartEvent):
            return self._mapping(levels - 1)
        entries: list[object] = []
        while not isinstance(event := next(self._stream), events.SequenceEndEvent):
            entries.append(self.read(event, levels - 1))
        return entries

    def _alias(self, event: events.AliasEvent) -> object:
        # One that stands within what it names is not known yet: no circles.
        if event.anchor not in self._anchored:
            raise _Refused(f"{_line(event)}: nothing above is named &{event.anchor}: correct it")
        value, count = self._anchored[event.anchor]
        self._count += count
        self._shared += count
        if self._shared > _MAX_SHARED:
            raise _Refused(f"{_line(event)}: aliases stand for too much: write the values out")
        return value

    def _mapping(self, levels: int) -> dict[str, object]:
        value: dict[str, object] = {}
        merged: dict[str, object] = {}
        lines: dict[str, str] = {}
        while not isinstance(event := next(self._stream), events.MappingEndEvent):
            _refuse_extras(event, self._shares)
            if not isinstance(event, events.ScalarEvent):
                raise _Refused(f"{_line(event)}: a key that is not a text: put it in quotes")
            key = event.value
            if key in lines:
                raise _Refused(
                    f"{_line(event)}: key {key!r} appears in {lines[key]} already: keep one of them"
                )
            lines[key] = _line(event)
            found = self.read(next(self._stream), levels)
            if self._shares and key == "<<" and event.implicit[0]:
                merged = _merged(found, event)
            else:
                value[key] = found
        return {**merged, **value}


def _merged(value: object, event: events.Event) -> dict[str, object]:
    """What a merge key brings: of several mappings the first one counts."""
    several = value if isinstance(value, list) else [value]
    found: dict[str, object] = {}
    for one in several:
        if not isinstance(one, dict):
            raise _Refused(f"{_line(event)}: << takes a mapping, or a list of them: correct it")
        found = {**one, **found}
    return found


def _refuse_extras(event: events.Event, shares: bool) -> None:
    is_shared = isinstance(event, events.AliasEvent) or getattr(event, "anchor", None) is not None
    if is_shared and not shares:
        raise _Refused(f"{_line(event)}: aliases (&, *) are not read: write the value out")
    tag = getattr(event, "tag", None)
    if tag is not None:
        raise _Refused(f"{_line(event)}: the tag {tag!r} is not read: remove it")
    text = getattr(event, "value", "")
    if holds_surrogate(text):
        raise _Refused(
            f"{_line(event)}: half of a surrogate pair is not a character: write the character"
        )


def _scalar(event: events.ScalarEvent) -> object:
    text: str = event.value
    plain = event.implicit[0]
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _line(event: events.Event) -> str:
    mark = event.start_mark
    return "" if mark is None else f"line {mark.line + 1}"
