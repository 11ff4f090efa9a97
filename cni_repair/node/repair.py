"""Repairing attachments.

    observe ─► plan ─► (parents, then pod) apply ─► observe again ─► verdict

One pod after the other, in one thread: the kernel does all of this under one lock (RTNL), so
threads or processes would only wait for each other. One pod's failure never stops the others.
"""

from __future__ import annotations

import binascii
import time

from cni_repair.checkpoint.locks import Lock
from cni_repair.errors import REPAIR_FAILED, CniError
from cni_repair.network import plan as planning
from cni_repair.network.announce import Announcer
from cni_repair.network.apply import Sides, apply_to_pod
from cni_repair.network.plan import DEGRADED, LOST
from cni_repair.node import inventory, parents
from cni_repair.node.look import (
    POD_FAILURES,
    Node,
    examine,
    failed,
    in_pod,
    observe,
    parents_of,
    unreadable,
    wrapped,
)
from cni_repair.node.report import Report
from cni_repair.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.state import Address, HostLink
    from cni_repair.node.inventory import Entry, SeedHints
    from cni_repair.node.look import Parents

_LOCK_SECONDS = 45.0
# Carrier comes 1.2 s after a driver's return; duplicate address detection takes up to 2 s.
SETTLE_SECONDS = 8.0
_POLL_SECONDS = 0.1


@record
class Options:
    """How a repair is to be done."""

    run_dir: str
    master_timeout: float  # seconds to wait for masters that are not there
    hints: SeedHints | None = None
    netns: str = ""  # CNI_NETNS, where one attachment is meant
    tell: Callable[[str], None] | None = None  # called before a wait, with what is waited for


def repair(node: Node, store: Store, entries: list[Entry], options: Options) -> list[Report]:
    """Repair what needs it, in the order of `entries`; one report each.

    An attachment whose DEL came first is left out. What is healthy receives no message that could
    change it.
    """
    with Announcer() as announcer:
        return _Repair(node, store, options, announcer).run(entries)


def _temporary_name(checkpoint: Checkpoint) -> str:
    """A link's name of at most 15 bytes, the same at every attempt, another for each attachment."""
    return f"cnirep{binascii.crc32(checkpoint.key.name.encode()):08x}"


