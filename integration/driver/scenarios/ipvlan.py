"""Pods whose interfaces are ipvlan links, in every mode.

Each master has one mode, as the kernel wants it, and its own VLAN, whose gateway is the way to what
is pinged. In the modes l3 and l3s the node routes for its pods:
what it has on their VLAN is part of their way.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from cni_repair.demo.network import GATEWAY, GATEWAY6
from integration.driver.checks import Checks, said
from integration.driver.node import FAR, Node
from integration.driver.scenarios.common import (
    ANSWER_SECONDS,
    Json,
    check_repaired,
    check_same,
    is_vlan,
    without_eth0,
)

_SHIM = "shim0"


def ipvlan(node: Node, check: Checks) -> None:
    """The driver goes and comes back under a pod of each mode, over a VLAN of its own."""
    modes = {11: "l2", 12: "l3", 13: "l3s"}
    with far_end(node, modes):
        node.up()
        for vlan, mode in modes.items():
            if routes_for_pods(mode):
                make_way(node, vlan)
        wire = node.attach(*(conf(node, vlan, mode) for vlan, mode in modes.items()))
        batch(node, shim_lines())
        taken = node.cli("snapshot")
        check("snapshot: exit 0", taken.returncode == 0, said(taken))
        before, shim = node.interfaces(), node.link(_SHIM)
        was = [before[pod.name]["rest"]["linkinfo"] for pod in node.pods]
        as_wanted = [(info["info_kind"], info["info_data"]["mode"]) for info in was]
        check(
            f"pods of these modes: ipvlan {', '.join(modes.values())}",
            as_wanted == [("ipvlan", mode) for mode in modes.values()],
            was,
        )
        since = node.unload()
        left = node.links() & {f"eth0.{vlan}" for vlan in modes}
        lost = len(without_eth0(node)) == len(node.pods) and not left
        check("rmmod e1000e: all VLANs are gone with every pod's eth0", lost, left)
        node.load()
        node.up()
        check_repaired(check, node, node.cni("REPAIR"))
        vlans = [node.link(f"eth0.{vlan}") for vlan in modes]
        check("the VLANs are there again, and up",
              all(map(is_vlan, vlans, modes, ["eth0"] * len(vlans))), vlans)  # fmt: skip
        check_same(check, node, before)
        now = node.link(_SHIM)
        check("the node's own ipvlan beside the first pod is as before",
              bool(shim) and without_index(now) == without_index(shim), (shim, now))  # fmt: skip
        later = time.monotonic()
        answered = wire.answered(later, ANSWER_SECONDS)
        check("pings of every pod pass by its VLAN, IPv4 and IPv6", answered, wire.silent(later))
        again = node.cni("REPAIR")
        told = [(one["actions"], one["notes"]) for one in again.document["attachments"]]
        quiet = again.returncode == 0 and not any(part for one in told for part in one)
        check("REPAIR again: exit 0, nothing to do", quiet, told)
        check.outage = wire.outage(since)


def shim_lines() -> list[str]:
    """The node's own link of the pods' kind."""
    lines = [f"link add {_SHIM} link eth0.11 type ipvlan mode l2", f"link set {_SHIM} up"]
    return [*lines, f"addr add 10.9.11.240/32 dev {_SHIM}"]


def without_index(link: Json) -> Json:
    return {key: value for key, value in link.items() if key not in ("ifindex", "operstate")}


def routes_for_pods(mode: str) -> bool:
    return mode.startswith("l3")


def conf(node: Node, vlan: int, mode: str) -> Json:
    """What differs from the production configuration."""
    part = pods_part(vlan, mode)
    ranges = [[{"subnet": f"10.9.{part}.0/24"}], [{"subnet": f"fd00:9:{part}::/64"}]]
    ipam = {**node.netconf()["ipam"], "ranges": ranges}
    return {"vlanId": vlan, "delegate": {"type": "ipvlan", "mode": mode}, "ipam": ipam}


def pods_part(vlan: int, mode: str) -> str:
    """What tells the pods' subnets from others: their own, where they are behind the node."""
    return f"1{vlan}" if routes_for_pods(mode) else str(vlan)


@contextlib.contextmanager
def far_end(node: Node, modes: dict[int, str]) -> Iterator[None]:
    """Context: a gateway on each VLAN, and the way back to pods behind the node."""
    for vlan, mode in modes.items():
        lines = [
            f"link add link wire name wire.{vlan} type vlan id {vlan}",
            f"link set wire.{vlan} up",
            f"addr add 10.9.{vlan}.1/24 dev wire.{vlan}",
            f"addr add fd00:9:{vlan}::1/64 dev wire.{vlan} nodad",
        ]
        if routes_for_pods(mode):
            lines.append(f"route add 10.9.1{vlan}.0/24 via 10.9.{vlan}.2")
            lines.append(f"route add fd00:9:1{vlan}::/64 via fd00:9:{vlan}::2")
        batch(node, lines, "-n", FAR.name)
    try:
        yield
    finally:
        batch(node, [f"link del wire.{vlan}" for vlan in modes], "-n", FAR.name)


def make_way(node: Node, vlan: int) -> None:
    """The node's own addresses on a VLAN, and its routes through it."""
    name = f"eth0.{vlan}"
    lines = [
        f"link add link eth0 name {name} type vlan id {vlan}",
        f"link set {name} up",
        f"addr add 10.9.{vlan}.2/24 dev {name}",
        f"addr add fd00:9:{vlan}::2/64 dev {name} nodad",
        f"route add {GATEWAY} via 10.9.{vlan}.1 dev {name} metric {vlan}",
        f"route add {GATEWAY6} via fd00:9:{vlan}::1 dev {name} metric {vlan}",
    ]
    batch(node, lines)


def batch(node: Node, lines: list[str], *where: str) -> None:
    node.run(["ip", *where, "-batch", "-"], stdin="\n".join(lines) + "\n", check=True)


SCENARIOS = {"ipvlan": ipvlan}
