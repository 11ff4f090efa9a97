"""A rtnetlink socket: messages sent many at a time, answers read back, dumps bounded.

Sources: include/uapi/linux/netlink.h, net/netlink/af_netlink.c.
"""

from __future__ import annotations

import errno
import os
import struct
import time

from cni_repair.base import lightsocket as socket
from cni_repair.base.closeable import Closeable
from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen
from cni_repair.netlink.codec import (
    HEADER_SIZE,
    Message,
    attributes_of,
    decoder,
    framed,
    messages_in,
)
from cni_repair.netlink.constants import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_SOL_NETLINK = 270
_MAX_ERRNO = 4095  # include/linux/err.h
_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK, _NETLINK_CAP_ACK = 11, 12, 10
_U32 = struct.Struct("=I")

# How often a dump that the kernel calls inconsistent is read again (a third are, under
# churn), and how long one answer may take.
_DUMP_TRIES = 20
_TIMEOUT_SECONDS = 10
_TIMEVAL = struct.pack("@ll", _TIMEOUT_SECONDS, 0)  # struct timeval
# One for all sockets: what the kernel answers is copied out at once. (A new one for every answer
# would be mapped and unmapped each time, and its pages faulted in.)
_buffer = bytearray(1 << 18)


class TooMany(CniError):
    """A dump is longer, or changes faster, than its reader can bear."""


class NotSupported(CniError):
    """This kernel was built without what was asked for."""


@frozen
class Ack:
    """The kernel's answer to one request: 0 is success; `text` is its own words, often empty."""

    errno: int
    text: str

    def __str__(self) -> str:
        meaning = os.strerror(self.errno)
        return f"{meaning} ({self.text})" if self.text else meaning


_SUCCESS = Ack(0, "")
_NO_ERROR = bytes(4)


