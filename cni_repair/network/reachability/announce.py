"""Telling the switches and neighbours where a repaired pod is: gratuitous ARP, unsolicited NA.

The frames leave through a packet socket on the master, in the node's namespace, under the pod's
MAC. A socket inside the pod would do as well, but closing a packet socket waits for an RCU grace
period (packet_release: 15-20 ms measured), and every pod would need its own.

The kernel itself would announce IPv4 addresses that came before `up` (arp_notify), but a macvlan's
broadcast goes to each other macvlan over its master: 40,000 frames for 200 pods, and REPAIR was a
tenth slower by them.
"""

from __future__ import annotations

import struct

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ETH_ARP, _ETH_IPV6 = 0x0806, 0x86DD
_EVERYBODY = b"\xff" * 6
_ALL_NODES = inet_pton(AF_INET6, "ff02::1")
_ALL_NODES_MAC = b"\x33\x33\x00\x00\x00\x01"
_ICMPV6 = 58
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000


class Announcer(Closeable):
    """Context: one packet socket a master, made when the first pod over it is announced."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    def announce(self, master: str, mac: str, addresses: Iterable[str]) -> None:
        """Send one announcement for each address; the calling thread is in the node's namespace.

        What cannot be sent is left: the pod's own traffic will teach the switches, only later.
        """
        frames = [_frame(bytes.fromhex(mac.replace(":", "")), address) for address in addresses]
        try:
            for frame in frames:
                self._socket_on(master).send(frame)
        except OSError:
            pass

    def _socket_on(self, master: str) -> socket.socket:
        if master not in self._sockets:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            sock = socket.socket(socket.AF_PACKET, kind, 0)
            self._sockets[master] = sock
            sock.bind((master, 0))
        return self._sockets[master]


def _frame(mac: bytes, address: str) -> bytes:
    return unsolicited_na(mac, address) if ":" in address else gratuitous_arp(mac, address)


def gratuitous_arp(mac: bytes, address: str) -> bytes:
    """An ARP announcement (RFC 5227, section 3): a request for one's own address."""
    own = inet_pton(AF_INET, address)
    header = _EVERYBODY + mac + struct.pack("!H", _ETH_ARP)
    return header + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + own + bytes(6) + own


def unsolicited_na(mac: bytes, address: str) -> bytes:
    """An unsolicited neighbour advertisement to all nodes (RFC 4861, section 7.2.6)."""
    own = inet_pton(AF_INET6, address)
    body = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE) + own + b"\x02\x01" + mac
    pseudo = own + _ALL_NODES + struct.pack("!II", len(body), _ICMPV6)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    ip_header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + own + _ALL_NODES
    return _ALL_NODES_MAC + mac + struct.pack("!H", _ETH_IPV6) + ip_header + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
