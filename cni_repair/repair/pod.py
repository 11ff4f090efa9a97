"""The repair of one attachment, from inside its pod: look, claim, apply in rounds, look again."""

from __future__ import annotations

import binascii

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.network.apply import NamespacePair, apply_to_pod
from cni_repair.network.kernel.address import link_local_of
from cni_repair.network.observe import ifindex_of, name_at
from cni_repair.network.operations.address import ChangeAddress
from cni_repair.network.operations.base import Target
from cni_repair.network.planning.plan import with_extras
from cni_repair.node.examine import observe, planned
from cni_repair.node.report import Report
from cni_repair.uplink.read import TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.inventory import Entry, LegacyHints
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import HostLink, Observed
    from cni_repair.network.planning.plan import Plan

# What goes along with an address that had to be taken away for a moment is found missing, and
# added, in a second round; a third is for what that one brings to light.
_ROUNDS = 3


def _temporary_name(checkpoint: Checkpoint) -> str:
    """A link's name of at most 15 bytes, the same at every attempt, another for each attachment."""
    return f"{TEMPORARY}{binascii.crc32(checkpoint.key.name.encode()):08x}"


class RecordChanged(Exception):
    """The record is not the one that was read: a DEL, a CHECK or an ADD was quicker."""

    def __init__(self, fresh: Entry | None) -> None:
        super().__init__()
        self.fresh = fresh  # as it is now; None where it is gone


def check_record(store: Store, entry: Entry, hints: LegacyHints | None) -> None:
    """Raises Overtaken where the file does not say any more what `entry` does."""
    fresh = inventory.reread(store, entry, hints)
    if fresh is not entry:
        raise RecordChanged(fresh)


class AttachmentLock(Lock):
    """Context: nobody else works on the attachment, and `entry` is its record.

    Raises Overtaken where it is not, and as :class:`Lock` does.
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
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self


class PodRepair:
    """The work inside one pod."""

    before: Plan  # as it was found, nothing done yet
    after: Plan  # by the last look
    _observed: Observed

    def __init__(self, checkpoint: Checkpoint, master: HostLink | None) -> None:
        self._checkpoint = checkpoint
        self._master = master
        self._wanted = checkpoint
        self.failures: tuple[str, ...] = ()
        self.is_waiting = False  # for the claim; nothing was done yet

    def __call__(
        self, sides: NamespacePair, claim: AttachmentLock, finish: Callable[[], None]
    ) -> None:
        """Look, and repair what has a master, with the attachment claimed; `finish`, while it still
        is, where nothing failed."""
        self.observe(sides)
        self.before = self.after
        if self._master is None or not self.after.operations:
            return
        self.is_waiting = True
        with claim:
            self.is_waiting = False
            if not self._is_still_gone(sides):  # who had it until now may have repaired it
                self.observe(sides)
                self.before = self.after
            self._repair(sides, self._master)
            if not self.failures:
                finish()

    def _is_still_gone(self, sides: NamespacePair) -> bool:
        """As it was at the first look: then the rest is, too. By its index, where that is known to
        be its own, since a repair restores it."""
        if self._observed.link is not None:
            return False
        ifindex = self._checkpoint.attachment.link.ifindex
        if ifindex and self._observed.ifindex_taken_by is None:
            return name_at(sides.pod, ifindex) is None
        return not ifindex_of(sides.pod, self._checkpoint.key.ifname)

    def _repair(self, sides: NamespacePair, master: HostLink) -> None:
        for _ in range(_ROUNDS):
            done = self.after.operations
            if not done:
                return
            if any(isinstance(step, ChangeAddress) for step in done):
                wanted = with_extras(self._checkpoint.attachment, self._observed)
                self._wanted = replace(self._checkpoint, attachment=wanted)
            self._apply(sides, master)
            self.observe(sides)
            if self.failures or self.after.operations == done:
                return

    def _apply(self, sides: NamespacePair, master: HostLink) -> None:
        live = self._observed.link
        where = Target(
            ifindex=live.link.ifindex if live else 0,
            master=master.ifindex,
            node_netnsid=self._observed.host_netnsid,
            links=self._observed.links,
        )
        self.failures = apply_to_pod(
            sides, self.after.operations, where, _temporary_name(self._checkpoint)
        )

    def observe(self, sides: NamespacePair) -> None:
        """Look, and plan what is left to do."""
        self._netns = sides.pod_path
        self._observed = observe(sides, self._checkpoint)
        self.after = planned(self._wanted, self._observed, self._master)

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, and what the repair could not give back."""
        wanted, live = self._checkpoint.attachment.link.ifindex, self._observed.link
        if not wanted or live is None or live.link.ifindex == wanted:
            return self.after.findings
        name = self._checkpoint.key.ifname
        return (
            *self.after.findings,
            f"{name} has index {live.link.ifindex}, it had {wanted}:"
            f" sockets bound to {name} will not recover",
        )

    @property
    def announceable(self) -> tuple[str, tuple[str, ...]]:
        """The MAC, and the addresses that the network may be told about by now."""
        live = self._observed.link
        if live is None or not live.carrier or not live.answers_arp:
            return "", ()
        recorded = {address.key for address in self._checkpoint.attachment.addresses}
        unusable = {*self._observed.tentative, *self._observed.dadfailed}
        # Only what was recorded: the pod may have given itself its gateway's address since.
        usable = [
            address.address
            for address in self._observed.addresses
            if address.key in recorded and address.address not in unusable
        ]
        return live.link.mac, tuple(usable)

    @property
    def tentative(self) -> tuple[str, ...]:
        """The addresses to be waited for while duplicate address detection looks at them: the
        recorded ones, and for their sake the link-local one."""
        live = self._observed.link
        ours = {a.address for a in self._checkpoint.attachment.addresses if a.family == 6}
        if live is None or not ours:
            return ()
        ours.add(link_local_of(live.link.mac))
        return tuple(address for address in self._observed.tentative if address in ours)

    @property
    def connected(self) -> bool:
        """All is there, and the wire is heard."""
        live = self._observed.link
        return bool(live and live.up and live.carrier and not self.after.operations)

    @property
    def unsettled(self) -> bool:
        """No carrier yet, or duplicate address detection still at work: both take their time."""
        live = self._observed.link
        return bool(live and live.up and (not live.carrier or self.tentative))

    @property
    def unfinished(self) -> bool:
        """Something is left that may succeed once other links, or addresses, are ready."""
        return self.after.waits or bool(self.after.operations and self.tentative)

    def report(self) -> Report:
        error = None
        if self.failures or self.after.operations:
            error = CniError(
                REPAIR_FAILED,
                f"{self._checkpoint.key.ifname} was not repaired",
                "; ".join(self.failures or self.after.findings),
            )
        return Report(
            self._checkpoint.key,
            self._checkpoint,
            self._netns,
            self.after.state,
            self.findings,
            tuple(step.describe(self._netns) for step in self.before.operations),
            error,
        )
