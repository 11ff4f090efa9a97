"""On the private machine: makes the node, has each client live on it, and tells what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict

from cni_repair.demo.lab import LabError
from integration.clients.client import Client
from integration.clients.node import Node
from integration.clients.story import CLIENTS, live
from integration.driver.checks import Checks, TooLate
from integration.driver.report import Outcome
from integration.inside import tell


def main(launcher: str, names: str, cgroup: str) -> None:
    """Have the clients of those names, with commas between them, live with that cni-repair, in a
    cgroup of that name."""
    tell(_outcomes(launcher, names.split(","), cgroup))


def _outcomes(launcher: str, names: list[str], cgroup: str) -> Iterator[Outcome]:
    node = Node(launcher, cgroup)
    try:
        with node:
            for name in names:
                yield _lived(CLIENTS[name], node)
    except (LabError, TooLate) as error:
        checks = Checks()
        checks("a node to begin with, and nothing of it left in the end", False, error)
        yield _outcome("node", checks, 0.0, node)


def _lived(client: Client, node: Node) -> Outcome:
    node.log.clear()
    checks = Checks()
    began = time.monotonic()
    try:
        with client.started(node):
            live(client, node, checks)
    except (LabError, TooLate) as error:
        checks("runs to its end", False, error)
    except Exception:
        checks("runs to its end", False, traceback.format_exc())  # a mistake of ours
    return _outcome(client.name, checks, time.monotonic() - began, node)


def _outcome(name: str, checks: Checks, seconds: float, node: Node) -> Outcome:
    made = [asdict(check) for check in checks.made]
    return Outcome(name, made, seconds, checks.outage, "\n".join(node.log))
