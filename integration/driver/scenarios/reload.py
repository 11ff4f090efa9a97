"""The driver is reloaded, and eth0 is back under its own name."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from functools import partial

from integration.driver.checks import Checks, said, states
from integration.driver.node import LabError, Moment, Node, Wire, has_carrier, poll_until
from integration.driver.scenarios.common import (
    ANSWER_SECONDS,
    check_lost,
    check_pings,
    check_repaired,
    check_same,
    check_vlan,
    repairing,
    without_eth0,
)

# Long enough that pings would have come back: carrier takes 1.2 s, duplicate detection 1-2 s.
_HOPELESS_SECONDS = 5.0
_PINGS_TO_REPLY = 300  # in half a minute


def control(node: Node, check: Checks) -> None:
    """Nobody repairs."""
    node.up()
    wire = node.attach()
    since = node.unload()
    node.load()
    node.up()
    check("no repair: pings of no pod pass", not any_answer(wire, since), wire.replies)
    gone = without_eth0(node)
    check("no repair: every pod stays without eth0", len(gone) == len(node.pods), gone)
    status = node.cli("status", "-o", "json")
    check(
        "status: every pod lost, exit 1",
        status.returncode == 1 and states(status) == ["lost"] * len(node.pods),
        said(status),
    )
    check.outage = wire.outage(since)


def any_answer(wire: Wire, since: float) -> bool:
    """Whether anybody gets through, of whom nobody should."""
    begin = max(since, time.monotonic())
    time.sleep(_HOPELESS_SECONDS)
    return wire.first_reply(begin) is not None


def eth0_vlan(node: Node, check: Checks) -> None:
    """The incident, and its repair."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    connection = node.connect(node.pods[0])
    connection.exchange("before the reload")
    since = node.unload()
    check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
    connection.send("while the driver was out")
    node.load()
    node.up()
    check_repaired(check, node, node.cni("REPAIR"))
    check_vlan(check, node, "eth0.3", "eth0")
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.succeeds(
        "a TCP connection bound to eth0 carries what was sent meanwhile",
        lambda: connection.answer("while the driver was out"),
    )
    check.succeeds("and what is sent now", lambda: connection.exchange("after"))
    again = node.cni("REPAIR")
    idle = [one["actions"] for one in again.document["attachments"]]
    check("REPAIR again: exit 0, nothing to do", again.returncode == 0 and not any(idle), idle)
    check.outage = wire.outage(since)


def before_carrier(node: Node, check: Checks) -> None:
    """REPAIR comes first, then the link, then carrier."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
    with (
        Moment(lambda: has_carrier("eth0")) as carrier,
        Moment(partial(exists, "eth0"), node.pods[-1]) as made,
        repairing(node) as repair,
    ):
        node.load()
        # Only now does the distribution set the uplink up: which of them is quicker is no chance.
        with contextlib.suppress(LabError):
            poll_until(lambda: made.at is not None, ANSWER_SECONDS, "the last pod's eth0")
        node.up()
        answer = repair.result()
    check(
        "REPAIR, called while eth0 was not there, made all links before there was carrier",
        bool(made.at and carrier.at and made.at < carrier.at),
        (made.at, carrier.at),
    )
    check_repaired(check, node, answer)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    first = wire.first_reply(carrier.at or since)
    took = first - carrier.at if first and carrier.at else math.inf
    # In pings, not in seconds: on a slow machine both take longer.
    pings = wire.sent_between(carrier.at or since, first or math.inf)
    check(
        f"from carrier to the first reply it took {took:.1f} s, less than 300 pings",
        pings < _PINGS_TO_REPLY and took < math.inf,
        pings,
    )
    check.outage = wire.outage(since)


def exists(name: str) -> bool:
    """Whether the calling thread's namespace has a link of that name."""
    return name in (found for _, found in socket.if_nameindex())


SCENARIOS = {"control": control, "eth0.3": eth0_vlan, "early": before_carrier}
