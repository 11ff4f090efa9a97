"""What the node had of its own over its pods' masters, as the pods' checkpoints remember it."""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint import model
from cni_repair.checkpoint.store import is_legacy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import HostLink, NodeLink, NodeLinks

    Names = tuple[str, ...]  # of the links of a chain, the pods' master first: it is known by them
    Taken = tuple[tuple[HostLink, ...], NodeLinks]  # what the node had over a chain

_KEY = b'"nodeLinks"'  # a document without it need not be decoded


class NodeRecords:
    """The node's side of all checkpoints of a directory, whichever pods a command is about."""

    def __init__(self, store: Store | None, entries: Iterable[Entry]) -> None:
        """`entries`: those of the store that were read already."""
        self._store = store
        self._known = {entry.file: entry for entry in entries}
        self._by_file: dict[str, Taken] | None = None
        # Thousands of pods ask for the same few chains, and each answer takes all records.
        self._newest: dict[tuple[HostLink, ...], tuple[NodeLink, ...]] = {}

    def of(self, chain: tuple[HostLink, ...]) -> tuple[NodeLink, ...]:
        """What the node had on the links of a chain, by the newest checkpoints that know."""
        if chain not in self._newest:
            self._newest[chain] = _newest(chain, self._all())
        return self._newest[chain]

    def committed(self, checkpoint: model.Checkpoint) -> None:
        """Take notice of a checkpoint that was just written."""
        if checkpoint.node_links is not None:
            taken = checkpoint.attachment.parents, checkpoint.node_links
            self._all()[f"{checkpoint.key.name}.json"] = taken
            self._newest.clear()

    def _all(self) -> dict[str, Taken]:
        if self._by_file is None:
            self._by_file = _read_all(self._store, self._known) if self._store else {}
        return self._by_file


def _newest(chain: tuple[HostLink, ...], records: dict[str, Taken]) -> tuple[NodeLink, ...]:
    if not records:
        return ()
    from cni_repair.uplink.plan_belongings import newest  # ADD's records say nothing of the node

    return newest(chain, records.values())


def names_of(chain: tuple[HostLink, ...]) -> Names:
    return tuple(link.name for link in chain)


def _read_all(store: Store, known: dict[str, Entry]) -> dict[str, Taken]:
    """What the checkpoints say, by their files. (One of an earlier boot says nothing: since then
    the node's links were configured anew.)"""
    by_file = {}
    this_boot = boot_id()
    for file in store.committed():
        checkpoint = known[file].about_node if file in known else _read(store, file)
        if checkpoint is None or checkpoint.node_links is None or checkpoint.netns is None:
            continue
        if checkpoint.netns.boot_id == this_boot:
            by_file[file] = checkpoint.attachment.parents, checkpoint.node_links
    return by_file


def _read(store: Store, file: str) -> model.Checkpoint | None:
    """A checkpoint that speaks of the node's links, if it can be read: else its own attachment's
    report says so."""
    if is_legacy(file):
        return None
    try:
        raw = store.read(file)
        return model.decode(raw, file) if _KEY in raw else None
    except (FileNotFoundError, CniError):
        return None
