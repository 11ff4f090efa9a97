"""Records for attachments that others made: read from what runtimes remember, compared with the
live interface, and committed; the pod itself is not touched.

    remembered ─► candidates ─► (netns identified, interface read) ─► verdict ─► commit
      caches      candidates          sandbox, examine                verdict    here
"""

from __future__ import annotations

from cni_repair.adoption.examine import Examiner
from cni_repair.adoption.verdict import (
    ADOPTABLE,
    ADOPTED,
    FAILED,
    LEFTOVER,
    RECORDED,
    REFUSED,
    REMOVED,
    Adoption,
    without_rivals,
)
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.base.names import OWN_TYPE
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.model import encode_checked
from cni_repair.checkpoint.store import COMMITTED, is_legacy
from cni_repair.netlink.netns import netns_id_at
from cni_repair.node.context import POD_FAILURES, wrapped
from cni_repair.node.discovery import Covered, covered_by, unmanaged
from cni_repair.node.forget import Owners, forget
from cni_repair.uplink.belongings import NodeRecords
from cni_repair.uplink.recorder import NodeRecorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.adoption.candidates import Candidate
    from cni_repair.adoption.examine import Options
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.context import Node
    from cni_repair.node.discovery import Unmanaged


class Adopter:
    """One pass over the node: what its steps share."""

    def __init__(self, node: Node, store: Store | None, options: Options) -> None:
        """`store` is None where there is no checkpoint directory yet."""
        self._node = node
        self._store = store
        self._options = options
        # The predecessor's records are candidates themselves.
        entries = inventory.read_all(store, None) if store else []
        self._entries = [entry for entry in entries if not is_legacy(entry.file)]
        self._alive = {entry.key for entry in self._entries if self._is_alive(entry)}
        recorder = NodeRecorder(node.rtnl, NodeRecords(store, self._entries))
        self._examiner = Examiner(node, store, options, recorder)

    def _is_alive(self, entry: Entry) -> bool:
        identity = entry.checkpoint.netns if entry.checkpoint else None
        return identity is not None and still_stands(identity, self._node.own)

    def examine(self, candidates: list[Candidate]) -> list[Adoption]:
        """What adopting would do; changes nothing."""
        adoptions = [self._examiner.examine(candidate) for candidate in candidates]
        if any(adoption.state == ADOPTABLE and adoption.lost for adoption in adoptions):
            adoptions = _without_renamed(adoptions, self.not_remembered(adoptions))
        living = [
            entry.checkpoint
            for entry in self._entries
            if entry.checkpoint is not None and entry.key in self._alive
        ]
        return [*without_rivals(adoptions, living), *self._leftovers(adoptions)]

    def write(self, candidates: list[Candidate]) -> list[Adoption]:
        """Commit what can be adopted, and forget the leftovers."""
        by_key = {candidate.key: candidate for candidate in candidates}
        examined = self.examine(candidates)
        return [self._write(adoption, by_key.get(adoption.key)) for adoption in examined]

    def covers(self, file: str) -> bool:
        """Whether a cache file is, by its name, of an attachment that has a record."""
        return any(file.endswith(f"-{key.container_id}-{key.ifname}") for key in self._alive)

    def not_remembered(self, adoptions: list[Adoption]) -> list[Unmanaged]:
        """Macvlan interfaces over the node's links that no file tells of."""
        told = [(netns_id_at(one.netns), one.key.ifname) for one in adoptions]
        covered = [Covered(place, ifname) for place, ifname in told if place]
        living = [entry.checkpoint for entry in self._entries if entry.key in self._alive]
        for checkpoint in filter(None, living):
            if place := netns_id_at(checkpoint.netns_path):
                covered.append(covered_by(checkpoint, place))
        return unmanaged(self._node, covered)

    # Committing

    def _write(self, examined: Adoption, candidate: Candidate | None) -> Adoption:
        try:
            if examined.state == LEFTOVER:
                return self._remove(examined)
            if candidate is not None and examined.state == ADOPTABLE:
                return self._commit(examined, candidate)
            if candidate is not None and examined.state == RECORDED:
                self._retire_legacy(candidate)
        except (CniError, OSError) as error:
            return replace(examined, state=FAILED, reason=str(wrapped(error)))
        return examined

    def _commit(self, examined: Adoption, candidate: Candidate) -> Adoption:
        """Commit after a second look under the lock: an ADD or DEL may have come first."""
        assert self._store is not None and examined.checkpoint is not None
        with self._lock(examined.checkpoint):
            now = self._examiner.examine(candidate)
            if now.state == ADOPTABLE and now.checkpoint is not None:
                self._store.commit(candidate.key, encode_checked(now.checkpoint))
                now = replace(now, state=ADOPTED)
                self._retire_legacy(candidate)
            return now

    def _retire_legacy(self, candidate: Candidate) -> None:
        """Remove the predecessor's record: ours has all that it says, and with both the attachment
        would be listed twice."""
        if candidate.legacy_file and self._store is not None:
            self._store.remove_file(candidate.legacy_file)

    def _lock(self, checkpoint: Checkpoint) -> Lock:
        """The lock that ADD, DEL and REPAIR of this attachment take."""
        name = checkpoint.key.name
        entry = inventory.Entry(f"{name}{COMMITTED}", b"", checkpoint)
        return Lock(inventory.run_dir_of(entry, self._options.run_dir), name)

    # Leftovers

    def _leftovers(self, adoptions: list[Adoption]) -> list[Adoption]:
        """Adopted attachments whose pods are gone: their DEL went to the plugin that made them."""
        # DEL removes the cache entry, too. Where that is still there, but not the namespace, we may
        # look from another mount namespace than the runtime's.
        remembered = {adoption.key for adoption in adoptions}
        entries = [
            (entry, checkpoint)
            for entry in self._entries
            if (checkpoint := entry.checkpoint)
            and entry.key not in self._alive | remembered
            and self._options.network in ("", checkpoint.network)
            # The DEL of what cni-repair attached comes to cni-repair.
            and checkpoint.netconf.get("type") != OWN_TYPE
        ]
        owners = Owners(self._node) if entries else None
        directory = self._options.checkpoint_dir
        return [
            _leftover(owners, f"{directory}/{entry.file}", checkpoint)
            for entry, checkpoint in entries
            if owners
        ]

    def _remove(self, leftover: Adoption) -> Adoption:
        assert self._store is not None and leftover.checkpoint is not None
        (entry,) = [one for one in self._entries if one.key == leftover.key]
        forget(self._store, entry, self._options.run_dir, None)
        return replace(leftover, state=REMOVED)


