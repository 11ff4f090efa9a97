"""Pods that nobody remembers: interfaces over the node's links, without a checkpoint.

What stands on the uplink is what goes with it. Every network namespace of the node is asked, not a
runtime: pods of any runtime count, and those that were attached before cni-repair came.
"""

from __future__ import annotations

import os
import re

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.strictjson import load_object
from cni_repair.checkpoint.identity import process_of
from cni_repair.checkpoint.store import COMMITTED
from cni_repair.netlink.netns import (
    entered,
    netns_id,
    netns_id_at,
    netns_id_if_seen,
    open_netns,
)
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.links import chain_from, links_like_pods
from cni_repair.network.observe import netnsid_in, netnsid_request
from cni_repair.network.planning.plan import LOST, STALE
from cni_repair.node.namespaces import namespaces
from cni_repair.node.report import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Key, Store
    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.node.context import Node
    from cni_repair.node.namespaces import NetnsId
    from cni_repair.node.report import Report

MAX_LINKS = 1024  # of a pod: a hostile one may have any number
ATTACHED = "attached"
# The namespace in the text of a record, of which the rest may be damaged.
_NETNS_OBJECT = re.compile(rb'"netns":(\{[^{}]*\})')


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
    """A pod's interface that would be lost with the uplink, or is, and that no record knows."""

    netns: str
    ifname: str
    master: str  # empty: not known
    kind: str = "macvlan"
    state: str = ATTACHED  # or LOST
    # What its runtime remembers of it; empty where none does.
    container_id: str = ""
    pod: str = ""
    owner: str = ""  # "docker": of a network of docker's own, whose containers are no pods

    def __str__(self) -> str:
        who = f"{self.pod} " if self.pod else ""
        over = f"{self.kind} over {self.master}" if self.master else self.kind
        gone = ", gone" if self.state == LOST else ""
        return f"{who}{self.netns} {self.ifname} ({over}{gone})"

    @property
    def counts(self) -> bool:
        """Whether it is a pod's, as far as can be told."""
        return not self.owner

    def document(self) -> dict[str, Any]:
        """As every command prints it with `-o json`."""
        return {
            "netns": self.netns,
            "ifname": self.ifname,
            "master": self.master,
            "kind": self.kind,
            "state": self.state,
            "containerID": self.container_id,
            "pod": self.pod,
            "owner": self.owner,
        }


def unmanaged(node: Node, covered: Iterable[Covered]) -> list[Unmanaged]:
    """All such interfaces over the node's links but those in `covered`; changes nothing."""
    interfaces: list[Unmanaged] = []
    known: dict[tuple[int, int], list[Covered]] = {}
    for one in covered:
        known.setdefault(one.netns, []).append(one)
    for path, identity in _namespaces(node):
        try:
            found = [(live, _name_of(node, live.master)) for live in _children(node, path)]
            interfaces += [
                Unmanaged(path, live.name, master, live.link.kind)
                for live, master in without_record(found, known.get(identity, []))
            ]
        except (CniError, OSError):
            continue  # it went away while it was looked at, or answers nobody
    return interfaces


def covered(store: Store | None, reports: Iterable[Report]) -> list[Covered]:
    """Where the attachments are that have a record. A record that cannot be used counts: it is
    told as such, and its interface would be counted twice. A stale one does not: its namespace's
    inode may be another pod's by now."""
    places = []
    for report in reports:
        identity = _identity_of(store, report) if report.state != STALE else None
        if identity is None:
            continue
        checkpoint = report.checkpoint
        named = Covered(identity, report.key.ifname)
        places.append(covered_by(checkpoint, identity) if checkpoint else named)
    return places


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


def _identity_of(store: Store | None, report: Report) -> NetnsId | None:
    checkpoint = report.checkpoint
    if checkpoint is None:
        return _of_unreadable(store, report.key) or _of_sandbox(report.key.container_id)
    if checkpoint.netns is not None:
        return checkpoint.netns.netns_id
    return netns_id_at(checkpoint.netns_path)  # the predecessor's records know a path only


def _of_unreadable(store: Store | None, key: Key) -> NetnsId | None:
    """What a damaged record still says of its namespace: nothing is done by it but counting."""
    try:
        found = _NETNS_OBJECT.search(store.read(f"{key.name}{COMMITTED}")) if store else None
        known = load_object(found[1], key.name) if found else {}
    except (OSError, CniError):
        return None
    dev, ino = known.get("dev"), known.get("ino")
    return (dev, ino) if type(dev) is int and type(ino) is int else None


def _of_sandbox(container_id: str) -> NetnsId | None:
    """The namespace of a process whose cgroup names the sandbox."""
    pid = process_of(container_id)
    return netns_id_if_seen(f"/proc/{pid}/ns/net") if pid else None


def counted_twice(reports: Iterable[Report], found: Iterable[Unmanaged]) -> int:
    """How many of what was `found` may be those of unreadable records that name no namespace: no
    more than there are of one name."""
    torn = [report.key.ifname for report in reports if report.state == UNREADABLE]
    bare = [one.ifname for one in found]
    return sum(min(torn.count(name), bare.count(name)) for name in {*torn})


def _namespaces(node: Node) -> list[tuple[str, NetnsId]]:
    """Path, device and inode of every network namespace but the node's own."""
    own = netns_id(node.own)
    return sorted((path, one) for one, path in namespaces(skip_hidden=True).items() if one != own)


def _children(node: Node, path: str) -> list[LiveLink]:
    """The interfaces over the node's links in one namespace, of the kinds that REPAIR makes."""
    netns = open_netns(path)
    try:
        with entered(netns, node.own), Rtnetlink() as rtnl:
            links = links_like_pods(rtnl, MAX_LINKS)
            # Asked after the dump, which gives the id where a link needs it.
            netnsid = netnsid_in(rtnl.get([netnsid_request(node.own)])[0])
    finally:
        os.close(netns)
    over_node = [one for one in links if one.is_over(netnsid)]
    return sorted(over_node, key=lambda one: one.link.ifindex)


def _name_of(node: Node, ifindex: int) -> str:
    chain = chain_from(node.rtnl, ifindex)
    return chain[0].name if chain else f"link {ifindex}"
