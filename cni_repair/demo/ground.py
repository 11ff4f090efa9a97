"""Where a lab's node stands: how commands get there, and how we get at its files."""

from __future__ import annotations

from dataclasses import dataclass

from cni_repair.demo.network import Netns


@dataclass(frozen=True)
class Ground:
    """Our own mount namespace, where the node's network namespace has a name like the others; or,
    with a `pid`, the namespaces of that process (see `private_node`).
    """

    node: Netns
    pid: int = 0

    @property
    def node_reference(self) -> str:
        """The node's network namespace, as `ip link … netns` takes it."""
        return str(self.pid) if self.pid else self.node.name

    def outside(self, path: str) -> str:
        """A path of the node's as we reach it."""
        return f"/proc/{self.pid}/root{path}" if self.pid else path

    def netns(self, netns: Netns) -> str:
        """The path of a network namespace as we reach it."""
        if self.pid and netns == self.node:
            return f"/proc/{self.pid}/ns/net"
        return self.outside(netns.path)

    def entering(self, netns: Netns) -> list[str]:
        """What to put before a command, to run it in a network namespace and among its files.

        It becomes the command: the PID stays.
        """
        if self.pid:
            return ["nsenter", self._mounts, f"--net={self.netns(netns)}", "--"]
        return ["ip", "netns", "exec", netns.name]

    def ip(self, netns: Netns | None) -> list[str]:
        """The beginning of an `ip` command about a network namespace."""
        about = ["-n", netns.name] if netns and not (self.pid and netns == self.node) else []
        return [*(self.entering(self.node) if self.pid else []), "ip", *about]

    @property
    def _mounts(self) -> str:
        return f"--mount=/proc/{self.pid}/ns/mnt"
