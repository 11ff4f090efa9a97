"""The upgrade plan: what the engineer decides before the driver is touched, read strictly.

Its published form is schema/upgrade.json; `conf/upgrade.yaml` explains every key. All that is
wrong with a plan is said at once.
"""

from __future__ import annotations

import difflib
import re
import socket

from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import valid_link_name
from cni_repair.upgrade.drivercommand import SHELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Reader = Callable[[Any], Any]

VERSION = 1
RELEASE = "release"
HOLD = "hold"
NO_KUBELET = "none"
ALL = "all"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh])")
_PERCENT = re.compile(r"([0-9]{1,3})%")
_DAY = 24 * 3600.0
# What systemd takes for a name; a '-' in front would be an option of systemctl's.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@][A-Za-z0-9:_.\\@-]{0,246}\.service")
_MAX_SHOWN = 60


@frozen
class Kubelet:
    unit: str
    deadman: float  # seconds after which kubelet is let go, should we have vanished


@frozen
class Driver:
    command: tuple[str, ...]
    deadline: float  # seconds


@frozen
class Masters:
    names: tuple[str, ...]  # empty: those that the pods' checkpoints name
    deadline: float  # seconds
    carrier: bool


@frozen
class Verify:
    timeout: float  # seconds
    duplicates: bool


@frozen
class Required:
    """What a plan requires of a kind: all there are, or those that are named."""

    everything: bool
    names: tuple[str, ...]


@frozen
class Require:
    """What must be before the driver is touched, and again afterwards, beyond what there was."""

    carrier: Required  # links that have it
    gateways: Required  # addresses that answer every pod whose gateways they are


@frozen
class OnFailure:
    """RELEASE or HOLD: what becomes of kubelet at the end where that phase failed."""

    driver: str
    masters: str
    repair: str
    verify: str


@frozen
class Plan:
    kubelet: Kubelet | None  # None: nothing here rebuilds pods
    driver: Driver
    masters: Masters
    coverage: int  # percent of the node's pods that a repair must be able to restore
    verify: Verify
    require: Require
    on_failure: OnFailure
    document: dict[str, Any]  # as read, for the journal


class PlanError(CniError):
    """A plan that is not followed; `problems` has a line for each thing that is wrong with it."""

    def __init__(self, what: str, problems: tuple[str, ...]) -> None:
        super().__init__(CONFIG, f"{what} is no valid upgrade plan", "; ".join(problems))
        self.problems = problems


def read_plan(path: str) -> Plan:
    """The plan in a file. Raises PlanError."""
    from cni_repair.base import strictyaml

    try:
        with open(path, "rb") as file:
            raw = file.read(strictyaml.MAX_BYTES + 1)
        document = strictyaml.loads(raw, path)
    except OSError as error:
        absent = isinstance(error, (FileNotFoundError, IsADirectoryError))
        remedy = ": name a file that holds a plan" if absent else ""
        why = f"cannot be read: {error.strerror}{remedy}"
        raise PlanError(path, (why,)) from error
    except CniError as error:
        raise PlanError(path, (error.details,)) from error
    return plan_of(document, path)


def plan_of(document: Any, what: str = "this") -> Plan:
    """The plan that a decoded document holds; `what` names it in the error. Raises PlanError."""
    try:
        values = _fields(document, _PLAN)
    except _Wrong as wrong:
        problems = tuple(f"${problem}" for problem in wrong.problems)
        raise PlanError(what, problems) from wrong
    del values["version"]
    return Plan(**values, document=document)


# --- readers: each takes a value of the document and gives ours ---------------------------------


