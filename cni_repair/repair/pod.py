"""The repair of one attachment, from inside its pod: look, lock, apply in rounds, look again."""

from __future__ import annotations

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.network.apply import Passage, apply_to_pod, remove_temporary, temporary_name
from cni_repair.network.kernel.address import link_local_of
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.observe import has_carrier, ifindex_of, name_at, with_beginnings
from cni_repair.network.operations.address import ChangeAddress
from cni_repair.network.operations.base import Target
from cni_repair.network.planning.plan import HEALTHY, RENAMED, Plan, with_extras
from cni_repair.node.report import Report
from cni_repair.node.verdict import observe, planned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.inventory import Entry, LegacyHints
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.model import HostLink
    from cni_repair.network.observed import Observed

# What goes along with an address that had to be taken away for a moment is found missing, and
# added, in a second round; a third is for what that one brings to light.
_ROUNDS = 3


class RecordChanged(Exception):
    """The record is not the one that was read: a DEL, a CHECK or an ADD was quicker."""

    def __init__(self, fresh: Entry | None) -> None:
        super().__init__()
        self.fresh = fresh  # as it is now; None where it is gone


def check_record(store: Store, entry: Entry, hints: LegacyHints | None) -> None:
    """Raises RecordChanged where the file does not say any more what `entry` does."""
    fresh = inventory.reread(store, entry, hints)
    if fresh is not entry:
        raise RecordChanged(fresh)


class AttachmentLock(Lock):
    """Context: nobody else works on the attachment, and `entry` is its record.

    Raises RecordChanged where it is not, and as :class:`Lock` does.
    """

    def __init__(
        self, store: Store, entry: Entry, hints: LegacyHints | None, run_dir: str, seconds: float
    ) -> None:
        super().__init__(run_dir, entry.key.name, seconds)
        self._store = store
        self._entry = entry
        self._hints = hints

    def __enter__(self) -> AttachmentLock:
        super().__enter__()
        try:
            check_record(self._store, self._entry, self._hints)
        except BaseException as error:
            if isinstance(error, RecordChanged) and error.fresh is None:
                self.forget()  # its DEL has, too; this one was made since
            self.__exit__(None, None, None)
            raise
        return self


@frozen
class PodLook:
    """One look at an attachment, and what it says."""

    checkpoint: Checkpoint
    netns: str  # its path
    observed: Observed
    plan: Plan  # what is wrong, and left to do

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, and what the repair could not give back."""
        ifindex, live = self.checkpoint.attachment.link.ifindex, self.observed.link
        if not ifindex or live is None or live.link.ifindex == ifindex:
            return self.plan.findings
        if self.plan.state == RENAMED:  # it says so itself
            return self.plan.findings
        name = self.checkpoint.key.ifname
        return (
            *self.plan.findings,
            f"{name} has index {live.link.ifindex}, it had {ifindex}:"
            f" sockets bound to {name} will not recover",
        )

    @property
    def announceable(self) -> tuple[str, tuple[str, ...]]:
        """The MAC, and the addresses that the network may be told about by now."""
        live = self.observed.link
        if live is None or not live.carrier or not live.answers_arp:
            return "", ()
        recorded = {address.key for address in self.checkpoint.attachment.addresses}
        unusable = {*self.observed.tentative, *self.observed.dadfailed}
        announceable = self.checkpoint.announceable - unusable
        usable = [
            address.address
            for address in self.observed.addresses
            if address.key in recorded and address.address in announceable
        ]
        return live.link.mac, tuple(usable)

    @property
    def tentative(self) -> tuple[str, ...]:
        """The addresses to be waited for while duplicate address detection looks at them: the
        recorded ones, and for their sake the link-local one."""
        live = self.observed.link
        recorded = {a.address for a in self.checkpoint.attachment.addresses if a.family == 6}
        if live is None or not recorded:
            return ()
        recorded.add(link_local_of(live.link.mac))
        return tuple(address for address in self.observed.tentative if address in recorded)

    @property
    def connected(self) -> bool:
        """All is there and may be used, and the wire is heard."""
        live = self.observed.link
        works = bool(live and live.up and live.carrier)
        return works and not (self.plan.operations or self.tentative)

    @property
    def unsettled(self) -> bool:
        """No carrier yet, or duplicate address detection still at work, the kernel's or ours: all
        take their time."""
        live = self.observed.link
        is_asking = self.tentative or self.plan.unverified
        return bool(live and live.up and (not live.carrier or is_asking))

    @property
    def unfinished(self) -> bool:
        """Something is left that may succeed once other links, or addresses, are ready."""
        return self.plan.waits or bool(self.plan.operations and self.tentative)


def look(
    namespaces: NamespacePair,
    checkpoint: Checkpoint,
    master: HostLink | None,
    desired: Checkpoint | None = None,
    force: bool = False,
    beside: bool = False,
) -> PodLook:
    """Look, and plan what is left to do; `desired`, where it is more than the record says."""
    observed = observe(namespaces, checkpoint)
    if beside:
        observed = with_beginnings_of_ipv6(checkpoint, observed)
    plan = planned(desired or checkpoint, observed, master, force, beside)
    return PodLook(checkpoint, namespaces.pod_path, observed, plan)


def with_beginnings_of_ipv6(checkpoint: Checkpoint, observed: Observed) -> Observed:
    """What was observed, with what tells how restored IPv6 addresses may be used at once. To be
    called inside the pod's namespace."""
    if observed.link is None and any(a.family == 6 for a in checkpoint.attachment.addresses):
        return with_beginnings(observed)
    return observed


