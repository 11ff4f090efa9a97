"""Who else has addresses of our pods, lost or restored: ARP probes (RFC 5227) and the questions of
duplicate address detection (RFC 4862), sent by the node over the pods' master.

Its macvlans do not hear what their master sends: a pod of this node does not answer.
"""

from __future__ import annotations

import errno
import struct
import time

from cni_repair.base import lightsocket as socket
from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.network.links import link_named
from cni_repair.network.reachability.closing import close_aside
from cni_repair.network.reachability.duplicates import attach_filter
from cni_repair.network.reachability.frames import (
    ADVERTISEMENT,
    ALL_NODES_MAC,
    ETH_ARP,
    ETH_IPV6,
    ICMPV6,
    ICMPV6_TYPE,
    IPV6_SOURCE,
    NEXT_HEADER,
    SOLICITATION,
    arp_claim,
    arp_probe,
    dad_solicitation,
    discovery_claim,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.model import HostLink

    Claim: TypeAlias = tuple[str, bytes] | None

SECONDS = 0.2  # for all of them together

_POLL = 0.005
_MAX_FRAMES = 256  # to read at a time: others decide how many come
# The socket's memory holds some 300 frames of a card that has not sent them yet, its queue 1000.
_FULL = (errno.EAGAIN, errno.ENOBUFS)

# linux/if_packet.h
_SOL_PACKET, _ADD_MEMBERSHIP, _MULTICAST = 263, 1, 0

# Of all IPv6 that the master hears, the neighbour advertisements, and the solicitations of those
# who have no address yet (classic BPF).
_CLAIMS = [
    (0x30, 0, 0, NEXT_HEADER),  # BPF_LD | BPF_B | BPF_ABS
    (0x15, 0, 12, ICMPV6),  # BPF_JMP | BPF_JEQ: else to the last instruction
    (0x30, 0, 0, ICMPV6_TYPE),
    (0x15, 9, 0, ADVERTISEMENT),  # to the last but one
    (0x15, 0, 9, SOLICITATION),
    (0x20, 0, 0, IPV6_SOURCE),  # BPF_LD | BPF_W | BPF_ABS
    (0x15, 0, 7, 0),
    (0x20, 0, 0, IPV6_SOURCE + 4),
    (0x15, 0, 5, 0),
    (0x20, 0, 0, IPV6_SOURCE + 8),
    (0x15, 0, 3, 0),
    (0x20, 0, 0, IPV6_SOURCE + 12),
    (0x15, 0, 1, 0),
    (0x06, 0, 0, 0xFFFF),  # BPF_RET: how many bytes
    (0x06, 0, 0, 0),
]


@frozen
class Pace:
    """How often somebody is asked, and how long is waited after each time."""

    times: int
    seconds: float


BEFORE = Pace(3, 0.05)  # the pods have no network yet
BESIDE = Pace(3, 1 / 3)  # one second in all, as RFC 4862 has it (RetransTimer)


def ask_for(
    rtnl: Rtnetlink, wanted: Mapping[HostLink, Sequence[str]]
) -> dict[HostLink, dict[str, str] | None]:
    """Ask over each master who has its addresses: address to MAC, where somebody answered; None
    where nobody could be asked, since the wire was not heard in time. `rtnl` is the node's."""
    until = time.monotonic() + SECONDS
    askers = [Asker(rtnl, master, addresses, BEFORE) for master, addresses in wanted.items()]
    try:
        while not all(asker.is_decided for asker in askers):
            is_last = time.monotonic() >= until  # on a busy node we may come late: hear it then
            for asker in askers:
                asker.advance()
            if is_last:
                break
            time.sleep(_POLL)
        return {asker.master: asker.result() for asker in askers}
    finally:
        close_aside([sock for asker in askers for sock in asker.sockets])


class Asker:
    """The questions over one master. Its `sockets` are for :func:`close_aside` at the end."""

    def __init__(
        self,
        rtnl: Rtnetlink,
        master: HostLink,
        addresses: Iterable[str],
        pace: Pace,
        own: Mapping[str, str] | None = None,
    ) -> None:
        """`own`: the MACs of those who have the addresses, and are no others."""
        self.master = master
        self._pace = pace
        self._own = own or {}
        self.sockets: list[socket.socket] = []
        self._rtnl = rtnl
        self._addresses = {*addresses}
        self._questions: list[_Question] = []
        self._rounds = 0  # begun
        self._next = 0.0
        self._heard: dict[str, str] = {}
        self._failed = False
        self._is_over = False

    def advance(self) -> None:
        """Send what is due, once the wire is heard; hear who answered."""
        if self.is_decided:
            return
        try:
            if not self._questions and self._has_carrier():
                self._open()
            if self._questions:
                had_time = self._had_time  # what comes after this look is not waited for
                self._hear()
                self._is_over = had_time
                self._send()
        except OSError:
            self._failed = True  # the link went down, or away

    @property
    def is_decided(self) -> bool:
        """Whether there is nothing to wait for: all answered, or had their time."""
        return self._failed or self._is_over or self._heard.keys() == self._addresses

    @property
    def _had_time(self) -> bool:
        is_last = self._rounds == self._pace.times and self._is_sent
        return is_last and time.monotonic() >= self._next

    def result(self) -> dict[str, str] | None:
        """An answer takes its time: who was asked in the last moment only was not asked."""
        asked = self._rounds > 1 and not self._failed
        return self._heard if asked or self._heard else None

    def _has_carrier(self) -> bool:
        link = link_named(self._rtnl, self.master.name)
        return link is not None and link.carrier

    def _open(self) -> None:
        mac = nl.raw_mac(self.master.mac)
        four = [address for address in self._addresses if ":" not in address]
        six = [address for address in self._addresses if ":" in address]
        if four:
            sock = self._socket(ETH_ARP)
            frames = [arp_probe(mac, address) for address in four]
            self._questions.append(_Question(sock, frames, arp_claim))
        if six:
            sock = self._socket(ETH_IPV6)
            request = struct.pack("=iHH8s", self.master.ifindex, _MULTICAST, 6, ALL_NODES_MAC)
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
            frames = [dad_solicitation(mac, address) for address in six]
            self._questions.append(_Question(sock, frames, discovery_claim))

    def _socket(self, protocol: int) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        sock = socket.socket(socket.AF_PACKET, kind, 0)  # it hears nothing before it is bound
        self.sockets.append(sock)
        if protocol == ETH_IPV6:
            attach_filter(sock, _CLAIMS)
        sock.bind((self.master.name, protocol))
        return sock

    @property
    def _is_sent(self) -> bool:
        return not any(question.unsent for question in self._questions)

    def _send(self) -> None:
        if self._is_sent and self._rounds < self._pace.times and time.monotonic() >= self._next:
            self._rounds += 1
            for question in self._questions:
                question.begin()
        for question in self._questions:
            if question.unsent:
                question.send()
                self._next = time.monotonic() + self._pace.seconds

    def _hear(self) -> None:
        for question in self._questions:
            for address, raw in question.claims():
                mac = nl.mac_of(raw)
                if address in self._addresses and not self._is_own(address, mac):
                    self._heard.setdefault(address, mac)

    def _is_own(self, address: str, mac: str) -> bool:
        """A switch or a loop in the network may give us back what we, or the pod, said."""
        return mac in (self.master.mac, self._own.get(address))


class _Question:
    """The frames of one family, and what is heard of their answers."""

    def __init__(
        self, sock: socket.socket, frames: list[bytes], claim_in: Callable[[bytes], Claim]
    ) -> None:
        self._sock = sock
        self._frames = frames
        self._claim_in = claim_in
        self.unsent: list[bytes] = []  # of the round that has begun

    def begin(self) -> None:
        """Begin a round."""
        self.unsent = self._frames

    def send(self) -> None:
        """Send what is left of the round, as far as there is room."""
        for place, frame in enumerate(self.unsent):
            try:
                self._sock.send(frame)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self.unsent = self.unsent[place:]
                return
        self.unsent = []

    def claims(self) -> list[tuple[str, bytes]]:
        found = []
        for _ in range(_MAX_FRAMES):
            try:
                claim = self._claim_in(self._sock.recv(256))
            except BlockingIOError:
                break
            if claim is not None:
                found.append(claim)
        return found