class _Wrong(ValueError):
    """What is wrong with a value: lines that begin with the rest of the path to it."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems


@frozen
class _Key:
    read: Reader
    default: Any = None  # as the document would have it
    needed: str = ""  # where there is no default: what to write


def _fields(value: object, keys: Mapping[str, _Key]) -> dict[str, Any]:
    """Every key's value or default, read. Raises _Wrong with the problems of them all."""
    if not isinstance(value, dict):
        raise _Wrong(f": {_shown(value)} is no mapping: write keys below it: {', '.join(keys)}")
    fields: dict[str, Any] = {}
    problems: list[str] = []
    for name, given in value.items():
        try:
            fields[name] = _known(name, keys).read(given)
        except _Wrong as wrong:
            problems += [f"{_step(name)}{problem}" for problem in wrong.problems]
    for name, key in keys.items():
        if name not in value and key.needed:
            problems.append(f".{name}: missing: {key.needed}")
        elif name not in value:
            fields[name] = key.read(key.default)
    if problems:
        raise _Wrong(*problems)
    return fields


def _known(name: object, keys: Mapping[str, _Key]) -> _Key:
    if isinstance(name, str) and name in keys:
        return keys[name]
    folded = str(name).casefold().replace("-", "_")
    close = difflib.get_close_matches(folded, keys, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"known here are {', '.join(keys)}"
    raise _Wrong(f": unknown key: {remedy}")


def _step(name: object) -> str:
    """A key as a path has it."""
    plain = isinstance(name, str) and name.isidentifier() and len(name) <= _MAX_SHOWN
    return f".{name}" if plain else f"[{_shown(name)}]"


def _shown(value: object) -> str:
    """A value as an error shows it: in one line, and near to what YAML writes."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = ascii(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _section(make: Callable[..., Any], keys: Mapping[str, _Key]) -> Reader:
    def read(value: Any) -> Any:
        return make(**_fields(value, keys))

    return read


def _version(value: Any) -> int:
    if type(value) is not int or value != VERSION:
        raise _Wrong(f": {_shown(value)} is no version that is read here: write {VERSION}")
    return value


def _kubelet(value: Any) -> Kubelet | None:
    if value == NO_KUBELET:
        return None
    if not isinstance(value, dict):
        raise _Wrong(
            f": {_shown(value)} is neither {NO_KUBELET} (nothing here rebuilds pods) nor a mapping:"
            f" write one of them, with the keys {', '.join(_KUBELET)}"
        )
    return Kubelet(**_fields(value, _KUBELET))


def _unit(value: Any) -> str:
    if not isinstance(value, str) or not _UNIT.fullmatch(value):
        raise _Wrong(f": {_shown(value)} is no service: write its unit's name, as kubelet.service")
    return value


def _duration(example: str, least: float = 0) -> Reader:
    """Seconds, of a text such as "5m": more than none, at least `least`, at most a day."""

    def read(value: Any) -> float:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise _Wrong(
                f": {_shown(value)} is no duration: write a number with s, m or h, such as"
                f" {example}"
            )
        seconds = float(match[1]) * _UNITS[match[2]]
        if seconds == 0 or seconds < least:
            raise _Wrong(
                f": {_shown(value)} is too short: write {_least(least)}, such as {example}"
            )
        if seconds > _DAY:
            raise _Wrong(f": {_shown(value)} is longer than a day: write less, such as {example}")
        return seconds

    return read


def _least(seconds: float) -> str:
    return f"at least {seconds:g}s" if seconds else "more than none"


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _Wrong(f": {_shown(value)} is neither of the two: write true or false")
    return value


def _percent(value: Any) -> int:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    number = int(match[1]) if match else value
    if type(number) is not int or not 0 <= number <= 100:
        raise _Wrong(f": {_shown(value)} is no share: write a whole number from 0% to 100%")
    return number


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Wrong(f": {_shown(value)} is no list: write names in brackets, such as [bond4]")
    problems = [
        f"[{index}]: {_shown(name)} is no name for a link (1-127 bytes): write one, such as bond4"
        for index, name in enumerate(value)
        if not isinstance(name, str) or not valid_link_name(name)
    ]
    return _each_once(value, problems)


def _each_once(value: list[Any], problems: list[str]) -> tuple[str, ...]:
    problems += [
        f"[{index}]: {_shown(name)} stands twice: write it once"
        for index, name in enumerate(value)
        if isinstance(name, str) and name in value[:index]
    ]
    if problems:
        raise _Wrong(*problems)
    return tuple(value)


def _addresses(value: list[Any]) -> tuple[str, ...]:
    """As the kernel writes them."""
    texts = [_address(one) for one in value]
    problems = [
        f"[{index}]: {_shown(value[index])} is no address: write one, such as 10.9.0.1"
        for index, text in enumerate(texts)
        if not text
    ]
    return _each_once(texts, problems)


def _address(value: Any) -> str:
    """The address as the kernel writes it; "" where it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, value))
        except (OSError, TypeError, ValueError):
            continue
    return ""


