"""When a master went: the moment from which a pod's outage counts."""

from __future__ import annotations

import errno
import select

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.model import IFF_RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_RTMGRP_LINK = 1
_BUFFER = 1 << 18


class LinkMonitor(Closeable):
    """Listens to the node's links; tells once of each of `masters` that it is gone, or has lost
    its carrier."""

    def __init__(self, masters: set[str], lost: Callable[[str], None]) -> None:
        self._waiting = set(masters)
        self._lost = lost
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._sock = socket.socket(socket.AF_NETLINK, kind, 0)
        self._sock.bind((0, _RTMGRP_LINK))

    def close(self) -> None:
        self._sock.close()

    def listen(self, seconds: float) -> None:
        """Take in what is told within `seconds`; returns with the first news."""
        if select.select([self._sock], [], [], seconds)[0]:
            self._read()

    def _read(self) -> None:
        while True:
            try:
                data, sender = self._sock.recvfrom(_BUFFER)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return  # there is no more (EAGAIN)
                continue  # more news than the socket could hold; the next ones come
            if sender[0] == 0:  # the kernel
                for kind, _, _, body in nl.messages_in(data):
                    if kind in (rt.RTM_NEWLINK, rt.RTM_DELLINK):
                        self._look(kind, body)

    def _look(self, kind: int, body: bytes) -> None:
        _, flags, attributes = nl.unpack_link(body)
        name = attributes.get(rt.IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        if name in self._waiting and (kind == rt.RTM_DELLINK or not flags & IFF_RUNNING):
            self._waiting.discard(name)
            self._lost(name)
