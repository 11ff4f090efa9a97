"""What a repair waits for at its end, for all attachments at once: carrier, and duplicate address
detection, the kernel's or ours.

Imported where there is something to wait for.
"""

from __future__ import annotations

import time

from cni_repair.base.frozen import replace
from cni_repair.network.observe import has_carrier
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node.context import POD_FAILURES, in_pod, wrapped
from cni_repair.node.verdict import failed, notes_of, parents_of, remedies
from cni_repair.repair.attachment import announce, note_restored
from cni_repair.repair.detection import Detection
from cni_repair.repair.pod import RecordChanged, check_record, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.repair.ledger import Ledger
    from cni_repair.repair.session import Session

_POLL_SECONDS = 0.1
# While masters have no carrier, they alone are asked: at so little cost, often. What stands on them
# follows in a moment.
_CARRIER_POLL_SECONDS = 0.01
_FOLLOWS_SECONDS = 0.5


def settle(session: Session, ledger: Ledger, seconds: float) -> None:
    """Wait for those that have not settled, and announce each when it has; what has not in time is
    reported so. (Questions that have been asked are waited for: a second at most.)"""
    until = time.monotonic() + seconds
    pending, ledger.unsettled = [*dict.fromkeys(ledger.unsettled)], []
    soon = 0.0
    with Detection(session, ledger) as detection:
        while pending:
            last = time.monotonic() >= until and not detection.is_at_work
            silent = [] if last else [one for one in pending if _is_silent(session, ledger, one)]
            if silent:
                soon = time.monotonic() + _FOLLOWS_SECONDS
            heard = sorted({*pending} - {*silent})
            pending = silent + [
                place
                for place in heard
                if detection.is_asking_for(place)
                or (not _has_settled(session, ledger, detection, place, last) and not last)
            ]
            detection.begin()
            if pending:
                is_soon = time.monotonic() < soon
                detection.wait(_CARRIER_POLL_SECONDS if is_soon else _POLL_SECONDS)


def _is_silent(session: Session, ledger: Ledger, place: int) -> bool:
    """Whether its master has no carrier yet: then there is nothing to be seen in the pod."""
    report = ledger.reports[place]
    if report is None or report.checkpoint is None:
        return False
    master, _ = session.uplinks.master(parents_of(report.checkpoint))
    try:
        return master is not None and not has_carrier(session.node.rtnl, master.name)
    except OSError:
        return False  # it is gone: a look tells


def _has_settled(
    session: Session, ledger: Ledger, detection: Detection, place: int, last: bool
) -> bool:
    """Look again at one that has not."""
    report = ledger.reports[place]
    if report is None or report.checkpoint is None:
        return True  # its record went meanwhile
    checkpoint = report.checkpoint
    master, _ = session.uplinks.master(parents_of(checkpoint))
    given_netns = session.options.netns
    try:
        now = in_pod(session.node, checkpoint, given_netns, lambda ns: look(ns, checkpoint, master))
    except POD_FAILURES as error:
        ledger.reports[place] = failed(checkpoint, given_netns, wrapped(error))
        return _is_over(session, ledger, place)
    is_new = now.connected and place not in ledger.restored
    if is_new:
        note_restored(session, ledger, place, report)
    if is_new or not now.unsettled:
        announce(session, now, master)
    if now.plan.unverified and not last:
        detection.take(place, now, master)
    state, findings = now.plan.state, now.findings
    if last and state == HEALTHY and now.tentative:  # the link-local address
        state = DEGRADED
        findings += (f"still tentative: {', '.join(now.tentative)}",)
    notes = [*report.notes, *(notes_of(now.plan) if last else ())]
    notes += remedies(checkpoint, now.observed, now.plan, now.netns)
    ledger.reports[place] = replace(
        report,
        state=state,
        findings=findings,
        notes=tuple(dict.fromkeys(notes)),
        unverified=bool(now.plan.unverified),
    )
    return _is_over(session, ledger, place) if state == LOST else not now.unsettled


def _is_over(session: Session, ledger: Ledger, place: int) -> bool:
    """Of a pod that is gone, and its record with it, there is nothing to report: a DEL came."""
    try:
        check_record(session.store, ledger.entries[place], session.options.hints)
    except RecordChanged as news:
        if news.fresh is None:
            ledger.reports[place] = None
    return True
