"""Pods that nobody remembers: interfaces over the node's links, without a checkpoint.

What stands on the uplink is what goes with it. Every network namespace of the node is asked, not a
runtime: pods of any runtime count, and those that were attached before cni-repair came.
"""

from __future__ import annotations

import os

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.procfs import process_ids
from cni_repair.netlink.netns import entered, netns_id, netns_id_at, open_netns
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.observe import (
    chain_from,
    links_like_pods,
    netnsid_in,
    netnsid_request,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.model import LiveLink
    from cni_repair.node.context import Node

# Where runtimes name namespaces; a pod that has no name there is found through its processes.
_NAMED_IN = ("/run/netns", "/var/run/docker/netns")
_MAX_LINKS = 1024


@frozen
class Covered:
    """An interface that a record is of."""

    netns: tuple[int, int]  # nsfs device and inode
    ifname: str
    ifindex: int = 0  # 0: not known
    master: str = ""


def covered_by(checkpoint: Checkpoint, netns: tuple[int, int]) -> Covered:
    """The interface that a record is of, in the namespace that is its own."""
    recorded = checkpoint.attachment
    name, master = checkpoint.key.ifname, recorded.parents[0].name
    return Covered(netns, name, recorded.link.ifindex, master)


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


def unmanaged(node: Node, covered: Iterable[Covered]) -> list[Unmanaged]:
    """All such interfaces over the node's links but those in `covered`; changes nothing."""
    interfaces: list[Unmanaged] = []
    known: dict[tuple[int, int], list[Covered]] = {}
    for one in covered:
        known.setdefault(one.netns, []).append(one)
    for path, identity in sorted(_namespaces(node).items()):
        try:
            found = [(live, _name_of(node, live.master)) for live in _children(node, path)]
            interfaces += [
                Unmanaged(path, live.name, master, live.link.kind)
                for live, master in without_record(found, known.get(identity, []))
            ]
        except (CniError, OSError):
            continue  # it went away while it was looked at, or answers nobody
    return interfaces


def without_record(
    found: list[tuple[LiveLink, str]], known: list[Covered]
) -> list[tuple[LiveLink, str]]:
    """Those links of one namespace, each with its master's name, that no record is of. Pure.

    A record is of the link that has its index over its master, under whatever name; where there is
    none such, of the one that has its name.
    """
    indices = {(live.link.ifindex, master) for live, master in found}
    by_index = {(one.ifindex, one.master) for one in known} & indices
    by_name = {one.ifname for one in known if (one.ifindex, one.master) not in by_index}
    return [
        (live, master)
        for live, master in found
        if (live.link.ifindex, master) not in by_index and live.name not in by_name
    ]


def _namespaces(node: Node) -> dict[str, tuple[int, int]]:
    """Path to (device, inode) of every other network namespace, each once; a name before a PID."""
    seen = {netns_id(node.own)}
    others: dict[str, tuple[int, int]] = {}
    for path in (*_names(), *_of_processes()):
        identity = netns_id_at(path)
        if identity is not None and identity not in seen:
            seen.add(identity)
            others[path] = identity
    return others


def _names() -> Iterator[str]:
    for directory in _NAMED_IN:
        try:
            yield from (f"{directory}/{name}" for name in sorted(os.listdir(directory)))
        except OSError:
            continue


def _of_processes() -> Iterable[str]:
    return (f"/proc/{pid}/ns/net" for pid in process_ids())


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
