"""What adopting would come to: what runtimes remember, compared with the live interfaces.

remembered ─► candidates ─► (netns identified, interface read) ─► verdict
"""

from __future__ import annotations

import os

from cni_repair.adoption.candidates import (
    FAILED,
    GONE,
    HAS_CHECKPOINT,
    LEFT_ALONE,
    LEFTOVER,
    MACVLAN,
    OWN_TYPE,
    REFUSED,
    WOULD_ADOPT,
    Candidate,
    Configured,
    NotAdopted,
    check_was_ours,
    live_attachment,
    lost_attachment,
    result_of,
)
from cni_repair.adoption.sandbox import open_sandbox
from cni_repair.base.frozen import frozen, replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.checkpoint.model import Checkpoint, Pod, encode_checked
from cni_repair.checkpoint.store import COMMITTED, DELETING, Key, is_legacy
from cni_repair.netlink.netns import NoNetns, identity_of
from cni_repair.network.surroundings import with_all
from cni_repair.node.capture import OpenNetns, kept, pod_of, see
from cni_repair.node.context import POD_FAILURES, wrapped
from cni_repair.node.discovery import unmanaged
from cni_repair.uplink.belongings import NodeRecords
from cni_repair.uplink.recorder import NodeRecorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import Attachment
    from cni_repair.node.capture import Seen
    from cni_repair.node.context import Node
    from cni_repair.node.discovery import Unmanaged


@frozen
class AdoptOptions:
    """How adopting is to be done."""

    checkpoint_dir: str
    run_dir: str  # of the locks; empty: as each attachment's own configuration has it
    network: str  # only attachments of this one; empty: all
    settings: dict[str, Any]  # the keys of ours that a checkpoint's configuration is to hold
    # Reads a plugin's configuration (or, without one, the command's); CniError where it is wrong.
    configured: Callable[[dict[str, Any] | None], Configured]


@frozen
class Adoption:
    """What becomes of one attachment."""

    key: Key
    file: str
    state: str
    netns: str
    network: str
    pod: Pod
    reason: str = ""  # why it is not adopted
    unknown: tuple[str, ...] = ()  # what could not be learnt of it
    checkpoint: Checkpoint | None = None

    @property
    def failed(self) -> bool:
        return self.state in (REFUSED, FAILED)

    @property
    def lost(self) -> bool:
        """Whether the record was made without the interface, which is gone."""
        return self.checkpoint is not None and not self.checkpoint.attachment.link.ifindex


