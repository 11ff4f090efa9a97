"""Pods that nobody remembers: interfaces over the node's links, without a checkpoint.

What stands on the uplink is what goes with it. Every network namespace of the node is asked, not a
runtime: pods of any runtime count, and those that were attached before cni-repair came.
"""

from __future__ import annotations

import os

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.netlink.netns import entered, netns_id, open_netns
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.observe import (
    chain_from,
    links_like_pods,
    netnsid_in,
    netnsid_request,
)
from cni_repair.node.namespaces import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.network.model import LiveLink
    from cni_repair.node.context import Node
    from cni_repair.node.namespaces import NetnsId

_MAX_LINKS = 1024

Covered = tuple[int, int, str]  # nsfs device and inode, ifname


@frozen
class Unmanaged:
    """A pod's interface that would be lost with the uplink, and that no checkpoint knows."""

    netns: str
    ifname: str
    master: str
    kind: str = "macvlan"

    def __str__(self) -> str:
        return f"{self.netns} {self.ifname} ({self.kind} over {self.master})"

    def document(self) -> dict[str, Any]:
        """As `snapshot` and `adopt` print it with `-o json`."""
        return {
            "netns": self.netns,
            "ifname": self.ifname,
            "master": self.master,
            "kind": self.kind,
        }


def unmanaged(node: Node, covered: set[Covered]) -> list[Unmanaged]:
    """All such interfaces over the node's links but those in `covered`; changes nothing."""
    interfaces: list[Unmanaged] = []
    for path, identity in _namespaces(node):
        try:
            for live in _children(node, path):
                if (*identity, live.name) not in covered:
                    master = _name_of(node, live.master)
                    interfaces.append(Unmanaged(path, live.name, master, live.link.kind))
        except (CniError, OSError):
            continue  # it went away while it was looked at, or answers nobody
    return interfaces


def _namespaces(node: Node) -> list[tuple[str, NetnsId]]:
    """Path, device and inode of every network namespace but the node's own."""
    own = netns_id(node.own)
    return sorted((path, one) for one, path in namespaces().items() if one != own)


def _children(node: Node, path: str) -> list[LiveLink]:
    """The interfaces over the node's links in one namespace, of the kinds that REPAIR makes."""
    netns = open_netns(path)
    try:
        with entered(netns, node.own), Rtnetlink() as rtnl:
            links = links_like_pods(rtnl, _MAX_LINKS)
            # Asked after the dump, which gives the id where a link needs it.
            netnsid = netnsid_in(rtnl.get([netnsid_request(node.own)])[0])
    finally:
        os.close(netns)
    over_node = [one for one in links if one.is_over(netnsid)]
    return sorted(over_node, key=lambda one: one.link.ifindex)


def _name_of(node: Node, ifindex: int) -> str:
    chain = chain_from(node.rtnl, ifindex)
    return chain[0].name if chain else f"link {ifindex}"
