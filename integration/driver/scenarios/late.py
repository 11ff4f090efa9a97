"""The NIC comes back late, or under another name."""

from __future__ import annotations

import time

from integration.driver.checks import Checks, said
from integration.driver.guest import UPLINK_MACS
from integration.driver.node import Node
from integration.driver.scenarios.common import (
    by_pod,
    check_pings,
    check_pod_pings,
    check_repaired,
    check_same,
    check_vlan,
    error_of,
    errors,
    without_eth0,
)

_PATIENCE_SECONDS = 10
_LATE_SECONDS = 20.0


def late(node: Node, check: Checks) -> None:
    """The NIC comes back after REPAIR's deadline."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    answer = node.cni("REPAIR", conf=node.netconf(masterTimeout=_PATIENCE_SECONDS))
    codes = [error["code"] for error in errors(answer)]
    check(
        f"no eth0: REPAIR waits for its {_PATIENCE_SECONDS} s, exit 1, code 11 for every pod",
        answer.returncode == 1
        and codes == [11] * len(node.pods)
        and answer.seconds >= _PATIENCE_SECONDS,
        said(answer),
    )
    one = node.cni("REPAIR", node.pods[0], conf=node.netconf(masterTimeout=1))
    error = one.document
    check(
        "REPAIR of one attachment: exit 1, code 11",
        one.returncode == 1 and error.get("code") == 11,
        said(one),
    )
    time.sleep(max(0.0, since + _LATE_SECONDS - time.monotonic()))
    node.load()
    node.up()
    check_repaired(check, node, node.cni("REPAIR"))
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def renamed(node: Node, check: Checks) -> None:
    """The NIC comes back under another name: one pod's configuration allows to follow it."""
    node.up()
    wire = node.attach({}, {"followRenamedMaster": True})
    before = node.interfaces()
    strict, follower = node.pods
    since = node.unload()
    node.load()
    rename(node, eth0="swap", eth1="eth0", swap="eth1")
    swapped = node.cni("REPAIR", conf=node.netconf(masterTimeout=1))
    check(
        "eth0 is another card now: REPAIR exit 1, both permanent MACs named, nothing made",
        swapped.returncode == 1
        and all(mac in error["msg"] for error in errors(swapped) for mac in UPLINK_MACS)
        and len(without_eth0(node)) == 2
        and not node.link("eth0.3"),
        said(swapped),
    )
    rename(node, eth0="spare", eth1="ens9")
    node.up("ens9")
    answer = node.cni("REPAIR", conf=node.netconf(masterTimeout=1))
    refused, followed = by_pod(answer, node.pods)
    why = error_of(refused)["msg"]
    check(
        "eth0 is called ens9 now: the pod that may not follow is refused, both names named, exit 1",
        answer.returncode == 1 and refused["state"] == "lost" and "eth0" in why and "ens9" in why,
        said(answer),
    )
    check("nothing was made in it", without_eth0(node) == [strict.name], without_eth0(node))
    check("followRenamedMaster: healthy", followed["state"] == "healthy", said(answer))
    check_vlan(check, node, "eth0.3", "ens9")
    check_pod_pings(check, wire, follower)
    node.ip("link set ens9 down")
    rename(node, ens9="eth0")
    node.up()
    check_repaired(check, node, node.cni("REPAIR"))
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def rename(node: Node, **names: str) -> None:
    """Rename links, one after the other: old name = new name."""
    for old, new in names.items():
        node.ip(f"link set {old} name {new}")


SCENARIOS = {"late": late, "renamed": renamed}
