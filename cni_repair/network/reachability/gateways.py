"""Whether a pod's gateways answer now: asked through the kernel's own neighbour table.

That is what the pod's traffic will ask, too: ARP or a neighbour solicitation, from the pod's own
address, past its own sysctls. No raw packets, and what is learned, the pod may use.

A REACHABLE entry may be half a minute old, from before the wire broke. So an entry that is there
is put to NUD_PROBE: the kernel asks the known MAC again, the pod's traffic flowing on meanwhile,
and nothing but an answer brings REACHABLE back (__neigh_update, neigh_timer_handler). Where there
is no entry, or that MAC stays silent (a gateway may be another machine by now), NTF_USE has the
kernel ask everybody. It asks three times, one second apart, and then says FAILED: it is put to it
again, for as long as its user has patience. A switch port may take half a minute to forward.
"""

from __future__ import annotations

import errno
import time

from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import DAMAGED, REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_pton
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink, is_missing
from cni_repair.network.kernel.neighbour import MAX_READ, NUD_PERMANENT, neighbours_request
from cni_repair.network.model import RTN_UNICAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_repair.network.model import Attachment

# include/uapi/linux/neighbour.h
NUD_NONE, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_DELAY = 0, 0x01, 0x02, 0x04, 0x08
NUD_PROBE, NUD_FAILED, NUD_NOARP = 0x10, 0x20, 0x40
_HEARD = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE
_NTF_USE, _NTF_EXT_LEARNED = 0x01, 0x10
_NDA_FLAGS_EXT = 15
_MOST_AGAIN = 64  # messages: a pod may wait for any number
# Of one pod, which decides about its routes; all pods share the kernel's neighbour table.
MAX_GATEWAYS = 16

# What may come of a gateway.
ANSWERED = "answered"
SILENT = "silent"  # as long as we asked
PERMANENT = "permanent"  # its entry is kept by somebody else: ours to read only
REFUSED = "refused"  # the kernel does not ask
DOUBTFUL = "doubtful"  # it was answered, perhaps by somebody else

# What is to be done next about one that is not decided.
WAIT = "wait"
ASK_KNOWN = "ask the known MAC"
ASK_ALL = "ask everybody"


@frozen
class Neighbour:
    """An entry of the kernel's neighbour table."""

    state: int = NUD_NONE  # there is none
    mac: str = ""
    kept: bool = False  # by an administrator or a routing daemon


@frozen
class Gateway:
    """What came of one gateway."""

    address: str
    state: str
    mac: str = ""
    milliseconds: float | None = None  # until the answer was seen
    refusal: str = ""


def gateways_of(attachment: Attachment) -> list[str]:
    """The gateways of an attachment's recorded routes, those of its default routes first."""
    routes = [route for route in attachment.routes if route.type == RTN_UNICAST]
    routes.sort(key=lambda route: not route.dst.endswith("/0"))
    return list(dict.fromkeys(route.gateway for route in routes if route.gateway))


def known_macs(rtnl: Rtnetlink, ifindex: int, addresses: Sequence[str]) -> dict[str, str]:
    """The MACs of those neighbours that a pod's kernel has heard from; asks nobody."""
    questions = [_Question(ifindex, address) for address in addresses]
    answers = rtnl.get([question.look for question in questions])
    entries = {one.address: _neighbour(answer) for one, answer in zip(questions, answers)}
    return {
        address: entry.mac
        for address, entry in entries.items()
        if entry.mac and entry.state & _HEARD and not entry.kept
    }


def next_step(entry: Neighbour, asked: bool) -> str:
    """What an entry means, and what it takes to learn more; `asked`: whether we did so far."""
    if entry.kept:
        # NTF_USE would take NUD_PERMANENT away, NUD_PROBE the flags of who keeps it.
        return PERMANENT
    if entry.state == NUD_REACHABLE and asked:
        return ANSWERED
    if entry.state in (NUD_REACHABLE, NUD_STALE, NUD_DELAY):
        return ASK_KNOWN
    if entry.state in (NUD_INCOMPLETE, NUD_PROBE):
        return WAIT
    return ASK_ALL


class Gateways(Closeable):
    """A pod's gateways while they are asked.

    Make it inside the pod's namespace: the socket stays there, whichever namespace its user is in.
    """

    def __init__(self, ifindex: int, addresses: Iterable[str]) -> None:
        self._questions = [_Question(ifindex, address) for address in addresses]
        self._rtnl = Rtnetlink()

    def close(self) -> None:
        self._rtnl.close()

    @property
    def decided(self) -> bool:
        return not self._open()

    def advance(self) -> None:
        """Look at each undecided gateway's entry; ask, or ask again, where that is called for."""
        questions = self._open()
        answers = self._rtnl.get([question.look for question in questions])
        asking = [
            question
            for question, answer in zip(questions, answers)
            if question.take(_neighbour(answer))
        ]
        acks = self._rtnl.send([question.message for question in asking])
        for question, ack in zip(asking, acks):
            question.sent(ack)

    def result(self) -> tuple[Gateway, ...]:
        """What came of each: who has not answered by now is silent."""
        return tuple(
            question.gateway or Gateway(question.address, SILENT) for question in self._questions
        )

    def _open(self) -> list[_Question]:
        return [question for question in self._questions if question.gateway is None]