def _leftover(owners: Owners, file: str, checkpoint: Checkpoint) -> Adoption:
    """A leftover, where it is proved that no pod owns the record: that nothing is at its
    namespace's path proves nothing."""
    state, reason = LEFTOVER, "its pod is gone, and its DEL did not come to cni-repair"
    try:
        owners.proof_of_none(checkpoint)
    except POD_FAILURES as error:
        state, reason = RECORDED, f"no cache entry names it; {wrapped(error)}"
    return Adoption(
        key=checkpoint.key,
        file=file,
        state=state,
        netns=checkpoint.netns_path,
        network=checkpoint.network,
        pod=checkpoint.pod,
        reason=reason,
        checkpoint=checkpoint,
    )


def _without_renamed(adoptions: list[Adoption], strays: list[Unmanaged]) -> list[Adoption]:
    """Refuse lost interfaces whose namespace has one over the same master that nobody remembers: a
    pod may have renamed it, and a repair would make a second one."""
    names = {(netns_id_at(stray.netns), stray.master): stray.ifname for stray in strays}
    judged = []
    for adoption in adoptions:
        if adoption.state == ADOPTABLE and adoption.checkpoint is not None and adoption.lost:
            master, name = adoption.checkpoint.attachment.parents[0].name, adoption.key.ifname
            if stray := names.get((netns_id_at(adoption.netns), master)):
                reason = (
                    f"there is no {name}, but {stray} over {master}, which nobody remembers:"
                    f" renamed inside the pod? Name it {name} again, or have the pod made anew"
                )
                adoption = replace(adoption, state=REFUSED, reason=reason, checkpoint=None)
        judged.append(adoption)
    return judged
