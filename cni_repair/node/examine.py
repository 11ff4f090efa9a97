"""Looking at attachments: each checkpoint beside what the kernel has now. Changes nothing."""

from __future__ import annotations

import os
import struct

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import INTERNAL, IO, STALE, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint.identity import Stale, belongs_to_sandbox, check_cookie, open_identified
from cni_repair.netlink import netns as namespaces
from cni_repair.netlink.netns import entered, open_netns, open_own, same_netns
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.apply import NamespacePair
from cni_repair.network.observe import observe_pod, with_all, with_recorded
from cni_repair.network.planning import plan as planning
from cni_repair.network.planning.lifetimes import aged, now
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node.report import UNREADABLE, Report
from cni_repair.uplink import ensure as parents
from cni_repair.uplink.fallback import other_chains
from cni_repair.uplink.plan import MISSING, READY, REFUSED, RENAMED, ParentPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.model import Attachment, HostLink, Observed
    from cni_repair.network.operations.base import Operation
    from cni_repair.uplink.belongings import NodeSide

    T = TypeVar("T")
    Parents = tuple[tuple[HostLink, ...], bool]  # the recorded chain, and whether to follow a card

# What one attachment's repair may fail with, and the others go on. The last two would be of a
# checkpoint that cannot be put into a message. (RuntimeError is not among them: see `entered`.)
POD_FAILURES = (CniError, OSError, ValueError, LookupError, struct.error)
# The states of pods that are there, with an interface that is theirs.
REPAIRABLE = (HEALTHY, LOST, DEGRADED)


class Node(Closeable):
    """The node that this process is in: its namespace, and a netlink socket of it."""

    def __init__(self) -> None:
        namespaces.setns_function()
        self.own = open_own()
        self.rtnl = Rtnetlink()

    def close(self) -> None:
        self.rtnl.close()
        os.close(self.own)


def in_pod(
    node: Node, checkpoint: Checkpoint, given_netns: str, work: Callable[[NamespacePair], T]
) -> T:
    """Do `work` inside the attachment's namespace, after it was identified."""
    netns = _open(node, checkpoint, given_netns)
    path = given_netns or checkpoint.netns_path
    try:
        with entered(netns, node.own), Rtnetlink() as rtnl:
            if checkpoint.netns is not None:
                check_cookie(checkpoint.netns, rtnl.sock)
            return work(NamespacePair(rtnl, netns, path, node.rtnl, node.own))
    finally:
        os.close(netns)


def _open(node: Node, checkpoint: Checkpoint, given: str) -> int:
    if checkpoint.netns is not None:
        return open_identified(checkpoint.netns, node.own, given)
    # The seed's checkpoints: the caller vouches for the namespace, or the PID's cgroup does.
    sandbox = checkpoint.key.container_id
    if not given and not belongs_to_sandbox(checkpoint.netns_path, sandbox):
        raise Stale(f"the cgroup of {checkpoint.netns_path} does not name sandbox {sandbox}")
    netns = open_netns(given or checkpoint.netns_path)
    if same_netns(netns, node.own):
        os.close(netns)
        raise Stale(f"{given or checkpoint.netns_path} is the node's own network namespace")
    return netns


def examine(
    node: Node, entries: list[Entry], given_netns: str = "", side: NodeSide | None = None
) -> list[Report]:
    """What is lost, and what would bring it back; changes nothing, takes no lock.

    With `side`, what the node itself had over the masters is looked at, too.
    """
    masters = Masters(node, side)
    return [_examine(node, entry, given_netns, masters) for entry in entries]


class Masters:
    """The masters of all attachments, looked at once each."""

    def __init__(self, node: Node, side: NodeSide | None = None) -> None:
        self._node = node
        self._side = side
        self._seen: dict[Parents, tuple[ParentPlan, HostLink | None]] = {}
        self._told: set[Parents] = set()
        self._findings: set[str] = set()
        self._commands: set[str] = set()

    def look(self, wanted: Parents) -> tuple[ParentPlan, HostLink | None]:
        if wanted not in self._seen:
            on_vlans = self._side.remembered(wanted[0]) if self._side else ()
            self._seen[wanted] = parents.look(self._node.rtnl, *wanted, on_vlans)
        return self._seen[wanted]

    def new(self, commands: Iterable[str]) -> list[str]:
        """Those of a pod's commands that no other of its attachments has said: a route with next
        hops through two of them, or a rule, stands in the records of both."""
        fresh = [command for command in commands if command not in self._commands]
        self._commands.update(fresh)
        return fresh

    def told(self, wanted: Parents) -> tuple[list[str], list[str]]:
        """What it takes to have the master again, with what the node itself had over it, as
        commands; and what is to be said of the latter. Both with the first pod over it."""
        if wanted in self._told:
            return [], []
        self._told.add(wanted)
        steps = self._seen[wanted][0].operations
        commands = [step.describe("") for step in steps]
        if self._side is None:
            return commands, []
        try:
            more, notes = self._of_the_node(self._side, wanted[0], steps)
        except POD_FAILURES as error:
            return commands, [f"the node's side was not looked at: {wrapped(error)}"]
        return [*commands, *more], notes

    def _of_the_node(
        self, side: NodeSide, chain: tuple[HostLink, ...], first: tuple[Operation, ...]
    ) -> tuple[list[str], list[str]]:
        made = frozenset(step.ifname for step in first if step.over)
        commands: list[str] = []
        notes = []
        plans = side.shims(chain, made)
        for plan in plans:
            if plan.finding not in self._findings:  # chains share their lower links
                self._findings.add(plan.finding)
                commands += [step.describe("") for step in plan.operations]
                notes.append(plan.finding)
        unlike = {plan.name for plan in plans}
        lack = [one for one in side.lack(chain, unlike) if one not in self._findings]
        self._findings.update(lack)
        if lack:
            remedy = "left alone; cni-repair snapshot takes that as meant"
            notes.append(f"the node lacks what it had ({remedy}): {'; '.join(lack)}")
        return commands, notes


