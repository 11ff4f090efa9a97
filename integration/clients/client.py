"""What all clients of CNI have in common, for the story that each of them lives through."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from integration.errors import RigError

if TYPE_CHECKING:
    from cni_repair.demo.lab import Netns
    from integration.clients.node import Node
    from integration.driver.checks import Checks


class LeftOut(RigError):
    """A client that cannot be had on this machine, or not now; the message says why."""


class Client(Protocol):
    """A client of CNI: on the host it is brought there, on the private machine it is used.

    Where it is started, it attaches pods to the network of its name.
    """

    name: str
    netconf: Mapping[str, Any]  # what its network's configuration has otherwise than the lab's

    def prepare(self) -> str:
        """Have its programs, in the cache; its version. Raises RigError where they cannot be."""

    def started(self, node: Node) -> AbstractContextManager[None]:
        """Context: it can be used."""

    def add(self, name: str) -> Netns:
        """Have it make a pod, and attach it."""

    def tells(self, name: str) -> object:
        """What it knows of the pod: nothing of that may change."""

    def delete(self, name: str) -> None:
        """Have it delete the pod."""

    def more(self, node: Node, check: Checks) -> None:
        """What else is to be seen of this client, with one pod, `web`, and its uplink there."""
