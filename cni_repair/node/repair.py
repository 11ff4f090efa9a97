"""Repairing attachments.

    observe ─► plan ─► (parents, then pod) apply ─► observe again ─► verdict

One pod after the other, in one thread: the kernel does all of this under one lock (RTNL), so
threads or processes would only wait for each other. One pod's failure never stops the others.
"""

from __future__ import annotations

import time

from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.model import encode_checked
from cni_repair.errors import TRY_AGAIN, CniError
from cni_repair.network.announce import Announcer
from cni_repair.network.observe import chain_from
from cni_repair.network.plan import DEGRADED, HEALTHY, LOST
from cni_repair.network.planparents import READY
from cni_repair.node import inventory, parents
from cni_repair.node.fallback import other_chains
from cni_repair.node.look import (
    POD_FAILURES,
    REPAIRABLE,
    Node,
    examine,
    failed,
    in_pod,
    parents_of,
    unreadable,
    wrapped,
)
from cni_repair.node.nodeside import NodeSide
from cni_repair.node.podrepair import PodRepair
from cni_repair.node.report import Report
from cni_repair.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.state import HostLink
    from cni_repair.node.inventory import Entry, SeedHints
    from cni_repair.node.look import Parents

_LOCK_SECONDS = 45.0
# Carrier comes 1.2 s after a driver's return; duplicate address detection takes up to 2 s.
SETTLE_SECONDS = 8.0
_POLL_SECONDS = 0.1


@record
class Options:
    """How a repair is to be done."""

    run_dir: str  # of the locks; empty: as each attachment's own configuration has it
    master_timeout: float  # seconds to wait for masters that are not there
    hints: SeedHints | None = None
    netns: str = ""  # CNI_NETNS, where one attachment is meant
    tell: Callable[[str], None] | None = None  # called before a wait, with what is waited for
    looked: Callable[[list[Report]], None] | None = None  # called with what the first look found
    restored: Callable[[Report], None] | None = None  # called when a pod's traffic passes again


def repair(node: Node, store: Store, entries: list[Entry], options: Options) -> list[Report]:
    """Repair what needs it, in the order of `entries`; one report each.

    An attachment whose DEL came first is left out. What is healthy receives no message that could
    change it.
    """
    with Announcer() as announcer:
        return _Repair(node, store, options, announcer).run(entries)


