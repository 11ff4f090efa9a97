"""Messages that are encoded long before they are sent, and their answers.

What only the moment tells is put in where it stands: see :func:`place_in_link`. A socket that sends
nothing else may number its messages from 1 each time.
"""

from __future__ import annotations

import struct

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.lightsocket import MSG_DONTWAIT
from cni_repair.netlink.codec import HEADER_SIZE, framed, link_body, messages_in
from cni_repair.netlink.constants import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_repair.base.lightsocket import socket
    from cni_repair.netlink.codec import Message

# struct nlmsghdr, and of struct nlmsgerr the errno; the request's header follows.
_ALONE = struct.Struct("=IHHIIi16x")
_FLAGS_AND_NUMBER = struct.Struct("=HI")  # of struct nlmsghdr
_FLAGS_AT = 6
_LINK_SIZE = HEADER_SIZE + len(link_body(0, 0, 0, b""))
_buffer = bytearray(1 << 16)
_view = memoryview(_buffer)


def prepared(messages: Sequence[Message]) -> bytes:
    """The messages as one datagram, numbered from 1; the last one asks for its answer."""
    *before, last = messages
    numbered = enumerate([*before, last.acknowledged()], 1)
    return b"".join(framed(message, NLM_F_REQUEST, number) for number, message in numbered)


def renumbered(data: bytes, number: int, is_last: bool) -> bytearray:
    """One prepared message as the `number`th of several; the last one asks for its answer."""
    message = bytearray(data)
    flags, _ = _FLAGS_AND_NUMBER.unpack_from(data, _FLAGS_AT)
    flags = flags | NLM_F_ACK if is_last else flags & ~NLM_F_ACK
    _FLAGS_AND_NUMBER.pack_into(message, _FLAGS_AT, flags, number)
    return message


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
    """Send `count` prepared messages; their answers. Raises OSError where nothing could be sent."""
    sock.send(data)
    return answers(sock, count)


def answers(sock: socket, count: int) -> dict[int, int]:
    """Of `count` prepared messages that were sent the errno of each that the kernel refused, by its
    number.

    The kernel works them off, and answers, before the call that sends them returns. Raises CniError
    where it has not.
    """
    refused: dict[int, int] = {}
    while True:
        try:
            size, sender = sock.recvfrom_into(_buffer, 0, MSG_DONTWAIT)
        except BlockingIOError as error:
            raise CniError(REPAIR_FAILED, "the kernel did not answer") from error
        if sender[0] != 0:
            continue  # not the kernel's: a pod may write to a socket in its namespace
        if size == _ALONE.size:  # nearly always: of a success nothing but the last one's is told
            _, kind, _, number, _, code = _ALONE.unpack_from(_buffer)
            found = [(kind, number, code)]
        else:
            found = _answers_in(bytes(_view[:size]))
        for kind, number, code in found:
            if kind == NLMSG_ERROR and 1 <= number <= count:
                if code:
                    refused[number] = -code
                if number == count:
                    return refused


def _answers_in(data: bytes) -> list[tuple[int, int, int]]:
    """(type, number, negative errno) of each message of a datagram."""
    return [
        (kind, number, int.from_bytes(body[:4], "little", signed=True))
        for kind, _, number, body in messages_in(data)
    ]
