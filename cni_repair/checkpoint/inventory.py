"""Every attachment that a checkpoint directory remembers, readable or not."""

from __future__ import annotations

from cni_repair.base.errors import BAD_CHECKPOINT, IO, CniError
from cni_repair.base.files import is_there
from cni_repair.base.frozen import frozen
from cni_repair.checkpoint import model
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import Key, Store, is_legacy, tombstone_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.network.model import HostLink


@frozen
class LegacyHints:
    """What the predecessor's records lack, from their network's configuration (see legacy)."""

    parents: tuple[HostLink, ...]
    mode: str = "bridge"
    mtu: int = 0


@frozen
class Entry:
    """One file of the directory: its checkpoint, or why it is not used."""

    file: str
    raw: bytes
    checkpoint: model.Checkpoint | None
    error: CniError | None = None

    @property
    def key(self) -> Key:
        """The attachment's, as far as the file's name tells."""
        if self.checkpoint is not None:
            return self.checkpoint.key
        container_id, _, ifname = self.file.removesuffix(".json").partition("@")
        return Key(container_id, ifname)

    # What many are asked for, and the armed index knows without the record (repair/armed/entries):

    @property
    def network(self) -> str:
        """Empty where it is not known."""
        return self.checkpoint.network if self.checkpoint else ""

    @property
    def attached_at(self) -> int:
        return self.checkpoint.attached_at if self.checkpoint else -1

    @property
    def identity(self) -> Identity | None:
        """Its namespace's, where that is recorded."""
        return self.checkpoint.netns if self.checkpoint else None

    @property
    def about_node(self) -> model.Checkpoint | None:
        """Its checkpoint, where that may say what the node had over its pods' masters."""
        return self.checkpoint


def run_dir_of(entry: Entry, given: str) -> str:
    """Where ADD and DEL of an attachment have their locks; `given` overrides its own record."""
    recorded = entry.checkpoint.netconf.get("runDir") if entry.checkpoint else None
    known = recorded if isinstance(recorded, str) and recorded.startswith("/") else RUN_DIR
    return given or known


def read_all(
    store: Store,
    hints: LegacyHints | None,
    network: str = "",
    known: Mapping[str, Entry] | None = None,
) -> list[Entry]:
    """All attachments, in the order in which they were made (a pod's second interface after its
    first); of one network only, if named. Unreadable files come first, whatever their network.
    Those that a DEL began to take away are left out. What is `known` is not read.
    """
    known = known or {}
    entries = [known.get(name) or _read(store, name, hints) for name in store.committed()]
    wanted = [entry for entry in entries if entry is not None and _is_of(entry, network)]
    return sorted(wanted, key=_order)


def read_one(store: Store, key: Key, hints: LegacyHints | None) -> Entry | None:
    """One attachment; None where there is no checkpoint of it, ours or the predecessor's."""
    ours = _read(store, f"{key.name}.json", hints)
    if ours is not None:
        return ours
    entry = _read(store, key.container_id[:12], hints) if is_legacy(key.container_id[:12]) else None
    # Two containers may share twelve characters.
    return entry if entry and (entry.error or entry.key == key) else None


def read_file(store: Store, name: str, hints: LegacyHints | None = None) -> Entry | None:
    """The attachment in a file of that name; None where it is gone."""
    return _read(store, name, hints)


def reread(store: Store, entry: Entry, hints: LegacyHints | None) -> Entry | None:
    """The same file again, now that its lock is held; None where it is gone."""
    return _read(store, entry.file, hints, entry)


def _read(
    store: Store, name: str, hints: LegacyHints | None, known: Entry | None = None
) -> Entry | None:
    raw = b""
    try:
        raw = store.read(name)
        if known is not None and known.raw == raw:
            entry = known
        else:
            entry = Entry(name, raw, _decode(raw, name, hints))
    except FileNotFoundError:
        return None
    except CniError as error:
        entry = Entry(name, raw, None, error)
    try:
        return None if is_deleted(entry) else entry
    except CniError as error:
        return Entry(name, raw, None, error)


def is_deleted(entry: Entry) -> bool:
    """Whether a DEL came that could not write to the checkpoint directory. Raises CniError (I/O)
    where that cannot be told."""
    run_dir = run_dir_of(entry, "")
    path = tombstone_in(run_dir, entry.key)
    try:
        if not is_there(path):
            return False
    except OSError as error:
        raise CniError(IO, f"cannot look at {path}", error.strerror or str(error)) from error
    from cni_repair.checkpoint import tombstones  # rare

    return tombstones.is_deleted(run_dir, entry.key, entry.raw)


def _decode(raw: bytes, name: str, hints: LegacyHints | None) -> model.Checkpoint:
    if not is_legacy(name):
        return model.decode(raw, name)
    if hints is None:
        raise CniError(
            BAD_CHECKPOINT,
            "its record is of the predecessor's format, which does not name the master",
            "give the network's configuration (REPAIR: on stdin; command line: --conf FILE)"
            f" (file {name})",
        )
    from cni_repair.checkpoint import legacy  # few nodes have any left

    return legacy.decode(raw, name, hints.parents, hints.mode, hints.mtu)


def _is_of(entry: Entry, network: str) -> bool:
    """The predecessor's records name no network; what cannot be read may be of any."""
    return not network or entry.network in ("", network)


def _order(entry: Entry) -> tuple[int, str]:
    return entry.attached_at, entry.file
