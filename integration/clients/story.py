"""What every client lives through, and what must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from integration.clients.cnitool import Cnitool
from integration.clients.containerd import Containerd
from integration.clients.podman import Podman

if TYPE_CHECKING:
    from cni_repair.demo.lab import Netns, Outcome
    from integration.clients.client import Client
    from integration.clients.node import Node
    from integration.driver.checks import Checks

CLIENTS: dict[str, Client] = {client.name: client for client in (Cnitool(), Containerd(), Podman())}
_POD = "web"


def live(client: Client, node: Node, check: Checks) -> None:
    """A pod of a client that has been started: made, lost, repaired, and deleted."""
    pod = client.add(_POD)
    made = _has_eth0(node, pod), len(node.leases(client.name)) > 0, len(node.records())
    check("ADD: the pod has an eth0, host-local a lease, cni-repair a record",
          made == (True, True, 1), made)  # fmt: skip
    _lose_and_repair(client, node, check, pod)
    client.more(node, check)
    node.lab.uplink_lost()
    check.succeeds("DEL while there is no master", lambda: client.delete(_POD))
    check("no lease and no record is left", not (left := _left(node, client)), left)
    node.lab.uplink_back()


def _lose_and_repair(client: Client, node: Node, check: Checks, pod: Netns) -> None:
    before, told = node.lab.interface(pod), client.tells(_POD)
    connection = node.lab.connect(pod)
    connection.exchange("before")
    node.lab.uplink_lost()
    node.lab.uplink_back()
    check("control: the NIC went and came back, the pod's eth0 did not", not _has_eth0(node, pod))
    repaired = node.repair()
    check.outage = f"{repaired.seconds * 1000:.0f} ms"
    check("REPAIR of all the node: exit 0, the pod is healthy", _is_healthy(repaired), repaired)
    now = node.lab.interface(pod)
    check("eth0 is the same: index, MAC, addresses, routes, …", now == before, f"{before} {now}")
    check.succeeds("its TCP connection, bound to eth0, carries on",
                   lambda: connection.exchange("after"))  # fmt: skip
    knows = client.tells(_POD)
    check("what the client knows of the pod has not changed", knows == told, f"{told} {knows}")


def _has_eth0(node: Node, pod: Netns) -> bool:
    return bool(node.lab.interface(pod)["link"])


def _left(node: Node, client: Client) -> list[str]:
    return [*node.leases(client.name), *node.records()]


def _is_healthy(outcome: Outcome) -> bool:
    states = [one["state"] for one in outcome.document["attachments"]]
    return outcome.returncode == 0 and states == ["healthy"]
