"""A cluster on this machine: a control plane, nodes, and the networks between them.

control ── mgmt ──┬── mgmt of each node
tor ────── pods ──┴── eth0 of each node ◄── macvlan ── eth0 of its pods
10.9.0.1/24
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import GATEWAY, LabError, Netns, poll_until
from cni_repair.demo.private import leave_network
from integration.cluster.control import ControlPlane
from integration.cluster.ground import Ground
from integration.cluster.node import Node
from integration.kubelet.private import OWN, enter_private, show_system

NIC = "eth0"

_CONTROL, TOR = Netns("control"), Netns("tor")
_ADDRESS = "192.0.2.1"  # of the control plane; those of the nodes follow
_COMMAND_SECONDS = 60.0
_JOIN_SECONDS = 180.0


class Cluster(WithCleanup):
    """Context: nodes of those names, bare, which have joined; on a private machine.

    `cgroup` is the name of the cgroup that we are in; see `enter_private`.
    """

    def __init__(self, names: Sequence[str], cgroup: str) -> None:
        self._names, self._cgroup = names, cgroup
        self.nodes = dict[str, Node]()

    def _open(self) -> None:
        enter_private(self._cgroup)
        leave_network()
        for netns, bridge, address in (
            (_CONTROL, "mgmt", f"{_ADDRESS}/24"),
            (TOR, "pods", f"{GATEWAY}/24"),
        ):
            self._make_bridge(netns, bridge, address)
        show_system(_CONTROL)  # our own cgroups are those that we see, and the nodes
        control = ControlPlane(OWN / "control", _CONTROL, _ADDRESS)
        self.control = self._cleanup.enter_context(control)
        for number, name in enumerate(self._names, 1):
            self.nodes[name] = self._make_node(name, number)
        for node in self.nodes.values():
            node.kubelet.wait()
        poll_until(self._all_registered, _JOIN_SECONDS, "the nodes to join")

    @property
    def logs(self) -> dict[str, str]:
        """What all programs said, and all pods."""
        found = dict(self.control.logs)
        for node in self.nodes.values():
            found.update(node.logs)
        return found

    # --- NICs ---

    def lose_nics(self) -> None:
        """Have every node lose its NIC, as when its driver is unloaded."""
        for node in self.nodes.values():
            ip(node.netns, "link", "delete", NIC)

    def bring_nics_back(self) -> None:
        """Have every node find its NIC again, as when its driver is loaded."""
        for number, node in enumerate(self.nodes.values(), 1):
            _plug_in(node.netns, TOR, "pods", (NIC, f"02:00:00:00:09:{number:02x}"))

    # --- Making it ---

    def _all_registered(self) -> bool:
        return len(self.control.get("nodes")["items"]) == len(self._names)

    def _make_bridge(self, netns: Netns, name: str, address: str) -> None:
        ip(None, "netns", "add", netns.name)
        self._cleanup.callback(ip, None, "netns", "delete", netns.name)
        ip(netns, "link", "set", "lo", "up")
        ip(netns, "link", "add", name, "type", "bridge")
        ip(netns, "address", "add", address, "dev", name)
        ip(netns, "link", "set", name, "up")

    def _make_node(self, name: str, number: int) -> Node:
        ground = self._cleanup.enter_context(Ground(name, OWN / "nodes"))
        address = f"192.0.2.{10 + number}"
        ip(ground.netns, "link", "set", "lo", "up")
        _plug_in(ground.netns, _CONTROL, "mgmt", ("mgmt", f"02:00:00:00:01:{number:02x}"))
        ip(ground.netns, "address", "add", f"{address}/24", "dev", "mgmt")
        ip(ground.netns, "route", "add", "default", "via", _ADDRESS)  # kubelet wants one
        _plug_in(ground.netns, TOR, "pods", (NIC, f"02:00:00:00:09:{number:02x}"))
        return self._cleanup.enter_context(Node(ground, self.control, address))


def _plug_in(node: Netns, far: Netns, bridge: str, card: tuple[str, str]) -> None:
    """Give a node a card, by its name and MAC, on a bridge's wire."""
    name, mac = card
    port = f"{node.name}"[:15]
    ip(far, "link", "add", port, "master", bridge, "type", "veth",
       "peer", "name", name, "address", mac, "netns", node.name)  # fmt: skip
    ip(far, "link", "set", port, "up")
    ip(node, "link", "set", name, "up")


def ip(netns: Netns | None, *words: str) -> str:
    """What an `ip` command about a network namespace prints; LabError where it fails."""
    about = ["-n", netns.name] if netns else []
    done = subprocess.run(
        ["ip", *about, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
    )
    if done.returncode != 0:
        raise LabError(f"ip {' '.join([*about, *words])}: {done.stderr.strip()}")
    return done.stdout
