"""The parts of the benchmark: what is done, how often, and in which order.

Peers take turns, and each round begins with the next of them: what else the machine does hits all.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cni_repair.demo.lab import Netns
from integration.bench import names
from integration.bench.errors import PeerError
from integration.bench.figures import Figures, Run
from integration.bench.firstreply import FirstReplies
from integration.bench.forms import forms
from integration.bench.node import Node
from integration.bench.peers import Peer, before, by, detecting, ours
from integration.command import CHECKOUT

T = TypeVar("T")

PARTS = (
    "add-del", "parallel", "repair", "armed", "nothing-lost", "status", "ten", "ipv6", "hostile",
)  # fmt: skip
BY_NAME_ONLY = ("start",)  # it has packages made
_OF_MANY = ("repair", "armed", "nothing-lost", "status", "ten")
_ENOUGH = 20_000.0  # milliseconds that one peer may take at one size: then it has no more turns
_FEW = 10  # pods of many that lost their link
_TEXT = 300  # characters of a refusal


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    adds: int = 100
    parallel: int = 15
    repairs: dict[int, int] = field(  # by pods: rounds
        default_factory=lambda: {1: 20, 10: 11, 50: 7, 200: 7, 500: 5, 2000: 3}
    )
    ipv6: dict[int, int] = field(default_factory=lambda: {1: 20, 200: 7})
    armed: tuple[int, ...] = (200, 2000)
    shell_most: int = 50
    few_of: int = 500
    routes: int = 200_000
    hostile: int = 3
    starts: int = 100


QUICK = Scale(6, 2, {1: 3, 10: 2, 20: 2}, {1: 3, 20: 2}, (20,), 10, 20, 20_000, 1, 6)


@dataclass(frozen=True)
class Bench:
    """What all parts need."""

    launcher: Path
    peers: Sequence[Peer]
    scale: Scale
    figures: Figures
    tell: Callable[[str], None]  # of what begins
    note: Callable[[str], None]  # of what belongs to the figures
    earlier: Path | None = None  # another checkout's launcher, to be measured in turns with ours
    source: Path = CHECKOUT

    def run(self, parts: Sequence[str]) -> None:
        if "add-del" in parts:
            self._add_del()
        if "parallel" in parts:
            self._parallel()
        if wanted := [part for part in _OF_MANY if part in parts]:
            self._many(wanted)
        if "ipv6" in parts:
            self._ipv6()
        if "hostile" in parts:
            self._hostile()
        if "start" in parts:
            self._start()

    # --- ADD and DEL ---

    def _add_del(self) -> None:
        self.tell(f"ADD and DEL, {self.scale.adds} each")
        with Node(self.launcher) as node:
            pods = node.add_pods(1)
            bare, own = node.bare_netconf(), node.netconf()
            peers = [
                (names.BARE, bare, self.launcher),
                (names.OURS, own, self.launcher),
                (names.again(names.BARE), bare, self.launcher),
            ]
            if self.earlier:
                peers.append((names.earlier(names.OURS), own, self.earlier))
            for peer, netconf, launcher in _in_turns(peers, self.scale.adds):
                with by(node, launcher):
                    for verb in (names.ADD, names.DEL):
                        (run,) = node.plugin(verb, netconf, pods)
                        self.figures.add(verb, 1, peer, run)

    def _parallel(self) -> None:
        self.tell(f"{names.PARALLEL} ADD and DEL at once")
        with Node(self.launcher) as node:
            pods = node.add_pods(names.PARALLEL)
            peers = [(names.BARE, node.bare_netconf()), (names.OURS, node.netconf())]
            for peer, netconf in _in_turns(peers, self.scale.parallel):
                for verb, what in (("ADD", names.ADD_PARALLEL), ("DEL", names.DEL_PARALLEL)):
                    *_, together = node.plugin(verb, netconf, pods)
                    self.figures.add(what, names.PARALLEL, peer, together)

    # --- Start-up ---

    def _start(self) -> None:
        """CNI_COMMAND=VERSION of each form: nothing but the start of the program."""
        self.tell("the packages: making, installing")
        with tempfile.TemporaryDirectory(prefix="forms-", dir="/var/tmp") as directory:
            started = [*forms(self.source, self.launcher, Path(directory))]
            self.tell(f"VERSION, {self.scale.starts} each")
            with Node(self.launcher) as node:
                stdin = node.directory / "version"
                stdin.write_text('{"cniVersion": "1.0.0"}')
                for form in _in_turns(started, self.scale.starts):
                    call = (form.command, {"CNI_COMMAND": "VERSION"}, str(stdin))
                    (run,) = node.spawn(f"{names.START}, {form.name}", [call])
                    self.figures.add(names.START, 1, form.name, run)

    # --- Many pods ---

    def _many(self, parts: Sequence[str]) -> None:
        sizes = self.scale.repairs
        if parts == ["ten"]:
            sizes = {self.scale.few_of: sizes[self.scale.few_of]}
        with Node(self.launcher) as node:
            for pods, rounds in sizes.items():
                self.tell(f"{pods} pods: attaching")
                node.attach(pods)
                if "repair" in parts:
                    self._repair(node, rounds)
                self._idle(node, parts, rounds)
                if "armed" in parts and pods in self.scale.armed:
                    self._armed(node, rounds)
                if "ten" in parts and pods == self.scale.few_of:
                    self._ten(node, rounds)

    def _repair(self, node: Node, rounds: int) -> None:
        pods = len(node.pods)
        self.tell(f"{pods} pods: all lost, {rounds} rounds")
        able = [peer for peer in self.peers if pods <= peer.most]
        spent = dict.fromkeys((peer.name for peer in able), 0.0)
        for peer in _in_turns(able, rounds):
            if spent[peer.name] >= _ENOUGH:
                continue
            node.lose()
            run = peer.repair(node)
            spent[peer.name] += run.milliseconds
            node.check(peer.name)
            self.figures.add(names.REPAIR, pods, peer.name, run)

    def _armed(self, node: Node, rounds: int) -> None:
        """By the index that a snapshot leaves; and by a process that armed the pods before, as
        `cni-repair watch` does. It goes at the end: the others have no index."""
        pods = len(node.pods)
        self.tell(f"{pods} pods: all lost, armed, {rounds} rounds")
        floors = [peer for peer in self.peers if peer.name == names.FLOOR]
        for peer in _in_turns([*ours(), *floors], rounds):
            node.cli_run("snapshot")
            node.lose()
            run = peer.repair(node)
            node.check(peer.name)
            self.figures.add(names.REPAIR_ARMED, pods, peer.name, run)
            if peer in floors:
                self.figures.add(names.FIRED, pods, names.OURS, node.fired())
                node.check(names.FIRED)
        for index in Path(node.run_dir).glob("armed-*.index"):
            index.unlink()

    def _idle(self, node: Node, parts: Sequence[str], rounds: int) -> None:
        """What cni-repair costs where there is nothing to repair."""
        pods = len(node.pods)
        asked = []
        if "nothing-lost" in parts:
            asked += [(names.NOTHING_LOST, peer) for peer in ours(self.earlier)]
        if "status" in parts:
            status = Peer(names.COMMAND, lambda node: node.cli_run("status"))
            asked.append((names.STATUS, status))
            if self.earlier:
                asked.append((names.STATUS, before(status, self.earlier)))
        if asked:
            self.tell(f"{pods} pods: nothing lost, {rounds} rounds")
        for what, peer in _in_turns(asked, rounds):
            self.figures.add(what, pods, peer.name, peer.repair(node))
        node.check(names.NOTHING_LOST)

    def _ten(self, node: Node, rounds: int) -> None:
        pods = node.pods[:: max(1, len(node.pods) // _FEW)][:_FEW]
        self.tell(f"{_FEW} of {len(node.pods)} pods lost, {rounds} rounds")
        for peer in _in_turns(ours(), rounds):
            for pod in pods:
                node.ip(pod, "link", "delete", "eth0")
            run = peer.repair(node)
            node.check(peer.name)
            self.figures.add(names.TEN, len(node.pods), peer.name, run)

    # --- IPv6 ---

    def _ipv6(self) -> None:
        """Without duplicate address detection, which is a wait."""
        with Node(self.launcher, ipv6=True) as node:
            for pods, rounds in self.scale.ipv6.items():
                self.tell(f"{pods} pods with IPv6, too: all lost, {rounds} rounds")
                node.attach(pods)
                for peer in _in_turns(ours(self.earlier), rounds):
                    node.lose()
                    run = peer.repair(node)
                    node.check(peer.name)
                    self.figures.add(names.REPAIR_IPV6, pods, peer.name, run)
        self._first_replies(self.scale.ipv6[1])

    def _first_replies(self, rounds: int) -> None:
        """Of one pod, with detection, as it is on any real node."""
        self.tell(f"first replies of 1 pod, IPv4 and IPv6, {rounds} rounds")
        with Node(self.launcher, ipv6=True, detect_duplicates=True) as node:
            node.attach(1)
            for peer in _in_turns(detecting(self.earlier), rounds):
                node.lose()
                with FirstReplies(node, node.pods[0]) as replies:
                    begun = time.monotonic()
                    run = peer.repair(node)
                    replies.wait()
                for family, at in replies.at.items():
                    reply = Run((at - begun) * 1000, run.worked, run.kib)
                    self.figures.add(f"{names.FIRST_REPLY}, {family}", 1, peer.name, reply)

    # --- A hostile pod ---

    def _hostile(self) -> None:
        """A pod gives itself more routes than anybody needs.

        It may be refused, its own loss; what counts is that others do not wait for it.
        """
        for family in ("IPv4", "IPv6"):
            for through in ("eth0", "lo"):
                what = f"{names.HOSTILE}, {self.scale.routes:,} {family} routes through {through}"
                self.tell(what)
                with Node(self.launcher, 1, ipv6=True, accepted=(0, 1)) as node:
                    node.attach(1)
                    self._flood(node, family, through)
                    self._look_and_repair(node, what, through)

    def _flood(self, node: Node, family: str, through: str) -> None:
        (pod,) = node.pods
        node.ip(pod, "link", "set", "lo", "up")
        batch = node.directory / "routes"
        with batch.open("w") as lines:
            for number in range(self.scale.routes):
                lines.write(f"route add {_destination(family, number)} dev {through}\n")
        node.ip(pod, "-batch", str(batch))

    def _look_and_repair(self, node: Node, what: str, through: str) -> None:
        """What goes through eth0 would go with it: there the default route alone is lost."""
        (pod,) = node.pods
        was = _essence(node, pod)
        said = {}
        for peer in _in_turns(ours(), self.scale.hostile):
            look = node.cli_run("status")
            self.figures.add(f"{names.STATUS}, {what}", 1, names.COMMAND, look)
            if through == "eth0":
                node.ip(pod, "route", "flush", "exact", "default")
            else:
                node.lose()
            run = peer.repair(node)
            self.figures.add(f"repair, {what}", 1, peer.name, run)
            if run.status:
                said[peer.name] = node.said()
            elif _essence(node, pod) != was:
                raise PeerError(f"{peer.name}: {what}: not as it was: {_essence(node, pod)}")
        for name, text in said.items():
            self.note(f"{what}: {name}: refused: {text[:_TEXT]}")


def _destination(family: str, number: int) -> str:
    high, low = number >> 16, number & 0xFFFF
    if family == "IPv6":
        return f"fd99::{high:x}:{low:x}/128"
    return f"100.{64 + high}.{low >> 8}.{low & 0xFF}/32"


def _essence(node: Node, pod: Netns) -> str:
    """The pod's address and gateways, without the flood."""
    addresses = node.ip_json(pod, "addr", "show", "dev", "eth0", "scope", "global")
    asked = [node.ip_json(pod, family, "route", "show", "default") for family in ("-4", "-6")]
    addresses[0].pop("link_index")
    return json.dumps([addresses, asked])


def _in_turns(peers: Iterable[T], rounds: int) -> Iterator[T]:
    """All peers once a round; each round begins with the next of them."""
    peers = list(peers)
    for number in range(rounds):
        first = number % max(1, len(peers))
        yield from peers[first:] + peers[:first]
