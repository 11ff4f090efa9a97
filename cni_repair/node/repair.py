"""Repairing attachments.

    observe ─► plan ─► (parents, then pod) apply ─► observe again ─► verdict

One pod after the other, each repaired as soon as it was looked at: the first does not wait for a
look at the whole node. Many are shared out among processes. One pod's failure never stops the
others.
"""

from __future__ import annotations

import itertools
import time

from cni_repair.checkpoint.model import encode_checked
from cni_repair.errors import TRY_AGAIN, CniError
from cni_repair.network.announce import Announcer
from cni_repair.network.observe import chain_from
from cni_repair.network.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node import inventory, parents
from cni_repair.node.ensured import Ensured
from cni_repair.node.fallback import other_chains
from cni_repair.node.hands import Hands, hands_for
from cni_repair.node.look import (
    POD_FAILURES,
    REPAIRABLE,
    Node,
    failed,
    in_pod,
    parents_of,
    unreadable,
    with_parents,
    wrapped,
)
from cni_repair.node.nodeside import NodeSide
from cni_repair.node.podrepair import Claim, Overtaken, PodRepair, check_record
from cni_repair.node.report import Report
from cni_repair.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
    # Called once all were looked at, with what each was like before anything was done in it.
    looked: Callable[[list[Report]], None] | None = None
    restored: Callable[[Report], None] | None = None  # called when a pod's traffic passes again


def repair(node: Node, store: Store, entries: list[Entry], options: Options) -> list[Report]:
    """Repair what needs it, in the order of `entries`; one report each.

    An attachment whose DEL came first is left out. What is healthy receives no message that could
    change it.
    """
    with Announcer() as announcer:
        return _Repair(node, store, entries, options, announcer).run()


