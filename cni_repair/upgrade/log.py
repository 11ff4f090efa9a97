"""An upgrade's events in the node's journal: its own is for a resume, and the next upgrade's takes
its place."""

from __future__ import annotations

from cni_repair.base import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.upgrade.journal import Event

_STATUS = {0: "ended well", 1: "ended, and something failed", 3: "refused, nothing was touched"}


def log_event(event: Event) -> None:
    """Write what is to be told of an event. Pods are told of by who repairs them, a line each; what
    the driver command prints stays in the upgrade's journal."""
    kind = event["event"]
    if kind == "begin":
        log.event("upgrade", f"upgrade by {event['planFile']} begins", PLAN=event["planFile"])
    elif kind == "resume":
        log.event("upgrade", "upgrade is resumed")
    elif kind == "done":
        _log_phase(event)
    elif kind == "driver":
        log.event("upgrade", f"upgrade: the driver command is started (PID {event['pid']})")
    elif kind == "word":
        log.event("upgrade", f"upgrade: {event['text']}")
    elif kind == "lost":
        text = f"{event['link']} is gone, or has lost its carrier"
        log.event("uplink-lost", text, MASTER=event["link"], CAUSE="upgrade")
    elif kind == "back":
        log.event("uplink-back", f"{event['link']} is back", MASTER=event["link"], CAUSE="upgrade")
    elif kind == "damaged":
        text = f"upgrade: {event['todo']} of {event['attachments']} attachments to be repaired"
        log.event("upgrade", text, ATTACHMENTS=event["attachments"], DAMAGED=event["todo"])
    elif kind == "end":
        _log_end(event)


def _log_phase(event: Event) -> None:
    phase, ok, words = event["phase"], event["ok"], event["words"]
    if ok:
        log.event("upgrade", f"upgrade, {phase}: {words}", PHASE=phase)
    else:
        log.event("failed", f"upgrade, {phase} failed: {words}", PHASE=phase, REASON=words)


def _log_end(event: Event) -> None:
    status = event["status"]
    given_up = "; it is given up" if event.get("givenUp") else ""
    text = f"upgrade {_STATUS.get(status, f'ended with status {status}')}{given_up}"
    log.event("upgrade" if status == 0 else "failed", text, STATUS=status)
