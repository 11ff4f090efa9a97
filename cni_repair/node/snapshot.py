"""`snapshot`: every attachment's record brought up to date, and which pods a repair could restore.

To be done before a driver is touched: what later plugins and Multus gave a pod since ADD is then
known, and a pod that could not be restored is known before it is lost.
"""

from __future__ import annotations

from cni_repair.base import log
from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.checkpoint.inventory import run_dir_of
from cni_repair.netlink.socket import TooMany
from cni_repair.network.planning.plan import (
    DEGRADED,
    FOREIGN,
    HEALTHY,
    LOST,
    RELEASED,
    RENAMED,
    STALE,
)
from cni_repair.node.context import POD_FAILURES, wrapped
from cni_repair.node.discovery import counted_twice, covered, unmanaged
from cni_repair.node.examine import examine
from cni_repair.node.refresh import refresh
from cni_repair.node.report import DOCUMENT_VERSION, UNREADABLE, attachment_document, in_one_line
from cni_repair.uplink.belongings import NodeRecords
from cni_repair.uplink.recorder import NodeRecorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.context import Node
    from cni_repair.node.discovery import Unmanaged
    from cni_repair.node.report import Report

REFRESHED, UNCHANGED, KEPT = "refreshed", "unchanged", "kept"


@frozen
class Record:
    """What became of one attachment's checkpoint."""

    report: Report
    outcome: str  # REFRESHED, UNCHANGED, or KEPT: not compared, or not written
    restorable: bool
    # why it is not restorable, why the older record was kept, or what of the node it leaves out
    findings: tuple[str, ...] = ()
    failed: bool = False  # it could not be brought up to date

    @property
    def counts(self) -> bool:
        """A stale record is of a pod that is no more."""
        return self.report.state != STALE

    @property
    def reason(self) -> str:
        """The findings in one line that a screen holds."""
        return in_one_line(self.findings)

    def document(self) -> dict[str, Any]:
        report = self.report
        return {
            **attachment_document(report.key, report.checkpoint, report.netns, report.state),
            "outcome": self.outcome,
            "restorable": self.restorable,
            "findings": list(self.findings),
        }


@frozen
class Snapshot:
    """The coverage of a node."""

    records: tuple[Record, ...]
    unmanaged: tuple[Unmanaged, ...]  # interfaces without any record

    @property
    def total(self) -> int:
        living = [record.report for record in self.records if record.counts]
        return len(living) + len(self.unmanaged) - counted_twice(living, self.unmanaged)

    @property
    def restorable(self) -> int:
        return sum(record.restorable for record in self.records if record.counts)

    @property
    def complete(self) -> bool:
        """Every pod of the node can be restored, from a record that is up to date."""
        return self.restorable == self.total and not any(record.failed for record in self.records)

    def document(self) -> dict[str, Any]:
        """As `snapshot -o json` prints it."""
        return {
            "schemaVersion": DOCUMENT_VERSION,
            "attachments": [one.document() for one in self.records],
            "unmanaged": [one.document() for one in self.unmanaged],
            "summary": self.summary(),
        }

    def summary(self) -> dict[str, int]:
        """`interfaces` are those of living pods, with a record or without."""
        outcomes = (REFRESHED, UNCHANGED, KEPT)
        return {
            "attachments": len(self.records),
            **{name: sum(one.outcome == name for one in self.records) for name in outcomes},
            "failed": sum(one.failed for one in self.records),
            "unmanaged": len(self.unmanaged),
            "interfaces": self.total,
            "restorable": self.restorable,
        }


@frozen
class SnapshotOptions:
    """How a snapshot is to be taken."""

    run_dir: str  # of the locks; empty: as each attachment's own configuration has it
    write: bool  # refresh the records, too
    all_pods: bool  # look for interfaces without a record; else the entries are all that is meant
    accept: bool = False  # what is missing on an interface that works is not to come back any more
    new_gateways: bool = False  # a gateway that has another MAC now is meant to


