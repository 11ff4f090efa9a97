"""One attachment's one turn in a repair, in whichever process it is done.

observe ─► plan ─► (masters, then pod) apply ─► observe again ─► verdict
"""

from __future__ import annotations

from cni_repair.base.errors import ADDRESS_GONE, TRY_AGAIN, CniError
from cni_repair.base.frozen import replace
from cni_repair.network.model import IFF_NOARP
from cni_repair.network.planning.plan import DEGRADED, LOST, RELEASED
from cni_repair.node.context import POD_FAILURES, in_pod, wrapped
from cni_repair.node.report import Report
from cni_repair.node.verdict import (
    failed,
    findings_of,
    parents_of,
    remedies,
    unannounced,
    unreadable,
)
from cni_repair.repair.pod import AttachmentLock, PodRepair, RecordChanged, check_record
from cni_repair.repair.session import detects_beside
from cni_repair.uplink.ensure import MasterAway

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.model import HostLink
    from cni_repair.repair.ledger import Ledger
    from cni_repair.repair.pod import PodLook
    from cni_repair.repair.session import RepairOptions, Session


def repair_attachment(
    session: Session, ledger: Ledger, place: int, lock_seconds: float = 0.0
) -> None:
    """Look at one attachment, repair it if need be, and report it; it is noted where its master is
    away, or somebody else has its lock."""
    entry = ledger.entries[place]
    if entry.checkpoint is None:
        ledger.reports[place] = ledger.before[place] = unreadable(entry)
        return
    turn = AttachmentRepair(session, ledger, place, lock_seconds)
    try:
        ledger.reports[place] = turn.run(entry.checkpoint)
    except RecordChanged as news:
        ledger.reports[place] = None
        if news.fresh is not None:
            ledger.entries[place] = news.fresh
            repair_attachment(session, ledger, place, lock_seconds)


def is_asked_for(options: RepairOptions, checkpoint: Checkpoint) -> bool:
    """Whether somebody is to be asked who has its addresses, where IPAM cannot say."""
    wanted = checkpoint.netconf.get("probeBeforeRepair") is not False
    is_heard = not checkpoint.attachment.link.usual_flags & IFF_NOARP  # else reached by routes
    return options.probe and wanted and is_heard


class Doubts:
    """What is known of the addresses of one lost interface for which IPAM does not speak."""

    def __init__(
        self, session: Session, ledger: Ledger, checkpoint: Checkpoint, is_moved: bool
    ) -> None:
        """`is_moved`: to a master over which nobody was asked."""
        self._is_asked_for = is_asked_for(session.options, checkpoint)
        self._is_moved = is_moved
        self._ledger = ledger
        self._name = checkpoint.key.name
        self._holders: dict[str, str] = {}
        self.are_unasked = False
        self.notes: list[str] = []

    def may_use(self, addresses: tuple[str, ...]) -> bool:
        """Whether nobody else has them, or there is no asking."""
        if not addresses or not self._is_asked_for:
            return True
        known = {
            address: self._ledger.holders[self._name, address]
            for address in addresses
            if (self._name, address) in self._ledger.holders
        }
        self.are_unasked = len(known) < len(addresses) and not self._is_moved
        self._holders = {address: holder for address, holder in known.items() if holder}
        silent = [address for address in addresses if known.get(address) is None]
        if silent:
            self.notes.append(
                "not verified that nobody else has its addresses: nobody could be asked (no"
                " carrier?)"
            )
        return not self._holders and not self.are_unasked

    @property
    def reason(self) -> str:
        found = [f"address {address} is in use by {who}" for address, who in self._holders.items()]
        remedy = "delete the pod; or, where that is a router that answers for all addresses"
        return f"{'; '.join(found)}: {remedy}: cni-repair repair --no-probe POD"


