"""Duplicate address detection (RFC 4862, 5.4) beside the traffic of restored IPv6 addresses.

The kernel lets nobody use an address before it has asked, and waited, one or two seconds. Those of
a lost interface were in use until it was lost: they are made usable at once (`nodad`), and asked
for here, for all pods of a repair side by side. Where nobody answers, the flag is taken away: the
kernel then shows the address as it was. Where somebody does, the kernel has the word: the address
is taken away and added as it always was, so that nobody uses it before the kernel has asked. It is
`dadfailed` then, unless whoever answered has given it up.

Who is asked: the wire, by each pod's master; and the node's other pods by their records, since
macvlans do not hear their master's questions. A repair that is killed meanwhile leaves the flag,
which no record has: the next one asks again. Imported where there is something to ask.
"""

from __future__ import annotations

import math
import time
from functools import partial

from cni_repair.base.closeable import Closeable
from cni_repair.base.frozen import frozen, replace
from cni_repair.network.apply import apply_to_pod
from cni_repair.network.operations.address import AddAddress, DropAddress, SetAddress
from cni_repair.network.operations.base import Target
from cni_repair.network.planning.route import route_steps
from cni_repair.network.reachability.closing import close_aside
from cni_repair.network.reachability.gateways import solicit_again
from cni_repair.network.reachability.holders import BESIDE, Asker
from cni_repair.node.context import POD_FAILURES, in_pod
from cni_repair.node.verdict import observe
from cni_repair.repair.doubts import records_of, wire_of
from cni_repair.repair.pod import AttachmentLock, RecordChanged, look
from cni_repair.repair.session import kernel_detects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.model import Address, HostLink
    from cni_repair.network.operations.base import Operation
    from cni_repair.repair.ledger import Ledger
    from cni_repair.repair.pod import PodLook
    from cni_repair.repair.session import Session

_PAUSE = 0.01  # between two looks at what came
# When the kernel has done what it does of itself for a new address.
_SETTLED_SECONDS = 0.02
# A master that lost its carrier meanwhile is not waited for: its pods are asked for anew.
_MOST_SECONDS = 2.0


@frozen
class Asked:
    """What is asked for one pod."""

    checkpoint: Checkpoint
    mac: str
    ifindex: int
    master: HostLink
    addresses: tuple[str, ...]