def _examine(node: Node, entry: Entry, given_netns: str, masters: Masters) -> Report:
    checkpoint = entry.checkpoint
    if checkpoint is None:
        return unreadable(entry)
    wanted = parents_of(checkpoint)
    try:
        parent_plan, master = masters.look(wanted)
        observed = in_pod(node, checkpoint, given_netns, lambda sides: observe(sides, checkpoint))
        found = planned(checkpoint, observed, master)
    except POD_FAILURES as error:
        return failed(checkpoint, given_netns, wrapped(error))
    findings = with_parents(checkpoint, found, parent_plan)
    netns = given_netns or checkpoint.netns_path
    actions: list[str] = []
    notes: list[str] = []
    # A repair makes nothing over a link that is refused: pods would stand on another network.
    if found.state in REPAIRABLE and parent_plan.state not in (REFUSED, RENAMED):
        actions, notes = masters.told(wanted)
        actions += masters.new(step.describe(netns) for step in found.operations)
    return Report(
        checkpoint.key,
        checkpoint,
        netns,
        found.state,
        findings,
        tuple(actions),
        notes=tuple(notes),
    )


def with_parents(
    checkpoint: Checkpoint, found: planning.Plan, parent_plan: ParentPlan | None
) -> tuple[str, ...]:
    """What is wrong with an attachment, with what is wrong with its master where that matters."""
    # (That a usable master is down, the finding about a present link's carrier says already.)
    if parent_plan is None or found.state == HEALTHY:
        return found.findings
    findings = found.findings
    lost = found.state == LOST
    if parent_plan.reason and (lost or parent_plan.state != READY):
        findings = (*findings, parent_plan.reason)
    if lost and parent_plan.state == MISSING and (others := other_chains(checkpoint)):
        names = ", then ".join(chain[0].name for chain in others)
        findings = (*findings, f"repair waits for it, then moves the pod to {names}")
    return findings


def observe(sides: NamespacePair, checkpoint: Checkpoint) -> Observed:
    """The attachment's interface as it is, as far as it is recorded."""
    wanted = checkpoint.attachment
    # (Until a record is settled, sysctls are given to what is set up, and not compared.)
    return with_recorded(sides.pod, _observe(sides, wanted, wanted.settled), wanted)


def planned(checkpoint: Checkpoint, observed: Observed, master: HostLink | None) -> planning.Plan:
    """The verdict on an attachment, by its record and what was observed, as of now."""
    attachment = aged(checkpoint.attachment, now())
    if len(attachment.addresses) != len(checkpoint.attachment.addresses) and not observed.link:
        left = {one.key for one in attachment.addresses}
        expired = [one for one in checkpoint.attachment.addresses if one.key not in left]
        words = [f"address {one.address}/{one.prefix}: its lifetime has ended" for one in expired]
        observed = replace(observed, troubles=(*observed.troubles, *words))
    return planning.plan(attachment, observed, master)


def observe_all(sides: NamespacePair, checkpoint: Checkpoint) -> Observed:
    """The attachment's interface as it is, with everything that a checkpoint may hold."""
    wanted = checkpoint.attachment
    return with_all(sides.pod, _observe(sides, wanted), wanted.ifname)


def _observe(sides: NamespacePair, wanted: Attachment, sysctls: bool = True) -> Observed:
    netns, ifindex = sides.node_netns, wanted.link.ifindex
    return observe_pod(sides.pod, netns, wanted.ifname, ifindex, sysctls=sysctls)


def parents_of(checkpoint: Checkpoint) -> Parents:
    """What an attachment stands on: shared by most pods of a node, and looked at once for all."""
    return checkpoint.attachment.parents, checkpoint.attachment.follow_renamed_master


def unreadable(entry: Entry) -> Report:
    return Report(entry.key, None, "", UNREADABLE, error=entry.error)


def failed(checkpoint: Checkpoint, netns: str, error: CniError, state: str = DEGRADED) -> Report:
    state = planning.STALE if error.code == STALE else state
    return Report(checkpoint.key, checkpoint, netns or checkpoint.netns_path, state, error=error)


def wrapped(error: Exception) -> CniError:
    if isinstance(error, CniError):
        return error
    if not isinstance(error, OSError):
        return CniError(INTERNAL, f"a bug in cni-repair: {type(error).__name__}: {error}")
    return CniError(IO, "the system refused", f"{error.strerror} ({error.filename or error.errno})")
