"""Whether pods reach the network now: CHECK, then questions from inside each of them.

    examine ─► open every pod's sockets ─► ask all ─► listen to all ─► verdict

One thread: a socket stays in the namespace in which it was made, so that all pods wait for their
answers side by side. One pod's failure never stops the others.
"""

from __future__ import annotations

import contextlib
import resource
import time

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import DAMAGED, CniError
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
from cni_repair.network.reachability.duplicates import PROBES, Duplicates, Holder, close_all
from cni_repair.network.reachability.gateways import (
    ANSWERED,
    DOUBTFUL,
    MAX_GATEWAYS,
    PERMANENT,
    REFUSED,
    SILENT,
    Gateway,
    Gateways,
    gateways_of,
)
from cni_repair.node.context import POD_FAILURES, Node, in_pod, wrapped
from cni_repair.node.examine import examine
from cni_repair.node.report import (
    DOCUMENT_VERSION,
    NO_FAILURE,
    UNREADABLE,
    Report,
    attachment_document,
    error_document,
)
from cni_repair.node.verdict import observe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Key
    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.model import Attachment

# A verdict is CHECK's state where that is not healthy, HEALTHY where every gateway answered, or
NOT_VERIFIED = "configured-not-verified"  # there was nobody to ask
UNREACHABLE = "unreachable"  # a gateway is silent, or the link has no carrier
CONFLICT = "conflict"  # somebody else has one of the pod's addresses, or perhaps its gateway's
VERDICTS = (
    HEALTHY, NOT_VERIFIED, UNREACHABLE, CONFLICT,
    LOST, DEGRADED, STALE, FOREIGN, RENAMED, RELEASED, UNREADABLE,
)  # fmt: skip

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1

MAX_ADDRESSES = 64  # of one pod, which decides how many it has
# Who else answers for a gateway answers as fast as it; but a question may be lost.
_GATEWAY_PROBES = 2
_MOST_MACS = 4  # to be named: a pod may answer with any number
_SOCKETS_PER_POD = 3


@frozen
class VerifyOptions:
    """How to verify."""

    seconds: float  # to wait for answers, for all pods together
    duplicates: bool = False  # probe for other holders of the pods' addresses, too
    damaged_too: bool = False  # have degraded pods that have carrier ask their gateways, too


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
class Answers:
    """What was seen and heard from inside one pod."""

    carrier: bool = True
    mac: str = ""
    dadfailed: tuple[str, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    holders: tuple[Holder, ...] = ()  # of the pod's addresses, and of its gateways'
    error: CniError | None = None  # why there is not more
    is_flooded: bool = False  # more answers came than were read


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
    answers = _ask(node, reports, options)
    pods = {
        heard.mac: PodHere(
            report.pod or short_id(report.key.container_id), report.checkpoint.announceable
        )
        for heard, report in zip(answers, reports)
        if heard.mac and report.checkpoint is not None
    }
    return [judge(report, heard, pods) for report, heard in zip(reports, answers)]


def _ask(node: Node, reports: list[Report], options: VerifyOptions) -> list[Answers]:
    probes = [_Probe(report, options) for report in reports]
    with _descriptors_for(len(probes)):
        try:
            for probe in probes:
                probe.open(node)
            _listen(probes, options.seconds)
            return [probe.answers() for probe in probes]
        finally:
            close_all([probe.duplicates for probe in probes if probe.duplicates is not None])
            for probe in probes:
                probe.close()


def _listen(probes: list[_Probe], seconds: float) -> None:
    """Ask for all, then look for answers until all are there, or the time is over.

    It counts from when the last was asked: however many they are, each is given all of it.
    """
    for probe in probes:
        probe.advance()
    until = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while undecided := [probe for probe in probes if not probe.decided]:
        left = until - time.monotonic()
        time.sleep(min(pause, max(left, 0.0)))
        pause = min(2 * pause, _LONGEST_PAUSE)
        for probe in undecided:
            probe.advance()
        if left <= 0:  # on a busy node we may come late: what came in time is seen all the same
            return


@contextlib.contextmanager
def _descriptors_for(pods: int) -> Iterator[None]:
    """Allow for the sockets of that many pods (the usual limit is 1024)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = min(soft + _SOCKETS_PER_POD * pods, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Probe(Closeable):
    """What is asked for one attachment. Nothing, where CHECK says that there is no use."""

    def __init__(self, report: Report, options: VerifyOptions) -> None:
        self._report = report
        self._options = options
        self._seen = Answers()
        self._error: CniError | None = None
        self._failed = False
        self._gateways: Gateways | None = None
        self.duplicates: Duplicates | None = None

    def open(self, node: Node) -> None:
        """Look at the interface, and open the sockets to ask over it."""
        report = self._report
        if report.checkpoint is None or report.error or report.state not in (HEALTHY, DEGRADED):
            return
        try:
            in_pod(node, report.checkpoint, "", self._open_inside)
        except POD_FAILURES as error:
            self._fail(error)

    def _open_inside(self, namespaces: NamespacePair) -> None:
        checkpoint = self._report.checkpoint
        assert checkpoint is not None
        observed = observe(namespaces, checkpoint)
        live, attachment = observed.link, checkpoint.attachment
        if live is None:
            raise CniError(DAMAGED, "the interface has gone since it was checked")
        self._seen = Answers(live.carrier, live.link.mac, observed.dadfailed)
        addresses = observed.dadfailed[:MAX_ADDRESSES]  # the kernel does not tell who has them
        gateways: list[str] = []
        if self._report.healthy or (self._options.damaged_too and live.up and live.carrier):
            gateways = self._at_most_gateways(attachment)
            self._gateways = Gateways(live.link.ifindex, gateways)
        if self._report.healthy and self._options.duplicates:
            addresses = self._at_most_addresses(attachment)
        if addresses or gateways:
            both = [*dict.fromkeys((*addresses, *gateways))]
            probes = PROBES if addresses else _GATEWAY_PROBES
            self.duplicates = Duplicates(namespaces.pod, live, both, probes)

    def _at_most_gateways(self, attachment: Attachment) -> list[str]:
        return self._at_most(MAX_GATEWAYS, "gateways", gateways_of(attachment))

    def _at_most_addresses(self, attachment: Attachment) -> tuple[str, ...]:
        addresses = [address.address for address in attachment.addresses]
        return tuple(self._at_most(MAX_ADDRESSES, "addresses", addresses))

    def _at_most(self, limit: int, what: str, addresses: list[str]) -> list[str]:
        if len(addresses) > limit:
            self._error = CniError(DAMAGED, f"{len(addresses)} {what}: only {limit} were asked for")
        return addresses[:limit]

    def close(self) -> None:
        if self._gateways is not None:
            self._gateways.close()

    @property
    def decided(self) -> bool:
        return self._failed or not self._open_questions()

    def _open_questions(self) -> list[Gateways | Duplicates]:
        questions = (self._gateways, self.duplicates)
        return [asking for asking in questions if asking is not None and not asking.decided]

    def advance(self) -> None:
        """Ask, or look what came."""
        try:
            for question in self._open_questions():
                question.advance()
        except POD_FAILURES as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed, self._error = True, wrapped(error)

    def answers(self) -> Answers:
        """What is known when all are decided, or the time is over."""
        return Answers(
            self._seen.carrier,
            self._seen.mac,
            self._seen.dadfailed,
            # (Who could not be listened to is not silent.)
            self._gateways.result() if self._gateways and not self._failed else (),
            self.duplicates.result() if self.duplicates else (),
            self._error,
            bool(self.duplicates and self.duplicates.is_flooded),
        )


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