class _Repair:
    """One pass over the node: what its steps share."""

    def __init__(self, node: Node, store: Store, options: Options, announcer: Announcer) -> None:
        self._node = node
        self._store = store
        self._options = options
        self._announcer = announcer
        self._until = time.monotonic() + options.master_timeout
        self._masters: dict[Parents, HostLink | CniError] = {}
        self._reports: list[Report | None] = []
        self._unsettled: list[int] = []
        self._told: set[str] = set()
        self._restored: set[int] = set()
        self._again: set[int] = set()
        self._attachments: dict[object, int] = {}  # how many there are of a namespace
        # What is to be said of the node's side over each chain, with which pod's report.
        self._notes: dict[Parents, tuple[int, list[str]]] = {}

    def run(self, entries: list[Entry]) -> list[Report]:
        for place in (_place(entry) for entry in entries):
            self._attachments[place] = self._attachments.get(place, 0) + 1
        self._side = NodeSide(self._node.rtnl, self._store, entries)
        found = examine(self._node, entries, self._options.netns)
        if self._options.looked:
            self._options.looked(found)
        self._reports = [*found]
        todo = [
            index
            for index, report in enumerate(self._reports)
            if report and report.state in (LOST, DEGRADED) and report.error is None
        ]
        busy = self._repair_as_masters_come(todo, entries)
        self._give_shims(entries)
        self._settle()
        until = time.monotonic() + _LOCK_SECONDS
        for index in busy:
            self._repair(index, entries[index], max(0.0, until - time.monotonic()))
        self._settle()
        self._repair_again(entries)
        self._tell_of_the_node()
        return [report for report in self._reports if report is not None]

    def _give_shims(self, entries: list[Entry]) -> None:
        """Look after the node's own links over the pods' masters, once the pods have theirs."""
        for index, report in enumerate(self._reports):
            if report is None or report.checkpoint is None or report.state not in REPAIRABLE:
                continue
            wanted = parents_of(report.checkpoint)
            if wanted not in self._notes:
                self._notes[wanted] = (index, [])
                if self._side.knows_shims(wanted[0]) and self._usable(wanted):
                    run_dir = self._run_dir_of(entries[index])
                    self._notes[wanted][1].extend(self._side.give_shims(wanted[0], run_dir))

    def _usable(self, wanted: Parents) -> bool:
        """Whether the chain is there as it was recorded. It was not asked for where all pods over
        it are healthy."""
        if wanted in self._masters:
            return not isinstance(self._masters[wanted], CniError)
        try:
            plan, _ = parents.look(self._node.rtnl, *wanted)
        except POD_FAILURES:
            return False
        return plan.state == READY and not plan.operations

    def _tell_of_the_node(self) -> None:
        for wanted, (index, notes) in self._notes.items():
            notes += self._side.finish(wanted[0])
            report = self._reports[index]
            if report is not None and notes:
                self._reports[index] = replace(report, notes=(*report.notes, *notes))

    def _repair_again(self, entries: list[Entry]) -> None:
        """What needed another of the pod's links, or an IPv6 address that was still tentative, may
        be done now that all of them had their turn."""
        again, self._again = sorted(self._again), set()
        for index in again:
            before = self._reports[index]
            self._repair(index, entries[index])
            after = self._reports[index]
            if before is not None and after is not None:
                # In the report stands what was done for the pod in all.
                self._reports[index] = replace(after, actions=(*before.actions, *after.actions))
        self._settle()

    def _repair_as_masters_come(self, todo: list[int], entries: list[Entry]) -> list[int]:
        """Repair each pod as soon as its own master is there; those that somebody else has locked
        are left, and given back."""
        wanted = {index: _parents_of(entries[index]) for index in todo}
        busy: list[int] = []
        while todo:
            last = time.monotonic() >= self._until
            for parent in dict.fromkeys(wanted[index] for index in todo):
                self._ask_for_master(parent, self._run_dir_of(entries[todo[0]]), last)
            for index in todo:
                if wanted[index] in self._masters and not self._repair(index, entries[index]):
                    busy.append(index)
            todo = [index for index in todo if wanted[index] not in self._masters]
            if todo:
                time.sleep(_POLL_SECONDS)
        return busy

    def _ask_for_master(self, wanted: Parents, run_dir: str, last: bool) -> None:
        """Note the master, made if need be, or why there will be none: once for all its pods."""
        if wanted in self._masters:
            return
        chain, follow_renamed = wanted
        try:
            self._masters[wanted] = parents.ensure(
                self._node.rtnl, run_dir, chain, follow_renamed, self._side
            )
        except parents.MasterAway as error:
            if last:
                self._masters[wanted] = error
            else:
                self._tell(f"waiting up to {self._options.master_timeout:g} s: {error.msg}")
        except CniError as error:
            self._masters[wanted] = error

    def _tell(self, text: str) -> None:
        if self._options.tell and text not in self._told:
            self._options.tell(text)
            self._told.add(text)

    def _run_dir_of(self, entry: Entry) -> str:
        return inventory.run_dir_of(entry, self._options.run_dir)

    def _repair(self, index: int, entry: Entry, lock_seconds: float = 0.0) -> bool:
        """Repair one attachment and report it; False where its lock could not be had."""
        seen = self._reports[index]
        assert seen is not None
        try:
            with Lock(self._run_dir_of(entry), entry.key.name, lock_seconds):
                self._reports[index] = self._repair_with_lock(index, entry)
        except CniError as error:
            self._reports[index] = replace(seen, actions=(), error=error)
            return error.code != TRY_AGAIN
        return True

    def _repair_with_lock(self, index: int, entry: Entry) -> Report | None:
        # Read again now that nobody else may change it: a DEL may have been quicker.
        fresh = inventory.reread(self._store, entry, self._options.hints)
        if fresh is None:
            return None
        if fresh.checkpoint is None:
            return unreadable(fresh)
        try:
            return self._repair_locked(index, fresh)
        except POD_FAILURES as error:
            return failed(fresh.checkpoint, self._options.netns, wrapped(error))

    def _repair_locked(self, index: int, entry: Entry) -> Report:
        checkpoint = entry.checkpoint
        assert checkpoint is not None
        # Asked already, unless the checkpoint was refreshed meanwhile.
        self._ask_for_master(parents_of(checkpoint), self._run_dir_of(entry), last=True)
        master, trouble = self._master(checkpoint)
        seen = self._reports[index]
        moved = None
        if isinstance(trouble, parents.MasterAway) and seen and seen.state == LOST:
            moved = self._fall_back(entry)
        if moved is not None:
            checkpoint = moved
            master, trouble = self._master(checkpoint)
        work = PodRepair(checkpoint, master)
        in_pod(self._node, checkpoint, self._options.netns, work)
        if work.before.state == LOST and trouble is not None:
            report = failed(checkpoint, self._options.netns, trouble, LOST)
            return replace(report, findings=work.before.findings)
        if work.before.operations:
            self._announce(work, master)
        if work.unsettled:
            self._unsettled.append(index)
        if work.unfinished or (work.after.operations and self._shares_netns(entry)):
            self._again.add(index)
        report = work.report()
        if moved is not None and not work.failures:
            report = replace(report, notes=(self._remember_move(entry, moved),))
        self._tell_restored(index, work, report)
        return report

    def _shares_netns(self, entry: Entry) -> bool:
        """Whether the pod has other interfaces, whose addresses and next hops its routes may need
        (IPv4 checks the source of a route: fib_valid_prefsrc)."""
        return self._attachments[_place(entry)] > 1

    def _tell_restored(self, index: int, work: PodRepair, report: Report) -> None:
        if self._options.restored and work.connected and index not in self._restored:
            self._restored.add(index)
            self._options.restored(report)

    def _fall_back(self, entry: Entry) -> Checkpoint | None:
        """The checkpoint over the first other master that may be used and is there; None if none
        is. `fallbackMaster` allows it, and only now that the recorded one was waited for."""
        assert entry.checkpoint is not None
        for chain in other_chains(entry.checkpoint):
            self._ask_for_master((chain, False), self._run_dir_of(entry), last=True)
            master = self._masters[chain, False]
            if isinstance(master, CniError):
                continue
            found = chain_from(self._node.rtnl, master.ifindex)
            attachment = replace(entry.checkpoint.attachment, parents=found)
            moved = replace(entry.checkpoint, attachment=attachment)
            self._masters[parents_of(moved)] = master
            return moved
        return None

    def _remember_move(self, entry: Entry, moved: Checkpoint) -> str:
        """Note where the pod is now, before anybody compares it with where it was; in words."""
        assert entry.checkpoint is not None
        was, now = (one.attachment.parents[0].name for one in (entry.checkpoint, moved))
        words = f"moved to {now}: {was} did not come back (fallbackMaster)"
        try:
            self._store.commit(moved.key, encode_checked(moved))
        except CniError as error:
            return f"{words}; its checkpoint still names {was}: {error}"
        return words

    def _announce(self, work: PodRepair, master: HostLink | None) -> None:
        mac, addresses = work.announceable
        if master is not None and addresses:
            self._announcer.announce(master.name, mac, addresses)

    def _master(self, checkpoint: Checkpoint) -> tuple[HostLink | None, CniError | None]:
        master = self._masters[parents_of(checkpoint)]
        return (None, master) if isinstance(master, CniError) else (master, None)

    def _settle(self) -> None:
        """Wait, for all at once, until carrier is there and IPv6 addresses may be used; announce
        then. What has not settled in time is reported so."""
        until = time.monotonic() + SETTLE_SECONDS
        pending, self._unsettled = self._unsettled, []
        if pending:
            self._tell(f"waiting up to {SETTLE_SECONDS:g} s for carrier and for IPv6 addresses")
        while pending:
            last = time.monotonic() >= until
            pending = [index for index in pending if not self._settled(index, last) and not last]
            if pending:
                time.sleep(_POLL_SECONDS)

    def _settled(self, index: int, last: bool) -> bool:
        report = self._reports[index]
        assert report is not None and report.checkpoint is not None
        checkpoint = report.checkpoint
        master, _ = self._master(checkpoint)
        work = PodRepair(checkpoint, master)
        try:
            in_pod(self._node, checkpoint, self._options.netns, work.observe)
        except POD_FAILURES as error:
            self._reports[index] = failed(checkpoint, self._options.netns, wrapped(error))
            return True
        self._tell_restored(index, work, report)
        if not work.unsettled:
            self._announce(work, master)
        state, findings = work.after.state, work.findings
        if last and work.tentative:
            state = DEGRADED if state == HEALTHY else state
            findings += (f"still tentative: {', '.join(work.tentative)}",)
        self._reports[index] = replace(report, state=state, findings=findings)
        return not work.unsettled


def _place(entry: Entry) -> object:
    """What tells the attachment's namespace from others."""
    checkpoint = entry.checkpoint
    if checkpoint is None or checkpoint.netns is None:
        return entry.key
    return checkpoint.netns.dev, checkpoint.netns.ino


def _parents_of(entry: Entry) -> Parents:
    assert entry.checkpoint is not None
    return parents_of(entry.checkpoint)
