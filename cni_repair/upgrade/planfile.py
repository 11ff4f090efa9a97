"""The upgrade plan: what the engineer decides before the driver is touched, read strictly.

Its published form is schema/upgrade.json; `conf/upgrade.yaml` explains every key. All that is
wrong with a plan is said at once.
"""

from __future__ import annotations

import re
import socket

from cni_repair.base.frozen import frozen
from cni_repair.base.keyed import (
    DocumentError,
    Key,
    Wrong,
    duration,
    each_once,
    fields_of,
    flag,
    read_document,
    read_yaml,
    section,
    service,
    shown,
    version,
)
from cni_repair.base.names import valid_link_name
from cni_repair.upgrade.drivercommand import SHELL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.base.keyed import Reader

VERSION = 1
RELEASE = "release"
HOLD = "hold"
NO_KUBELET = "none"
ALL = "all"
_PERCENT = re.compile(r"([0-9]{1,3})%")


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


class PlanError(DocumentError):
    """A plan that is not followed."""

    kind = "upgrade plan"


def read_plan(path: str) -> Plan:
    """The plan in a file. Raises PlanError."""
    return plan_of(read_yaml(path, PlanError, _bytes_of), path)


def _bytes_of(path: str, most: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(most)


def plan_of(document: Any, what: str = "this") -> Plan:
    """The plan that a decoded document holds; `what` names it in the error. Raises PlanError."""
    values = read_document(document, _PLAN, what, PlanError)
    del values["version"]
    return Plan(**values, document=document)


# --- readers: each takes a value of the document and gives ours ---------------------------------


def _kubelet(value: object) -> Kubelet | None:
    if value == NO_KUBELET:
        return None
    if not isinstance(value, dict):
        raise Wrong(
            f": {shown(value)} is neither {NO_KUBELET} (nothing here rebuilds pods) nor a mapping:"
            f" write one of them, with the keys {', '.join(_KUBELET)}"
        )
    return Kubelet(**fields_of(value, _KUBELET))


def _percent(value: object) -> int:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    number = int(match[1]) if match else value
    if type(number) is not int or not 0 <= number <= 100:
        raise Wrong(f": {shown(value)} is no share: write a whole number from 0% to 100%")
    return number


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Wrong(f": {shown(value)} is no list: write names in brackets, such as [bond4]")
    problems = [
        f"[{index}]: {shown(name)} is no name for a link (1-127 bytes): write one, such as bond4"
        for index, name in enumerate(value)
        if not isinstance(name, str) or not valid_link_name(name)
    ]
    return each_once(value, problems)


def _addresses(value: list[Any]) -> tuple[str, ...]:
    """As the kernel writes them."""
    texts = [_address(one) if isinstance(one, str) else "" for one in value]
    problems = [
        f"[{index}]: {shown(value[index])} is no address: write one, such as 10.9.0.1"
        for index, text in enumerate(texts)
        if not text
    ]
    return each_once(texts, problems)


def _address(text: str) -> str:
    """The address as the kernel writes it; "" where it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_ntop(family, socket.inet_pton(family, text))
        except (OSError, ValueError):
            continue
    return ""


def _required(read_names: Callable[[list[Any]], tuple[str, ...]], example: str) -> Reader:
    """All, or a list."""

    def read(value: object) -> Required:
        if value == ALL:
            return Required(True, ())
        if not isinstance(value, list):
            raise Wrong(f": {shown(value)} is neither all nor a list: write all, or [{example}]")
        return Required(False, read_names(value))

    return read


def _command(value: object) -> tuple[str, ...]:
    """A list as it is, a text for the shell."""
    if isinstance(value, str):
        if not value.strip():
            raise Wrong(f": it is empty: {_COMMAND_NEEDED}")
        if "\0" in value:
            raise Wrong(": a NUL in it would cut it short: leave it out")
        return (*SHELL, value)
    if not isinstance(value, list) or not value:
        raise Wrong(f": {shown(value or None)} is no command: {_COMMAND_NEEDED}")
    problems = [
        f"[{index}]: {shown(word)} is no word of a command: put it in quotes"
        for index, word in enumerate(value)
        if not isinstance(word, str) or "\0" in word
    ]
    if not problems and not re.fullmatch(r"/.*[^/]|[^/]+", value[0], re.DOTALL):
        problems = [f"[0]: {shown(value[0])} is no program: write its absolute path, or its name"]
    if problems:
        raise Wrong(*problems)
    return tuple(value)


def _end(value: object) -> str:
    if value not in (RELEASE, HOLD):
        raise Wrong(f": {shown(value)} is nothing to do with kubelet: write {RELEASE} or {HOLD}")
    return str(value)


_COMMAND_NEEDED = "write what upgrades the driver, such as [/usr/local/sbin/upgrade-nic, --yes]"
_KUBELET = {
    "unit": Key(service, "kubelet.service"),
    "deadman": Key(duration("15m", least=60), "15m"),
}
_DRIVER = {
    "command": Key(_command, needed=_COMMAND_NEEDED),
    "deadline": Key(duration("5m"), "5m"),
}
_MASTERS = {
    "names": Key(_names, []),
    "deadline": Key(duration("2m"), "2m"),
    "carrier": Key(flag, True),
}
_VERIFY = {
    "timeout": Key(duration("5s"), "5s"),
    "duplicates": Key(flag, False),
}
_REQUIRE = {
    "carrier": Key(_required(_names, "bond4"), []),
    "gateways": Key(_required(_addresses, "10.9.0.1"), []),
}
_ON_FAILURE = {
    "driver": Key(_end, RELEASE),
    "masters": Key(_end, HOLD),
    "repair": Key(_end, RELEASE),
    "verify": Key(_end, RELEASE),
}
_PLAN = {
    "version": Key(version(VERSION), needed=f"write version: {VERSION}"),
    "kubelet": Key(_kubelet, {}),
    "driver": Key(section(Driver, _DRIVER), needed="write driver: with the key command below it"),
    "masters": Key(section(Masters, _MASTERS), {}),
    "coverage": Key(_percent, "100%"),
    "verify": Key(section(Verify, _VERIFY), {}),
    "require": Key(section(Require, _REQUIRE), {}),
    "on_failure": Key(section(OnFailure, _ON_FAILURE), {}),
}
KEYS = frozenset(_PLAN)
