"""What an upgrade did to each pod. Pure."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.network.planning.plan import HEALTHY, LOST
from cni_repair.upgrade.baseline import is_left_as_before, measured_before
from cni_repair.upgrade.progress import SNAPSHOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.node.report import Report
    from cni_repair.node.snapshot import Snapshot
    from cni_repair.upgrade.progress import Progress

_NAMED_AT_MOST = 5


def summarise(reasons: list[str]) -> str:
    """Of 2,000 pods with the same trouble five will do; the report names them all."""
    more = len(reasons) - _NAMED_AT_MOST
    return "; ".join([*reasons[:_NAMED_AT_MOST], *([f"and {more} more"] if more > 0 else [])])


def group_by_reason(troubles: list[tuple[str, str]]) -> list[str]:
    """Of (attachment, reason) pairs: each reason once, with the first whom it concerns."""
    sharing: dict[str, list[str]] = {}
    for title, reason in troubles:
        sharing.setdefault(reason, []).append(title)
    return [
        ": ".join(filter(None, [f"{title}{f' and {len(others)} more' if others else ''}", reason]))
        for reason, (title, *others) in sharing.items()
    ]


def in_words(first: str, troubles: list[tuple[str, str]]) -> str:
    """`first`, then the (attachment, reason) pairs; nothing where there are none."""
    return first + summarise(group_by_reason(troubles)) if troubles else ""


@frozen
class Before:
    """Pods that were not well before the driver was touched."""

    damaged: frozenset[str]  # names of attachments: whatever they lack, it was not the driver
    given_up: frozenset[str]  # those that cannot be restored, as the plan's coverage allows


def noted_before(taken: Snapshot) -> list[dict[str, Any]]:
    """What :func:`before_of` wants to know, for the journal."""
    return [
        {"attachment": record.report.key.name, "restorable": record.restorable}
        for record in taken.records
        if record.counts and not (record.report.healthy and record.restorable)
    ]


def before_of(progress: Progress) -> Before:
    done = progress.done.get(SNAPSHOT)
    noted = done.data.get("before", []) if done else []
    return Before(
        frozenset(pod["attachment"] for pod in noted),
        frozenset(pod["attachment"] for pod in noted if not pod["restorable"]),
    )


@frozen
class PodResult:
    """One attachment: what was lost, what was done, how long its network was away."""

    report: Report  # of the repair; its actions are the ip commands that it equals
    lost: tuple[str, ...]  # what the first look after the driver's return found
    outage_ms: int | None  # None: nobody saw it go, or it is not back
    given_up: bool  # it could not have been restored, and the plan allowed that
    as_before: bool  # it is as bad as it was before the driver was touched

    @property
    def title(self) -> str:
        return self.report.title

    @property
    def state(self) -> str:
        return self.report.state

    @property
    def reason(self) -> str:
        return self.report.reason

    @property
    def healthy(self) -> bool:
        return self.report.healthy

    @property
    def damaged(self) -> bool:
        return self.report.damaged

    @property
    def repaired(self) -> bool:
        return self.report.healthy and bool(self.report.actions)

    def document(self) -> dict[str, Any]:
        """As the journal keeps it, and the report prints it."""
        return {
            **self.report.document(),
            "lost": list(self.lost),
            "outageMs": self.outage_ms,
            "givenUp": self.given_up,
            "asBefore": self.as_before,
        }


def pod_results(
    examined: list[Report], reports: list[Report], restored: dict[str, float], progress: Progress
) -> list[PodResult]:
    """Put together the first look, the repair's reports, and when each was restored (Unix time)."""
    first_look = {report.key.name: report for report in examined}
    before, measured = before_of(progress), measured_before(progress)
    results = []
    for report in reports:
        name, first = report.key.name, first_look[report.key.name]
        damaged_before = name in before.damaged
        result = PodResult(
            report,
            lost=() if first.state == HEALTHY else first.findings,
            outage_ms=None if damaged_before else _outage(first, report, restored, progress),
            given_up=name in before.given_up and report.damaged,
            as_before=report.damaged and is_left_as_before(measured.pods.get(name), report),
        )
        results.append(result)
    return results


def _outage(
    first: Report, report: Report, restored: dict[str, float], progress: Progress
) -> int | None:
    """From the moment when a link below the pod went, to that when its traffic could pass again.

    A pod that kept its interface had its network back with its uplink. Where nobody saw the link go
    (the upgrade was killed), it counts from the driver command's start: it was not longer.
    """
    chain = report.checkpoint.attachment.parents if report.checkpoint else ()
    gone = [progress.lost[link.name] for link in chain if link.name in progress.lost]
    back = restored.get(report.key.name)
    if back is None and report.healthy and chain:
        back = progress.back.get(chain[-1].name)
    if not gone and first.state == LOST and progress.touched:
        gone = [progress.events["driver"]["at"]]
    if not gone or back is None or back < min(gone):
        return None
    return round(1000 * (back - min(gone)))
