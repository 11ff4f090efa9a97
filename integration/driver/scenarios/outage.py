"""The outage as the pods see it, with and without a repair: what `run --plot` draws."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial

from integration.driver.checks import Checks, said
from integration.driver.node import Moment, Node, Wire, has_carrier, poll_until
from integration.driver.outage import Run
from integration.driver.scenarios.common import ANSWER_SECONDS

_PODS = 4
_BEFORE_SECONDS = 2.0
# Long enough that pings would have come back, and for the chart: a repair takes less.
_HOPELESS_SECONDS = 15.0
_AFTER_SECONDS = 4.0
_LATE_REPLY_SECONDS = 1.0


def no_repair(node: Node, check: Checks) -> None:
    """The driver comes back, the pods do not."""
    wire = _attach(node)
    marks = _reload(node, check)
    carrier = marks["carrier"]
    time.sleep(_HOPELESS_SECONDS)
    check(
        "no repair: pings of no pod pass", wire.first_reply(carrier) is None, wire.silent(carrier)
    )
    _conclude(check, wire, Run("Control: no repair", marks, *_pings(wire)))


def repaired(node: Node, check: Checks) -> None:
    """The command that people type, as soon as the NIC is back."""
    wire = _attach(node)
    marks = _reload(node, check, ("repair", "--all"))
    now = time.monotonic()
    check("pings of every pod pass", wire.answered(now, ANSWER_SECONDS), wire.silent(now))
    time.sleep(max(_AFTER_SECONDS, (time.monotonic() - marks["rmmod"]) / 2))
    _conclude(
        check,
        wire,
        Run("Repaired: cni-repair repair --all, called when the NIC is back", marks, *_pings(wire)),
    )


def _attach(node: Node) -> Wire:
    node.up()
    wire = node.attach(*[{}] * _PODS)
    time.sleep(_BEFORE_SECONDS)
    return wire


def _reload(node: Node, check: Checks, repair: tuple[str, ...] = ()) -> dict[str, float]:
    """Reload the driver, and call cni-repair when the NIC is back; when what happened."""
    marks = {"rmmod": node.unload(), "modprobe": time.monotonic()}
    with Moment(partial(has_carrier, "eth0")) as carrier:
        node.load()
        node.up()
        if repair:
            marks["repair called"] = time.monotonic()
            outcome = node.cli(*repair)
            marks["repair ended"] = time.monotonic()
            check(f"{' '.join(repair)}: exit 0", outcome.returncode == 0, said(outcome))
        marks["carrier"] = poll_until(lambda: carrier.at or 0.0, ANSWER_SECONDS, "carrier")
    return marks


def _pings(wire: Wire) -> tuple[list[float], dict[str, list[float | None]]]:
    """When pings were sent, and, by pod, when each was answered: IPv4."""
    rounds = len(wire.sent)
    time.sleep(_LATE_REPLY_SECONDS)
    targets = [target for target in wire.replies if target.family == 4]
    answers = {target.pod.name: wire.answers(target)[:rounds] for target in targets}
    return wire.sent[:rounds], answers


def _conclude(check: Checks, wire: Wire, run: Run) -> None:
    spared = [pod for pod, replies in run.replies.items() if None not in replies]
    check("the reload costs every pod pings", not spared, spared)
    check.outage = wire.outage(run.marks["rmmod"])
    check.measured = asdict(run.since(run.marks["rmmod"]))


SCENARIOS = {"no-repair": no_repair, "repaired": repaired}
