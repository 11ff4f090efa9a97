"""Documents that people write, read key by key: all that is wrong with one is said at once.

A reader takes a value of the document and gives ours, or raises Wrong. Upgrade plans and the
watcher's settings are read so.
"""

from __future__ import annotations

import difflib
import re

from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Reader = Callable[[object], Any]

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh])")
_DAY = 24 * 3600.0
# What systemd takes for a name; a '-' in front would be an option of systemctl's.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,246}\.service")
_MAX_SHOWN = 60


class DocumentError(CniError):
    """A document that is not followed; `problems` has a line for each thing that is wrong."""

    kind = "document"

    def __init__(self, what: str, problems: tuple[str, ...]) -> None:
        super().__init__(CONFIG, f"{what} is no valid {self.kind}", "; ".join(problems))
        self.problems = problems


class Wrong(ValueError):
    """What is wrong with a value: lines that begin with the rest of the path to it."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


@frozen
class Key:
    read: Reader
    default: Any = None  # as the document would have it
    needed: str = ""  # where there is no default: what to write


def read_yaml(
    path: str, error: type[DocumentError], bytes_of: Callable[[str, int], bytes]
) -> object:
    """The only document in a YAML file, of whose bytes `bytes_of` reads at most so many.

    Raises `error`.
    """
    from cni_repair.base import strictyaml  # (takes 27 ms to import)

    try:
        return strictyaml.loads(bytes_of(path, strictyaml.MAX_BYTES + 1), path)
    except OSError as refused:
        absent = isinstance(refused, (FileNotFoundError, IsADirectoryError))
        remedy = ": name a file that is there" if absent else ""
        why = f"cannot be read: {refused.strerror}{remedy}"
        raise error(path, (why,)) from refused
    except CniError as refused:
        raise error(path, (refused.details,)) from refused


def read_document(
    document: object, keys: Mapping[str, Key], what: str, error: type[DocumentError]
) -> dict[str, Any]:
    """Every key's value or default; `what` names the document. Raises `error`."""
    try:
        return fields_of(document, keys)
    except Wrong as wrong:
        raise error(what, tuple(f"${problem}" for problem in wrong.problems)) from wrong


def fields_of(value: object, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Every key's value or default, read. Raises Wrong with the problems of them all."""
    if not isinstance(value, dict):
        raise Wrong(f": {shown(value)} is no mapping: write keys below it: {', '.join(keys)}")
    fields: dict[str, Any] = {}
    problems: list[str] = []
    for name, given in value.items():
        try:
            fields[name] = _known(name, keys).read(given)
        except Wrong as wrong:
            problems += [f"{_step(name)}{problem}" for problem in wrong.problems]
    for name, key in keys.items():
        if name not in value and key.needed:
            problems.append(f".{name}: missing: {key.needed}")
        elif name not in value:
            fields[name] = key.read(key.default)
    if problems:
        raise Wrong(*problems)
    return fields


def _known(name: object, keys: Mapping[str, Key]) -> Key:
    if isinstance(name, str) and name in keys:
        return keys[name]
    plain = {_plain(key): key for key in keys}
    close = difflib.get_close_matches(_plain(str(name)), plain, n=1)
    remedy = f"did you mean {plain[close[0]]}?" if close else f"known here are {', '.join(keys)}"
    raise Wrong(f": unknown key: {remedy}")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def _step(name: object) -> str:
    """A key as a path has it."""
    plain = isinstance(name, str) and name.isidentifier() and len(name) <= _MAX_SHOWN
    return f".{name}" if plain else f"[{shown(name)}]"


def shown(value: object) -> str:
    """A value as an error shows it: in one line, and near to what YAML writes."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = ascii(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def section(make: Callable[..., Any], keys: Mapping[str, Key]) -> Reader:
    """Keys below a key."""

    def read(value: object) -> Any:
        return make(**fields_of(value, keys))

    return read


def version(number: int) -> Reader:
    """The only version of a format that is read."""

    def read(value: object) -> int:
        if type(value) is not int or value != number:
            raise Wrong(f": {shown(value)} is no version that is read here: write {number}")
        return value

    return read


def service(value: object) -> str:
    """The name of a unit of systemd's."""
    if not isinstance(value, str) or not _UNIT.fullmatch(value):
        raise Wrong(f": {shown(value)} is no service: write its unit's name, as kubelet.service")
    return value


def seconds_in(text: object) -> float | None:
    """Seconds, of a text such as "5m"; None where it is none."""
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else None


def duration(example: str, least: float = 0) -> Reader:
    """Seconds, of a text such as "5m": more than none, at least `least`, at most a day."""

    def read(value: object) -> float:
        seconds = seconds_in(value)
        if seconds is None:
            raise Wrong(
                f": {shown(value)} is no duration: write a number with s, m or h, such as {example}"
            )
        if seconds == 0 or seconds < least:
            raise Wrong(f": {shown(value)} is too short: write {_least(least)}, such as {example}")
        if seconds > _DAY:
            raise Wrong(f": {shown(value)} is longer than a day: write less, such as {example}")
        return seconds

    return read


def _least(seconds: float) -> str:
    return f"at least {seconds:g}s" if seconds else "more than none"


def flag(value: object) -> bool:
    if type(value) is not bool:
        raise Wrong(f": {shown(value)} is neither of the two: write true or false")
    return value


def each_once(value: list[Any], problems: list[str]) -> tuple[str, ...]:
    """The list's texts, where there are no problems, nor any text twice."""
    seen: set[str] = set()
    for index, name in enumerate(value):
        if isinstance(name, str):
            if name in seen:
                problems.append(f"[{index}]: {shown(name)} stands twice: write it once")
            seen.add(name)
    if problems:
        raise Wrong(*problems)
    return tuple(value)
