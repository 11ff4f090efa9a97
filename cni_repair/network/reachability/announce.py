"""Telling the switches and neighbours where a repaired pod is: gratuitous ARP, unsolicited NA.

The frames leave through a packet socket on the master, in the node's namespace, under the pod's
MAC. A socket inside the pod would do as well, but every pod would need its own, and closing one
takes its time (see closing).

The kernel itself would announce IPv4 addresses that came before `up` (arp_notify), but a macvlan's
broadcast goes to each other macvlan over its master: 40,000 frames for 200 pods, and REPAIR was a
tenth slower by them.
"""

from __future__ import annotations

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable
from cni_repair.netlink.codec import raw_mac
from cni_repair.network.reachability.closing import close_aside
from cni_repair.network.reachability.frames import gratuitous_arp, unsolicited_na

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Announcer(Closeable):
    """Context: one packet socket a master, made when the first pod over it is announced."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def close(self) -> None:
        close_aside([*self._sockets.values()])

    def announce(self, master: str, mac: str, addresses: Iterable[str]) -> None:
        """Send one announcement for each address; the calling thread is in the node's namespace.

        What cannot be sent is left: the pod's own traffic will teach the switches, only later.
        """
        frames = [_frame(raw_mac(mac), address) for address in addresses]
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