class _Repair:
    """One pass over the node: what its steps share. Attachments go by their places in `entries`."""

    def __init__(
        self,
        node: Node,
        store: Store,
        entries: list[Entry],
        options: Options,
        announcer: Announcer,
    ) -> None:
        self._node = node
        self._store = store
        self._entries = [*entries]
        self._options = options
        self._announce_by: Callable[[str, str, tuple[str, ...]], None] = announcer.announce
        self._announcements: list[tuple[str, str, tuple[str, ...]]] = []  # to be sent by another
        self._until = time.monotonic() + options.master_timeout
        self._side = NodeSide(node.rtnl, store, entries)
        self._masters = Ensured(node, self._side, self._say_away)
        self._reports: list[Report | None] = [None] * len(entries)
        self._before: dict[int, Report] = {}  # what each was like before anything was done
        self._away: list[int] = []  # those whose masters are
        self._busy: list[int] = []  # those that somebody else has locked
        self._unsettled: list[int] = []
        self._again: list[int] = []
        self._told: set[str] = set()
        self._restored: set[int] = set()
        self._pods: dict[object, list[int]] = {}  # the attachments of each namespace, in order
        for index, entry in enumerate(entries):
            self._pods.setdefault(_place(entry), []).append(index)
        # What is to be said of the node's side over each chain, with which pod's report.
        self._notes: dict[Parents, tuple[int, list[str]]] = {}

    def run(self) -> list[Report]:
        self._repair_all()
        if self._options.looked:
            self._options.looked([*self._before.values()])
        self._repair_as_masters_come()
        self._give_shims()
        self._settle()
        self._repair_busy()
        self._settle()
        self._repair_again()
        self._tell_of_the_node()
        return [report for report in self._reports if report is not None]

    # --- In which order, and by whom ---

    def _repair_all(self) -> None:
        """Give each its first turn. Pods over a chain go before the others until one of them has
        asked for it: it is made here, once, and whoever shares the rest knows what became of it."""
        rest = []
        for pod in self._pods.values():
            if all(map(self._knows_master, pod)):
                rest.append(pod)
            else:
                for index in pod:
                    self._repair(index)
        self._repair_shared(rest)

    def _knows_master(self, index: int) -> bool:
        checkpoint = self._entries[index].checkpoint
        return checkpoint is None or self._masters.is_decided(parents_of(checkpoint))

    def _repair_shared(self, pods: list[list[int]]) -> None:
        """Repair pods by several processes; the interfaces of one stay together, in order."""
        count = hands_for(sum(map(len, pods)))
        mine, *theirs = ([*itertools.chain(*pods[start::count])] for start in range(count))
        for index in itertools.chain(*theirs):
            self._reports[index] = None
        with Hands(theirs, self._be_a_hand, self._repair_as_a_hand) as others:
            for index in mine:
                self._repair(index)
                for result in others.done():
                    self._take(*result)
            for result in others.rest():
                self._take(*result)
        for index in itertools.chain(*theirs):
            if self._reports[index] is None:  # whoever had it died, or found another record
                self._repair(index)

    def _be_a_hand(self) -> None:
        """In another process: sockets and callbacks are the first one's."""
        self._node.rtnl.renew()
        self._options = replace(self._options, tell=None, restored=lambda _: None)
        self._announce_by = lambda *words: self._announcements.append(words)

    def _repair_as_a_hand(self, index: int) -> Any:
        """:meth:`_repair`, and all that it found, for :meth:`_take`."""
        self._announcements.clear()
        known = self._entries[index]
        self._repair(index)
        before, after = self._before.get(index), self._reports[index]
        if self._entries[index] is not known or before is None or after is None:
            return index, None  # overtaken: to be done anew
        noted = [index in numbers[-1:] for numbers in self._noted()]
        restored = index in self._restored
        return index, (before.verdict, after.verdict, noted, restored, self._announcements)

    def _take(self, index: int, found: Any) -> None:
        """Take over what another process has found."""
        if found is None:
            return
        before, after, noted, restored, announcements = found
        for words in announcements:
            self._announce_by(*words)
        checkpoint = self._entries[index].checkpoint
        netns = self._options.netns or (checkpoint.netns_path if checkpoint else "")
        key = self._entries[index].key
        self._before[index] = Report.of(key, checkpoint, netns, before)
        report = Report.of(key, checkpoint, netns, after)
        self._reports[index] = report
        for numbers, is_noted in zip(self._noted(), noted):
            numbers += [index] * is_noted
        if restored:
            self._tell_restored(index, report)

    def _noted(self) -> tuple[list[int], ...]:
        """Those that need more than one turn."""
        return self._away, self._busy, self._unsettled, self._again

    def _repair_as_masters_come(self) -> None:
        """Repair each pod as soon as its own master is there."""
        pods = self._pods.values()
        while self._away:
            todo, self._away = self._away, []
            last = time.monotonic() >= self._until
            for wanted, index in {self._wanted(index): index for index in todo}.items():
                self._masters.ask(wanted, self._run_dir_of(index), last)
            found = {index: self._masters.master(self._wanted(index)) for index in todo}
            self._away = [index for index in todo if not any(found[index])]
            there = [[one for one in pod if one in found and found[one][0]] for pod in pods]
            self._repair_shared([pod for pod in there if pod])
            for index in todo:
                if found[index][1]:
                    self._repair(index)
            if self._away:
                time.sleep(_POLL_SECONDS)

    def _repair_busy(self) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        busy, self._busy = self._busy, []
        for index in busy:
            self._repair(index, max(0.0, until - time.monotonic()))

    def _repair_again(self) -> None:
        """What needed another of the pod's links, or an IPv6 address that was still tentative, may
        be done now that all of them had their turn."""
        again, self._again = sorted({*self._again}), []
        for index in again:
            before = self._reports[index]
            self._repair(index)
            after = self._reports[index]
            if before is not None and after is not None:
                # In the report stands what was done for the pod in all.
                self._reports[index] = replace(
                    after,
                    actions=(*before.actions, *after.actions),
                    notes=(*before.notes, *after.notes),
                )
        self._settle()

    # --- One attachment ---

    def _repair(self, index: int, lock_seconds: float = 0.0) -> None:
        """Look at one attachment, repair it if need be, and report it; it is noted where its master
        is away, or somebody else has its lock."""
        entry = self._entries[index]
        if entry.checkpoint is None:
            self._reports[index] = self._before[index] = unreadable(entry)
            return
        try:
            self._reports[index] = self._attempt(index, entry.checkpoint, lock_seconds)
        except Overtaken as news:
            self._reports[index] = None
            if news.fresh is not None:
                self._entries[index] = news.fresh
                self._repair(index, lock_seconds)

    def _attempt(self, index: int, checkpoint: Checkpoint, lock_seconds: float) -> Report:
        master, trouble = self._masters.master(parents_of(checkpoint))
        moved = self._fall_back(index, checkpoint) if self._may_fall_back(index, trouble) else None
        if moved is not None:
            checkpoint = moved
            master, trouble = self._masters.master(parents_of(moved))
        work = PodRepair(checkpoint, master)
        claim = self._claim(index, lock_seconds)
        notes: list[str] = []

        def finish() -> None:
            if moved is not None:
                notes.append(self._remember_move(index, moved))

        try:
            in_pod(
                self._node,
                checkpoint,
                self._options.netns,
                lambda sides: work(sides, claim, finish),
            )
        except POD_FAILURES as error:
            return self._failed(index, checkpoint, work, wrapped(error))
        seen = self._seen(index, checkpoint, work)
        if self._before[index].state not in (LOST, DEGRADED):
            return seen
        if master is None and trouble is None:
            return self._attempt_with_master(index, checkpoint, lock_seconds)
        if master is None:
            self._check_record(index)
        if work.before.state == LOST and trouble is not None:
            return replace(seen, findings=work.before.findings, error=trouble)
        return replace(self._done(index, work, master), notes=tuple(notes))

    def _attempt_with_master(
        self, index: int, checkpoint: Checkpoint, lock_seconds: float
    ) -> Report:
        """Repair a pod that needs a master which nobody has asked for yet."""
        wanted = parents_of(checkpoint)
        self._masters.ask_once(wanted, self._run_dir_of(index))
        if any(self._masters.master(wanted)):
            return self._attempt(index, checkpoint, lock_seconds)
        self._away.append(index)
        return self._before[index]

    def _seen(self, index: int, checkpoint: Checkpoint, work: PodRepair) -> Report:
        """What an attachment is like, of which nothing was changed yet in this attempt."""
        netns = self._options.netns or checkpoint.netns_path
        findings = with_parents(
            checkpoint, work.before, self._masters.plan_before(parents_of(checkpoint))
        )
        report = Report(self._entries[index].key, checkpoint, netns, work.before.state, findings)
        self._before.setdefault(index, report)
        return report

    def _done(self, index: int, work: PodRepair, master: HostLink | None) -> Report:
        if work.before.operations:
            self._announce(work, master)
        if work.unsettled:
            self._unsettled.append(index)
        if work.unfinished or (work.after.operations and self._shares_netns(index)):
            self._again.append(index)
        report = work.report()
        if work.connected:
            self._tell_restored(index, report)
        return report

    def _failed(
        self, index: int, checkpoint: Checkpoint, work: PodRepair, error: CniError
    ) -> Report:
        if work.is_waiting:
            seen = self._seen(index, checkpoint, work)
            if error.code == TRY_AGAIN:
                self._busy.append(index)
            return replace(seen, error=error)
        self._check_record(index)
        report = failed(checkpoint, self._options.netns, error)
        self._before.setdefault(index, report)
        return report

    def _check_record(self, index: int) -> None:
        """A pod that is gone, and its record with it, has not failed: a DEL was quicker."""
        check_record(self._store, self._entries[index], self._options.hints)

    def _claim(self, index: int, seconds: float) -> Claim:
        entry = self._entries[index]
        return Claim(self._store, entry, self._options.hints, self._run_dir_of(index), seconds)

    def _run_dir_of(self, index: int) -> str:
        return inventory.run_dir_of(self._entries[index], self._options.run_dir)

    def _shares_netns(self, index: int) -> bool:
        """Whether the pod has other interfaces, whose addresses and next hops its routes may need
        (IPv4 checks the source of a route: fib_valid_prefsrc)."""
        return len(self._pods.get(_place(self._entries[index]), ())) > 1

    def _tell_restored(self, index: int, report: Report) -> None:
        if self._options.restored and index not in self._restored:
            self._restored.add(index)
            self._options.restored(report)

    def _wanted(self, index: int) -> Parents:
        checkpoint = self._entries[index].checkpoint
        assert checkpoint is not None
        return parents_of(checkpoint)

    def _say_away(self, why: str) -> None:
        self._tell(f"waiting up to {self._options.master_timeout:g} s: {why}")

    def _tell(self, text: str) -> None:
        if self._options.tell and text not in self._told:
            self._options.tell(text)
            self._told.add(text)

    # --- Another master (`fallbackMaster`) ---

    def _may_fall_back(self, index: int, trouble: CniError | None) -> bool:
        """Only a pod that has no interface, and only now that its master was waited for."""
        seen = self._before.get(index)
        return isinstance(trouble, parents.MasterAway) and seen is not None and seen.state == LOST

    def _fall_back(self, index: int, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint over the first other master that may be used (`fallbackMaster`) and is
        there; None if none is."""
        for chain in other_chains(checkpoint):
            self._masters.ask((chain, False), self._run_dir_of(index), last=True)
            master, _ = self._masters.master((chain, False))
            if master is None:
                continue
            found = chain_from(self._node.rtnl, master.ifindex)
            moved = replace(checkpoint, attachment=replace(checkpoint.attachment, parents=found))
            self._masters.note(parents_of(moved), master)
            return moved
        return None

    def _remember_move(self, index: int, moved: Checkpoint) -> str:
        """Note where the pod is now, before anybody compares it with where it was (its claim is
        still ours); in words."""
        (was, *_), _ = self._wanted(index)
        words = f"moved to {moved.attachment.parents[0].name}: {was.name} did not come back"
        words += " (fallbackMaster)"
        try:
            text = encode_checked(moved)
            self._store.commit(moved.key, text)
        except CniError as error:
            return f"{words}; its checkpoint still names {was.name}: {error}"
        fresh = replace(self._entries[index], raw=text.encode("ascii"), checkpoint=moved)
        self._entries[index] = fresh
        return words

    # --- The network's side, and the node's ---

    def _announce(self, work: PodRepair, master: HostLink | None) -> None:
        mac, addresses = work.announceable
        if master is not None and addresses:
            self._announce_by(master.name, mac, addresses)

    def _give_shims(self) -> None:
        """Look after the node's own links over the pods' masters, once the pods have theirs."""
        for index, report in enumerate(self._reports):
            if report is None or report.checkpoint is None or report.state not in REPAIRABLE:
                continue
            wanted = parents_of(report.checkpoint)
            if wanted not in self._notes:
                self._notes[wanted] = (index, [])
                if self._side.knows_shims(wanted[0]) and self._masters.is_there(wanted):
                    run_dir = self._run_dir_of(index)
                    self._notes[wanted][1].extend(self._side.give_shims(wanted[0], run_dir))

    def _tell_of_the_node(self) -> None:
        for wanted, (index, notes) in self._notes.items():
            notes += self._side.finish(wanted[0])
            report = self._reports[index]
            if report is not None and notes:
                self._reports[index] = replace(report, notes=(*report.notes, *notes))

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
        master, _ = self._masters.master(parents_of(checkpoint))
        work = PodRepair(checkpoint, master)
        try:
            in_pod(self._node, checkpoint, self._options.netns, work.observe)
        except POD_FAILURES as error:
            self._reports[index] = failed(checkpoint, self._options.netns, wrapped(error))
            return True
        if work.connected:
            self._tell_restored(index, report)
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