class Detection(Closeable):
    """Context: the pods whose addresses are asked for."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger
        self._taken: dict[int, Asked] = {}
        self._rounds: list[_Round] = []

    def close(self) -> None:
        for one in self._rounds:
            one.close()

    @property
    def is_at_work(self) -> bool:
        return bool(self._rounds)

    def is_asking_for(self, place: int) -> bool:
        return any(place in one.pods for one in self._rounds)

    def take(self, place: int, now: PodLook, master: HostLink | None) -> None:
        """Note what is to be asked of a pod, as soon as it and its master are on the wire."""
        live = now.observed.link
        if live is None or not live.carrier or master is None:
            return
        addresses = tuple(one.address for one in now.plan.unverified)
        self._taken[place] = Asked(
            now.checkpoint, live.link.mac, live.link.ifindex, master, addresses
        )

    def begin(self) -> None:
        """Begin to ask for those that were taken; where the kernel is to ask, it gets the word."""
        taken, self._taken = self._taken, {}
        options = self._session.options
        kernels = [one for one in taken if kernel_detects(options, taken[one].checkpoint)]
        for place in kernels:
            asked = taken.pop(place)
            self._conclude(place, asked, dict.fromkeys(asked.addresses, ""), withdraw=True)
        if taken:
            begun = _Round(self._session, taken)
            self._rounds.append(begun)
            begun.advance()  # others may answer while records are read
            begun.on_node = holders_on_node(self._session, taken)

    def wait(self, seconds: float) -> None:
        """Hear who answers, for so long, or until something is decided."""
        until = time.monotonic() + seconds
        if not self._rounds:
            time.sleep(seconds)
        while time.monotonic() < until:
            for one in self._rounds:
                one.advance()
                if one.is_due_to_solicit():
                    self._solicit_again(one)
            decided = [one for one in self._rounds if one.is_decided]
            for one in decided:
                self._end(one)
            if decided:
                return
            time.sleep(_PAUSE)

    def _solicit_again(self, one: _Round) -> None:
        for asked in one.pods.values():
            ask = partial(_solicit_again, asked.ifindex)
            try:
                in_pod(self._session.node, asked.checkpoint, self._session.options.netns, ask)
            except POD_FAILURES:
                continue  # a pod's neighbours are no reason to fail

    def _end(self, one: _Round) -> None:
        self._rounds.remove(one)
        one.close()
        for place, asked in one.pods.items():
            answers = one.answers(place)
            if answers is not None:
                self._conclude(place, asked, answers)

    def _conclude(
        self, place: int, asked: Asked, answers: dict[str, str], withdraw: bool = False
    ) -> None:
        """Make of one pod's addresses what the answers say. Where that fails, the next look shows
        it, and they are asked for anew."""
        session, entry = self._session, self._ledger.entries[place]
        run_dir = session.run_dir_of(entry)
        done: list[str] = []

        def work(namespaces: NamespacePair) -> None:
            with AttachmentLock(session.store, entry, session.options.hints, run_dir, 0.0):
                now = look(namespaces, asked.checkpoint, asked.master)
                steps = _steps(now, answers, withdraw)
                done.extend(_apply(namespaces, now, steps))

        try:
            in_pod(session.node, asked.checkpoint, session.options.netns, work)
        except RecordChanged as news:
            self._take_over(place, news)
        except POD_FAILURES:
            pass
        if withdraw or any(answers.values()):
            self._ledger.unfinished.append(place)  # what went along with an address
        report = self._ledger.reports[place]
        if report is not None:
            notes = [_claimed(address, who) for address, who in answers.items() if who and done]
            self._ledger.reports[place] = replace(
                report, actions=(*report.actions, *done), notes=(*report.notes, *notes)
            )

    def _take_over(self, place: int, news: RecordChanged) -> None:
        """The record is another by now, or gone: a CHECK or a DEL was quicker."""
        report = self._ledger.reports[place]
        if news.fresh is None or report is None:
            self._ledger.reports[place] = None
        else:
            self._ledger.entries[place] = news.fresh
            self._ledger.reports[place] = replace(report, checkpoint=news.fresh.checkpoint)


def _solicit_again(ifindex: int, namespaces: NamespacePair) -> None:
    solicit_again(namespaces.pod, ifindex)


def _steps(now: PodLook, answers: dict[str, str], withdraw: bool) -> list[Operation]:
    """For those that are still to be verified: the pod may have changed them meanwhile."""
    name = now.checkpoint.key.ifname
    steps: list[Operation] = []
    verified = []
    for address in now.plan.unverified:
        if address.address not in answers:
            continue
        if withdraw or answers[address.address]:
            steps += [DropAddress(name, address), AddAddress(name, address)]
        else:
            steps.append(SetAddress(name, address))
            verified.append(address)
    # With the flag gone the kernel makes the prefix's route again (inet6_addr_modify), which
    # somebody may have taken away.
    return [*steps, *route_steps(now.checkpoint.attachment, now.observed, (), verified)]


def _apply(namespaces: NamespacePair, now: PodLook, steps: list[Operation]) -> list[str]:
    live = now.observed.link
    if live is None or not steps:
        return []
    target = Target(ifindex=live.link.ifindex, master=live.master)
    apply_to_pod(namespaces, steps, target, None)
    return [step.describe(namespaces.pod_path) for step in steps]


def _claimed(address: str, who: str) -> str:
    return f"address {address} was claimed by {who} when it was restored"


class _Round:
    """Pods that are asked for together."""

    def __init__(self, session: Session, pods: dict[int, Asked]) -> None:
        self.pods = pods
        self._until = time.monotonic() + _MOST_SECONDS
        self._solicit_at = time.monotonic() + _SETTLED_SECONDS
        over: dict[HostLink, dict[str, str]] = {}
        for asked in pods.values():
            over.setdefault(asked.master, {}).update(dict.fromkeys(asked.addresses, asked.mac))
        rtnl = session.node.rtnl
        self._askers = {
            master: Asker(rtnl, master, own, BESIDE, own) for master, own in over.items()
        }
        self.on_node: dict[tuple[int, str], str] = {}  # who has an address of a pod, in words

    def close(self) -> None:
        close_aside([sock for asker in self._askers.values() for sock in asker.sockets])

    def advance(self) -> None:
        for asker in self._askers.values():
            asker.advance()

    def is_due_to_solicit(self) -> bool:
        """Whether it is time to, which is so once."""
        is_due = time.monotonic() >= self._solicit_at
        if is_due:
            self._solicit_at = math.inf
        return is_due

    @property
    def is_decided(self) -> bool:
        are_decided = all(asker.is_decided for asker in self._askers.values())
        return are_decided or time.monotonic() >= self._until

    def answers(self, place: int) -> dict[str, str] | None:
        """Who has each of a pod's addresses, in words, empty where nobody said so; None where it
        could not be asked."""
        asked = self.pods[place]
        asker = self._askers[asked.master]
        heard = asker.result() if asker.is_decided else None
        if heard is None:
            return None
        return {
            address: self.on_node.get((place, address)) or heard.get(address, "")
            for address in asked.addresses
        }


def holders_on_node(session: Session, pods: dict[int, Asked]) -> dict[tuple[int, str], str]:
    """Other pods of the node that have one of the addresses on the same wire, in words."""
    wanted: dict[tuple[str, str], list[tuple[int, Asked]]] = {}
    for place, asked in pods.items():
        for address in asked.addresses:
            wanted.setdefault((wire_of(asked.checkpoint), address), []).append((place, asked))
    found = {}
    for record in records_of(session):
        for had in record.attachment.addresses:
            for place, asked in wanted.get((wire_of(record), had.address), ()):
                mac = "" if asked.checkpoint.key == record.key else _mac_there(session, record, had)
                if mac:
                    pod = str(record.pod) or record.key.container_id
                    found[place, had.address] = f"{mac} ({pod} {record.key.ifname} on this node)"
    return found


def _mac_there(session: Session, record: Checkpoint, address: Address) -> str:
    """The MAC of the pod's interface, if it has the address now; else empty."""
    try:
        observed = in_pod(session.node, record, "", lambda pair: observe(pair, record))
    except POD_FAILURES:
        return ""
    has_it = any(one.key == address.key for one in observed.addresses)
    is_used = address.address not in (*observed.tentative, *observed.dadfailed)
    return observed.link.link.mac if observed.link and has_it and is_used else ""
