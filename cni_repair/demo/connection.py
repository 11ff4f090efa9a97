"""A TCP connection of a pod's, to see whether it outlives what happens."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.errors import LabError
from cni_repair.demo.network import GATEWAY

# Longer than TCP waits, after an outage, until it sends again.
_SECONDS = 60.0


class Connection(WithCleanup):
    """Context: an open TCP connection between a pod's interface and the gateway.

    `at_gateway` and `in_pod` have the calling thread in these namespaces. This process holds both
    ends. Errors of the connection are raised as LabError.
    """

    def __init__(
        self,
        at_gateway: AbstractContextManager[None],
        in_pod: AbstractContextManager[None],
        ifname: str,
    ) -> None:
        self._at_gateway, self._in_pod, self._ifname = at_gateway, in_pod, ifname

    def _open(self) -> None:
        with self._at_gateway:
            listener = self._cleanup.enter_context(socket.create_server((GATEWAY, 0)))
        with self._in_pod:
            self._client = self._cleanup.enter_context(socket.socket())
        listener.settimeout(_SECONDS)
        self._client.settimeout(_SECONDS)
        bound = self._ifname.encode() + b"\0"
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bound)
        with _as_lab_error("connect"):
            self._client.connect(listener.getsockname())
            self._server = self._cleanup.enter_context(listener.accept()[0])
        self._server.settimeout(_SECONDS)

    @property
    def ends(self) -> tuple[str, str]:
        """ADDRESS:PORT of the pod's end and of the gateway's."""
        pairs = (self._client.getsockname(), self._server.getsockname())
        here, there = (f"{host}:{port}" for host, port in pairs)
        return here, there

    def wait_for(self, seconds: float) -> None:
        """How long whoever receives waits from now on."""
        self._client.settimeout(seconds)
        self._server.settimeout(seconds)

    def send(self, line: str) -> None:
        """Send a line from the pod; the kernel keeps it until it is acknowledged."""
        with _as_lab_error("send"):
            self._client.sendall(f"{line}\n".encode())

    def answer(self, line: str) -> None:
        """Have the gateway receive that line and send it back, and the pod receive that."""
        with _as_lab_error("receive"):
            self._receive(self._server, line)
            self._server.sendall(f"{line}\n".encode())
            self._receive(self._client, line)

    def exchange(self, line: str) -> None:
        """Carry a line from the pod to the gateway and back."""
        self.send(line)
        self.answer(line)

    @staticmethod
    def _receive(end: socket.socket, line: str) -> None:
        expected = f"{line}\n".encode()
        received = b""
        while len(received) < len(expected):
            part = end.recv(len(expected) - len(received))
            if not part:
                raise LabError(f"the TCP connection was closed after {received!r}")
            received += part
        if received != expected:
            raise LabError(f"the TCP connection carried {received!r}, not {expected!r}")


@contextlib.contextmanager
def _as_lab_error(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"the TCP connection is dead: {doing}: {error}") from error
