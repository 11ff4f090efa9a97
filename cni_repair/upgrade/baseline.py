"""What a node had before its driver was touched: the measure of what it must have afterwards. Pure.

What was not in order before, and is no worse now, is told apart; it is no failure of the upgrade.
What nobody could measure before is asked for as if it had been in order.
"""

from __future__ import annotations

from cni_repair.base.frozen import asdict, fields, frozen
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST, RELEASED
from cni_repair.network.reachability.gateways import ANSWERED, PERMANENT, SILENT, gateways_of
from cni_repair.node.report import NO_FAILURE
from cni_repair.upgrade.progress import VERIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypeVar

    from cni_repair.node.report import Report
    from cni_repair.node.verify import Verdict
    from cni_repair.upgrade.progress import Progress

    T = TypeVar("T")

BEFORE = "before"  # the journal's event
SAME, BETTER, WORSE = "same", "better", "worse"
NOT_ASKED = "not-asked"  # a gateway of a pod that is lost, say
_RANKS = {HEALTHY: 0, DEGRADED: 1, LOST: 2, RELEASED: 2}


@frozen
class LinkFacts:
    """A link of the node."""

    name: str
    there: bool
    up: bool = False
    carrier: bool = False
    mtu: int = 0
    usable: bool = True  # as a master: it, and what it stands on, is what the records say
    bond: str = ""  # of which it is a leg
    driver: str = ""  # of a card; empty where nobody tells
    version: str = ""  # of that driver
    firmware: str = ""

    @property
    def trouble(self) -> str:
        """What is wrong with it, in words; empty where nothing is."""
        if not self.there:
            return f"{self.name} does not exist"
        leg = f" (a leg of {self.bond})" if self.bond else ""
        if self.carrier:
            return ""
        return f"{self.name}{leg} has no carrier" if self.up else f"{self.name}{leg} is down"


@frozen
class PodFacts:
    """One attachment, as `verify` found it."""

    title: str
    state: str  # CHECK's
    verdict: str
    passed: bool
    reason: str  # why it did not pass
    findings: tuple[str, ...] = ()
    carrier: bool = True
    gateways: Mapping[str, str] = {}  # address → what came of asking it, or NOT_ASKED
    conflicts: tuple[str, ...] = ()  # addresses that others have, too
    error: tuple[int, str] | None = None

    @property
    def failed(self) -> bool:
        """Whether it did not pass, and should have."""
        return not self.passed and self.verdict not in NO_FAILURE

    @property
    def is_gone(self) -> bool:
        """Whether the pod has no interface."""
        return self.state in (LOST, RELEASED)

    @property
    def is_cut_off(self) -> bool:
        """Whether it can reach nothing, whoever is asked."""
        return self.is_gone or not self.carrier


def facts_of(verdict: Verdict) -> PodFacts:
    report = verdict.report
    error = verdict.error or report.error
    recorded = gateways_of(report.checkpoint.attachment) if report.checkpoint else []
    asked = {gateway.address: gateway.state for gateway in verdict.gateways}
    return PodFacts(
        report.title,
        report.state,
        verdict.verdict,
        verdict.passed,
        "" if verdict.passed else f"{verdict.verdict}: {verdict.reason}",
        report.findings,
        verdict.carrier,
        {**dict.fromkeys(recorded, NOT_ASKED), **asked},
        tuple(conflict.address for conflict in verdict.conflicts),
        (error.code, error.msg) if error else None,
    )


