"""Netlink messages by pyroute2: what ours must read as, and what the kernel would have sent."""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6
from typing import Any

from hypothesis import strategies as st

from cni_repair.netlink.codec import Message
from cni_repair.network.operations.link import Target

HEADER = 16
NEW_EXCLUSIVE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
FAMILIES = {4: AF_INET, 6: AF_INET6}
Attributes = list[tuple[str, Any]]


def read_by_pyroute2(kind: Any, message: Message) -> Any:
    """Our message as pyroute2 understands it."""
    length = HEADER + len(message.body)
    raw = struct.pack("=IHHII", length, message.type, message.flags, 1, 0) + message.body
    read = kind(raw)
    read.decode()
    assert read["header"]["length"] == len(raw)
    return read


def attributes(read: Any) -> dict[str, Any]:
    """Its attributes by name; nested ones alike."""
    found = {}
    for name, value in read["attrs"]:
        nested = isinstance(value, dict) and "attrs" in value
        assert name not in found, f"{name} stands twice"
        found[name] = attributes(value) if nested else value
    return found


def written_by_pyroute2(kind: Any, attrs: Attributes, **fields: int) -> bytes:
    """The body of pyroute2's message: what the kernel would have sent."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)[HEADER:]


def without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


indices = st.integers(1, 0x7FFFFFFF)
wheres = st.builds(Target, indices, indices, st.integers(0, 0x7FFFFFFF))
mtus = st.integers(0, 0xFFFFFFFF)


METRICS = {
    "RTAX_MTU": 2, "RTAX_WINDOW": 3, "RTAX_RTT": 4, "RTAX_RTTVAR": 5, "RTAX_SSTHRESH": 6,
    "RTAX_CWND": 7, "RTAX_ADVMSS": 8, "RTAX_REORDERING": 9, "RTAX_HOPLIMIT": 10,
    "RTAX_INITCWND": 11, "RTAX_FEATURES": 12, "RTAX_RTO_MIN": 13, "RTAX_INITRWND": 14,
    "RTAX_QUICKACK": 15,
}  # fmt: skip


def raw_mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def length_of(prefix: str | None) -> int:
    return int(prefix.rpartition("/")[2]) if prefix else 0


def address_of(prefix: str | None) -> str | None:
    return prefix.rpartition("/")[0] if prefix else None


def span(ends: tuple[int, int] | None) -> str | None:
    return f"{ends[0]}:{ends[1]}" if ends else None