def log_snapshot(found: Snapshot) -> None:
    """Tell the journal which records were written, which could not be, and the totals."""
    for record in found.records:
        report = record.report
        if record.failed:
            reason = record.reason
            text = f"record of {report.title} not brought up to date: {reason}"
            log.event("failed", text, **report.log_fields, REASON=reason)
        elif record.outcome == REFRESHED:
            text = f"record of {report.title} brought up to date"
            log.event("snapshot", text, **report.log_fields)
    counts = found.summary()
    log.event(
        "snapshot",
        f"snapshot: records brought up to date: {counts[REFRESHED]};"
        f" {found.restorable} of {found.total} interfaces could be restored",
        ATTACHMENTS=counts["attachments"],
        RESTORABLE=found.restorable,
        INTERFACES=found.total,
    )


def snapshot(
    node: Node,
    store: Store,
    entries: list[Entry],
    options: SnapshotOptions,
    of_node: NodeRecords | None = None,
) -> Snapshot:
    """Compare, and where it is to be written refresh, the record of each entry; `of_node`: those of
    the store, where they were read already."""
    records = []
    of_node = of_node or NodeRecords(store, entries)
    recorder = NodeRecorder(node.rtnl, of_node, options.accept, options.new_gateways)
    for entry, report in zip(entries, examine(node, entries)):
        record = judge(report)
        if options.write and (report.healthy or (options.accept and _accepts(report))):
            run_dir = run_dir_of(entry, options.run_dir)
            record = _refreshed(node, store, run_dir, entry, record, recorder)
        records.append(record)
    reports = [record.report for record in records]
    bare = unmanaged(node, covered(store, reports)) if options.all_pods else []
    return Snapshot(tuple(records), tuple(bare))


def judge(report: Report) -> Record:
    """Whether a repair could restore the attachment, by what is known of it now."""
    if report.state in (UNREADABLE, FOREIGN, STALE, RELEASED):
        return Record(report, KEPT, False, report.everything)
    if report.state == RENAMED:
        # What renamed it built on it, and will not do so again for a new interface.
        name = report.key.ifname
        why = f"once lost, a repair would make it again as {name}, as it was recorded"
        return Record(report, KEPT, False, (*report.everything, why))
    if report.state == LOST:
        # Without a step its master is refused: see the reason.
        return Record(report, KEPT, bool(report.actions), report.everything)
    if isinstance(report.error, TooMany):
        # A repair of the lost link goes by the older record, and is not in the way of that.
        return Record(report, KEPT, True, (f"its older record stays: {report.reason}",))
    if report.error is not None:
        return Record(report, KEPT, False, report.everything)
    if report.checkpoint is not None and report.checkpoint.netns is None:
        why = "of the predecessor plugin: its ifindex is not known; cni-repair adopt learns it"
        return Record(report, KEPT, True, (why,))
    if report.state != HEALTHY:
        return Record(report, KEPT, True, report.everything)
    return Record(report, UNCHANGED, True)


def _is_pods_own(error: Exception) -> bool:
    """Whether the pod has made so much of its interface, or such, that no record can hold it: the
    older record is there, and no upgrade of the node must wait for that pod."""
    is_odd = isinstance(error, CniError) and error.code == BAD_CHECKPOINT
    return is_odd or isinstance(error, TooMany)


def _accepts(report: Report) -> bool:
    return report.state == DEGRADED and report.error is None


def _refreshed(
    node: Node, store: Store, run_dir: str, entry: Entry, before: Record, recorder: NodeRecorder
) -> Record:
    assert entry.checkpoint is not None
    if entry.checkpoint.netns is None:
        return before
    try:
        changed = refresh(node, store, run_dir, entry, recorder=recorder)
    except POD_FAILURES as error:
        why = f"its older record stays: {wrapped(error)}"
        return replace(before, outcome=KEPT, findings=(why,), failed=not _is_pods_own(error))
    trouble = recorder.trouble(entry.checkpoint.attachment.parents)
    if changed:
        return replace(before, outcome=REFRESHED, findings=(trouble,) if trouble else ())
    return replace(before, findings=(trouble,)) if trouble else before
