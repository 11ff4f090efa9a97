"""Questions from inside each pod: to its gateways, and for others who have its addresses.

    open every pod's sockets ─► ask all ─► listen to all ─► answers

One thread: a socket stays in the namespace in which it was made, so that all pods wait for their
answers side by side. One pod's failure never stops the others.
"""

from __future__ import annotations

import contextlib
import resource
import time

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import DAMAGED, CniError
from cni_repair.base.frozen import frozen
from cni_repair.network.planning.plan import DEGRADED, HEALTHY
from cni_repair.network.reachability.duplicates import PROBES, Duplicates, Holder, close_all
from cni_repair.network.reachability.gateways import MAX_GATEWAYS, Gateway, Gateways, gateways_of
from cni_repair.node.context import POD_FAILURES, Node, in_pod, wrapped
from cni_repair.node.report import Report
from cni_repair.node.verdict import observe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.model import Attachment

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1

MAX_ADDRESSES = 64  # of one pod, which decides how many it has
# Who else answers for a gateway answers as fast as it; but a question may be lost.
_GATEWAY_PROBES = 2
_SOCKETS_PER_POD = 3


@frozen
class VerifyOptions:
    """How to verify."""

    seconds: float  # to wait for answers, for all pods together
    duplicates: bool = False  # probe for other holders of the pods' addresses, too
    damaged_too: bool = False  # have degraded pods that have carrier ask their gateways, too


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


def ask(node: Node, reports: list[Report], options: VerifyOptions) -> list[Answers]:
    """What was heard from inside each pod, in the order of its report."""
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
