"""On the private machine: makes the node, has each client live on it, and tells what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cni_repair.demo.lab import LabError
from integration.clients.client import Client
from integration.clients.node import Node
from integration.clients.story import CLIENTS, live
from integration.driver.checks import Checks, TooLate
from integration.driver.report import Outcome
from integration.inside import tell
from integration.steps import not_there, run_steps


def main(launcher: str, names: str, cgroup: str) -> None:
    """Have the clients of those names, with commas between them, live with that cni-repair, in a
    cgroup of that name."""
    clients = [CLIENTS[name] for name in names.split(",")]
    tell(_outcomes(Node(launcher, cgroup), clients))


def _outcomes(node: Node, clients: list[Client]) -> Iterator[Outcome]:
    called = partial("\n".join, node.log)
    try:
        with node:
            for client in clients:  # whatever came of the one before
                node.log.clear()
                yield from run_steps({client.name: partial(_live, client)}, node, dict, called)
    except (LabError, TooLate) as error:
        yield not_there("node", error, called())


def _live(client: Client, node: Node, check: Checks) -> None:
    with client.started(node):
        live(client, node, check)
