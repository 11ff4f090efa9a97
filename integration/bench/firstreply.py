"""When a repaired pod's traffic passes again, by family: UDP to its gateway and back."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import GATEWAY, GATEWAY6, Netns, poll_until
from integration.bench.errors import PeerError
from integration.bench.node import Node

FAMILIES = {"IPv4": (socket.AF_INET, GATEWAY), "IPv6": (socket.AF_INET6, GATEWAY6)}
_PORT = 7
_PAUSE = 0.0005
_SECONDS = 20.0
# No interface, no route, no address that may be used: all what an outage is.
_OUTAGE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETDOWN)


class FirstReplies(WithCleanup):
    """Context: a pod that asks; the attribute `at` has by family when the first answer came."""

    def __init__(self, node: Node, pod: Netns) -> None:
        self._node = node
        self._pod = pod
        self._done = threading.Event()
        self.at: dict[str, float] = {}

    def _open(self) -> None:
        peers = [self._cleanup.enter_context(self._peer(family)) for family in FAMILIES]
        asking = [self._cleanup.enter_context(self._asking(family)) for family in FAMILIES]
        work = threading.Thread(target=self._work, args=(peers, asking))
        work.start()
        self._cleanup.callback(work.join)
        self._cleanup.callback(self._done.set)

    def wait(self) -> None:
        poll_until(lambda: len(self.at) == len(FAMILIES), _SECONDS, "the pod's first replies")

    @contextlib.contextmanager
    def _peer(self, family: str) -> Iterator[socket.socket]:
        """The gateway's end. It is bound to no address: those go with the uplink."""
        kind, _ = FAMILIES[family]
        with self._node.inside(self._node.tor):
            made = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with made:
            if kind == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(("", _PORT))
            yield made

    @contextlib.contextmanager
    def _asking(self, family: str) -> Iterator[socket.socket]:
        kind, _ = FAMILIES[family]
        with self._node.inside(self._pod):
            made = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with made:
            yield made

    def _work(self, peers: list[socket.socket], asking: list[socket.socket]) -> None:
        while not self._done.wait(_PAUSE) and len(self.at) < len(FAMILIES):
            for family, sock in zip(FAMILIES, asking):
                with _outage():
                    sock.sendto(b"?", (FAMILIES[family][1], _PORT))
            for peer in peers:
                with _outage():
                    _, sender = peer.recvfrom(16)
                    peer.sendto(b"!", sender)
            for family, sock in zip(FAMILIES, asking):
                with _outage():
                    sock.recv(16)
                    self.at.setdefault(family, time.monotonic())


@contextlib.contextmanager
def _outage() -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno not in _OUTAGE:
            raise PeerError(f"a pod's socket: {error}") from error
