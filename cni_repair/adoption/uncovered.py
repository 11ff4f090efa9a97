"""What no record speaks of: pods' interfaces that are there, and those that are lost and that only
a runtime remembers. For `status`, `verify` and `snapshot`, which count records otherwise: a pod
without one would be in no report once it is lost.
"""

from __future__ import annotations

import os

from cni_repair.adoption.caches import CACHE_DIRS, read_caches
from cni_repair.adoption.candidates import META_PLUGINS, candidates
from cni_repair.adoption.sandbox import open_sandbox
from cni_repair.adoption.verdict import REFUSED, NotAdopted
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.procfs import cgroups_of, process_ids
from cni_repair.checkpoint.store import COMMITTED, Store
from cni_repair.netlink.netns import entered, netns_id_at, netns_id_if_seen
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.links import names_of_links
from cni_repair.network.model import KINDS
from cni_repair.network.planning.plan import LOST, STALE
from cni_repair.node.capture import pod_of
from cni_repair.node.context import POD_FAILURES
from cni_repair.node.discovery import MAX_LINKS, Unmanaged
from cni_repair.node.namespaces import DOCKERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    _Place: TypeAlias = tuple[tuple[int, int] | None, str]  # of the namespace; the ifname

    from cni_repair.adoption.candidates import Candidate
    from cni_repair.checkpoint.store import Key
    from cni_repair.node.context import Node
    from cni_repair.node.report import Report

_DOCKER = "docker"
_LOOPBACK = {"lo"}


@frozen
class Uncovered:
    """The interfaces of pods that have no record in the directory that was asked about."""

    unmanaged: tuple[Unmanaged, ...] = ()
    elsewhere: tuple[str, ...] = ()  # the directories in which others have theirs

    @property
    def failed(self) -> bool:
        """Whether there is something that a record is missing of (docker's own are no pods)."""
        return any(one.counts for one in self.unmanaged)

    def added_to(self, document: dict[str, Any]) -> dict[str, Any]:
        """A command's document, with them in it."""
        summary = {**document["summary"], "unmanaged": len(self.unmanaged)}
        unmanaged = [one.document() for one in self.unmanaged]
        rest = {key: value for key, value in document.items() if key != "summary"}
        return {**rest, "unmanaged": unmanaged, "summary": summary}


def uncovered(
    node: Node,
    attached: Sequence[Unmanaged],
    reports: Iterable[Report],
    directory_of: Callable[[dict[str, Any]], str],
    cache_dirs: Sequence[str] = CACHE_DIRS,
) -> Uncovered:
    """Put together what is `attached` without a record, and what the runtimes remember.

    `reports` are of the records that there are; `directory_of` tells where the records of what
    cni-repair attached with a configuration are.
    """
    known = {report.key for report in reports if report.state != STALE}
    remembered = {
        place: one
        for one in candidates(read_caches(cache_dirs)[0])
        if (place := _place(one.netns, one.key.ifname))[0]  # else nothing can be said of the pod
    }
    places = [_place(one.netns, one.ifname) for one in attached]
    found: list[Unmanaged] = []
    elsewhere: set[str] = set()
    # (One that the pod itself has renamed is there.)
    renamed = {netns for netns, ifname in places if (netns, ifname) not in remembered}
    lost = [one for place, one in remembered.items() if place[0] not in renamed]
    for one in (*attached, *_lost(node, lost, known)):
        candidate = remembered.get(_place(one.netns, one.ifname))
        if candidate is not None and candidate.key in known:
            continue  # its record is unreadable, and counted as that
        directory = _recorded_in(candidate, directory_of) if candidate else ""
        if directory:
            elsewhere.add(directory)
            continue
        found.append(_named(one, candidate))
    return Uncovered(tuple(found), tuple(sorted(elsewhere)))


def _place(netns: str, ifname: str) -> _Place:
    """Where an interface is, whatever path to its namespace is known."""
    return netns_id_at(netns) if netns else None, ifname


def _named(one: Unmanaged, candidate: Candidate | None) -> Unmanaged:
    """With what its runtime knows of it."""
    if candidate is not None:
        pod = str(pod_of(candidate.args))
        return replace(one, container_id=candidate.key.container_id, pod=pod)
    if one.netns.startswith(f"{DOCKERS}/") and not _is_kubernetes(one.netns):
        return replace(one, owner=_DOCKER)
    return one


def _is_kubernetes(path: str) -> bool:
    """Whether a process of a pod is in the namespace: dockershim's sandboxes are docker's, too."""
    wanted = netns_id_at(path)
    return any(
        netns_id_if_seen(f"/proc/{pid}/ns/net") == wanted and "kubepods" in cgroups_of(pid)
        for pid in process_ids()
    )


def _recorded_in(candidate: Candidate, directory_of: Callable[[dict[str, Any]], str]) -> str:
    """Another directory that has its record; empty where there is none."""
    if candidate.kind != OWN_TYPE or candidate.plugin is None:
        return ""
    directory = directory_of(candidate.plugin)
    if not directory:
        return ""
    try:
        with Store(directory) as store:
            return directory if store.phase(candidate.key) == COMMITTED else ""
    except (CniError, OSError):
        return ""


# --- Lost ---


def _lost(node: Node, remembered: Iterable[Candidate], known: set[Key]) -> list[Unmanaged]:
    """The interfaces that a runtime remembers, that are gone, and that have no record."""
    found = []
    for candidate in remembered:
        if candidate.key not in known and _may_be_ours(candidate):
            try:
                names = _links_in(node, candidate)
            except POD_FAILURES:
                continue  # its namespace is gone, or another's: nothing can be said of the pod
            # (Of what another plugin may have made, only a pod without any network is told.)
            if candidate.key.ifname not in names and (candidate.kind or names <= _LOOPBACK):
                found.append(_lost_one(candidate))
    return found


def _may_be_ours(candidate: Candidate) -> bool:
    return candidate.kind in (*KINDS, OWN_TYPE, *META_PLUGINS, "")


def _links_in(node: Node, candidate: Candidate) -> set[str]:
    sandbox = open_sandbox(candidate, node.own)
    try:
        if sandbox.doubt:
            raise NotAdopted(REFUSED, sandbox.doubt)
        with entered(sandbox.netns, node.own), Rtnetlink() as rtnl:
            return names_of_links(rtnl, MAX_LINKS)
    finally:
        os.close(sandbox.netns)


def _lost_one(candidate: Candidate) -> Unmanaged:
    plugin = candidate.plugin or {}
    master = plugin.get("master")
    kind = candidate.kind if candidate.kind in KINDS else "macvlan"
    first = master[0] if isinstance(master, list) and master else master
    return Unmanaged(
        candidate.netns,
        candidate.key.ifname,
        first if isinstance(first, str) else "",
        kind,
        state=LOST,
    )