def _required(read_names: Callable[[list[Any]], tuple[str, ...]], example: str) -> Reader:
    """All, or a list."""

    def read(value: Any) -> Required:
        if value == ALL:
            return Required(True, ())
        if not isinstance(value, list):
            raise _Wrong(f": {_shown(value)} is neither all nor a list: write all, or [{example}]")
        return Required(False, read_names(value))

    return read


def _command(value: Any) -> tuple[str, ...]:
    """A list as it is, a text for the shell."""
    if isinstance(value, str):
        if not value.strip():
            raise _Wrong(f": it is empty: {_COMMAND_NEEDED}")
        if "\0" in value:
            raise _Wrong(": a NUL in it would cut it short: leave it out")
        return (*SHELL, value)
    if not isinstance(value, list) or not value:
        raise _Wrong(f": {_shown(value or None)} is no command: {_COMMAND_NEEDED}")
    problems = [
        f"[{index}]: {_shown(word)} is no word of a command: put it in quotes"
        for index, word in enumerate(value)
        if not isinstance(word, str) or "\0" in word
    ]
    if not problems and not re.fullmatch(r"/.*[^/]|[^/]+", value[0], re.DOTALL):
        problems = [f"[0]: {_shown(value[0])} is no program: write its absolute path, or its name"]
    if problems:
        raise _Wrong(*problems)
    return tuple(value)


def _end(value: Any) -> str:
    if value not in (RELEASE, HOLD):
        raise _Wrong(f": {_shown(value)} is nothing to do with kubelet: write {RELEASE} or {HOLD}")
    return str(value)


_COMMAND_NEEDED = "write what upgrades the driver, such as [/usr/local/sbin/upgrade-nic, --yes]"
_KUBELET = {
    "unit": _Key(_unit, "kubelet.service"),
    "deadman": _Key(_duration("15m", least=60), "15m"),
}
_DRIVER = {
    "command": _Key(_command, needed=_COMMAND_NEEDED),
    "deadline": _Key(_duration("5m"), "5m"),
}
_MASTERS = {
    "names": _Key(_names, []),
    "deadline": _Key(_duration("2m"), "2m"),
    "carrier": _Key(_flag, True),
}
_VERIFY = {
    "timeout": _Key(_duration("5s"), "5s"),
    "duplicates": _Key(_flag, False),
}
_REQUIRE = {
    "carrier": _Key(_required(_names, "bond4"), []),
    "gateways": _Key(_required(_addresses, "10.9.0.1"), []),
}
_ON_FAILURE = {
    "driver": _Key(_end, RELEASE),
    "masters": _Key(_end, HOLD),
    "repair": _Key(_end, RELEASE),
    "verify": _Key(_end, RELEASE),
}
_PLAN = {
    "version": _Key(_version, needed=f"write version: {VERSION}"),
    "kubelet": _Key(_kubelet, {}),
    "driver": _Key(_section(Driver, _DRIVER), needed="write driver: with the key command below it"),
    "masters": _Key(_section(Masters, _MASTERS), {}),
    "coverage": _Key(_percent, "100%"),
    "verify": _Key(_section(Verify, _VERIFY), {}),
    "require": _Key(_section(Require, _REQUIRE), {}),
    "on_failure": _Key(_section(OnFailure, _ON_FAILURE), {}),
}
KEYS = frozenset(_PLAN)
