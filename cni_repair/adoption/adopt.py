"""Checkpoints for attachments that others made: committed without a touch to the pod."""

from __future__ import annotations

from cni_repair.adoption.candidates import (
    ADOPTED,
    FAILED,
    HAS_CHECKPOINT,
    LEFTOVER,
    REMOVED,
    WOULD_ADOPT,
)
from cni_repair.base.errors import TRY_AGAIN, CniError
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.model import encode_checked
from cni_repair.checkpoint.store import COMMITTED
from cni_repair.node.context import wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.adoption.candidates import Candidate
    from cni_repair.adoption.examine import Adoption, AdoptOptions, Examiner
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store


class Adopter:
    """One pass over the node: commits what can be adopted, and forgets what was left over."""

    def __init__(self, examiner: Examiner, store: Store, options: AdoptOptions) -> None:
        self._examiner = examiner
        self._store = store
        self._options = options

    def write(self, candidates: list[Candidate]) -> list[Adoption]:
        """What became of each candidate, and of the records that were left over."""
        by_key = {candidate.key: candidate for candidate in candidates}
        examined = self._examiner.examine(candidates)
        return [self._write(adoption, by_key.get(adoption.key)) for adoption in examined]

    def _write(self, seen: Adoption, candidate: Candidate | None) -> Adoption:
        try:
            if seen.state == LEFTOVER:
                return self._remove(seen)
            if candidate is not None and seen.state == WOULD_ADOPT:
                return self._commit(seen, candidate)
            if candidate is not None and seen.state == HAS_CHECKPOINT:
                self._retire_seed(candidate)
        except (CniError, OSError) as error:
            return replace(seen, state=FAILED, reason=str(wrapped(error)))
        return seen

    def _commit(self, seen: Adoption, candidate: Candidate) -> Adoption:
        """Look again under the lock: an ADD or DEL of ours may have been quicker."""
        assert seen.checkpoint is not None
        with self._lock(seen.checkpoint):
            now = self._examiner.examine_one(candidate)
            if now.state == WOULD_ADOPT and now.checkpoint is not None:
                self._store.commit(candidate.key, encode_checked(now.checkpoint))
                now = replace(now, state=ADOPTED)
                self._retire_seed(candidate)
            return now

    def _retire_seed(self, candidate: Candidate) -> None:
        """All that the seed's checkpoint says stands in ours by now; with both there, the
        attachment would be listed twice."""
        if candidate.seed:
            self._store.remove_seed(candidate.seed)

    def _lock(self, checkpoint: Checkpoint) -> Lock:
        """The lock that ADD, DEL and REPAIR of this attachment take."""
        name = checkpoint.key.name
        entry = inventory.Entry(f"{name}{COMMITTED}", b"", checkpoint)
        return Lock(inventory.run_dir_of(entry, self._options.run_dir), name)

    def _remove(self, seen: Adoption) -> Adoption:
        assert seen.checkpoint is not None
        with self._lock(seen.checkpoint) as lock:
            entry = inventory.read_one(self._store, seen.key, None)
            if entry is not None and entry.checkpoint != seen.checkpoint:
                raise CniError(TRY_AGAIN, "its record was changed meanwhile", "call again")
            self._store.tombstone(seen.key)
            self._store.remove(seen.key)
            lock.forget()
        return replace(seen, state=REMOVED)
