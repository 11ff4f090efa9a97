"""What a pod has, read without a process: of 2,000 pods after each repair."""

from __future__ import annotations

import fcntl
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from cni_repair.demo.lab import GATEWAY, Netns, inside

# ioctl requests, include/uapi/linux/sockios.h; struct ifreq is a name, and what is asked for
_GET_FLAGS, _GET_ADDRESS, _GET_BROADCAST, _GET_NETMASK = 0x8913, 0x8915, 0x8919, 0x891B
_GET_MTU, _GET_MAC, _GET_INDEX = 0x8921, 0x8927, 0x8933
_IFREQ, _NAME = 40, 16
_RUNNING = 0x40  # comes a moment after IFF_UP


@dataclass(frozen=True)
class PodState:
    """What a pod's eth0 is and has: enough to be restored by any of the peers."""

    index: int
    mac: str
    mtu: int
    flags: int
    address: IPv4Interface
    broadcast: str
    routes: str  # /proc/net/route
    gateway: str = GATEWAY

    def line(self, pod: Netns) -> str:
        """The pod as the peers' lists have it."""
        words = (
            pod.name, pod.path, self.index, self.mac, self.mtu, self.address.ip,
            self.address.network.prefixlen, self.broadcast, self.gateway, self.address.network,
        )  # fmt: skip
        return " ".join(map(str, words))


def pod_state(pod: Netns) -> PodState | None:
    """Read from inside; None where there is no eth0, or no address on it."""
    with inside(pod.path), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def ask(request: int) -> bytes:
            return fcntl.ioctl(sock, request, b"eth0".ljust(_IFREQ, b"\0"))[_NAME:]

        def number(request: int) -> int:
            return int.from_bytes(ask(request)[:4], sys.byteorder)

        def address(request: int) -> str:
            return socket.inet_ntoa(ask(request)[4:8])

        try:
            return PodState(
                number(_GET_INDEX),
                ask(_GET_MAC)[2:8].hex(":"),
                number(_GET_MTU),
                int.from_bytes(ask(_GET_FLAGS)[:2], sys.byteorder) & ~_RUNNING,
                IPv4Interface(f"{address(_GET_ADDRESS)}/{address(_GET_NETMASK)}"),
                address(_GET_BROADCAST),
                Path("/proc/thread-self/net/route").read_text(),
            )
        except OSError:
            return None