def as_recorded(before: PodLook, master: HostLink) -> PodLook:
    """What a look would show of a lost interface that was made again as it is recorded."""
    recorded = before.checkpoint.attachment
    live = LiveLink(recorded.ifname, recorded.link, True, True, master.ifindex, None)
    observed = replace(
        before.observed, link=live, addresses=recorded.addresses, routes=recorded.routes
    )
    return PodLook(before.checkpoint, before.netns, observed, Plan(HEALTHY))


class PodRepair:
    """The work inside one pod."""

    before: PodLook  # as it was found, nothing done yet
    now: PodLook  # by the last look

    def __init__(
        self,
        checkpoint: Checkpoint,
        master: HostLink | None,
        force: bool,
        may_use: Callable[[tuple[str, ...]], bool],
        beside: bool,
    ) -> None:
        """`may_use` is asked about the addresses for which IPAM does not speak. `beside`: see
        :func:`cni_repair.repair.session.detects_beside`."""
        self._checkpoint = checkpoint
        self._master = master
        self._force = force
        self._may_use = may_use
        self._beside = beside
        self.is_held = False  # its addresses may not be used, or not yet
        self._desired = checkpoint
        self.failures: tuple[str, ...] = ()
        self.is_waiting = False  # for the lock; nothing was done yet
        self._passage: Passage | None = None

    def __call__(
        self, namespaces: NamespacePair, lock: AttachmentLock, finish: Callable[[], None]
    ) -> None:
        """Look, and repair what has a master, with the attachment locked; `finish`, while it still
        is, where nothing failed."""
        self._look(namespaces)
        self.before = self.now
        if self._master is None or not self.now.plan.operations:
            return
        self.is_held = not self._may_use(self.now.plan.unvouched)
        if self.is_held:
            return
        self.is_waiting = True
        with lock:
            self.is_waiting = False
            self._passage = Passage(temporary_name(self._checkpoint.key.name), lock.note_unfinished)
            if lock.is_unfinished:
                for side in (namespaces.pod, namespaces.node):
                    remove_temporary(side, self._passage.name)
                lock.note_unfinished(False)
            if not self._is_still_gone(namespaces):  # who had it until now may have repaired it
                self._look(namespaces)
                self.before = self.now
            self._repair(namespaces, self._master)
            if not self.failures:
                finish()

    def _is_still_gone(self, namespaces: NamespacePair) -> bool:
        """As it was at the first look: then the rest is, too. By its index, where that is known to
        be its own, since a repair restores it."""
        observed = self.now.observed
        if observed.link is not None:
            return False
        ifindex = self._checkpoint.attachment.link.ifindex
        if ifindex and observed.ifindex_taken_by is None:
            return name_at(namespaces.pod, ifindex) is None
        return not ifindex_of(namespaces.pod, self._checkpoint.key.ifname)

    def _repair(self, namespaces: NamespacePair, master: HostLink) -> None:
        for _ in range(_ROUNDS):
            done = self.now.plan.operations
            if not done:
                return
            if any(isinstance(step, ChangeAddress) for step in done):
                desired = with_extras(self._checkpoint.attachment, self.now.observed)
                self._desired = replace(self._checkpoint, attachment=desired)
            if self._apply(namespaces, master):
                self.now = as_recorded(self.now, master)
                return
            self._look(namespaces)
            if self.failures or self.now.plan.operations == done:
                return

    def _apply(self, namespaces: NamespacePair, master: HostLink) -> bool:
        """Whether the kernel's acknowledgements, and the carrier, make another look needless."""
        observed = self.now.observed
        target = Target(
            ifindex=observed.link.link.ifindex if observed.link else 0,
            master=master.ifindex,
            netns=namespaces.pod_netns,
            links=observed.links,
        )
        plan = self.now.plan
        applied = apply_to_pod(namespaces, plan.operations, target, self._passage)
        self.failures = applied.failures
        if not applied.is_proved or plan.waits or not plan.restores_all:
            return False
        return master.carrier and has_carrier(namespaces.pod, self._checkpoint.key.ifname)

    def _look(self, namespaces: NamespacePair) -> None:
        checkpoint, desired, master = self._checkpoint, self._desired, self._master
        self.now = look(namespaces, checkpoint, master, desired, self._force, self._beside)

    def report(self) -> Report:
        """What was done, and what came of it."""
        error = None
        if self.failures or self.now.plan.operations:
            error = CniError(
                REPAIR_FAILED,
                f"{self._checkpoint.key.ifname} was not repaired",
                "; ".join(self.failures or self.now.plan.findings),
            )
        netns = self.now.netns
        return Report(
            self._checkpoint.key,
            self._checkpoint,
            netns,
            self.now.plan.state,
            self.now.findings,
            tuple(step.describe(netns) for step in self.before.plan.operations),
            error,
        )
