"""How an upgrade has ended, with what went before. Pure."""

from __future__ import annotations

from cni_repair.upgrade.progress import DRIVER, FAILED, FINE, REFUSED
from cni_repair.upgrade.times import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.upgrade.progress import Progress, Run

WELL = "well"
HEALED = "healed"  # well in the end, by a resume; what failed before that stays told
FAILED_SO_FAR = "failed"
GIVEN_UP = "given-up"
NOT_BEGUN = "refused"  # nothing was touched


def verdict_of(progress: Progress) -> str | None:
    """One of the above; None as long as it has not ended."""
    if progress.end is None:
        return None
    status = progress.end["status"]
    if status == FINE:
        return HEALED if _failures(progress) else WELL
    if progress.given_up:
        return GIVEN_UP
    return NOT_BEGUN if status == REFUSED else FAILED_SO_FAR


def how_it_ended(progress: Progress) -> str:
    """The same for people."""
    verdict = verdict_of(progress)
    if verdict == HEALED:
        return _how_it_was_healed(progress)
    words = {
        WELL: "ended well",
        NOT_BEGUN: "refused, nothing was touched",
        GIVEN_UP: "ended, FAILED, and given up",
    }
    return words.get(verdict or "", "ended, FAILED")


def _how_it_was_healed(progress: Progress) -> str:
    told = [f"FAILED at {clock(at)} ({', '.join(run.failed)})" for run, at in _failures(progress)]
    assert progress.end is not None
    healed = next(run.ended for run in progress.runs if run.status == FINE and run.ended)
    text = f"{', '.join(told)}, healed at {clock(healed)} by --resume"
    if DRIVER in progress.failed:
        text += "; the driver command was not run again: begin a new upgrade for that"
    return text


def _failures(progress: Progress) -> list[tuple[Run, float]]:
    """The runs that ended, and in which something failed, and when."""
    return [(run, run.ended) for run in progress.runs if run.status == FAILED and run.ended]