@frozen
class Measure:
    """A node at one moment."""

    links: Mapping[str, LinkFacts] = {}  # by name
    pods: Mapping[str, PodFacts] = {}  # by their attachments' names

    def document(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return {
            "links": [asdict(link) for link in self.links.values()],
            "attachments": {name: asdict(pod) for name, pod in self.pods.items()},
        }

    @classmethod
    def of(cls, noted: Mapping[str, Any]) -> Measure:
        """That of a :meth:`document`."""
        links = [_value(LinkFacts, link) for link in noted["links"]]
        pods = {name: _value(PodFacts, pod) for name, pod in noted["attachments"].items()}
        return cls({link.name: link for link in links}, pods)

    @property
    def troubles(self) -> list[tuple[str, str]]:
        """What is not in order: (of what, why)."""
        links = [("", link.trouble) for link in self.links.values() if link.trouble]
        pods = [(pod.title, pod.reason) for pod in self.pods.values() if pod.failed]
        return [*links, *pods]


NOTHING_KNOWN = Measure()


def _value(kind: type[T], noted: Mapping[str, Any]) -> T:
    """A value of ours, of what JSON has made of it. (A newer version may have noted more.)"""
    known = {key: noted[key] for key in fields(kind) if key in noted}
    return kind(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    )


def measured_before(progress: Progress) -> Measure:
    """What was measured before the driver was touched; nothing, where an older version began."""
    noted = progress.events.get(BEFORE)
    return Measure.of(noted) if noted else NOTHING_KNOWN


def measured_after(progress: Progress) -> Measure:
    """What the verify phase found."""
    done = progress.done.get(VERIFY)
    noted = done.data.get("after") if done else None
    return Measure.of(noted) if noted else NOTHING_KNOWN


# --- links ----------------------------------------------------------------------------------------


@frozen
class Demand:
    """What is waited for of a link."""

    there: bool = True
    up: bool = True
    carrier: bool = True
    mtu: int = 0


def demand_on(before: LinkFacts | None, carrier: bool, mtu: int = 0) -> Demand:
    """What makes a link no worse than it was; `carrier`: whether that is waited for, `mtu`: what
    the pods over it need."""
    if before is None:
        return Demand(True, carrier, carrier, mtu)
    return Demand(
        before.there,
        carrier and before.up,
        carrier and before.carrier,
        min(mtu, before.mtu),
    )


def change_of_link(before: LinkFacts, after: LinkFacts) -> str:
    """SAME, BETTER or WORSE."""
    was = (before.there, before.up, before.carrier)
    now = (after.there, after.up, after.carrier)
    if was == now:
        return SAME
    return WORSE if any(had and not has for had, has in zip(was, now)) else BETTER


def thinner_bonds(before: Measure, after: Measure) -> list[str]:
    """Bonds that have fewer legs with carrier than before. (Counted: a leg that comes back under
    another name is one.)"""
    had, have = _legs_with_carrier(before), _legs_with_carrier(after)
    return [
        f"{bond} had {len(legs)} legs with carrier, and has {len(have.get(bond, []))}: look at"
        f" {', '.join(leg for leg in legs if leg not in have.get(bond, []))}"
        for bond, legs in had.items()
        if len(have.get(bond, [])) < len(legs)
    ]


def _legs_with_carrier(measure: Measure) -> dict[str, list[str]]:
    legs: dict[str, list[str]] = {}
    for link in measure.links.values():
        if link.bond and link.carrier:
            legs.setdefault(link.bond, []).append(link.name)
    return legs


# --- attachments ----------------------------------------------------------------------------------


def is_no_worse(before: PodFacts | None, after: PodFacts) -> bool:
    """Whether nothing is wrong with an attachment that was not before."""
    if not after.failed:
        return True
    if before is None or not _state_is_no_worse(before.state, after.state):
        return False
    return (
        set(after.conflicts) <= set(before.conflicts)
        and (before.is_gone or after.error in (None, before.error))
        and (before.is_gone or _told(after.findings) <= _told(before.findings))
        and (before.is_cut_off or all(_no_worse(before, *one) for one in after.gateways.items()))
    )


def is_left_as_before(before: PodFacts | None, report: Report) -> bool:
    """Whether an attachment that a repair could not bring back was as bad before. (The verify phase
    looks closer.)"""
    if before is None or not _state_is_no_worse(before.state, report.state):
        return False
    return not (before.state == HEALTHY and report.error) or before.error == _short(report)


def _short(report: Report) -> tuple[int, str] | None:
    return (report.error.code, report.error.msg) if report.error else None


def _state_is_no_worse(before: str, after: str) -> bool:
    if before in _RANKS and after in _RANKS:
        return _RANKS[after] <= _RANKS[before]
    return before == after


def _told(findings: Iterable[str]) -> set[str]:
    """What is wrong, without why, which stands behind a colon: a link that had no carrier for want
    of a cable may have none now for it is down."""
    return {finding.partition(": ")[0] for finding in findings}


def _no_worse(before: PodFacts, address: str, state: str) -> bool:
    """Whether a gateway is heard no less than it was; who was not asked counts as heard."""
    return state in (ANSWERED, PERMANENT) or before.gateways.get(address) in (SILENT, state)


def change_of_pod(before: PodFacts, after: PodFacts) -> str:
    """SAME, BETTER or WORSE."""
    if not after.failed:
        return BETTER if before.failed else SAME
    return SAME if is_no_worse(before, after) else WORSE


def as_bad_as_before(before: Measure, after: Measure) -> list[tuple[str, str]]:
    """What was not in order before, and is not now: (of what, why); no failure of the upgrade."""
    links = [
        ("", link.trouble)
        for name, link in after.links.items()
        if link.trouble and name in before.links
        if change_of_link(before.links[name], link) != WORSE
    ]
    pods = [
        (pod.title, pod.reason)
        for name, pod in after.pods.items()
        if pod.failed and is_no_worse(before.pods.get(name), pod)
    ]
    return [*links, *pods]