class Rtnetlink(Closeable):
    """A rtnetlink socket of the namespace that the calling thread is in when it is made."""

    def __init__(self) -> None:
        self._open()

    def renew(self) -> None:
        """After a fork, when the socket is the other process's."""
        self.close()
        self._open()

    def _open(self) -> None:
        self.netnsids: dict[int, int] = {}  # by open descriptor, as far as they were asked for
        self.sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
            self.sock.setsockopt(_SOL_NETLINK, option, 1)
        self._is_strict = False
        # The kernel's own timeout: Python's would ask poll(2) before every call.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL)

    def close(self) -> None:
        self.sock.close()

    def send(self, messages: Sequence[Message]) -> list[Ack]:
        """Send the messages in one datagram; the kernel's answer to each, in their order.

        It works them off one after the other and goes on after one that fails. Failures are told
        unasked (netlink_rcv_skb): only the last message asks for its answer, which then comes after
        all others'.
        """
        if not messages:
            return []
        first = self._sequence + 1
        *before, last = messages
        self._write([*before, last.acknowledged()], NLM_F_REQUEST)
        answers = [_SUCCESS] * len(messages)
        while True:
            for kind, flags, sequence, body in self._read():
                if kind == NLMSG_ERROR and first <= sequence <= self._sequence:
                    answers[sequence - first] = ack_in(flags, body)
                    if sequence == self._sequence:
                        return answers

    def get(self, messages: Sequence[Message]) -> list[bytes | Ack]:
        """For each request its one answer's body, or the refusal."""
        if not messages:
            return []  # an empty datagram is refused (ENODATA, af_netlink.c)
        first = self._sequence + 1
        self._write(messages, NLM_F_REQUEST)
        answers: dict[int, bytes | Ack] = {}
        while len(answers) < len(messages):
            for kind, flags, sequence, body in self._read():
                if first <= sequence <= self._sequence:
                    answers[sequence - first] = ack_in(flags, body) if kind == NLMSG_ERROR else body
        return [answers[i] for i in range(len(messages))]

    def dump(
        self,
        message: Message,
        at_most: int,
        what: str = "entries",
        keep: Callable[[bytes], bool] | None = None,
        at_most_bytes: int = 1 << 30,
    ) -> list[bytes]:
        """The bodies of a dump, read again while the kernel says that it changed meanwhile.

        `keep` picks those to be held in memory, where the kernel cannot filter them. Raises TooMany
        past `at_most` entries, kept or not; the socket is of no more use then.
        """
        self._check_strictly()
        for _ in range(_DUMP_TRIES):
            entries = self._dump_once(message, at_most, what, keep, at_most_bytes)
            if entries is not None:
                return entries
        raise TooMany(
            REPAIR_FAILED,
            "the kernel's tables change too fast to be read",
            f"{_DUMP_TRIES} dumps in a row were interrupted",
        )

    def _check_strictly(self) -> None:
        """Without it the kernel ignores a dump's filters (and 200,000 routes come, not 3). Of a
        lost pod nothing is dumped."""
        if not self._is_strict:
            self._is_strict = True
            try:
                self.sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            except OSError:
                pass  # before 4.20; readers filter for themselves, too

    def _dump_once(
        self,
        message: Message,
        at_most: int,
        what: str,
        keep: Callable[[bytes], bool] | None,
        at_most_bytes: int,
    ) -> list[bytes] | None:
        self._write([message], NLM_F_REQUEST | NLM_F_DUMP)
        entries: list[bytes] = []
        seen = size = 0
        interrupted = False
        while True:
            for kind, flags, sequence, body in self._read():
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
                if kind == NLMSG_DONE:
                    return None if interrupted else entries
                if kind == NLMSG_ERROR:
                    raise _refused_dump(ack_in(flags, body), what)
                seen += 1
                if seen > at_most:
                    raise TooMany(REPAIR_FAILED, f"more than {at_most} {what}: too many to mirror")
                if keep is None or keep(body):
                    size += len(body)
                    entries.append(body)
                if size > at_most_bytes:
                    raise TooMany(
                        REPAIR_FAILED,
                        f"{what} of more than {at_most_bytes} bytes: too many to mirror",
                    )

    def _write(self, messages: Sequence[Message], flags: int) -> None:
        self._until = time.monotonic() + _TIMEOUT_SECONDS
        parts = []
        for message in messages:
            self._sequence += 1
            parts.append(framed(message, flags, self._sequence))
        self.sock.send(b"".join(parts))

    def _read(self) -> Iterator[tuple[int, int, int, bytes]]:
        while True:
            if time.monotonic() > self._until:
                raise CniError(
                    REPAIR_FAILED, f"the kernel did not answer within {_TIMEOUT_SECONDS} s"
                )
            try:
                size, sender = self.sock.recvfrom_into(_buffer)
            except BlockingIOError as error:  # EAGAIN: SO_RCVTIMEO is over
                raise CniError(
                    REPAIR_FAILED, f"the kernel did not answer within {_TIMEOUT_SECONDS} s"
                ) from error
            # Whoever has CAP_NET_ADMIN in this namespace (the pod) may write to our socket; only
            # the kernel is port 0.
            if sender[0] == 0:
                break
        return messages_in(bytes(memoryview(_buffer)[:size]))


def _refused_dump(ack: Ack, what: str) -> CniError:
    kind = NotSupported if ack.errno == errno.EOPNOTSUPP else CniError
    return kind(REPAIR_FAILED, f"the kernel refuses to list {what}", str(ack))


@decoder
def ack_in(flags: int, body: bytes) -> Ack:
    """struct nlmsgerr: the negative errno, the request's header, then the kernel's own words."""
    if body[:4] == _NO_ERROR:
        return _SUCCESS
    (code,) = struct.unpack_from("=i", body)
    if not -_MAX_ERRNO <= code < 0:
        raise ValueError(f"{code} is no error number")
    words = b""
    if flags & _NLM_F_ACK_TLVS:
        request_length = _U32.unpack_from(body, 4)[0]
        offset = 4 + (HEADER_SIZE if flags & _NLM_F_CAPPED else request_length)
        words = attributes_of(body, offset).get(1, b"")  # NLMSGERR_ATTR_MSG
    return Ack(-code, words.rstrip(b"\0").decode("utf-8", "replace"))


def is_missing(answer: bytes | Ack) -> bool:
    """Whether a get was answered with "no such link"."""
    return isinstance(answer, Ack) and answer.errno == errno.ENODEV
