"""What was found and done, attachment by attachment: for JSON, for tables, for exit codes."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.network.planning.plan import DEGRADED, FOREIGN, HEALTHY, LOST, STALE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Key

    Words: TypeAlias = tuple[str, ...]
    Verdict: TypeAlias = tuple[str, Words, Words, tuple[int, str, str] | None, Words]

UNREADABLE = "unreadable"
_FINDINGS_TOLD = 8
STATES = (HEALTHY, LOST, DEGRADED, STALE, FOREIGN, UNREADABLE)


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
    def pod(self) -> str:
        return str(self.checkpoint.pod) if self.checkpoint else ""

    @property
    def title(self) -> str:
        """Which attachment it is about, for people."""
        parts = (self.pod, self.key.container_id[:12], self.key.ifname)
        return " ".join(part for part in parts if part)

    @property
    def reason(self) -> str:
        """Why it is not healthy, and what else is to be said, in one line that a screen holds."""
        words = [*self.findings[:_FINDINGS_TOLD]]
        if len(self.findings) > _FINDINGS_TOLD:
            words.append(f"and {len(self.findings) - _FINDINGS_TOLD} more (-o json has them)")
        words += self.notes
        return "; ".join([*words, str(self.error)] if self.error else words)

    def document(self) -> dict[str, Any]:
        """As REPAIR prints it; `error`, `findings` and `notes` stand only where there are any."""
        document: dict[str, Any] = {
            "containerID": self.key.container_id,
            "ifname": self.key.ifname,
            "netns": self.netns,
            "pod": self.pod,
            "state": self.state,
            "actions": list(self.actions),
        }
        if self.findings:
            document["findings"] = list(self.findings)
        if self.notes:
            document["notes"] = list(self.notes)
        if self.error is not None:
            document["error"] = {
                "code": self.error.code,
                "msg": self.error.msg,
                "details": self.error.details,
            }
        return document


def summary(reports: list[Report]) -> dict[str, int]:
    """How many attachments are in which state, and how many failed."""
    counts = {state: sum(report.state == state for report in reports) for state in STATES}
    failed = sum(report.error is not None for report in reports)
    return {"attachments": len(reports), **counts, "failed": failed}


def document(reports: list[Report], cni_version: str) -> dict[str, Any]:
    """The whole answer of REPAIR, and of the command line's `-o json`."""
    return {
        "cniVersion": cni_version,
        "attachments": [report.document() for report in reports],
        "summary": summary(reports),
    }
