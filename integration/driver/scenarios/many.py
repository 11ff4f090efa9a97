"""Many pods, IPv4 alone: what a repair costs on this kernel, and what it spares."""

from __future__ import annotations

import concurrent.futures
import time

from integration.driver.checks import Checks, said, states
from integration.driver.node import LinkNews, Netns, Node, has_carrier, poll_until
from integration.driver.scenarios.clash import OWN, is_temporary
from integration.driver.scenarios.common import ANSWER_SECONDS

_PODS = 24
_ROUNDS = 3


def many(node: Node, check: Checks) -> None:
    """Before 6.15 a link that is made in the node and moved costs 20-32 ms, under the RTNL."""
    node.up()
    attach_ipv4(node, check, _PODS)
    indices = {int(node.link("eth0", pod)["ifindex"]) for pod in node.pods}
    node.unload()
    node.load()
    node.up()
    poll_until(lambda: has_carrier("eth0"), ANSWER_SECONDS, "carrier")
    for _ in range(_ROUNDS):
        names = _repair(node, check, "indices free")
        check("no pod's interface was made in the node and moved", names <= OWN, names)
        node.ip("link delete eth0.3")  # and with it all pods' interfaces
    for index in indices:
        node.ip(f"link add taken{index} index {index} type dummy")
    for _ in range(_ROUNDS):
        moved = {name for name in _repair(node, check, "indices taken") if is_temporary(name)}
        check("each pod's interface was moved", len(moved) == _PODS, moved)
        node.ip("link delete eth0.3")


def attach_ipv4(node: Node, check: Checks, count: int) -> None:
    """So many more pods, on VLAN 3."""
    conf = node.netconf()
    for key in ("ranges", "routes"):
        del conf["ipam"][key][1:]  # duplicate detection would be waited for, and measured
    first = len(node.pods) + 1
    more = [Netns(f"many-{number}") for number in range(first, first + count)]
    for pod in more:
        node.add_netns(pod)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        added = list(pool.map(lambda pod: node.cni("ADD", pod, conf), more))
    check(f"{count} pods: ADD", not any(one.returncode for one in added), [*map(said, added)])
    node.pods += more


def _repair(node: Node, check: Checks, what: str) -> set[str]:
    """The node's links that came or changed meanwhile."""
    with LinkNews() as news:
        began = time.monotonic()
        answer = node.cni("REPAIR")
        took = time.monotonic() - began
    healthy = answer.returncode == 0 and states(answer) == ["healthy"] * _PODS
    made = all(one["actions"] for one in answer.document["attachments"])
    check(f"{what}: REPAIR made {_PODS} in {took * 1000:.0f} ms", healthy and made, said(answer))
    return news.names


SCENARIOS = {"many": many}
