"""What a run of cni-repair asks of the kernel, counted from strace's diary of it.

Counted is the first process, with what it forks up to an execve: how many threads and system calls
a delegate's Go runtime makes is its own affair, and never twice the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

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
            costs.messages.update(map(_kind_of, _MESSAGE.findall(call.text)))
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
