"""Messages that are encoded long before they are sent, and their answers.

What only the moment tells is put in where it stands: see :func:`place_in_link`. A socket that sends
nothing else may number its messages from 1 each time.
"""

from __future__ import annotations

from cni_repair.base.lightsocket import MSG_DONTWAIT
from cni_repair.netlink.codec import HEADER_SIZE, framed, link_body, messages_in
from cni_repair.netlink.constants import NLM_F_REQUEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_repair.base.lightsocket import socket
    from cni_repair.netlink.codec import Message

_NLMSG_ERROR = 2
_LINK_SIZE = HEADER_SIZE + len(link_body(0, 0, 0, b""))
_buffer = bytearray(1 << 16)
_view = memoryview(_buffer)


class NoAnswer(Exception):
    """The kernel has not answered what was sent."""


def prepared(messages: Sequence[Message]) -> bytes:
    """The messages as one datagram, numbered from 1; the last one asks for its answer."""
    *before, last = messages
    numbered = enumerate([*before, last.acknowledged()], 1)
    return b"".join(framed(message, NLM_F_REQUEST, number) for number, message in numbered)


def place_in_link(data: bytes, kind: int) -> int:
    """Where the payload of an attribute of that type begins, in the bytes of one prepared message
    about a link. Raises LookupError where there is none."""
    offset = _LINK_SIZE
    while offset + 4 <= len(data):
        length = int.from_bytes(data[offset : offset + 2], "little")
        if int.from_bytes(data[offset + 2 : offset + 4], "little") == kind:
            return offset + 4
        offset += (max(length, 4) + 3) & ~3
    raise LookupError(f"attribute {kind} is not in the message")


def exchange(sock: socket, data: bytes | bytearray, count: int) -> dict[int, int]:
    """Send `count` prepared messages; the errno of each that the kernel refused, by its number.

    The kernel works them off, and answers, before the call that sends them returns. Raises NoAnswer
    where it has not, OSError where nothing could be sent.
    """
    sock.send(data)
    refused: dict[int, int] = {}
    while True:
        try:
            size, sender = sock.recvfrom_into(_buffer, 0, MSG_DONTWAIT)
        except BlockingIOError as error:
            raise NoAnswer from error
        if sender[0] != 0:
            continue  # not the kernel's: a pod may write to a socket in its namespace
        for kind, _, number, body in messages_in(bytes(_view[:size])):
            if kind == _NLMSG_ERROR and 1 <= number <= count:
                errno = -int.from_bytes(body[:4], "little", signed=True)
                if errno:
                    refused[number] = errno
                if number == count:
                    return refused
