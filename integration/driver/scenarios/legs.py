"""`upgrade` over a bond of three legs, one of which never had carrier."""

from __future__ import annotations

import time
from functools import partial

from integration.driver.checks import Checks, said
from integration.driver.node import UPLINKS, Node, Outcome, has_carrier, poll_until
from integration.driver.scenarios.common import ANSWER_SECONDS, Json, check_pings, check_same
from integration.driver.scenarios.upgrade import MODPROBE, PLAN, RMMOD, write_plan

_SPARE = "spare0"
# As a network service enslaves again what has come back.
_ENSLAVE = (
    "until test -e /sys/class/net/{0}; do sleep 0.1; done;"
    " ip link set {0} down; ip link set {0} master bond4"
)
_BOND_HAS_CARRIER = "until grep -q 1 /sys/class/net/bond4/carrier; do sleep 0.1; done"
_ETH0, _ETH1 = _ENSLAVE.format("eth0"), _ENSLAVE.format("eth1")


def upgrade_bond(node: Node, check: Checks) -> None:
    """The standby leg whose cable is out is no failure; a leg that stays away is one."""
    node.make_bond()
    for name in UPLINKS:
        wait_for_carrier(name)
    add_spare_leg(node)
    wire = node.attach({}, {})
    before = node.interfaces()
    since = time.monotonic()
    check_required(check, node)
    write_plan(f"{RMMOD}; {MODPROBE}; {_ETH0}; {_ETH1}", kubelet="none")
    answer = node.cli("upgrade", str(PLAN))
    check(
        "a leg without carrier before has none afterwards: exit 0, and it was so before",
        answer.returncode == 0
        and f"was so before: {_SPARE} (a leg of bond4) has no carrier" in answer.stdout,
        said(answer),
    )
    check_legs(check, node, {"eth0": "same", "eth1": "same", _SPARE: "same"})
    check_leg_that_stays_away(check, node)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def wait_for_carrier(name: str) -> None:
    poll_until(partial(has_carrier, name), ANSWER_SECONDS, f"{name} to have carrier")


def add_spare_leg(node: Node) -> None:
    """A third leg: a veth whose other end is down."""
    node.ip(f"link add {_SPARE} type veth peer name unplugged0")
    node.ip(f"link set {_SPARE} master bond4")


def check_required(check: Checks, node: Node) -> None:
    """What a plan requires must be so beforehand."""
    write_plan(f"{RMMOD}; {MODPROBE}", kubelet="none", require={"carrier": "all"})
    answer = node.cli("upgrade", str(PLAN))
    check(
        "require: carrier: all: exit 3, the leg without carrier is named, the driver is untouched",
        answer.returncode == 3
        and f"$.require.carrier: {_SPARE} (a leg of bond4) has no carrier now" in answer.stdout
        and {"eth0", "eth1"} <= node.links(),
        said(answer),
    )


def check_leg_that_stays_away(check: Checks, node: Node) -> None:
    """The pods need one leg, and have it. But the node has lost the other with its driver."""
    # (The bond has its carrier before the deadline begins: that is for the leg that stays away.)
    command = f"{RMMOD}; {MODPROBE}; {_ETH0}; {_BOND_HAS_CARRIER}"
    write_plan(command, kubelet="none", masters={"deadline": "3s"})
    answer = node.cli("upgrade", str(PLAN))
    check(
        "a leg does not come back: pods are repaired, verify fails and names it, exit 1",
        answer.returncode == 1 and is_told(answer) and _failed(node) == ["verify"],
        said(answer),
    )
    check_legs(check, node, {"eth0": "same", "eth1": "worse", _SPARE: "same"})
    node.ip("link set eth1 down")
    node.ip("link set eth1 master bond4")
    # (A resume waits for it, too; but no longer than the plan says.)
    wait_for_carrier("eth1")
    resumed = node.cli("upgrade", "--resume")
    check("it is enslaved again, --resume: exit 0", resumed.returncode == 0, said(resumed))


def is_told(answer: Outcome) -> bool:
    return "bond4 had 2 legs with carrier, and has 1: look at eth1" in answer.stdout


def _failed(node: Node) -> list[str]:
    return [one["phase"] for one in _report(node)["phases"] if not one["ok"]]


def check_legs(check: Checks, node: Node, wanted: Json) -> None:
    links = _report(node)["comparison"]["links"]
    found = {link["name"]: link["change"] for link in links if link["bond"] == "bond4"}
    told = ", ".join(f"{name} {change}" for name, change in wanted.items())
    check(f"the report compares the legs: {told}", found == wanted, links)


def _report(node: Node) -> Json:
    document: Json = node.cli("upgrade", "--status", "-o", "json").document
    return document


SCENARIOS = {"upgrade-bond": upgrade_bond}