def solicit_again(rtnl: Rtnetlink, ifindex: int) -> None:
    """Have a pod's kernel ask at once for those IPv6 neighbours that it waits for.

    An address with `nodad` is a source of packets before the kernel's worker has made the route by
    which it hears answers (addrconf_dad_completed). A neighbour whose answer came too early would
    be asked again a second later only. NUD_NONE stops that, and keeps the packets that wait.
    """
    bodies = rtnl.dump(neighbours_request(ifindex, proxy=False), MAX_READ, "neighbours", _waits)
    messages = []
    for body in bodies:
        destination = nl.attribute(rt.NDA_DST, nl.unpack_neighbour(body)[4][rt.NDA_DST])
        for flags in (0, _NTF_USE):
            asked = nl.neighbour_body(AF_INET6, ifindex, NUD_NONE, flags, destination)
            messages.append(nl.Message(rt.RTM_NEWNEIGH, rt.NLM_F_REPLACE, asked))
    rtnl.send(messages[:_MOST_AGAIN])


def _waits(body: bytes) -> bool:
    family, _, state, _, attributes = nl.unpack_neighbour(body)
    return family == AF_INET6 and state == NUD_INCOMPLETE and rt.NDA_DST in attributes


class _Question:
    """One gateway while it is asked."""

    def __init__(self, ifindex: int, address: str) -> None:
        self.address = address
        self.gateway: Gateway | None = None
        self._family = AF_INET6 if ":" in address else AF_INET
        self._ifindex = ifindex
        self._destination = nl.attribute(rt.NDA_DST, inet_pton(self._family, address))
        self._entry = Neighbour()
        self._step = ""
        self._asked = False
        self._since = time.monotonic()
        self.look = nl.Message(rt.RTM_GETNEIGH, 0, self._body(NUD_NONE, 0))

    def _body(self, state: int, flags: int) -> bytes:
        return nl.neighbour_body(self._family, self._ifindex, state, flags, self._destination)

    def take(self, entry: Neighbour) -> bool:
        """Note what stands in the table; whether there is something to ask now."""
        self._entry, self._step = entry, next_step(entry, self._asked)
        if self._step == ANSWERED:
            waited = round((time.monotonic() - self._since) * 1000, 1)
            self.gateway = Gateway(self.address, ANSWERED, entry.mac, waited)
        elif self._step == PERMANENT:
            self.gateway = Gateway(self.address, PERMANENT, entry.mac)
        return self._step in (ASK_KNOWN, ASK_ALL)

    @property
    def message(self) -> nl.Message:
        """The question to the kernel."""
        if self._step == ASK_KNOWN:
            # No NLM_F_REPLACE: it would take the entry's NTF_ROUTER away.
            return nl.Message(rt.RTM_NEWNEIGH, 0, self._body(NUD_PROBE, 0))
        # NLM_F_EXCL: an entry made meanwhile may be a permanent one.
        new = rt.NLM_F_EXCL if self._entry.state == NUD_NONE else 0
        return nl.Message(rt.RTM_NEWNEIGH, rt.NLM_F_CREATE | new, self._body(NUD_NONE, _NTF_USE))

    def sent(self, ack: Ack) -> None:
        """Note the kernel's answer to :attr:`message`."""
        if ack.errno == 0:
            if not self._asked:
                self._since = time.monotonic()
            self._asked = True
        elif not _entry_changed(self._step, ack):
            self.gateway = Gateway(self.address, REFUSED, refusal=_in_words(ack))


def _entry_changed(step: str, ack: Ack) -> bool:
    """Whether the entry was just no more what it had been: the next look will show."""
    if step == ASK_KNOWN:
        # Gone, or no MAC is known any more.
        return ack.errno in (errno.ENOENT, errno.EINVAL)
    return ack.errno == errno.EEXIST


def _in_words(ack: Ack) -> str:
    if ack.errno == errno.ENOBUFS:  # neigh_alloc: one table serves all the node's namespaces
        return "the node's neighbour table is full: raise sysctl net.ipv4.neigh.default.gc_thresh3"
    return str(ack)


def _neighbour(answer: bytes | Ack) -> Neighbour:
    if isinstance(answer, Ack):
        if answer.errno == errno.ENOENT:
            return Neighbour()
        if is_missing(answer):
            raise CniError(DAMAGED, "the interface has gone since it was checked")
        raise CniError(REPAIR_FAILED, "the kernel does not show a neighbour", str(answer))
    _, _, state, flags, attributes = nl.unpack_neighbour(answer)
    kept = state & (NUD_NOARP | NUD_PERMANENT) or flags & _NTF_EXT_LEARNED
    kept_ext = any(attributes.get(_NDA_FLAGS_EXT, b""))  # NTF_EXT_MANAGED and the like
    mac = attributes.get(rt.NDA_LLADDR, b"")
    return Neighbour(state, nl.mac_of(mac), bool(kept) or kept_ext)
