"""Lines of JSON between the daemon and one child: a document a line, both ways."""

from __future__ import annotations

import json
import select
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_CHUNK = 1 << 16
MAX_LINE = 1 << 20


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as its line."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


class Closed(Exception):
    """The daemon has closed the channel: whatever was asked for is not wanted any more."""


class Channel:
    """A child's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def send(self, document: Mapping[str, Any]) -> None:
        """Tell the daemon."""
        try:
            self._sock.sendall(encoded(document))
        except OSError as error:
            raise Closed from error

    def receive(self) -> dict[str, Any]:
        """Wait for what the daemon says next."""
        while b"\n" not in self._rest:
            chunk = self._sock.recv(_CHUNK)
            if not chunk:
                raise Closed
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        return document

    def is_told(self) -> bool:
        """Whether something is there to be received without waiting for it."""
        return b"\n" in self._rest or bool(select.select([self._sock], [], [], 0)[0])
