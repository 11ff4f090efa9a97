"""On the private machine: makes the node, runs the steps, and tells on stdout what came of each."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from types import FrameType

from cni_repair.demo.lab import LabError, Netns
from integration.driver.checks import Checks, TooLate
from integration.driver.report import Outcome
from integration.kubelet.node import Node
from integration.kubelet.story import STEPS, Story

SECONDS = 600

_LOG_CHARACTERS = 20_000


def main(launcher: str, kubelet: str, cgroup: str) -> None:
    """Run the steps with that cni-repair and that kubelet, in a cgroup of that name."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(SECONDS)
    for outcome in _outcomes(launcher, kubelet, cgroup):
        print(json.dumps(outcome.document()), flush=True)


def _too_late(number: int, frame: FrameType | None) -> None:
    raise TooLate(f"no end after {SECONDS} s")


def _outcomes(launcher: str, kubelet: str, cgroup: str) -> Iterator[Outcome]:
    node = Node(launcher, kubelet, cgroup)
    try:
        with node:
            yield from _steps(node)
    except (LabError, TooLate) as error:
        checks = Checks()
        checks("a node to begin with, and nothing of it left in the end", False, error)
        yield _outcome("node", checks, 0.0, node)


def _steps(node: Node) -> Iterator[Outcome]:
    story = Story(node)
    for name, step in STEPS.items():
        evidence: dict[str, str] = {}
        checks = Checks(on_first_failure=partial(_look_at, node, evidence))
        began = time.monotonic()
        finished = False
        try:
            step(story, checks)
            finished = True
        except (LabError, TooLate) as error:
            checks("runs to its end", False, error)
        except Exception:
            checks("runs to its end", False, traceback.format_exc())  # a mistake of ours
        yield _outcome(name, checks, time.monotonic() - began, node, evidence)
        if not finished:
            return  # the next ones build upon it


def _outcome(
    name: str, checks: Checks, seconds: float, node: Node, evidence: dict[str, str] | None = None
) -> Outcome:
    made = [asdict(check) for check in checks.made]
    return Outcome(name, made, seconds, checks.outage, "\n".join(node.log), evidence or {})


def _look_at(node: Node, evidence: dict[str, str]) -> None:
    """What people need to know of a failure, while it is all there."""
    logs = {"containerd": node.containerd.log, "kubelet": node.kubelet.log}
    evidence.update({name: log[-_LOG_CHARACTERS:] for name, log in logs.items()})
    evidence["links"] = "\n".join(_links(node, netns) for netns in (node.lab.node, node.lab.tor))


def _links(node: Node, netns: Netns) -> str:
    try:
        return f"--- {netns.name}\n{node.lab.ip(netns, '-d', '-s', 'link')}"
    except LabError as error:
        return f"--- {error}"
