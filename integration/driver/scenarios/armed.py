"""REPAIR by the armed index after a real reload, beside the ordinary one, in turns: how long the
last pod is without its network, and what that takes. IPv4 alone: of IPv6 it is a wait."""

from __future__ import annotations

import ctypes
import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from integration.driver.checks import Checks, said, states
from integration.driver.node import FAR, LinkNews, Node, Wire, has_carrier, poll_until
from integration.driver.scenarios.clash import OWN
from integration.driver.scenarios.common import ANSWER_SECONDS, CHECKPOINTS, RUN_DIR, check_same
from integration.driver.scenarios.many import attach_ipv4

UNARMED, ARMED = "records only", "armed"
_PODS = 24
_SIZES, _ROUNDS = (1, 6, 24), 3
_IN_OPEN, _IN_NONBLOCK = 0x20, 0o4000  # <sys/inotify.h>
_EVENT = struct.Struct("iIII")


def armed(node: Node, check: Checks) -> None:
    """24 pods: the index is used, it pays, and no link is moved between namespaces."""
    node.up()
    attach_ipv4(node, check, _PODS)
    before = node.interfaces()
    took = {way: _reloaded(node, check, way) for way in (UNARMED, ARMED)}
    check_same(check, node, before)
    _check_pings(check, node)
    words = ", ".join(f"{way} {1000 * seconds:.0f} ms" for way, seconds in took.items())
    # (By how much it is shorter is the machine's affair: see the plot.)
    all_came = max(took.values()) < math.inf
    check(f"from REPAIR's start to the last pod's announcement: {words}", all_came, took)


def against_pods(node: Node, check: Checks) -> None:
    """The same for other numbers of pods: what the plot shows."""
    node.up()
    measured = []
    for batches, size in enumerate(_SIZES, 1):
        attach_ipv4(node, check, size - len(node.pods))
        took = {way: list[float]() for way in (UNARMED, ARMED)}
        for _ in range(_ROUNDS):
            for way, outages in took.items():
                outages.append(_reloaded(node, check, way, batches))
        measured.append({"pods": size, **took})
    _check_pings(check, node)
    check.measured = {"sizes": measured}


def _reloaded(node: Node, check: Checks, way: str, batches: int = 1) -> float:
    """Reload the driver, and repair; seconds from REPAIR's start to the last announcement.

    `batches`: with how many reloads in between the pods were attached: each has recorded another
    index of the NIC.
    """
    _forget_index()
    if way == ARMED:
        taken = node.cli("snapshot")
        is_there = any(RUN_DIR.glob("armed-*"))
        check("snapshot: exit 0, and an index", taken.returncode == 0 and is_there, said(taken))
    macs = [str(node.link("eth0", pod).get("address")) for pod in node.pods]
    with Wire(FAR, "wire") as wire:
        node.unload()
        node.load()
        node.up()
        poll_until(lambda: has_carrier("eth0"), ANSWER_SECONDS, "carrier")
        with LinkNews() as news, Opened(CHECKPOINTS) as opened:
            began = time.monotonic()
            answer = node.cni("REPAIR")
            ended = time.monotonic()

        def last() -> float:
            return max(wire.first_announced(macs, began)) - began

        check.succeeds(
            f"{way}: the announcement of each of {len(macs)} pods reaches the wire",
            lambda: poll_until(lambda: last() < math.inf, ANSWER_SECONDS, "announcements"),
        )
    what = f"{way}: REPAIR made {len(macs)} in {1000 * (ended - began):.0f} ms"
    healthy = answer.returncode == 0 and set(states(answer)) == {"healthy"}
    check(what, healthy and len(states(answer)) == len(macs), said(answer))
    check(
        f"{way}: no pod's interface was made in the node and moved", news.names <= OWN, news.names
    )
    read = {name for name in opened.names if name.endswith(".json")}
    # Of what is armed one record is read of each batch: of what they stand on.
    right = len(read) <= batches if way == ARMED else len(read) == len(macs)
    check(f"{way}: REPAIR opened {len(read)} of {len(macs)} records", right, read)
    return last()


def _forget_index() -> None:
    for index in RUN_DIR.glob("armed-*"):
        index.unlink()


def _check_pings(check: Checks, node: Node) -> None:
    with Wire(FAR, "wire", node.pods, families=(4,)) as wire:
        since = time.monotonic()
        answered = wire.answered(since, ANSWER_SECONDS)
        check("pings of every pod pass", answered, wire.silent(since))


class Opened:
    """Context: `names` are those of the files in a directory that anybody has opened meanwhile."""

    def __init__(self, directory: Path) -> None:
        self.names: set[str] = set()
        self._directory = directory

    def __enter__(self) -> Opened:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(libc.inotify_init1)(_IN_NONBLOCK)
        _checked(libc.inotify_add_watch)(self._fd, bytes(self._directory), _IN_OPEN)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while True:
                self._read(os.read(self._fd, 1 << 16))
        except BlockingIOError:
            pass
        finally:
            os.close(self._fd)

    def _read(self, data: bytes) -> None:
        """struct inotify_event, each with a name of `length` bytes, zeros included."""
        at = 0
        while at < len(data):
            *_, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            self.names.add(data[at : at + length].rstrip(b"\0").decode())
            at += length


def _checked(function: Callable[..., int]) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        number = function(*arguments)
        if number < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return number

    return call


SCENARIOS = {"armed": armed}
