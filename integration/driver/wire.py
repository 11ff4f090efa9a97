"""The guest's wire: pings that never stop, and what is seen at the far end's NIC.

All of it is one thread and a few raw sockets: starting `ping` takes half a second in this guest.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import GATEWAY, GATEWAY6, LabError, Netns, inside, poll_until

__all__ = ["Frame", "Reply", "Target", "Wire"]

_PING_EVERY_SECONDS = 0.1
_ENDLESS_SECONDS = 4.0  # without a reply by now: nobody waits for its end
_ECHO, _ECHO6, _ECHO_REPLY, _ECHO_REPLY6 = 8, 128, 0, 129
_IPV4_HEADER_SIZE = 20
_ETH_P_ALL, _ETH_P_ARP = 0x0003, 0x0806
_PACKET_OUTGOING = 4
# <linux/if_packet.h>; the kernel takes the 802.1Q tag out of the frame and puts it here
_SOL_PACKET, _PACKET_AUXDATA, _TP_STATUS_VLAN_VALID = 263, 8, 1 << 4
_AUXDATA = struct.Struct("=IIIHHHH")


@dataclass(frozen=True)
class Target:
    """Pings of one family from one pod to the gateway."""

    pod: Netns
    family: int  # 4, 6

    def __str__(self) -> str:
        return f"{self.pod.name} IPv{self.family}"


class Reply(NamedTuple):
    """One answered ping: when the reply came, and which ping it answers."""

    at: float
    number: int


@dataclass(frozen=True)
class Frame:
    """One frame that the far end's NIC received."""

    at: float
    source: str  # MAC
    vlan: int | None
    announced: str | None  # the IPv4 address that a gratuitous ARP tells


class Wire(WithCleanup):
    """Context: pings from all pods, all the time, and the frames that arrive at the far end.

    Without pods nobody pings: where there are many, that alone keeps this guest busy.

    The attributes grow while it is open: `sent`, the time of each round of pings (its index is the
    pings' number), `replies`, those that each target got, and `frames`.
    """

    def __init__(
        self,
        far: Netns,
        far_nic: str,
        pods: Iterable[Netns] = (),
        families: tuple[int, ...] = (4, 6),
    ) -> None:
        self.sent: list[float] = []
        self.replies: dict[Target, list[Reply]] = {}
        self.frames: list[Frame] = []
        self._far, self._far_nic = far, far_nic
        self._targets = [Target(pod, family) for pod in pods for family in families]
        self._sockets: dict[Target, socket.socket] = {}
        self._done = threading.Event()

    def _open(self) -> None:
        with inside(self._far.path):
            self._tap = self._cleanup.enter_context(_tap(self._far_nic))
        for target in self._targets:
            with inside(target.pod.path):
                self._sockets[target] = self._cleanup.enter_context(_ping_socket(target.family))
            self.replies[target] = []
        work = threading.Thread(target=self._work)
        work.start()
        self._cleanup.callback(work.join)
        self._cleanup.callback(self._done.set)

    # --- The thread ---

    def _work(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._tap, selectors.EVENT_READ, None)
            for target, sock in self._sockets.items():
                selector.register(sock, selectors.EVENT_READ, target)
            for number in itertools.count():
                self.sent.append(time.monotonic())
                for target, sock in self._sockets.items():
                    _send_ping(sock, target.family, number)
                until = time.monotonic() + _PING_EVERY_SECONDS
                while (left := until - time.monotonic()) > 0:
                    for key, _ in selector.select(left):
                        self._receive(key.data)
                if self._done.is_set():
                    return

    def _receive(self, target: Target | None) -> None:
        if target is None:
            self._receive_frame()
            return
        number = _answered(self._sockets[target].recv(2048), target.family)
        if number is not None:
            self.replies[target].append(Reply(time.monotonic(), number))

    def _receive_frame(self) -> None:
        data, ancillary, _, address = self._tap.recvmsg(2048, socket.CMSG_SPACE(_AUXDATA.size))
        if address[2] != _PACKET_OUTGOING:
            now = time.monotonic()
            self.frames.append(Frame(now, data[6:12].hex(":"), _vlan(ancillary), _announced(data)))

    # --- Questions ---

    def answered(self, since: float, seconds: float, pod: Netns | None = None) -> bool:
        """Whether within `seconds` from now every target, or every one of a pod, has a reply
        later than `since`."""
        with contextlib.suppress(LabError):
            return poll_until(lambda: not self.silent(since, pod), seconds, "replies")
        return False

    def silent(self, since: float, pod: Netns | None = None) -> list[str]:
        """The targets, all or of one pod, without a reply after `since`."""
        asked = {one: got for one, got in self.replies.items() if pod in (None, one.pod)}
        return [str(one) for one, got in asked.items() if not got or got[-1].at <= since]

    def outage(self, since: float) -> str:
        """The longest time that a target was without replies, in words.

        `since` is the time at which the pings last were in order.
        """
        now = time.monotonic()
        came = [[reply.at for reply in got] for got in self.replies.values()]
        if any(now - max(times) > _ENDLESS_SECONDS for times in came):
            return "endless"
        gaps = []
        for times in came:
            before = max(time for time in times if time <= since)
            later = [time for time in times if time > since]
            gaps.append(max(b - a for a, b in itertools.pairwise([before, *later])))
        return f"{max(gaps):.1f} s"

    def first_reply(self, since: float) -> float | None:
        """The first reply of any target after `since`."""
        later = (one.at for got in self.replies.values() for one in got if one.at > since)
        return min(later, default=None)

    def sent_between(self, since: float, until: float) -> int:
        """How many rounds of pings were sent in that time."""
        return sum(since < at <= until for at in list(self.sent))

    def answers(self, target: Target) -> list[float | None]:
        """When each of a target's pings was answered; None where it was not."""
        came = {reply.number: reply.at for reply in list(self.replies[target])}
        return [came.get(number) for number in range(len(self.sent))]

    def vlans(self, mac: str, since: float) -> dict[int | None, int]:
        """How many frames came from a MAC after `since`, by VLAN id (None: untagged)."""
        wanted = [one for one in list(self.frames) if one.at > since and one.source == mac]
        return dict(collections.Counter(frame.vlan for frame in wanted))

    def first_announced(self, macs: Iterable[str], since: float) -> list[float]:
        """When the first gratuitous ARP of each came after `since`; infinity where none did."""
        first: dict[str, float] = {}
        for frame in list(self.frames):
            if frame.at > since and frame.announced:
                first.setdefault(frame.source, frame.at)
        return [first.get(mac, math.inf) for mac in macs]

    def announced(self, since: float) -> set[tuple[str, str]]:
        """(MAC, IPv4 address) of each gratuitous ARP after `since`."""
        frames = [frame for frame in list(self.frames) if frame.at > since]
        return {(frame.source, frame.announced) for frame in frames if frame.announced}


