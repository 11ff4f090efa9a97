"""On the private machine: makes the node, runs the steps, and tells on stdout what came of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cni_repair.demo.lab import LabError, Netns
from integration.driver.checks import TooLate
from integration.driver.report import Outcome
from integration.inside import tell
from integration.kubelet.node import Node
from integration.kubelet.story import STEPS, Story
from integration.steps import not_there, run_steps

_LOG_CHARACTERS = 20_000


def main(launcher: str, kubelet: str, cgroup: str) -> None:
    """Run the steps with that cni-repair and that kubelet, in a cgroup of that name."""
    tell(_outcomes(Node(launcher, kubelet, cgroup)))


def _outcomes(node: Node) -> Iterator[Outcome]:
    try:
        with node:
            called = partial("\n".join, node.log)
            yield from run_steps(STEPS, Story(node), partial(_look_at, node), called)
    except (LabError, TooLate) as error:
        yield not_there("node", error, "\n".join(node.log))


def _look_at(node: Node) -> dict[str, str]:
    """What people need to know of a failure."""
    logs = {"containerd": node.containerd.log, "kubelet": node.kubelet.log}
    evidence = {name: log[-_LOG_CHARACTERS:] for name, log in logs.items()}
    evidence["links"] = "\n".join(_links(node, netns) for netns in (node.lab.node, node.lab.tor))
    return evidence


def _links(node: Node, netns: Netns) -> str:
    try:
        return f"--- {netns.name}\n{node.lab.ip(netns, '-d', '-s', 'link')}"
    except LabError as error:
        return f"--- {error}"
