"""What the daemon has children do: each looks, remembers or heals, says what it finds, and ends.

A child may hang in a pod's namespace, or die there: the daemon kills it at a deadline, and nothing
else is lost. What is said of an attachment is a line (see `seen_of`), and a task's last line is
`{"done": true}`, or `{"failed": WHY}`.
"""

from __future__ import annotations

import gc

from cni_repair.base.errors import CniError
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.checkpoint.store import Store
from cni_repair.network.planning.plan import HEALTHY, STALE
from cni_repair.node.context import Node
from cni_repair.node.discovery import covered, unmanaged
from cni_repair.node.examine import examine_one
from cni_repair.node.masters import MasterSteps
from cni_repair.node.report import Report
from cni_repair.node.snapshot import SnapshotOptions, snapshot
from cni_repair.node.verdict import unreadable
from cni_repair.uplink.belongings import NodeRecords
from cni_repair.watch.channel import Channel, Closed
from cni_repair.watch.healtask import heal
from cni_repair.watch.seen import seen_of, still_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.node.discovery import Covered

# Records that a look holds in memory at one time: a node may have 2,000, of 20 kB each.
_AT_ONCE = 64


def work(sock: socket.socket) -> None:
    """Do the one task that the daemon asks for."""
    channel = Channel(sock)
    try:
        request = channel.receive()
        _TASKS[request["task"]](channel, request)
        channel.send({"done": True})
    except Closed:
        pass
    except Exception as error:  # the child ends; the daemon must know why
        _say_failed(channel, error)


def _say_failed(channel: Channel, error: Exception) -> None:
    if isinstance(error, OSError):
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    elif isinstance(error, CniError):
        why = str(error)
    else:
        why = f"a bug in cni-repair: {type(error).__name__}: {error}"
    try:
        channel.send({"failed": why})
    except Closed:
        pass


def _look(channel: Channel, request: dict[str, Any]) -> None:
    """Say how the attachments of some files are, or of all of a directory."""
    with Store(request["directory"]) as store, Node() as node:
        names = request["files"]
        for some in _in_parts(store.committed() if names is None else names):
            masters = MasterSteps(node.rtnl, None)
            for name in some:
                entry = inventory.read_file(store, name)
                if entry is None:
                    channel.send({"file": name, "gone": True})
                    continue
                seen = seen_of(store, entry, examine_one(node, entry, masters), masters)
                channel.send(still_there(seen))
            gc.collect()


def _in_parts(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def _remember(channel: Channel, request: dict[str, Any]) -> None:
    """Bring the records of some files up to date, by the rules of `snapshot`."""
    options = SnapshotOptions(run_dir="", write=True, all_pods=False)
    with Store(request["directory"]) as store, Node() as node:
        of_node = NodeRecords(store, ())  # it takes all records: once, not for each part
        for some in _in_parts(request["files"]):
            entries = [one for one in (_entry(channel, store, name) for name in some) if one]
            masters = MasterSteps(node.rtnl, None)
            taken = snapshot(node, store, entries, options, of_node)
            for entry, record in zip(entries, taken.records):
                seen = {
                    **seen_of(store, entry, record.report, masters),
                    "outcome": record.outcome,
                    "restorable": record.restorable,
                    "trouble": record.reason if record.failed else "",
                }
                channel.send(still_there(seen))


def _entry(channel: Channel, store: Store, name: str) -> Entry | None:
    entry = inventory.read_file(store, name)
    if entry is None:
        channel.send({"file": name, "gone": True})
    return entry


def _survey(channel: Channel, request: dict[str, Any]) -> None:
    """Say how many pods' interfaces there are that no record of any directory knows."""
    known: list[Covered] = []
    with Node() as node:
        for directory in request["directories"]:
            try:
                with Store(directory) as store:
                    known += _covered(node, store)
            except FileNotFoundError:
                continue  # nothing was attached there yet
        channel.send({"unmanaged": [str(one) for one in unmanaged(node, set(known))]})


def _covered(node: Node, store: Store) -> Iterator[Covered]:
    """The interfaces that the records of a directory are of, read one by one."""
    for name in store.committed():
        entry = inventory.read_file(store, name)
        if entry is None:
            continue
        report = unreadable(entry)
        if entry.checkpoint is not None:
            identity = entry.checkpoint.netns
            is_there = identity is None or still_stands(identity, node.own)
            state = HEALTHY if is_there else STALE
            report = Report(entry.key, entry.checkpoint, entry.checkpoint.netns_path, state)
        yield from covered(store, [report])


_TASKS: dict[str, Callable[[Channel, dict[str, Any]], None]] = {
    "look": _look,
    "remember": _remember,
    "survey": _survey,
    "heal": heal,
}
