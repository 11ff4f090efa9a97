"""Repairs that are prepared while their master is away, and fired once it is back.

Arming is the ordinary look and the ordinary plan of each lost attachment, with its master as it is
recorded; what the plan's steps would send is kept as bytes, and the few numbers that only the
moment tells are put in at firing (firing). Nothing of a pod is held open between the two: an open
namespace keeps a dead pod's interface alive, and answering.
"""

from __future__ import annotations

import errno
import marshal

from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import mark_of
from cni_repair.netlink.constants import IFLA_LINK, IFLA_NET_NS_FD, NLM_F_REPLACE
from cni_repair.netlink.prepared import place_in_link, prepared
from cni_repair.network.observed import Observed
from cni_repair.network.operations.base import Target
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node.context import POD_FAILURES, in_pod, wrapped
from cni_repair.node.leases import given_addresses, store_of
from cni_repair.node.verdict import observe, parents_of, planned, unannounced
from cni_repair.repair.armed.firing import ArmedPod, Firing
from cni_repair.repair.armed.ready import Armed
from cni_repair.repair.attachment import is_asked_for
from cni_repair.repair.pod import PodLook, as_recorded, with_beginnings_of_ipv6
from cni_repair.repair.session import detects_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Mark, Store
    from cni_repair.netlink.codec import Message
    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.operations.base import Operation
    from cni_repair.node.context import Node
    from cni_repair.repair.session import RepairOptions
    from cni_repair.uplink.ensure import Parents

# More than that are no matter of one send: see network/apply.
_MOST_MESSAGES = 50
# And a pod that makes routes of hundreds of hops is not to make the index long, which every repair
# reads. (Usual are 300 bytes.)
_MOST_BYTES = 1 << 14


def arm(
    node: Node, store: Store, entries: Iterable[Entry], options: RepairOptions, others: int = 0
) -> Armed:
    """Prepare the repair of the attachments that are lost; the caller closes the answer.

    So many `others` are forked, and wait: they fire together with this process.
    """
    arming = Arming(node, store, options)
    for entry in entries:
        arming.add(entry)
    armed = Armed(Firing(node, store), arming.pods(), arming.chains, arming.refused, others)
    armed.start()
    return armed


class _NotArmed(Exception):
    """Why an attachment has to be repaired the ordinary way, in words."""


