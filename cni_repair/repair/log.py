"""What a repair changed, and what it could not, in the journal.

After the pass, not during it: its pods wait for nothing that is only told.
"""

from __future__ import annotations

from cni_repair.base import log
from cni_repair.base.errors import REFUSALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.base.log import Kind
    from cni_repair.node.report import Report


def log_pass(reports: list[Report], examined: list[Report], took_ms: int) -> None:
    """Write a line for each attachment that was changed or is damaged, and one of all where there
    were several. Healthy ones are not told of; `examined`: what each was like before."""
    before = {report.key: report for report in examined}
    with log.Many():
        for report in reports:
            if report.actions or report.damaged:
                log_repaired(report, before.get(report.key))
        if len(reports) > 1:
            _log_all(reports, took_ms)


def log_repaired(report: Report, before: Report | None, outage_ms: int | None = None) -> None:
    """One line for one attachment: what it lacked, and what it is like now."""
    cause = f"{before.state}: {before.reason}".rstrip(": ") if before else ""
    error = report.error
    reason = "" if report.healthy else report.reason
    why = cause if report.healthy else reason  # what it lacked, or what is in the way
    log.event(
        _kind_of(report),
        f"{_words(report)} {report.title}" + (f" ({why})" if why else ""),
        **report.log_fields,
        CAUSE=cause,
        REASON=reason,
        CODE=error.code if error else None,
        STEPS=len(report.actions),
        OUTAGE_MS=outage_ms,
    )


def _kind_of(report: Report) -> Kind:
    if not report.damaged:
        return "repaired"
    is_refused = not report.actions and (report.error is None or report.error.code in REFUSALS)
    return "refused" if is_refused else "failed"


def _words(report: Report) -> str:
    if report.healthy:
        return "repaired"
    return f"{_kind_of(report)}, still {report.state}:"


def _log_all(reports: list[Report], took_ms: int) -> None:
    repaired = sum(report.healthy and bool(report.actions) for report in reports)
    damaged = sum(report.damaged for report in reports)
    left = f"; {damaged} still damaged" if damaged else ""
    log.event(
        "failed" if damaged else "repaired",
        f"repaired {repaired} of {len(reports)} attachments in {took_ms} ms{left}",
        ATTACHMENTS=len(reports),
        REPAIRED=repaired,
        DAMAGED=damaged,
        TOOK_MS=took_ms,
    )
