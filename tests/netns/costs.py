"""What a run of cni-repair asks of the kernel, counted from strace's diary of it.

What was recorded is in costs.json; `judge` tells more from less.

Counted is the first process, with what it forks up to an execve: how many threads and system calls
a delegate's Go runtime makes is its own affair, and never twice the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TypeAlias

from cni_repair.netlink import constants

# Every message of a datagram, however many there are (abbrev, -s); the next word is the file.
STRACE = ("strace", "-f", "-qq", "-e", "abbrev=none", "-s", "1000000", "-o")

_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ (?P<resumed>resumed)>|(?P<name>\w+)\()(?P<rest>.*)")
_UNFINISHED = "<unfinished ...>"
_RESULT = re.compile(r" = (-?\d+)(?: [A-Z].*)?$")
_RESTARTED = re.compile(r" = \? ERESTART(?:SYS|NOINTR) ")
# Asked of the kernel only where its vDSO has no clock to read, as on many virtual machines.
_UNCOUNTED = {"clock_gettime"}
_SENDING = {"sendto", "sendmsg", "sendmmsg"}
_FORKING = {"clone", "clone3", "fork", "vfork"}
_MESSAGE = re.compile(r"nlmsg_len=\d+, nlmsg_type=(\w+)")
_KINDS = {number: name for name, number in vars(constants).items() if name.startswith("RTM_")}
_MODULE = re.compile(r'"[^"]*/(?:site-packages|lib-dynload|python3\.\d+)/([^"]+\.(?:pyc?|so))"')


@dataclass
class Costs:
    """What one run did."""

    calls: Counter[str] = field(default_factory=Counter)  # system calls, by name
    messages: Counter[str] = field(default_factory=Counter)  # of netlink, sent, by type
    sends: int = 0  # by which these were sent
    # Modules read from a file: those that are built in, or frozen, cost next to nothing.
    own: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)  # of these the source was read, and compiled


def costs_of(trace: Iterable[str]) -> Costs:
    """Count the lines that STRACE wrote."""
    costs = Costs()
    for call in _own(_calls(trace)):
        if call.restarted or call.name in _UNCOUNTED:
            continue
        costs.calls[call.name] += 1
        if call.name in _SENDING:
            kinds = [_kind_of(word) for word in _MESSAGE.findall(call.text)]
            costs.messages.update(kinds)
            costs.sends += bool(kinds)
        elif call.name == "openat" and call.result >= 0:
            _note_module(costs, call.text)
    return costs


@dataclass
class _Call:
    pid: int
    name: str
    text: str

    @property
    def result(self) -> int:
        """Less than 0 where it failed, or did not return."""
        found = _RESULT.search(self.text)
        return int(found[1]) if found else -1

    @property
    def restarted(self) -> bool:
        """Whether the kernel makes it again by itself: a read of some sysctls (addr_gen_mode) until
        nobody else holds the RTNL, which may be thousands of times."""
        return bool(_RESTARTED.search(self.text))


def _calls(trace: Iterable[str]) -> Sequence[_Call]:
    """In the order in which they began; what others came between is put together again."""
    calls: list[_Call] = []
    unfinished: dict[int, _Call] = {}
    for line in trace:
        match = _LINE.match(line.rstrip("\n"))
        if match is None:  # a signal, or a process's end
            continue
        pid, rest = int(match[1]), match["rest"]
        if match["resumed"]:
            unfinished.pop(pid).text += rest
            continue
        calls.append(_Call(pid, match["name"], rest.removesuffix(_UNFINISHED)))
        if rest.endswith(_UNFINISHED):
            unfinished[pid] = calls[-1]
    return calls


def _own(calls: Sequence[_Call]) -> Iterator[_Call]:
    """Those of the first process, and of what it forked until that became another program."""
    own = {call.pid for call in calls[:1]}
    for number, call in enumerate(calls):
        if call.pid not in own:
            continue
        yield call
        if call.name in _FORKING and call.result > 0:
            own.add(call.result)
        elif call.name == "execve" and call.result == 0 and number > 0:
            own.remove(call.pid)


def _kind_of(word: str) -> str:
    """strace cannot tell what sort of netlink a pod's socket speaks, and gives a number then."""
    return _KINDS.get(int(word, 16), word) if word.startswith("0x") else word


def _note_module(costs: Costs, text: str) -> None:
    match = _MODULE.search(text)
    if match is None:
        return
    file = PurePath(match[1])
    packages = [part for part in file.parent.parts if part != "__pycache__"]
    name = ".".join([*packages, file.name.partition(".")[0]]).removesuffix(".__init__")
    if file.suffix == ".py":
        costs.sources.add(name)
    elif name.partition(".")[0] == "cni_repair":
        costs.own.add(name)
    else:
        costs.foreign.add(name)


# What a figure consists of: how many of each system call, type of message, or module.
Parts: TypeAlias = Mapping[str, float]
Figures: TypeAlias = Mapping[str, Parts]
# As costs.json has it: modules by their names, messages by their types, of system calls the sum.
Recorded: TypeAlias = float | Mapping[str, float] | Sequence[str]

CALLS, MESSAGES, OWN, FOREIGN = "system calls", "messages", "own modules", "foreign modules"
CALLS_A_POD, MESSAGES_A_POD = "system calls a pod", "messages a pod"
# How often memory is asked for (brk, mmap) depends on where it happens to lie. In 20 runs, ten of
# them beside busy loops or others that held the RTNL, messages and modules were the same.
_ROOM = {CALLS: 0.1, CALLS_A_POD: 0.1}


@dataclass(frozen=True)
class Verdict:
    """What to say of a figure that is not as recorded."""

    more: str = ""  # it failed
    less: str = ""  # good: to be recorded


def judge(figure: str, measured: Parts, recorded: Recorded) -> Verdict:
    """Compare a figure with what was recorded; of system calls a tenth more or less is the same."""
    value, before = total(measured), _total_recorded(recorded)
    room = _ROOM.get(figure, 0.0) * before
    told = f"{value:.6g} {figure}, recorded {before:.6g}"
    if value > before + room:
        return Verdict(more=f"{told}: {_difference(measured, _parts(recorded))}")
    if value < before - room:
        return Verdict(less=told)
    return Verdict()


def to_record(figure: str, measured: Parts) -> Recorded:
    """A measured figure as costs.json is to have it."""
    if figure in _ROOM:
        return total(measured)
    if figure in (OWN, FOREIGN):
        return sorted(measured)
    return {name: round(number, 4) for name, number in sorted(measured.items()) if number}


def total(parts: Parts) -> float:
    return round(sum(parts.values()), 4)  # a sum of 49ths may be a trifle more than a whole number


def _total_recorded(recorded: Recorded) -> float:
    return recorded if isinstance(recorded, (int, float)) else total(_parts(recorded))


def _parts(recorded: Recorded) -> Parts:
    if isinstance(recorded, (int, float)):
        return {}
    return recorded if isinstance(recorded, Mapping) else dict.fromkeys(recorded, 1)


def _difference(measured: Parts, recorded: Parts) -> str:
    """What there is more of; all of it where only the sum was recorded."""
    more = {name: number - recorded.get(name, 0) for name, number in measured.items()}
    ordered = sorted(more.items(), key=lambda part: (-part[1], part[0]))
    return ", ".join(f"{number:.3g} {name}" for name, number in ordered if number > 0.001)
