"""What the kernel tells unasked: rtnetlink's multicast groups."""

from __future__ import annotations

import errno
import select

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable
from cni_repair.netlink.codec import messages_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LINKS = 1  # RTMGRP_LINK
_BUFFER = 1 << 18


class Subscription(Closeable):
    """The news of some groups, of the namespace that the calling thread is in when it is made."""

    def __init__(self, groups: int) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self.sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self.sock.bind((0, groups))

    def close(self) -> None:
        self.sock.close()

    def wait(self, seconds: float) -> bool:
        """Whether there is news; returns with the first."""
        return bool(select.select([self.sock], [], [], seconds)[0])

    def news(self) -> Iterator[tuple[int, bytes]]:
        """Type and body of each message that has come by now."""
        while True:
            try:
                data, sender = self.sock.recvfrom(_BUFFER)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return  # there is no more (EAGAIN)
                continue  # more news than the socket could hold; the next ones come
            if sender[0] == 0:  # the kernel
                for kind, _, _, body in messages_in(data):
                    yield kind, body
