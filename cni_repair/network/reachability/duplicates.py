"""Who else holds a pod's addresses: ARP probes (RFC 5227, shortened), neighbour solicitations.

The kernel looks for duplicates of an IPv6 address once, when it is added, and tells no MAC; of an
IPv4 address never. Both are asked here from inside the pod, over its own interface, so that pods
beside it on the same master hear it, too (a macvlan's frames never come back to its master).
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import struct
import threading
import time

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable
from cni_repair.base.frozen import frozen
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton
from cni_repair.netlink import codec as nl
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.links import macs_of
from cni_repair.network.reachability.frames import (
    ADVERTISEMENT,
    ARP_SENDER_ADDRESS,
    ETH_ARP,
    HOP_LIMIT,
    advertised,
    arp_claim,
    arp_probe,
    solicitation,
    solicited_node,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cni_repair.network.kernel.link import LiveLink

PROBES = 3
PROBE_SECONDS = 0.25  # between two probes, and to wait after the last one

_SO_ATTACH_FILTER = 26
_ICMPV6_FILTER = 1

_MAX_FRAMES = 512  # to read at a time: the pod decides how many come
_MAX_LINKS = 1024
_CLOSERS = 64


@frozen
class Holder:
    """Another interface that says it has an address."""

    address: str
    mac: str


class Duplicates(Closeable):
    """Addresses while they are probed: those of a pod, which nobody else may have, or those of its
    gateways, which one alone may have.

    Make it inside the pod's namespace: the sockets stay there, whichever namespace its user is in.
    """

    def __init__(
        self, rtnl: Rtnetlink, live: LiveLink, addresses: Sequence[str], probes: int = PROBES
    ) -> None:
        ipv6 = [address for address in addresses if ":" in address]
        ipv4 = [address for address in addresses if ":" not in address]
        self._listeners: list[_Arp | _Discovery] = []
        self._holders: dict[tuple[str, bytes], Holder] = {}
        self.is_flooded = False  # more came than was read: others may have said something, too
        # What these say is no other host's word: a loop in the network gives us back our own
        # frames; and where a pod has two interfaces on one wire, the kernel answers ARP for the
        # addresses of both through each (arp_ignore 0).
        self._own = macs_of(rtnl, _MAX_LINKS)
        self._probes = probes
        self._sent = 0
        self._next = 0.0
        try:
            if ipv4:
                self._listeners.append(_Arp(live, ipv4))
            if ipv6:
                self._listeners.append(_Discovery(live, ipv6))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for listener in self._listeners:
            listener.sock.close()

    @property
    def decided(self) -> bool:
        """Whether the last probe was sent, and waited for."""
        return self._sent == self._probes and time.monotonic() >= self._next

    def advance(self) -> None:
        """Hear who answered; probe again when it is time."""
        self._hear()
        if self._sent < self._probes and time.monotonic() >= self._next:
            for listener in self._listeners:
                listener.probe()
            self._sent += 1
            self._next = time.monotonic() + PROBE_SECONDS

    def result(self) -> tuple[Holder, ...]:
        """Who was heard."""
        return tuple(self._holders.values())

    def _hear(self) -> None:
        for listener in self._listeners:
            claims = [*itertools.islice(listener.claims(), _MAX_FRAMES)]
            self.is_flooded |= len(claims) == _MAX_FRAMES
            for address, mac in filter(None, claims):
                if mac not in self._own:
                    self._holders[address, mac] = Holder(address, nl.mac_of(mac))


class _Arp:
    """Probes for IPv4 addresses: requests whose sender has none yet (RFC 5227, 2.1.1)."""

    def __init__(self, live: LiveLink, addresses: list[str]) -> None:
        self._frames = [arp_probe(nl.raw_mac(live.link.mac), address) for address in addresses]
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # Protocol 0: it hears nothing before it is filtered and bound.
        self.sock = socket.socket(socket.AF_PACKET, kind, 0)
        try:
            attach_filter(self.sock, senders_filter(addresses))
            self.sock.bind((live.name, ETH_ARP))
        except BaseException:
            self.sock.close()
            raise

    def probe(self) -> None:
        for frame in self._frames:
            self.sock.send(frame)

    def claims(self) -> Iterator[tuple[str, bytes] | None]:
        """What each frame that is there says; of most, nothing that counts."""
        while True:
            try:
                frame = self.sock.recv(256)
            except BlockingIOError:
                return
            yield arp_claim(frame)


class _Discovery:
    """Solicitations for IPv6 addresses, from the link-local one: whoever holds them answers."""

    def __init__(self, live: LiveLink, addresses: list[str]) -> None:
        mac, ifindex = nl.raw_mac(live.link.mac), live.link.ifindex
        self._packets = [
            (solicitation(mac, address), (solicited_node(address), 0, 0, ifindex))
            for address in addresses
        ]
        self._addresses = {inet_ntop(AF_INET6, inet_pton(AF_INET6, one)) for one in addresses}
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self.sock = socket.socket(AF_INET6, kind, socket.IPPROTO_ICMPV6)
        try:
            options = socket.IPPROTO_IPV6
            name = nl.raw_string(live.name)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)
            self.sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, _advertisements_alone())
            self.sock.setsockopt(options, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            self.sock.setsockopt(options, socket.IPV6_MULTICAST_LOOP, 0)
            self.sock.setsockopt(options, socket.IPV6_RECVHOPLIMIT, 1)
        except BaseException:
            self.sock.close()
            raise

    def probe(self) -> None:
        try:
            for packet, group in self._packets:
                self.sock.sendto(packet, group)
        except OSError as error:
            # The link-local address itself may be taken, and no other be there to ask from.
            if error.errno != errno.EADDRNOTAVAIL:
                raise

    def claims(self) -> Iterator[tuple[str, bytes] | None]:
        """What each frame that is there says; of most, nothing that counts."""
        while True:
            try:
                packet, ancillary, _, _ = self.sock.recvmsg(256, 64)
            except BlockingIOError:
                return
            claim = advertised(packet)
            local = any(data == struct.pack("=i", HOP_LIMIT) for _, _, data in ancillary)
            yield claim if claim and local and claim[0] in self._addresses else None


def close_all(opened: list[Duplicates]) -> None:
    """Close many at once: each packet socket waits for an RCU grace period (packet_release, 15-20
    ms), but all may wait for the same one."""
    threads = [
        threading.Thread(target=_close_each, args=(opened[first::_CLOSERS],))
        for first in range(min(_CLOSERS, len(opened)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _close_each(opened: list[Duplicates]) -> None:
    for one in opened:
        one.close()


# --- filters -------------------------------------------------------------------------------------


def _advertisements_alone() -> bytes:
    """struct icmp6_filter: a bit for each type that is not to be heard."""
    blocked = (1 << 256) - 1 & ~(1 << ADVERTISEMENT)
    return blocked.to_bytes(32, "little")


def senders_filter(addresses: Iterable[str]) -> list[tuple[int, int, int, int]]:
    """A classic BPF program that passes ARP frames whose sender's address is one of these.

    200 pods that probe at once hear 600 probes each; reading those would take our time, and room
    in the socket's queue.
    """
    wanted = [int.from_bytes(inet_pton(AF_INET, address), "big") for address in addresses]
    load = (0x20, 0, 0, ARP_SENDER_ADDRESS)  # BPF_LD | BPF_W | BPF_ABS
    tests = [
        (0x15, len(wanted) - number, 0, value)  # BPF_JMP | BPF_JEQ: to the last instruction
        for number, value in enumerate(wanted)
    ]
    drop, keep = (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF)  # BPF_RET: how many bytes
    return [load, *tests, drop, keep]


def attach_filter(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they are
    filter_at = struct.pack("@HP", len(program), ctypes.addressof(memory))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_at)
