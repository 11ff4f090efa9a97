"""`forget`: records that no pod owns are removed, each with the proof of that.

That a namespace's path is gone proves little: a PID may have ended and left its namespace to
others, and a runtime may have mounts that this process does not see. So every process and every
mount is asked. What cannot be told is refused.
"""

from __future__ import annotations

import os

from cni_repair.base.errors import STALE, TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import bare_id, short_id
from cni_repair.base.procfs import boot_id, cgroups_of, process_ids
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import is_legacy
from cni_repair.netlink.netns import cookie_inside, netns_id_at, open_netns
from cni_repair.node.context import POD_FAILURES, wrapped
from cni_repair.node.detach import remove_temporary_link
from cni_repair.node.leases import reserved_by
from cni_repair.node.namespaces import (
    OUT_OF_SIGHT,
    RUN_ON_THE_NODE,
    mounted_namespaces,
    namespaces,
    sees_the_node,
)
from cni_repair.node.report import DOCUMENT_VERSION, attachment_document, error_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.inventory import Entry, LegacyHints
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.context import Node
    from cni_repair.node.report import Report

FORGOTTEN, FORGETTABLE, KEPT = "forgotten", "forgettable", "kept"


class StillOwned(CniError):
    """A pod owns the record, or nobody can tell."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(STALE, why, remedy)


@frozen
class Forgotten:
    """What became of one record."""

    report: Report
    outcome: str  # FORGOTTEN, FORGETTABLE (a dry run's), or KEPT
    proof: str = ""  # why no pod owns it
    error: CniError | None = None  # why it was kept
    reserved: tuple[str, ...] = ()  # files by which host-local reserves its addresses

    @property
    def reason(self) -> str:
        return str(self.error) if self.error else self.proof

    def document(self) -> dict[str, Any]:
        report = self.report
        return {
            **attachment_document(report.key, report.checkpoint, report.netns, report.state),
            "outcome": self.outcome,
            "proof": self.proof,
            "reserved": list(self.reserved),
            **error_document(self.error),
        }


def document(forgotten: list[Forgotten], dry_run: bool) -> dict[str, Any]:
    """The whole answer of `forget -o json`."""
    outcomes = (FORGOTTEN, FORGETTABLE, KEPT)
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "dryRun": dry_run,
        "attachments": [one.document() for one in forgotten],
        "summary": {
            "attachments": len(forgotten),
            **{name: sum(one.outcome == name for one in forgotten) for name in outcomes},
        },
    }


def examine(node: Node, reports: list[Report]) -> list[Forgotten]:
    """Which of the records no pod owns, and why that is certain; changes nothing."""
    owners = Owners(node)
    return [_examined(owners, report) for report in reports]


def _examined(owners: Owners, report: Report) -> Forgotten:
    if report.checkpoint is None:
        unknown = StillOwned(f"it cannot be told whose it is: {report.reason}")
        return Forgotten(report, KEPT, error=unknown)
    try:
        proof = owners.proof_of_none(report.checkpoint)
    except POD_FAILURES as error:
        return Forgotten(report, KEPT, error=wrapped(error))
    return Forgotten(report, FORGETTABLE, proof, reserved=reserved_by(report.checkpoint))


def forget(store: Store, entry: Entry, run_dir: str, hints: LegacyHints | None) -> None:
    """Remove a record; raises CniError where it is another by now.

    (A namespace that is gone never comes back, so the proof needs no second look; but an ADD may
    have written the record anew.)
    """
    with Lock(inventory.run_dir_of(entry, run_dir), entry.key.name) as lock:
        fresh = inventory.reread(store, entry, hints)
        if fresh is None:
            lock.forget()
            return  # its DEL came first
        if fresh.raw != entry.raw:
            raise CniError(TRY_AGAIN, "its record was changed meanwhile", "call again")
        if lock.is_unfinished:
            remove_temporary_link(lock, entry.key, "")  # no pod has it
        if is_legacy(entry.file):
            store.remove_file(entry.file)
        else:
            store.tombstone(entry.key)
            store.remove(entry.key)
        lock.forget()


class Owners:
    """Every process and every mount of the node that this process can see."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._namespaces = namespaces()
        self._mounted = mounted_namespaces()
        self._sees_the_node = sees_the_node()

    def proof_of_none(self, checkpoint: Checkpoint) -> str:
        """Why no pod owns the record. Raises StillOwned where one does, or may."""
        identity = checkpoint.netns
        if identity is None:
            return self._no_process_of(checkpoint.key.container_id)
        if identity.boot_id != boot_id():
            return "the node was rebooted since: no namespace outlives that"
        path = self._namespaces.get(identity.netns_id) or self._mounted.get(identity.netns_id)
        if path is not None:
            return self._is_another(identity, path)
        self._check_sight()
        return f"no process and no mount holds its namespace net:[{identity.ino}]"

    def _is_another(self, identity: Identity, path: str) -> str:
        if netns_id_at(path) != identity.netns_id:
            # A pod decides what is in its mounts, and to open some files does something.
            raise StillOwned(f"net:[{identity.ino}] was at {path}, and is not there any more")
        netns = open_netns(path)
        try:
            cookie = cookie_inside(netns, self._node.own)
        finally:
            os.close(netns)
        if cookie is None or identity.cookie is None:
            raise StillOwned(
                f"it cannot be told whether net:[{identity.ino}], which is at {path}, is its pod's",
                "no cookie is known of it (kernel before 5.14)",
            )
        if cookie == identity.cookie:
            raise StillOwned(f"its pod lives: its namespace net:[{identity.ino}] is at {path}")
        return f"net:[{identity.ino}] is another namespace by now (at {path}, by its cookie)"

    def _no_process_of(self, sandbox: str) -> str:
        """The predecessor's records know a namespace by its sandbox's cgroup alone."""
        self._check_sight()
        for pid in process_ids():
            # (A part of a longer name counts, too: what may be alive is kept.)
            if bare_id(sandbox) in cgroups_of(pid):
                raise StillOwned(f"its pod lives: the cgroup of PID {pid} names sandbox {sandbox}")
        return f"no process's cgroup names its sandbox {short_id(sandbox)}"

    def _check_sight(self) -> None:
        """Refuse to conclude anything in a container that does not see the node's processes."""
        if not self._sees_the_node:
            raise StillOwned(
                f"it cannot be told whether its pod lives: {OUT_OF_SIGHT}", RUN_ON_THE_NODE
            )
