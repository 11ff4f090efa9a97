"""The file of the armed index: written, and read back (see index)."""

from __future__ import annotations

import binascii
import marshal
import os
import sys

import cni_repair
from cni_repair.base.files import Untrusted, open_private, read_trusted
from cni_repair.base.frozen import fields
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.store import mark_of
from cni_repair.node.verdict import parents_of
from cni_repair.repair.armed.entries import About, IndexedEntry, Later
from cni_repair.repair.armed.firing import ArmedPod, Firing
from cni_repair.repair.armed.ready import Armed
from cni_repair.repair.scheduler import worker_count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.context import Node
    from cni_repair.repair.session import RepairOptions
    from cni_repair.uplink.ensure import Parents

    # The record's file, the values of its identity, the others of its ArmedPod, those of its About.
    Row: TypeAlias = tuple[str, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]

_FORM = 1  # to be counted up where a value means something else
_MAX_BYTES = 1 << 26
_SUM_BYTES = 4


def _head(store: Store) -> bytes:
    """What an index must begin with to be used. :mod:`marshal` is the same within one version of
    Python only, and the values are within one of ours."""
    status = os.fstat(store.fd)
    words = (
        "cni-repair armed index",
        _FORM,
        cni_repair.__version__,
        sys.hexversion,
        boot_id(),
        f"{status.st_dev}:{status.st_ino}",
        ",".join((*fields(ArmedPod), *fields(About))),
    )
    return "\n".join(map(str, (*words, ""))).encode()


def _sum_of(rows: bytes | memoryview) -> bytes:
    """What stands between the two: of what is damaged, anything could be sent."""
    return binascii.crc32(rows).to_bytes(_SUM_BYTES, "big")


# --- writing --------------------------------------------------------------------------------------


def write(node: Node, store: Store, path: str, options: RepairOptions) -> int:
    """Prepare the repair of all attachments as if they were lost, and write it down; how many are
    armed. Raises OSError, or Untrusted: others could have anything fired."""
    from cni_repair.repair.armed.arming import Arming  # of no use to whoever reads

    entries = inventory.read_all(store, options.hints)
    arming = Arming(node, store, options, beforehand=True)
    for entry in entries:
        arming.add(entry)
    known = {entry.file: entry for entry in entries}
    shared: dict[Any, Any] = {}
    rows = [_shared(_row(one, known[one.file]), shared) for pod in arming.pods() for one in pod]
    data = marshal.dumps(rows)
    _write(path, _head(store) + _sum_of(data) + data)
    return len(rows)


def _write(path: str, data: bytes) -> None:
    from cni_repair.base.files import replace_durably, unlink_if_there

    run_dir, _, name = path.rpartition("/")
    directory = open_private(run_dir, create=True)
    try:
        unlink_if_there(name, directory)  # none is better than an old one
        replace_durably(directory, name, data)
    finally:
        os.close(directory)


def _row(pod: ArmedPod, entry: Entry) -> Row:
    about = _about(entry)
    file, identity, *rest = (getattr(pod, name) for name in fields(ArmedPod))
    return (
        file,
        tuple(getattr(identity, name) for name in fields(Identity)),
        tuple(rest),
        tuple(getattr(about, name) for name in fields(About)),
    )


def _shared(value: Any, known: dict[Any, Any]) -> Any:
    """The same, in which equal texts are one object: :mod:`marshal` writes, and reads, it once."""
    if isinstance(value, tuple):
        value = tuple([_shared(one, known) for one in value])
    return known.setdefault(value, value) if isinstance(value, (str, bytes)) else value


def _about(entry: Entry) -> About:
    checkpoint = entry.checkpoint
    assert checkpoint is not None
    recorded = checkpoint.attachment
    return About(
        checkpoint.key.container_id,
        checkpoint.key.ifname,
        checkpoint.network,
        str(checkpoint.pod),
        recorded.parents[0].name,
        tuple(f"{one.address}/{one.prefix}" for one in recorded.addresses),
        checkpoint.attached_at,
        checkpoint.node_links is not None,
    )


# --- reading --------------------------------------------------------------------------------------


def read(store: Store, path: str) -> dict[str, Row]:
    """The rows of the index by the names of their records; none where it is not to be used."""
    run_dir, _, name = path.rpartition("/")
    try:
        directory = open_private(run_dir)
        try:
            data, _ = read_trusted(name, _MAX_BYTES, directory)
        finally:
            os.close(directory)
    except (OSError, Untrusted):
        return {}
    head = _head(store)
    body = memoryview(data)[len(head) + _SUM_BYTES :]
    if not data.startswith(head + _sum_of(body)):
        return {}
    rows: list[Row] = marshal.loads(body)
    return {row[0]: row for row in rows}


def entries_of(store: Store, options: RepairOptions, rows: dict[str, Row]) -> dict[str, Entry]:
    known: dict[str, Entry] = {}
    for file, identity, _, about in rows.values():
        later = Later(store.directory, file, options.hints, About(*about))
        known[file] = IndexedEntry(later, Identity(*identity))
    return known


def armed_of(
    node: Node, store: Store, entries: list[Entry], options: RepairOptions, rows: dict[str, Row]
) -> Armed:
    """What is armed of these attachments. Of a pod that has got another interface since, nothing
    is: see :meth:`Arming.pods`."""
    pods: dict[object, list[ArmedPod | None]] = {}
    for entry in entries:
        identity = entry.identity
        pod = identity.netns_id if identity else entry.key
        row = rows.get(entry.file)
        one = ArmedPod(row[0], identity, *row[2]) if row and identity else None
        pods.setdefault(pod, []).append(one)
    armed = [[one for one in pod if one is not None] for pod in pods.values() if all(pod)]
    chains = _chains(store, entries, [one for pod in armed for one in pod])
    ready = [pod for pod in armed if all(one.chain in chains for one in pod)]
    others = worker_count(len(ready), options.processors) - 1
    return Armed(Firing(node, store), ready, chains, {}, others)


def _chains(store: Store, entries: list[Entry], pods: list[ArmedPod]) -> dict[int, Parents]:
    """What they stand on, each by one of the records that are still as they were."""
    by_file = {entry.file: entry for entry in entries}
    chains: dict[int, Parents] = {}
    for one in pods:
        if one.chain in chains:
            continue
        checkpoint = by_file[one.file].checkpoint
        if checkpoint is not None and _is_unchanged(store, one):
            chains[one.chain] = parents_of(checkpoint)
    return chains


def _is_unchanged(store: Store, one: ArmedPod) -> bool:
    try:
        return mark_of(one.file, store.fd) == one.mark
    except FileNotFoundError:
        return False
