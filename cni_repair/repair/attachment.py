"""One attachment's turn in a repair, in whichever process it is done.

    observe ─► plan ─► (parents, then pod) apply ─► observe again ─► verdict

Attachments go by their places in the list of a pass over the node
(:mod:`~cni_repair.repair.scheduler`).
"""

from __future__ import annotations

from cni_repair.base.errors import TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.model import encode_checked
from cni_repair.network.observe import chain_from
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node.examine import (
    POD_FAILURES,
    failed,
    in_pod,
    parents_of,
    unreadable,
    with_parents,
    wrapped,
)
from cni_repair.node.report import Report
from cni_repair.repair.pod import AttachmentLock, PodRepair, RecordChanged, check_record
from cni_repair.repair.uplink_cache import UplinkCache
from cni_repair.uplink import ensure as parents
from cni_repair.uplink.fallback import other_chains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry, LegacyHints
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import HostLink
    from cni_repair.network.reachability.announce import Announcer
    from cni_repair.node.examine import Node, Parents
    from cni_repair.uplink.belongings import NodeSide


@frozen
class Options:
    """How a repair is to be done."""

    run_dir: str  # of the locks; empty: as each attachment's own configuration has it
    master_timeout: float  # seconds to wait for masters that are not there
    hints: LegacyHints | None = None
    netns: str = ""  # CNI_NETNS, where one attachment is meant
    # Called before a wait, with what is waited for.
    on_progress: Callable[[str], None] | None = None
    # Called once all were looked at, with what each was like before anything was done in it.
    looked: Callable[[list[Report]], None] | None = None
    restored: Callable[[Report], None] | None = None  # called when a pod's traffic passes again