class Arming:
    """Looking at attachments, and preparing their repair."""

    def __init__(
        self, node: Node, store: Store, options: RepairOptions, beforehand: bool = False
    ) -> None:
        """`beforehand`: those that are there are prepared, too, as if they were lost."""
        self._node = node
        self._store = store
        self._options = options
        self._beforehand = beforehand
        self._found: dict[object, list[ArmedPod | None]] = {}  # None: it has to be the ordinary way
        self._chains: dict[Parents, int] = {}
        self.refused: dict[str, int] = {}

    @property
    def chains(self) -> dict[int, Parents]:
        """What the armed attachments stand on."""
        return {number: parents for parents, number in self._chains.items()}

    def pods(self) -> list[list[ArmedPod]]:
        """The armed attachments, pod by pod. Of a pod whose interfaces are not all armed none is:
        the order in which its routes are made counts."""
        whole = []
        for pod in self._found.values():
            armed = [one for one in pod if one is not None]
            if len(armed) == len(pod):
                whole.append(armed)
            elif armed:
                self._count("another interface of its pod is not armed", len(armed))
        return whole

    def add(self, entry: Entry) -> None:
        """Prepare one more, if it is lost."""
        checkpoint = entry.checkpoint
        known = checkpoint.netns.netns_id if checkpoint and checkpoint.netns else entry.key
        try:
            armed = self._armed(entry)
        except _NotArmed as why:
            self._count(str(why), 1)
            self._found.setdefault(known, []).append(None)
        except POD_FAILURES as error:
            self._count(wrapped(error).msg, 1)
            self._found.setdefault(known, []).append(None)
        else:
            if armed is not None:
                self._found.setdefault(known, []).append(armed)

    def _count(self, why: str, count: int) -> None:
        self.refused[why] = self.refused.get(why, 0) + count

    def _armed(self, entry: Entry) -> ArmedPod | None:
        checkpoint = entry.checkpoint
        if checkpoint is None:
            raise _NotArmed("its record is not used")
        if checkpoint.netns is None:
            raise _NotArmed("its record does not identify its namespace")
        mark = self._mark_of_record(entry)
        # Before the plan, for which they are read.
        leases = _marks_of_leases(checkpoint)
        look = self._look(checkpoint)
        if look.plan.state != LOST:
            if look.plan.state == HEALTHY:
                return None
            raise _NotArmed(f"it is {look.plan.state}")
        self._check(checkpoint, look)
        return self._prepared(entry, mark, leases, look)

    def _mark_of_record(self, entry: Entry) -> Mark:
        mark = mark_of(entry.file, self._store.fd)
        if self._store.read(entry.file) != entry.raw:
            raise _NotArmed("its record was changed")
        return mark

    def _look(self, checkpoint: Checkpoint) -> PodLook:
        """As a repair would, once the master is there as it is recorded."""
        force, master = self._options.force, checkpoint.attachment.parents[0]
        beside = detects_beside(self._options, checkpoint)

        def look(namespaces: NamespacePair) -> PodLook:
            observed = observe(namespaces, checkpoint)
            if self._beforehand and observed.link is not None:
                plan = planned(checkpoint, observed, None, force)
                if plan.state not in (HEALTHY, DEGRADED):
                    return PodLook(checkpoint, namespaces.pod_path, observed, plan)
                observed = without_link(observed)
            if beside:
                observed = with_beginnings_of_ipv6(checkpoint, observed)
            plan = planned(checkpoint, observed, master, force, beside)
            return PodLook(checkpoint, namespaces.pod_path, observed, plan)

        return in_pod(self._node, checkpoint, "", look)

    def _check(self, checkpoint: Checkpoint, look: PodLook) -> None:
        """Refuse what depends on more than the few numbers that are put in later."""
        plan = look.plan
        if plan.unvouched and is_asked_for(self._options, checkpoint):
            raise _NotArmed("who else has its addresses can only be asked on the wire")
        if not plan.restores_all or plan.waits:
            raise _NotArmed("not all of it can be restored as it was")
        if checkpoint.attachment.lifetimes_at:
            raise _NotArmed("an address or route of it has a lifetime")
        if look.observed.links:
            raise _NotArmed("a route of it goes through another link of the pod, too")
        if checkpoint.attachment.link.mode == "passthru":
            raise _NotArmed("it shares its master's MAC (passthru)")

    def _prepared(
        self,
        entry: Entry,
        mark: Mark,
        leases: tuple[tuple[str, Mark], ...],
        look: PodLook,
    ) -> ArmedPod:
        checkpoint, plan = look.checkpoint, look.plan
        attachment = checkpoint.attachment
        assert checkpoint.netns is not None
        first, *others = plan.operations
        if first.creation is None or not first.creation.ifindex:
            raise _NotArmed("its index is not known")
        target = Target(first.creation.ifindex, 0, 0)
        create = prepared(first.requests(target))
        steps = [step for operation in others for step in _by_message(operation)]
        sent = [(step, message) for step in steps for message in step.requests(target)]
        _check_messages([message for _, message in sent])
        rest = prepared([message for _, message in sent])
        actions = tuple(step.describe(look.netns) for step in plan.operations)
        if len(rest) + sum(map(len, (*actions, *plan.findings))) > _MOST_BYTES:
            raise _NotArmed("it takes too many bytes")
        mac, addresses = as_recorded(look, attachment.parents[0]).announceable
        return ArmedPod(
            file=entry.file,
            mark=mark,
            run_dir=inventory.run_dir_of(entry, self._options.run_dir),
            tombstones=inventory.run_dir_of(entry, ""),
            identity=checkpoint.netns,
            chain=self._chains.setdefault(parents_of(checkpoint), len(self._chains)),
            ifname=attachment.ifname,
            ifindex=target.ifindex,
            create=create,
            master_at=place_in_link(create, IFLA_LINK),
            netns_at=place_in_link(create, IFLA_NET_NS_FD),
            rest=rest,
            count=len(sent),
            tolerated=tuple(_tolerated(step) for step, _ in sent),
            # (A rule that was there outlives the link, if nobody takes it away.)
            is_proved=all(step.is_proved for step in plan.operations) and not attachment.rules,
            leases=leases,
            mac=mac,
            addresses=addresses,
            words=marshal.dumps((plan.findings, actions, unannounced(checkpoint))),
        )


def without_link(observed: Observed) -> Observed:
    """What a look would show once the interface is gone: the rest of its pod."""
    return Observed(
        observed.host_netnsid,
        None,
        rules=observed.rules,
        links=observed.links,
        troubles=observed.troubles,
    )


def _marks_of_leases(checkpoint: Checkpoint) -> tuple[tuple[str, Mark], ...]:
    """Of host-local's files, as far as they are there."""
    store = store_of(checkpoint)
    found = []
    for address in given_addresses(checkpoint) if store else ():
        try:
            found.append((f"{store}/{address}", mark_of(f"{store}/{address}")))
        except FileNotFoundError:
            continue  # the plan says what that means
    return tuple(found)


def _by_message(operation: Operation) -> Sequence[Operation]:
    if operation.file is not None:
        raise _NotArmed(f"sysctl {operation.file[0]} cannot be set by a message")
    if operation.flushes_neighbours_of:
        raise _NotArmed("its neighbours are lost on the way")
    return operation.steps


def _check_messages(messages: list[Message]) -> None:
    if len(messages) > _MOST_MESSAGES:
        raise _NotArmed("it takes more messages than one send")
    if any(message.flags & NLM_F_REPLACE for message in messages):
        raise _NotArmed("something that is there is to be replaced")


def _tolerated(step: Operation) -> tuple[int, ...]:
    """As network/apply has it: where there is another way, EEXIST is no success."""
    if step.is_vital:
        return ()
    otherwise = {errno.EEXIST} if step.otherwise is not None else set()
    return tuple(step.tolerated - otherwise)