class _Repair:
    """One pass over the node: what its steps share."""

    def __init__(self, node: Node, store: Store, options: Options, announcer: Announcer) -> None:
        self._node = node
        self._store = store
        self._options = options
        self._announcer = announcer
        self._until = time.monotonic() + options.master_timeout
        self._masters: dict[Parents, HostLink | CniError] = {}
        self._unsettled: list[int] = []

    def run(self, entries: list[Entry]) -> list[Report]:
        reports = examine(self._node, entries, self._options.netns)
        repaired: list[Report | None] = list(reports)
        busy = []
        for index, report in enumerate(reports):
            if report.state in (LOST, DEGRADED) and report.error is None:
                try:
                    repaired[index] = self._repair(index, entries[index], 0.0)
                except CniError:
                    busy.append(index)  # somebody works on it: the others first
        until = time.monotonic() + _LOCK_SECONDS
        for index in busy:
            repaired[index] = self._repair_late(index, entries[index], reports[index], until)
        self._settle(repaired)
        return [report for report in repaired if report is not None]

    def _repair_late(self, index: int, entry: Entry, seen: Report, until: float) -> Report | None:
        try:
            return self._repair(index, entry, max(0.0, until - time.monotonic()))
        except CniError as error:
            return replace(seen, actions=(), error=error)

    def _repair(self, index: int, entry: Entry, lock_seconds: float) -> Report | None:
        """Raises CniError only where the lock cannot be had."""
        if entry.checkpoint is not None:
            # Before the lock: a DEL must not have to wait for a master that is away.
            self._master(parents_of(entry.checkpoint))
        with Lock(self._options.run_dir, entry.key.name, lock_seconds):
            # Read again now that nobody else may change it: a DEL may have been quicker.
            fresh = inventory.reread(self._store, entry, self._options.hints)
            if fresh is None:
                return None
            if fresh.checkpoint is None:
                return unreadable(fresh)
            try:
                return self._repair_locked(index, fresh.checkpoint)
            except POD_FAILURES as error:
                return failed(fresh.checkpoint, self._options.netns, wrapped(error))

    def _repair_locked(self, index: int, checkpoint: Checkpoint) -> Report:
        master, trouble = self._master(parents_of(checkpoint))
        work = _PodRepair(checkpoint, master)
        in_pod(self._node, checkpoint, self._options.netns, work)
        if work.before.state == LOST and trouble is not None:
            report = failed(checkpoint, self._options.netns, trouble, LOST)
            return replace(report, findings=work.before.findings)
        if work.before.operations:
            self._announce(work, master)
        if work.unsettled:
            self._unsettled.append(index)
        return work.report()

    def _announce(self, work: _PodRepair, master: HostLink | None) -> None:
        mac, addresses = work.announceable
        if master is not None and addresses:
            self._announcer.announce(master.name, mac, addresses)

    def _master(self, wanted: Parents) -> tuple[HostLink | None, CniError | None]:
        """The master, made if need be, or why there is none; asked once for all its pods."""
        if wanted not in self._masters:
            chain, follow_renamed = wanted
            try:
                self._masters[wanted] = parents.ensure(
                    self._node.rtnl,
                    self._options.run_dir,
                    chain,
                    self._until,
                    follow_renamed,
                    self._options.tell,
                )
            except CniError as error:
                self._masters[wanted] = error
        master = self._masters[wanted]
        return (None, master) if isinstance(master, CniError) else (master, None)

    def _settle(self, reports: list[Report | None]) -> None:
        """Wait, for all at once, until carrier is there and IPv6 addresses may be used; announce
        then. What has not settled in time is reported as it is."""
        until = time.monotonic() + SETTLE_SECONDS
        pending = self._unsettled
        if pending and self._options.tell:
            self._options.tell(
                f"waiting up to {SETTLE_SECONDS:g} s for carrier, and for IPv6 duplicate"
                " address detection"
            )
        while pending:
            pending = [index for index in pending if not self._settled(reports, index)]
            if pending and time.monotonic() >= until:
                return
            if pending:
                time.sleep(_POLL_SECONDS)

    def _settled(self, reports: list[Report | None], index: int) -> bool:
        report = reports[index]
        assert report is not None and report.checkpoint is not None
        checkpoint = report.checkpoint
        master, _ = self._master(parents_of(checkpoint))
        work = _PodRepair(checkpoint, master)
        try:
            in_pod(self._node, checkpoint, self._options.netns, work.observe)
        except POD_FAILURES as error:
            reports[index] = failed(checkpoint, self._options.netns, wrapped(error))
            return True
        if not work.unsettled:
            self._announce(work, master)
        reports[index] = replace(report, state=work.after.state, findings=work.findings)
        return not work.unsettled


class _PodRepair:
    """The work inside one pod."""

    def __init__(self, checkpoint: Checkpoint, master: HostLink | None) -> None:
        self._checkpoint = checkpoint
        self._master = master
        self.failures: tuple[str, ...] = ()

    def __call__(self, sides: Sides) -> None:
        self.observe(sides)
        self.before = self.after
        if self._master is None or not self.before.operations:
            return
        live = self._observed.link
        self.failures = apply_to_pod(
            sides,
            self.before.operations,
            live.link.ifindex if live else 0,
            self._master.ifindex,
            _temporary_name(self._checkpoint),
        )
        self.observe(sides)

    def observe(self, sides: Sides) -> None:
        """Look, and plan what is left to do."""
        self._netns = sides.pod_path
        self._observed = observe(sides, self._checkpoint)
        self.after = planning.plan(self._checkpoint.attachment, self._observed, self._master)

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
    def announceable(self) -> tuple[str, tuple[Address, ...]]:
        """The MAC, and the addresses that the network may be told about by now."""
        live = self._observed.link
        if live is None or not live.carrier:
            return "", ()
        unusable = {*self._observed.tentative, *self._observed.dadfailed}
        usable = [a for a in self._observed.addresses if a.address not in unusable]
        return live.link.mac, tuple(usable)

    @property
    def unsettled(self) -> bool:
        """No carrier yet, or duplicate address detection still at work: both take their time.

        A pod without IPv6 addresses of its own does not wait for its link-local one.
        """
        live = self._observed.link
        if live is None or not live.up:
            return False
        uses_ipv6 = any(address.family == 6 for address in self._observed.addresses)
        return not live.carrier or bool(uses_ipv6 and self._observed.tentative)

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
            tuple(step.command(self._netns) for step in self.before.operations),
            error,
        )