class AttachmentRepair:
    """The turns of a node's attachments, and what became of each."""

    def __init__(
        self,
        node: Node,
        store: Store,
        entries: list[Entry],
        options: Options,
        side: NodeSide,
        announcer: Announcer,
    ) -> None:
        self.entries = [*entries]
        self.masters = UplinkCache(node, side, self._say_away)
        self.reports: list[Report | None] = [None] * len(entries)
        self.before: dict[int, Report] = {}  # what each was like before anything was done
        # Those that need another turn:
        self.away: list[int] = []  # their masters are
        self.busy: list[int] = []  # somebody else has locked them
        self.unsettled: list[int] = []
        self.again: list[int] = []
        self.pods: dict[object, list[int]] = {}  # the attachments of each namespace, in order
        for index, entry in enumerate(entries):
            self.pods.setdefault(_place(entry), []).append(index)
        self._node = node
        self._store = store
        self._options = options
        self._announce_by: Callable[[str, str, tuple[str, ...]], None] = announcer.announce
        self._announcements: list[tuple[str, str, tuple[str, ...]]] = []  # to be sent by another
        self._told: set[str] = set()
        self._restored: set[int] = set()

    def repair(self, index: int, lock_seconds: float = 0.0) -> None:
        """Look at one attachment, repair it if need be, and report it; it is noted where its master
        is away, or somebody else has its lock."""
        entry = self.entries[index]
        if entry.checkpoint is None:
            self.reports[index] = self.before[index] = unreadable(entry)
            return
        try:
            self.reports[index] = self._attempt(index, entry.checkpoint, lock_seconds)
        except RecordChanged as news:
            self.reports[index] = None
            if news.fresh is not None:
                self.entries[index] = news.fresh
                self.repair(index, lock_seconds)

    def _attempt(self, index: int, checkpoint: Checkpoint, lock_seconds: float) -> Report:
        master, trouble = self.masters.master(parents_of(checkpoint))
        moved = self._fall_back(index, checkpoint) if self._may_fall_back(index, trouble) else None
        if moved is not None:
            checkpoint = moved
            master, trouble = self.masters.master(parents_of(moved))
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
        if self.before[index].state not in (LOST, DEGRADED):
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
        self.masters.ask_once(wanted, self.run_dir_of(index))
        if any(self.masters.master(wanted)):
            return self._attempt(index, checkpoint, lock_seconds)
        self.away.append(index)
        return self.before[index]

    def _seen(self, index: int, checkpoint: Checkpoint, work: PodRepair) -> Report:
        """What an attachment is like, of which nothing was changed yet in this attempt."""
        netns = self._options.netns or checkpoint.netns_path
        findings = with_parents(
            checkpoint, work.before, self.masters.plan_before(parents_of(checkpoint))
        )
        report = Report(self.entries[index].key, checkpoint, netns, work.before.state, findings)
        self.before.setdefault(index, report)
        return report

    def _done(self, index: int, work: PodRepair, master: HostLink | None) -> Report:
        if work.before.operations:
            self._announce(work, master)
        if work.unsettled:
            self.unsettled.append(index)
        if work.unfinished or (work.after.operations and self._shares_netns(index)):
            self.again.append(index)
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
                self.busy.append(index)
            return replace(seen, error=error)
        self._check_record(index)
        report = failed(checkpoint, self._options.netns, error)
        self.before.setdefault(index, report)
        return report

    def _check_record(self, index: int) -> None:
        """A pod that is gone, and its record with it, has not failed: a DEL was quicker."""
        check_record(self._store, self.entries[index], self._options.hints)

    def _claim(self, index: int, seconds: float) -> AttachmentLock:
        entry = self.entries[index]
        return AttachmentLock(
            self._store, entry, self._options.hints, self.run_dir_of(index), seconds
        )

    def run_dir_of(self, index: int) -> str:
        return inventory.run_dir_of(self.entries[index], self._options.run_dir)

    def _shares_netns(self, index: int) -> bool:
        """Whether the pod has other interfaces, whose addresses and next hops its routes may need
        (IPv4 checks the source of a route: fib_valid_prefsrc)."""
        return len(self.pods.get(_place(self.entries[index]), ())) > 1

    def _tell_restored(self, index: int, report: Report) -> None:
        if self._options.restored and index not in self._restored:
            self._restored.add(index)
            self._options.restored(report)

    def _announce(self, work: PodRepair, master: HostLink | None) -> None:
        mac, addresses = work.announceable
        if master is not None and addresses:
            self._announce_by(master.name, mac, addresses)

    def has_settled(self, index: int, last: bool) -> bool:
        """Look again at one that has not; what still has not, the `last` time, is reported so."""
        report = self.reports[index]
        assert report is not None and report.checkpoint is not None
        checkpoint = report.checkpoint
        master, _ = self.masters.master(parents_of(checkpoint))
        work = PodRepair(checkpoint, master)
        try:
            in_pod(self._node, checkpoint, self._options.netns, work.observe)
        except POD_FAILURES as error:
            self.reports[index] = failed(checkpoint, self._options.netns, wrapped(error))
            return True
        if work.connected:
            self._tell_restored(index, report)
        if not work.unsettled:
            self._announce(work, master)
        state, findings = work.after.state, work.findings
        if last and work.tentative:
            state = DEGRADED if state == HEALTHY else state
            findings += (f"still tentative: {', '.join(work.tentative)}",)
        self.reports[index] = replace(report, state=state, findings=findings)
        return not work.unsettled

    def wanted(self, index: int) -> Parents:
        checkpoint = self.entries[index].checkpoint
        assert checkpoint is not None
        return parents_of(checkpoint)

    def _say_away(self, why: str) -> None:
        self.on_progress(f"waiting up to {self._options.master_timeout:g} s: {why}")

    def on_progress(self, text: str) -> None:
        if self._options.on_progress and text not in self._told:
            self._options.on_progress(text)
            self._told.add(text)

    # --- In another process ---

    def become_a_hand(self) -> None:
        """In another process: sockets and callbacks are the first one's."""
        self._node.rtnl.renew()
        self._options = replace(self._options, on_progress=None, restored=lambda _: None)
        self._announce_by = lambda *words: self._announcements.append(words)  # to be sent there

    def repair_as_a_hand(self, index: int) -> Any:
        """:meth:`repair`, and all that it found, for :meth:`take`."""
        self._announcements = []
        known = self.entries[index]
        self.repair(index)
        before, after = self.before.get(index), self.reports[index]
        if self.entries[index] is not known or before is None or after is None:
            return index, None  # overtaken: to be done anew
        noted = [index in numbers[-1:] for numbers in self._noted()]
        restored = index in self._restored
        return index, (before.verdict, after.verdict, noted, restored, self._announcements)

    def take(self, index: int, found: Any) -> None:
        """Take over what another process has found."""
        if found is None:
            return
        before, after, noted, restored, announcements = found
        for words in announcements:
            self._announce_by(*words)
        checkpoint = self.entries[index].checkpoint
        netns = self._options.netns or (checkpoint.netns_path if checkpoint else "")
        key = self.entries[index].key
        self.before[index] = Report.of(key, checkpoint, netns, before)
        report = Report.of(key, checkpoint, netns, after)
        self.reports[index] = report
        for numbers, is_noted in zip(self._noted(), noted):
            numbers += [index] * is_noted
        if restored:
            self._tell_restored(index, report)

    def _noted(self) -> tuple[list[int], ...]:
        """Those that need more than one turn."""
        return self.away, self.busy, self.unsettled, self.again

    # --- Another master (`fallbackMaster`) ---

    def _may_fall_back(self, index: int, trouble: CniError | None) -> bool:
        """Only a pod that has no interface, and only now that its master was waited for."""
        seen = self.before.get(index)
        return isinstance(trouble, parents.MasterAway) and seen is not None and seen.state == LOST

    def _fall_back(self, index: int, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint over the first other master that may be used (`fallbackMaster`) and is
        there; None if none is."""
        for chain in other_chains(checkpoint):
            self.masters.ask((chain, False), self.run_dir_of(index), last=True)
            master, _ = self.masters.master((chain, False))
            if master is None:
                continue
            found = chain_from(self._node.rtnl, master.ifindex)
            moved = replace(checkpoint, attachment=replace(checkpoint.attachment, parents=found))
            self.masters.note(parents_of(moved), master)
            return moved
        return None

    def _remember_move(self, index: int, moved: Checkpoint) -> str:
        """Note where the pod is now, before anybody compares it with where it was (its claim is
        still ours); in words."""
        (was, *_), _ = self.wanted(index)
        words = f"moved to {moved.attachment.parents[0].name}: {was.name} did not come back"
        words += " (fallbackMaster)"
        try:
            text = encode_checked(moved)
            self._store.commit(moved.key, text)
        except CniError as error:
            return f"{words}; its checkpoint still names {was.name}: {error}"
        fresh = replace(self.entries[index], raw=text.encode("ascii"), checkpoint=moved)
        self.entries[index] = fresh
        return words


def _place(entry: Entry) -> object:
    """What tells the attachment's namespace from others."""
    checkpoint = entry.checkpoint
    if checkpoint is None or checkpoint.netns is None:
        return entry.key
    return checkpoint.netns.dev, checkpoint.netns.ino
