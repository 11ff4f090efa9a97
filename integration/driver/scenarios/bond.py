"""The pods are on bond4.3, and the driver of both its slaves is reloaded."""

from __future__ import annotations

import contextlib
import json
import time

from integration.driver.checks import Checks, said, states
from integration.driver.node import LabError, Netns, Node, Wire, poll_until
from integration.driver.scenarios.common import (
    ANSWER_SECONDS,
    CHECKPOINTS,
    Json,
    by_pod,
    check_lost,
    check_pings,
    check_pod_pings,
    check_repaired,
    check_same,
    check_vlan,
    error_of,
    repairing,
    without_eth0,
)

_SANDBOX = "5eed" * 16
# Older kernels name the first, newer ones (6.12) the other where the master is another namespace's.
_WITHOUT_CARRIER = ({"LOWERLAYERDOWN"}, {"DOWN"})


def bond_kept(node: Node, check: Checks) -> None:
    """The bond outlives its slaves, and so does all that stands on it."""
    node.make_bond()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    with contextlib.suppress(LabError):  # linkwatch tells each of the stack in its turn
        poll_until(lambda: _operstates(node) in _WITHOUT_CARRIER, ANSWER_SECONDS, "no carrier")
    check(
        "rmmod e1000e: bond4, bond4.3 and every pod's eth0 stay, without carrier",
        {"bond4", "bond4.3"} <= node.links() and _operstates(node) in _WITHOUT_CARRIER,
        (node.links(), _operstates(node)),
    )
    status = node.cli("status", "-o", "json")
    found = [" ".join(one["findings"]) for one in status.document["attachments"]]
    check(
        "status: every pod degraded for want of carrier, master bond4.3 named, exit 1",
        status.returncode == 1
        and set(states(status)) == {"degraded"}
        and all("no carrier" in text and "bond4.3" in text for text in found),
        said(status),
    )
    told = node.cli("status").stdout
    check(
        "status: says that nothing is in bond4, and how its NICs get back into it",
        "next: no NIC is in that bond; " in told and "dev NIC master bond4\n" in told,
        told,
    )
    node.load()
    # REPAIR is to find the bond without carrier, then to wait for it.
    with repairing(node) as repair:
        enslaved = time.monotonic()
        node.enslave()
        answer = repair.result()
    check_repaired(check, node, answer)
    actions = [one["actions"] for one in answer.document["attachments"]]
    check("REPAIR changed nothing that was right", not any(actions), actions)
    check_same(check, node, before)
    check_vlan(check, node, "bond4.3", "bond4")
    check_pings(check, wire, before, since)
    missing = announceable(before) - wire.announced(enslaved)
    check(
        "REPAIR announced every pod by gratuitous ARP once there was carrier", not missing, missing
    )
    check.outage = wire.outage(since)


def _operstates(node: Node) -> set[str]:
    return {node.link("eth0", pod)["operstate"] for pod in node.pods}


def announceable(eth0s: Json) -> set[tuple[str, str]]:
    """(MAC, IPv4 address) of every pod."""
    return {
        (eth0["MAC"], address["local"])
        for eth0 in eth0s.values()
        for address in eth0["addresses"]
        if address["family"] == "inet"
    }


def bond_made_anew(node: Node, check: Checks) -> None:
    """The distribution's network service removes the bond and makes another: the seed's case."""
    node.make_bond()
    wire = node.attach({}, {}, {"fallbackMaster": True})
    before = node.interfaces()
    connection = node.connect(node.pods[0])
    connection.exchange("before the reload")
    since = lose_bond(node)
    check_lost(check, "rmmod e1000e, bond4 deleted: bond4 and bond4.3", node)
    connection.send("while the bond was gone")
    node.load()
    node.make_bond()
    check_repaired(check, node, node.cni("REPAIR"))
    check_vlan(check, node, "bond4.3", "bond4")
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.succeeds(
        "a TCP connection bound to eth0 carries what was sent meanwhile",
        lambda: connection.answer("while the bond was gone"),
    )
    check.outage = wire.outage(since)
    lose_bond(node)
    node.load()
    node.up()
    check_fallback(check, node, wire)
    check_seeds_fallback(check, node, wire)


def check_fallback(check: Checks, node: Node, wire: Wire) -> None:
    """bond4 does not come back, eth0 does. One of the pods may move there."""
    answer = node.cli("repair", "--all", "--wait", "1", "-o", "json")
    *refused, moved = by_pod(answer, node.pods)
    *strict, free = node.pods
    check(
        "bond4 does not come back, eth0 does: REPAIR refuses the pods, and names bond4, exit 1",
        answer.returncode == 1
        and all(one["state"] == "lost" and "bond4" in error_of(one)["msg"] for one in refused),
        said(answer),
    )
    left = without_eth0(node)
    check("it did not move them to eth0", left == [pod.name for pod in strict], left)
    notes = " ".join(moved["notes"])
    check(
        "but the one with fallbackMaster, and said so: healthy, both masters named",
        moved["state"] == "healthy" and "bond4.3" in notes and "eth0.3" in notes,
        moved,
    )
    check_vlan(check, node, "eth0.3", "eth0")
    check_pod_pings(check, wire, free)


def check_seeds_fallback(check: Checks, node: Node, wire: Wire) -> None:
    """The seed's checkpoints name no master: the configuration's first that exists is used."""
    pod = node.pods[0]
    make_seed_checkpoint(pod)
    answer = node.cni("REPAIR", pod, container_id=_SANDBOX)
    check("a checkpoint that names no master: REPAIR exit 0", answer.returncode == 0, said(answer))
    check_pod_pings(check, wire, pod)


def make_seed_checkpoint(pod: Netns) -> None:
    """Have the seed's own record of a pod instead of ours."""
    ours = CHECKPOINTS / f"{pod.name}@eth0.json"
    result = json.loads(ours.read_text())["result"]
    seeds = {"netns": pod.path, "podname": pod.name, "sandbox": _SANDBOX, "ifname": "eth0"}
    (CHECKPOINTS / _SANDBOX[:12]).write_text(json.dumps({**seeds, "result": result}))
    ours.unlink()


def lose_bond(node: Node) -> float:
    since = node.unload()
    node.ip("link delete bond4")
    return since


SCENARIOS = {"bond-kept": bond_kept, "bond-new": bond_made_anew}
