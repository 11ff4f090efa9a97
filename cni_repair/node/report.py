"""What was found and done, attachment by attachment: for JSON, for tables, for exit codes."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import title_of
from cni_repair.network.planning.plan import (
    DEGRADED,
    FOREIGN,
    HEALTHY,
    LOST,
    RELEASED,
    RENAMED,
    STALE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Key

    Words: TypeAlias = tuple[str, ...]
    Verdict: TypeAlias = tuple[str, Words, Words, tuple[int, str, str] | None, Words]

DOCUMENT_VERSION = 1  # of every document that a command prints
UNREADABLE = "unreadable"
_FINDINGS_TOLD = 8
STATES = (HEALTHY, LOST, DEGRADED, STALE, FOREIGN, RENAMED, RELEASED, UNREADABLE)
# Of `attachment_document`, by their names in the journal.
_LOG_FIELDS = {
    "containerID": "CNI_CONTAINERID",
    "ifname": "IFNAME",
    "pod": "POD",
    "network": "NETWORK",
    "master": "MASTER",
    "state": "STATE",
}
# Reported, and no failure: the pod of a stale record is no more, a renamed interface is there.
NO_FAILURE = (STALE, RENAMED)


@frozen
class Report:
    """The verdict on one attachment."""

    key: Key
    checkpoint: Checkpoint | None
    netns: str
    state: str
    findings: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()  # what was done (REPAIR) or is to be done (plan): ip commands
    error: CniError | None = None
    notes: tuple[str, ...] = ()  # what is to be said of a healthy one, too
    # IPv6 addresses are used of which a repair has still to ask whether others have them.
    unverified: bool = False

    @classmethod
    def of(cls, key: Key, checkpoint: Checkpoint | None, netns: str, verdict: Verdict) -> Report:
        """The report that has this :attr:`verdict`."""
        state, findings, actions, error, notes = verdict
        known = CniError(*error) if error else None
        return cls(key, checkpoint, netns, state, findings, actions, known, notes)

    @property
    def verdict(self) -> Verdict:
        """What it says of its attachment, in values that another process can be given."""
        known = self.error
        error = (known.code, known.msg, known.details) if known is not None else None
        return self.state, self.findings, self.actions, error, self.notes

    @property
    def healthy(self) -> bool:
        return self.state == HEALTHY and self.error is None

    @property
    def damaged(self) -> bool:
        """Whether a living pod lacks something."""
        return not self.healthy and self.state not in NO_FAILURE

    @property
    def pod(self) -> str:
        return str(self.checkpoint.pod) if self.checkpoint else ""

    @property
    def title(self) -> str:
        """Which attachment it is about, for people."""
        return title_of(self.pod, self.key.container_id, self.key.ifname)

    @property
    def reason(self) -> str:
        """Why it is not healthy, and what else is to be said, in one line that a screen holds."""
        error = (str(self.error),) if self.error else ()
        return in_one_line(self.findings, (*self.notes, *error))

    @property
    def everything(self) -> Words:
        """All that :attr:`reason` says, nothing left out."""
        return (*self.findings, *self.notes, *([str(self.error)] if self.error else []))

    @property
    def log_fields(self) -> dict[str, str]:
        """Which attachment it is about, and its state, for the journal."""
        known = self.about()
        return {field: known[name] for name, field in _LOG_FIELDS.items()}

    def about(self) -> dict[str, Any]:
        """What every document says first."""
        return attachment_document(self.key, self.checkpoint, self.netns, self.state)

    def document(self) -> dict[str, Any]:
        """As REPAIR prints it; `error` stands only where there is one."""
        return {
            **self.about(),
            "actions": list(self.actions),
            "findings": list(self.findings),
            "notes": list(self.notes),
            **error_document(self.error),
        }


def in_one_line(findings: Words, more: Words = ()) -> str:
    """Findings as a screen can hold them, then what else is to be said."""
    words = [*findings[:_FINDINGS_TOLD]]
    if len(findings) > _FINDINGS_TOLD:
        words.append(f"and {len(findings) - _FINDINGS_TOLD} more (-o json has them)")
    return "; ".join([*words, *more])


def attachment_document(
    key: Key, checkpoint: Checkpoint | None, netns: str, state: str
) -> dict[str, Any]:
    """What every document that cni-repair prints says of an attachment first.

    The schemas are in `cni_repair/cli/schema`, this part is `attachment` in common.json there. A
    text that is not known is empty.
    """
    recorded = checkpoint.attachment if checkpoint else None
    return {
        "containerID": key.container_id,
        "ifname": key.ifname,
        "network": checkpoint.network if checkpoint else "",
        "netns": netns,
        "pod": str(checkpoint.pod) if checkpoint else "",
        "master": recorded.parents[0].name if recorded else "",
        "addresses": [f"{a.address}/{a.prefix}" for a in recorded.addresses] if recorded else [],
        "state": state,
    }


def reason_in(document: dict[str, Any]) -> str:
    """The :attr:`Report.reason` of a report's document."""
    error = document.get("error")
    known = (str(CniError(**error)),) if error else ()
    return in_one_line(document["findings"], (*document["notes"], *known))


def error_document(error: CniError | None) -> dict[str, Any]:
    """The key `error`, where there is one."""
    if error is None:
        return {}
    return {"error": {"code": error.code, "msg": error.msg, "details": error.details}}


def summary(reports: list[Report]) -> dict[str, int]:
    """How many attachments are in which state, and how many of living pods have an error."""
    counts = {state: sum(report.state == state for report in reports) for state in STATES}
    failed = sum(report.damaged and report.error is not None for report in reports)
    return {"attachments": len(reports), **counts, "failed": failed}


def document(reports: list[Report], cni_version: str) -> dict[str, Any]:
    """The whole answer of REPAIR, and of `status`, `plan` and `repair` with `-o json`."""
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "cniVersion": cni_version,
        "attachments": [report.document() for report in reports],
        "summary": summary(reports),
    }
