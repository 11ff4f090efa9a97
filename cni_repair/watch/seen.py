"""What a child says of one attachment, in a line."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import mark_of
from cni_repair.node.context import POD_FAILURES
from cni_repair.node.verdict import parents_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.masters import MasterSteps
    from cni_repair.node.report import Report

_UNKNOWN = "?"
_MOST_WORDS = 400  # of a finding in a line for people; `status -o json` has all


def seen_of(store: Store, entry: Entry, report: Report, masters: MasterSteps) -> dict[str, Any]:
    """The report as a document, with what the attachment stands on by now."""
    recorded = report.checkpoint.attachment if report.checkpoint else None
    error = report.error
    return {
        "file": entry.file,
        "containerID": entry.key.container_id,
        "ifname": entry.key.ifname,
        "pod": report.pod,
        "network": report.checkpoint.network if report.checkpoint else "",
        "chain": [link.name for link in recorded.parents] if recorded else [],
        "over": _over(report, masters),
        "state": report.state,
        "reason": report.reason[:_MOST_WORDS],
        "code": error.code if error is not None else 0,
        "unverified": report.unverified,
        "mark": _mark_of(store, entry),
    }


def still_there(seen: dict[str, Any]) -> dict[str, Any]:
    """The line; or that the attachment is gone, where a DEL came while it was looked at: it takes
    away the record first, or leaves a tombstone, and then the interface, which is no loss."""
    return seen if seen["mark"] else {"file": seen["file"], "gone": True}


def _mark_of(store: Store, entry: Entry) -> str:
    """What tells a record from the one that replaces it; empty where it is gone, or as good as
    that: a disk that is full, or read-only, keeps the record of what a DEL has deleted. Where
    nobody can tell, one that no file has: it is looked at again."""
    try:
        mark = ":".join(map(str, mark_of(entry.file, store.fd)))
        return "" if inventory.is_deleted(entry) else mark
    except FileNotFoundError:
        return ""
    except (OSError, CniError):
        return _UNKNOWN


def _over(report: Report, masters: MasterSteps) -> int:
    """The index of the master as it is now; 0 where there is none."""
    if report.checkpoint is None:
        return 0
    try:
        master = masters.look(parents_of(report.checkpoint))[1]
    except POD_FAILURES:
        return 0
    return master.ifindex if master is not None else 0