class Examiner:
    """One look at the node: what adopting would come to; changes nothing."""

    def __init__(self, node: Node, store: Store | None, options: AdoptOptions) -> None:
        """`store` None: there is no checkpoint directory yet."""
        self._node = node
        self._store = store
        self._options = options
        # The seed's checkpoints among them are candidates themselves.
        entries = inventory.read_all(store, None) if store else []
        self._entries = [entry for entry in entries if not is_legacy(entry.file)]
        self._alive = {entry.key for entry in self._entries if self._is_alive(entry)}
        self._recorder = NodeRecorder(node.rtnl, NodeRecords(store, self._entries))

    def _is_alive(self, entry: Entry) -> bool:
        identity = entry.checkpoint.netns if entry.checkpoint else None
        return identity is not None and still_stands(identity, self._node.own)

    def examine(self, candidates: list[Candidate]) -> list[Adoption]:
        """The verdict on each candidate, and the records that are left over."""
        seen = [self.examine_one(candidate) for candidate in candidates]
        living = [
            entry.checkpoint
            for entry in self._entries
            if entry.checkpoint is not None and entry.key in self._alive
        ]
        return [*without_rivals(seen, living), *self._leftovers(seen)]

    def covers(self, file: str) -> bool:
        """Whether a cache file is of an attachment that has its checkpoint, by the file's name."""
        return any(file.endswith(f"-{key.container_id}-{key.ifname}") for key in self._alive)

    def nobody_remembers(self, adoptions: list[Adoption]) -> list[Unmanaged]:
        """Macvlan interfaces over the node's links that no file speaks of."""
        known = [(adoption.netns, adoption.key.ifname) for adoption in adoptions]
        for entry in self._entries:
            if entry.checkpoint is not None and entry.key in self._alive:
                known.append((entry.checkpoint.netns_path, entry.key.ifname))
        places = [(_identity_of(path), ifname) for path, ifname in known]
        return unmanaged(self._node, {(*place, ifname) for place, ifname in places if place})

    # One candidate

    def examine_one(self, candidate: Candidate) -> Adoption:
        pod = pod_of(candidate.args)
        verdict = Adoption(
            candidate.key, candidate.file, WOULD_ADOPT, candidate.netns, candidate.network, pod
        )
        try:
            known = self._known(candidate)
            if known is not None:
                return replace(verdict, state=HAS_CHECKPOINT, checkpoint=known)
            checkpoint, unknown = self._checkpoint(candidate, pod)
            encode_checked(checkpoint)
        except NotAdopted as error:
            return replace(verdict, state=error.state, reason=str(error))
        except NoNetns as error:
            return replace(verdict, state=GONE, reason=str(error))
        except POD_FAILURES as error:
            return replace(verdict, state=REFUSED, reason=str(wrapped(error)))
        return replace(verdict, unknown=unknown, checkpoint=checkpoint)

    def _known(self, candidate: Candidate) -> Checkpoint | None:
        """The checkpoint that there is already. One of an earlier life of the same container does
        not count: its namespace is gone."""
        key = candidate.key
        phase = self._store.phase(key) if self._store else None
        if phase is None or self._store is None:
            return None
        if phase == DELETING:
            raise NotAdopted(LEFT_ALONE, "it is being deleted")
        entry = inventory.read_one(self._store, key, None) if phase == COMMITTED else None
        if entry is None:
            raise NotAdopted(REFUSED, "an ADD of it has not ended, or was killed", "call again")
        if entry.checkpoint is None or entry.checkpoint.netns is None:
            raise NotAdopted(
                REFUSED,
                f"{self._store.directory}/{entry.file} cannot be used: {entry.error}",
                "move it away, and adopt again",
            )
        alive = still_stands(entry.checkpoint.netns, self._node.own)
        return entry.checkpoint if alive else None

    def _checkpoint(self, candidate: Candidate, pod: Pod) -> tuple[Checkpoint, tuple[str, ...]]:
        netconf = {"name": candidate.network, **kept(candidate.plugin or {})}
        netconf.update(self._options.settings)
        if not candidate.network:
            raise NotAdopted(
                REFUSED,
                f"{candidate.file} does not name its network",
                "give the network's configuration: --conf FILE",
            )
        delegate = candidate.kind or MACVLAN
        if candidate.kind == OWN_TYPE:
            delegate = self._own(candidate).delegate
        seen = self._see(candidate)
        attachment, unknown = self._attachment(
            candidate, seen, netconf.get("followRenamedMaster") is True
        )
        if not pod.name:
            unknown = (*unknown, "the pod's name")
        checkpoint = Checkpoint(
            key=candidate.key,
            network=candidate.network,
            pod=pod,
            attached_at=candidate.written_at,
            netns=seen.identity,
            netns_path=candidate.netns,
            delegate=delegate,
            netconf=netconf,
            result=candidate.result or result_of(attachment, candidate.netns),
            attachment=attachment,
        )
        live = seen.observed.link
        return self._recorder.noted(checkpoint, live.master) if live else checkpoint, unknown

    def _own(self, candidate: Candidate) -> Configured:
        """What our own configuration says. (Its checkpoint was lost, or is elsewhere.)"""
        configured = self._options.configured(candidate.plugin)
        if configured.checkpoint_dir != self._options.checkpoint_dir:
            raise NotAdopted(
                LEFT_ALONE,
                f"its checkpoints live in {configured.checkpoint_dir}",
                f"--checkpoint-dir {configured.checkpoint_dir}",
            )
        return configured

    def _see(self, candidate: Candidate) -> Seen:
        netns = open_sandbox(candidate, self._node.own)
        try:
            name, node = candidate.key.ifname, self._node
            pod = OpenNetns(candidate.netns, netns)
            return see(name, pod, node.own, node.rtnl, with_all)
        finally:
            os.close(netns)

    def _attachment(
        self, candidate: Candidate, seen: Seen, follow_renamed: bool
    ) -> tuple[Attachment, tuple[str, ...]]:
        if seen.observed.link is not None:
            return live_attachment(candidate, seen, seen.observed.link, follow_renamed)
        check_was_ours(candidate)
        if not os.path.exists(candidate.file):
            raise NotAdopted(GONE, f"{candidate.file} is gone: it was deleted meanwhile")
        configured = self._options.configured(candidate.plugin)
        return lost_attachment(candidate, configured, follow_renamed)

    # Leftovers

    def _leftovers(self, adoptions: list[Adoption]) -> list[Adoption]:
        """Adopted attachments whose pods are gone: their DEL went to the plugin that made them."""
        # With its DEL its cache entry would have gone: who sees the entry, but not the namespace,
        # may look from another mount namespace.
        taken = {adoption.key for adoption in adoptions}
        return [
            Adoption(
                key=entry.key,
                file=f"{self._options.checkpoint_dir}/{entry.file}",
                state=LEFTOVER,
                netns=checkpoint.netns_path,
                network=checkpoint.network,
                pod=checkpoint.pod,
                reason="its pod is gone, and its DEL did not come to cni-repair",
                checkpoint=checkpoint,
            )
            for entry in self._entries
            if (checkpoint := entry.checkpoint)
            and entry.key not in self._alive | taken
            and self._options.network in ("", checkpoint.network)
            # DEL of what we attached ourselves comes to us.
            and checkpoint.netconf.get("type") != OWN_TYPE
        ]


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        return identity_of(path)
    except (OSError, ValueError):
        return None


def without_rivals(adoptions: list[Adoption], living: list[Checkpoint]) -> list[Adoption]:
    """Refuse interfaces that two attachments claim: one of them is of a pod that is gone.

    `living`: the checkpoints of pods that are there.
    """
    claims: dict[object, set[Key]] = {}
    for checkpoint in [*living, *(adoption.checkpoint for adoption in adoptions)]:
        if checkpoint is not None and checkpoint.netns is not None:
            place = _place(checkpoint.key, checkpoint.netns)
            claims.setdefault(place, set()).add(checkpoint.key)
    return [_unless_claimed(adoption, claims) for adoption in adoptions]


def _place(key: Key, identity: Identity) -> object:
    return identity.boot_id, identity.dev, identity.ino, identity.cookie, key.ifname


def _unless_claimed(adoption: Adoption, claims: dict[object, set[Key]]) -> Adoption:
    if (
        adoption.state != WOULD_ADOPT
        or adoption.checkpoint is None
        or adoption.checkpoint.netns is None
    ):
        return adoption
    others = claims[_place(adoption.key, adoption.checkpoint.netns)] - {adoption.key}
    if not others:
        return adoption
    whose = ", ".join(sorted(key.container_id for key in others))
    reason = f"{adoption.key.ifname} in {adoption.netns} is claimed by container {whose}, too"
    return replace(adoption, state=REFUSED, reason=reason, checkpoint=None)
