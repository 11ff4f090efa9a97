"""Who speaks for which address, as the other end of the node's uplink hears it.

An address is on the wire twice where two MACs take turns at it: that one follows another is a pod
that was deleted, and one that got its address; once a MAC's address was another's, it must not
speak for it again. Every address is asked for again and again, so that whoever has it speaks.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from cni_repair.demo.lab import GATEWAY, Lab
from cni_repair.network.reachability.frames import (
    ADVERTISEMENT,
    ETH_ARP,
    ETH_IPV6,
    ICMPV6,
    ICMPV6_TYPE,
    NEXT_HEADER,
    arp_claim,
    discovery_claim,
    solicitation,
    solicited_node,
)

_UPLINK = "tor0"
_ASK_SECONDS = 0.25
_ETH_IPV4 = 0x0800
_BUFFER_BYTES = 8 << 20
_SO_RCVBUFFORCE = 33
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_BROADCAST = b"\xff" * 6


def claims(frame: bytes) -> Iterator[tuple[str, bytes]]:
    """(address, MAC) of who says by a frame that an address is his. Who only asks whether it is
    somebody's says nothing."""
    kind = int.from_bytes(frame[12:14], "big")
    mac = frame[6:12]
    if kind == ETH_ARP:
        claim = arp_claim(frame)
        if claim and claim[0] != "0.0.0.0":
            yield claim
    elif kind == _ETH_IPV4 and len(frame) >= 34:
        yield socket.inet_ntop(socket.AF_INET, frame[26:30]), mac
    elif kind == ETH_IPV6 and len(frame) >= 54:
        if frame[NEXT_HEADER] == ICMPV6 and frame[ICMPV6_TYPE] == ADVERTISEMENT:
            claim = discovery_claim(frame)
            if claim:
                yield claim
        source = socket.inet_ntop(socket.AF_INET6, frame[22:38])
        if source != "::":
            yield source, mac


@dataclass
class Speakers:
    """Who has spoken for each address."""

    owner: dict[str, tuple[bytes, float]] = field(default_factory=dict)  # with the first time
    former: dict[str, dict[bytes, float]] = field(default_factory=dict)  # with the last time
    twice: list[str] = field(default_factory=list)
    heard: int = 0

    def saw(self, address: str, mac: bytes, at: float) -> None:
        self.heard += 1
        known = self.owner.get(address)
        if known is None:
            self.owner[address] = mac, at
        elif known[0] != mac:
            former = self.former.setdefault(address, {})
            if mac in former:
                self.twice.append(
                    f"{address} was {mac.hex(':')}'s until {at - former[mac]:.3f} s ago,"
                    f" {known[0].hex(':')}'s from {at - known[1]:.3f} s ago, and is"
                    f" {mac.hex(':')}'s again"
                )
            former[known[0]] = at
            self.owner[address] = mac, at


class Wire:
    """Context: a thread that asks and listens where the gateway is."""

    def __init__(self, lab: Lab, addresses: Sequence[str]) -> None:
        self._lab = lab
        self._addresses = [ip_address(one) for one in addresses]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self.speakers = Speakers()
        self.troubles: list[str] = []

    def __enter__(self) -> Wire:
        with self._lab.inside(self._lab.tor):
            # Not bound to a link: it hears those that come, too.
            self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._frames.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._frames.settimeout(0.05)
        self._icmp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        self._icmp.setblocking(False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._frames.close()
        self._icmp.close()

    def _run(self) -> None:
        try:
            self._listen()
        except Exception as error:  # else the proof would hold for want of a witness
            self.troubles.append(f"the wire is not read any more: {error!r}")

    def _listen(self) -> None:
        ask_at = 0.0
        while not self._over.is_set():
            now = time.monotonic()
            if now >= ask_at:
                self._ask()
                ask_at = now + _ASK_SECONDS
            try:
                frame, (_, _, kind, _, _) = self._frames.recvfrom(256)
            except TimeoutError:
                continue
            except OSError:  # ENETDOWN: the link has gone
                continue
            if kind != socket.PACKET_OUTGOING:
                for address, mac in claims(frame):
                    if not ip_address(address).is_link_local:
                        self.speakers.saw(address, mac, time.monotonic())

    def _ask(self) -> None:
        """Ask for all addresses; nobody answers while the uplink is away."""
        try:
            with self._lab.inside(self._lab.tor):
                index = socket.if_nametoindex(_UPLINK)
            for address in self._addresses:
                if address.version == 4:
                    self._ask_arp(address.packed)
                else:
                    group = solicited_node(str(address))
                    self._icmp.sendto(solicitation(self._mac, str(address)), (group, 0, 0, index))
        except OSError:
            return

    @property
    def _mac(self) -> bytes:
        return bytes.fromhex("020000000901")  # the lab's, of tor0

    def _ask_arp(self, wanted: bytes) -> None:
        own = socket.inet_pton(socket.AF_INET, GATEWAY)
        header = _BROADCAST + self._mac + struct.pack("!H", ETH_ARP)
        body = _ARP.pack(1, _ETH_IPV4, 6, 4, 1, self._mac, own, bytes(6), wanted)
        self._frames.sendto(header + body, (_UPLINK, ETH_ARP))