class AttachmentRepair:
    """The turn; raises RecordChanged where somebody else was quicker."""

    def __init__(self, session: Session, ledger: Ledger, place: int, lock_seconds: float) -> None:
        self._session = session
        self._ledger = ledger
        self._place = place
        self._lock_seconds = lock_seconds
        self._entry = ledger.entries[place]
        self._run_dir = session.run_dir_of(self._entry)

    def run(self, recorded: Checkpoint) -> Report:
        """Work on the attachment as far as its master allows; the verdict."""
        uplinks = self._session.uplinks
        master, trouble = uplinks.master(parents_of(recorded))
        moved = self._moved(recorded) if self._may_move(trouble) else None
        checkpoint = moved or recorded
        if moved is not None:
            master, trouble = uplinks.master(parents_of(moved))
        doubts = Doubts(self._session, self._ledger, checkpoint, moved is not None)
        force = self._session.options.force
        beside = moved is None and detects_beside(self._session.options, checkpoint)
        work = PodRepair(checkpoint, master, force, doubts.may_use, beside)
        notes: list[str] = []

        def finish() -> None:
            if moved is not None:
                notes.append(self._commit_move(recorded, moved))

        try:
            lock = self._lock()
            given_netns = self._session.options.netns
            in_pod(self._session.node, checkpoint, given_netns, lambda ns: work(ns, lock, finish))
        except POD_FAILURES as error:
            return self._failed(checkpoint, work, wrapped(error))
        if work.before.plan.state == RELEASED:
            self._check_record()  # our own DEL frees the address, too
        report = self._examined(checkpoint, work)
        if self._ledger.before[self._place].state not in (LOST, DEGRADED):
            if work.now.plan.unverified:  # a repair was interrupted, or is at it
                self._ledger.unsettled.append(self._place)
            return report
        if master is None and trouble is None:
            return self._run_with_master(recorded)
        if master is None:
            self._check_record()
        if work.is_held:
            return self._held(report, doubts)
        notes += doubts.notes
        if work.before.plan.state == LOST and trouble is not None:
            return replace(report, findings=work.before.plan.findings, error=trouble)
        report = self._done(work, master)
        if trouble is not None and report.state == DEGRADED:
            # Nothing was repaired: what it has was looked at, no more.
            report = replace(report, actions=(), error=trouble)
        return replace(report, notes=(*notes, *report.notes))

    def _run_with_master(self, checkpoint: Checkpoint) -> Report:
        """Repair a pod that needs a master which nobody has asked for yet."""
        parents = parents_of(checkpoint)
        self._session.uplinks.ask_once(parents, self._run_dir)
        if any(self._session.uplinks.master(parents)):
            return self.run(checkpoint)
        self._ledger.away.append(self._place)
        return self._ledger.before[self._place]

    def _lock(self) -> AttachmentLock:
        options = self._session.options
        return AttachmentLock(
            self._session.store, self._entry, options.hints, self._run_dir, self._lock_seconds
        )

    def _check_record(self) -> None:
        """A pod that is gone, and its record with it, has not failed: a DEL was quicker."""
        check_record(self._session.store, self._entry, self._session.options.hints)

    def _examined(self, checkpoint: Checkpoint, work: PodRepair) -> Report:
        """What an attachment is like, of which nothing was changed yet in this turn."""
        plan = work.before.plan
        parent_plan = self._session.uplinks.plan_before(parents_of(checkpoint))
        netns = self._session.options.netns or checkpoint.netns_path
        report = Report(
            self._entry.key,
            checkpoint,
            netns,
            plan.state,
            findings_of(checkpoint, plan, parent_plan),
            notes=remedies(checkpoint, work.before.observed, plan, netns),
        )
        self._ledger.before.setdefault(self._place, report)
        return report

    def _held(self, report: Report, doubts: Doubts) -> Report:
        if doubts.are_unasked:
            self._ledger.unasked.append(self._place)
            return report
        words = f"{self._entry.key.ifname} was not repaired"
        return replace(report, error=CniError(ADDRESS_GONE, words, doubts.reason))

    def _done(self, work: PodRepair, master: HostLink | None) -> Report:
        ledger, place, now = self._ledger, self._place, work.now
        fired = ledger.fired.get(place, ())
        if work.before.observed.link is None:
            fired = ()  # whoever was to do it has died before that
        if work.before.plan.operations or fired:
            announce(self._session, now, master)
        if now.unsettled:
            ledger.unsettled.append(place)
        if now.unfinished or (now.plan.operations and ledger.shares_netns(place)):
            ledger.unfinished.append(place)
        report = work.report()
        found = () if fired else work.before.observed.addresses
        notes = (
            *unannounced(now.checkpoint, found),
            *remedies(now.checkpoint, now.observed, now.plan, now.netns),
        )
        actions = tuple(dict.fromkeys((*fired, *report.actions)))  # what was done twice, once
        report = replace(report, actions=actions, notes=notes)
        if now.connected:
            note_restored(self._session, ledger, place, report)
        return report

    def _failed(self, checkpoint: Checkpoint, work: PodRepair, error: CniError) -> Report:
        if work.is_waiting:
            report = self._examined(checkpoint, work)
            if error.code == TRY_AGAIN:
                self._ledger.locked.append(self._place)
            return replace(report, error=error)
        self._check_record()
        report = failed(checkpoint, self._session.options.netns, error)
        self._ledger.before.setdefault(self._place, report)
        return report

    # --- Another master (`fallbackMaster`) ---

    def _may_move(self, trouble: CniError | None) -> bool:
        """Only a pod that has no interface, and only now that its master was waited for."""
        before = self._ledger.before.get(self._place)
        return isinstance(trouble, MasterAway) and before is not None and before.state == LOST

    def _moved(self, checkpoint: Checkpoint) -> Checkpoint | None:
        from cni_repair.uplink.fallback import moved_to_another_master  # its master is away

        uplinks = self._session.uplinks

        def master_of(chain: tuple[HostLink, ...]) -> HostLink | None:
            uplinks.ask((chain, False), self._run_dir, last=True)
            return uplinks.master((chain, False))[0]

        moved = moved_to_another_master(checkpoint, master_of, self._session.node.rtnl)
        if moved is None:
            return None
        checkpoint, master = moved
        uplinks.note(parents_of(checkpoint), master)
        return checkpoint

    def _commit_move(self, recorded: Checkpoint, moved: Checkpoint) -> str:
        """Note where the pod is now, before anybody compares it with where it was (the lock is
        still ours); in words."""
        from cni_repair.uplink.fallback import commit_move

        move = commit_move(self._session.store, recorded, moved)
        if move.raw:
            fresh = replace(self._entry, raw=move.raw, checkpoint=moved)
            self._entry = self._ledger.entries[self._place] = fresh
        return move.note


def announce(session: Session, now: PodLook, master: HostLink | None) -> None:
    """Tell the network where the pod's addresses are, as far as they may be used."""
    mac, addresses = now.announceable
    if master is not None and addresses:
        session.announce(master.name, mac, addresses)


def note_restored(session: Session, ledger: Ledger, place: int, report: Report) -> None:
    """The pod's traffic passes again; said once."""
    if place not in ledger.restored:
        ledger.restored.add(place)
        if session.options.on_restored:
            session.options.on_restored(report)