def _tap(nic: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    sock.bind((nic, _ETH_P_ALL))
    return sock


def _vlan(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = _AUXDATA.unpack(data[: _AUXDATA.size])
            return tci & 0xFFF if status & _TP_STATUS_VLAN_VALID else None
    return None


def _announced(frame: bytes) -> str | None:
    """The address of an ARP packet whose sender asks for, or answers about, itself."""
    if int.from_bytes(frame[12:14], "big") != _ETH_P_ARP:
        return None
    sender, wanted = frame[28:32], frame[38:42]
    return socket.inet_ntop(socket.AF_INET, sender) if sender == wanted else None


def _ping_socket(family: int) -> socket.socket:
    """A raw socket, not bound to any device: it outlives them, as a pod's own sockets do."""
    if family == 4:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.setblocking(False)
    return sock


def _send_ping(sock: socket.socket, family: int, number: int) -> None:
    kind = _ECHO if family == 4 else _ECHO6
    body = struct.pack("!HH", 1, number & 0xFFFF)
    # Of IPv6 the kernel makes the checksum.
    head = struct.pack("!BBH", kind, 0, checksum(bytes([kind, 0]) + body) if family == 4 else 0)
    # No route, no address, no device: what an outage is made of.
    with contextlib.suppress(OSError):
        sock.sendto(head + body, (GATEWAY if family == 4 else GATEWAY6, 0))


def _answered(packet: bytes, family: int) -> int | None:
    """The number of the ping that a packet answers; None if it is no reply."""
    # Only of IPv4 does a raw socket give the header, too.
    icmp = packet[_IPV4_HEADER_SIZE:] if family == 4 else packet
    is_reply = icmp[0] == (_ECHO_REPLY if family == 4 else _ECHO_REPLY6)
    return int.from_bytes(icmp[6:8], "big") if is_reply else None


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
