"""Whether pods reach the network now: CHECK, then questions from inside each of them.

    examine ─► ask (see asking) ─► verdict

One pod's failure never stops the others.
"""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import short_id
from cni_repair.network.planning.plan import (
    DEGRADED,
    FOREIGN,
    HEALTHY,
    LOST,
    RELEASED,
    RENAMED,
    STALE,
)
from cni_repair.network.reachability.gateways import (
    ANSWERED,
    DOUBTFUL,
    PERMANENT,
    REFUSED,
    SILENT,
    Gateway,
)
from cni_repair.node.asking import Answers, VerifyOptions, ask
from cni_repair.node.context import Node
from cni_repair.node.examine import examine
from cni_repair.node.report import (
    DOCUMENT_VERSION,
    NO_FAILURE,
    UNREADABLE,
    Report,
    attachment_document,
    error_document,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Key

# A verdict is CHECK's state where that is not healthy, HEALTHY where every gateway answered, or
NOT_VERIFIED = "configured-not-verified"  # there was nobody to ask
UNREACHABLE = "unreachable"  # a gateway is silent, or the link has no carrier
CONFLICT = "conflict"  # somebody else has one of the pod's addresses, or perhaps its gateway's
VERDICTS = (
    HEALTHY, NOT_VERIFIED, UNREACHABLE, CONFLICT,
    LOST, DEGRADED, STALE, FOREIGN, RENAMED, RELEASED, UNREADABLE,
)  # fmt: skip

_MOST_MACS = 4  # to be named: a pod may answer with any number


@frozen
class Conflict:
    """Somebody else who has an address of the pod."""

    address: str
    mac: str  # empty: not known
    pod: str = ""  # where it is one of this node

    def __str__(self) -> str:
        if not self.mac:
            return f"the MAC of who else has {self.address} is not known"
        here = f" ({self.pod} on this node)" if self.pod else ""
        return f"{self.mac}{here} has address {self.address}, too"


@frozen
class PodHere:
    """A pod of this node, by whose MAC somebody answers."""

    name: str
    addresses: frozenset[str] = frozenset()  # those that are its own by IPAM's word

    def __str__(self) -> str:
        return self.name


@frozen
class Verdict:
    """Whether one attachment works."""

    report: Report  # CHECK's
    verdict: str
    heard: tuple[str, ...] = ()  # what is wrong beyond CHECK's findings
    gateways: tuple[Gateway, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    error: CniError | None = None
    carrier: bool = True

    @property
    def key(self) -> Key:
        return self.report.key

    @property
    def pod(self) -> str:
        return self.report.pod

    @property
    def netns(self) -> str:
        return self.report.netns

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong: where there is nobody to ask, being configured must do."""
        return self.verdict in (HEALTHY, NOT_VERIFIED) and self.error is None

    @property
    def failed(self) -> bool:
        """Whether a living pod did not pass; a renamed interface is not tested."""
        return not self.passed and self.verdict not in NO_FAILURE

    @property
    def reason(self) -> str:
        """What is wrong, in one line."""
        words = (self.report.reason, *self.heard, str(self.error or ""))
        return "; ".join(word for word in words if word)

    def document(self) -> dict[str, Any]:
        """As `-o json` prints it; `error` stands only where there is one."""
        report = self.report
        return {
            **attachment_document(report.key, report.checkpoint, report.netns, report.state),
            "verdict": self.verdict,
            "findings": [*report.findings, *report.notes, *self.heard],
            "gateways": [_gateway_document(gateway) for gateway in self.gateways],
            "conflicts": [
                {"address": one.address, "mac": one.mac, "pod": one.pod} for one in self.conflicts
            ],
            **error_document(self.error or report.error),
        }


def _gateway_document(gateway: Gateway) -> dict[str, Any]:
    return {
        "address": gateway.address,
        "state": gateway.state,
        "mac": gateway.mac,
        "milliseconds": gateway.milliseconds,
    }


def counts_of(verdicts: list[Verdict]) -> dict[str, int]:
    """How many attachments there are of each verdict."""
    return {verdict: sum(one.verdict == verdict for one in verdicts) for verdict in VERDICTS}


def document(verdicts: list[Verdict]) -> dict[str, Any]:
    """The whole answer of `verify -o json`."""
    counts = counts_of(verdicts)
    not_verified = counts.pop(NOT_VERIFIED)
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "attachments": [verdict.document() for verdict in verdicts],
        "summary": {
            "attachments": len(verdicts),
            **counts,
            "configuredNotVerified": not_verified,
            "failed": sum(one.failed for one in verdicts),
        },
    }


def verify(node: Node, entries: list[Entry], options: VerifyOptions) -> list[Verdict]:
    """A verdict on each attachment, in the order of `entries`.

    Does to the kernel's neighbour table what a pod's own traffic would; changes nothing else.
    """
    reports = examine(node, entries)
    answers = ask(node, reports, options)
    pods = {
        heard.mac: PodHere(
            report.pod or short_id(report.key.container_id), report.checkpoint.announceable
        )
        for heard, report in zip(answers, reports)
        if heard.mac and report.checkpoint is not None
    }
    return [judge(report, heard, pods) for report, heard in zip(reports, answers)]


def judge(report: Report, answers: Answers, pods: Mapping[str, PodHere]) -> Verdict:
    """What CHECK found and what was heard, weighed; `pods` are the node's, by their MACs. Pure."""
    conflicts = _conflicts(answers, pods)
    weighed = [_weighed(gateway, report, answers, pods) for gateway in answers.gateways]
    gateways = tuple(gateway for gateway, _ in weighed)
    heard = [str(conflict) for conflict in conflicts]
    heard += [text for _, text in weighed if text]
    if report.healthy and not gateways and answers.error is None:
        heard.append("no gateway to ask")
    verdict = _verdict(report, replace(answers, gateways=gateways), conflicts)
    return Verdict(
        report, verdict, tuple(heard), gateways, conflicts, answers.error, answers.carrier
    )


def _weighed(
    gateway: Gateway, report: Report, answers: Answers, pods: Mapping[str, PodHere]
) -> tuple[Gateway, str]:
    """A gateway, and what is to be said of it; nothing of one that alone has answered."""
    if gateway.state != ANSWERED:
        return gateway, _about(gateway)
    others = (one.mac for one in answers.holders if one.address == gateway.address)
    macs = [*dict.fromkeys((gateway.mac, *others))]
    known = report.checkpoint.gateway_macs if report.checkpoint else ()
    recorded = next((one.mac for one in known if one.address == gateway.address), "")
    said = [f"{mac} ({pods[mac]} on this node)" if mac in pods else mac for mac in macs]
    name = f"gateway {gateway.address}"
    if macs[1:]:
        more = f" and {len(said) - _MOST_MACS} more" if said[_MOST_MACS:] else ""
        why = f"{name} has {len(said)} answers: {', '.join(said[:_MOST_MACS])}{more}"
    elif answers.is_flooded:
        why = f"{name} has more answers than were read: {said[0]}, and perhaps others"
    elif gateway.mac in pods and gateway.address not in pods[gateway.mac].addresses:
        why = f"{name} is answered for by {said[0]}"
    elif recorded and gateway.mac != recorded:
        why = (
            f"{name} is answered for by {said[0]}, it was {recorded} (cni-repair snapshot takes"
            " that for its new MAC)"
        )
    else:
        return gateway, ""
    return replace(gateway, state=DOUBTFUL), why


def _verdict(report: Report, answers: Answers, conflicts: tuple[Conflict, ...]) -> str:
    if conflicts:
        return CONFLICT
    if not report.healthy:
        # (A repair first, where one can help: an interface that is down has no carrier, either.)
        return report.state if answers.carrier or report.actions else UNREACHABLE
    states = {gateway.state for gateway in answers.gateways}
    if DOUBTFUL in states:
        return CONFLICT
    if states & {SILENT, REFUSED}:
        return UNREACHABLE
    return HEALTHY if states == {ANSWERED} and answers.error is None else NOT_VERIFIED


def _conflicts(answers: Answers, pods: Mapping[str, PodHere]) -> tuple[Conflict, ...]:
    gateways = {gateway.address for gateway in answers.gateways}
    heard = [
        Conflict(holder.address, holder.mac, str(pods.get(holder.mac, "")))
        for holder in answers.holders
        if holder.address not in gateways
    ]
    known = {conflict.address for conflict in heard}
    silent = [Conflict(address, "") for address in answers.dadfailed if address not in known]
    return (*heard, *silent)


def _about(gateway: Gateway) -> str:
    """What is to be said of a gateway that did not answer."""
    if gateway.state == SILENT:
        question = "neighbour solicitations" if ":" in gateway.address else "ARP"
        return f"gateway {gateway.address} does not answer {question}"
    if gateway.state == REFUSED:
        return f"gateway {gateway.address} cannot be asked: {gateway.refusal}"
    if gateway.state == PERMANENT:
        return f"gateway {gateway.address} has a permanent neighbour entry: not asked"
    return ""
