"""Asking for many addresses, where the kernel takes a few frames at a time."""

from __future__ import annotations

import socket

from cni_repair.network.reachability.holders import _Question
from tests.patience import eventually

FRAMES = [bytes([number]) for number in range(100)]


def test_a_full_queue_is_waited_for() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    heard: list[bytes] = []

    def all_heard() -> bool:
        question.send()
        try:
            while True:
                heard.append(far.recv(16))
        except BlockingIOError:
            return len(heard) >= len(FRAMES)

    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)  # the least that there is
        question = _Question(near, FRAMES, lambda frame: None)
        question.begin()
        question.send()
        assert question.unsent
        eventually(all_heard, "all of them")
    assert (heard, question.unsent) == (FRAMES, [])
