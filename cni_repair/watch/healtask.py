"""The task of healing what one uplink carries, in a child: armed while the master is away."""

from __future__ import annotations

import time

from cni_repair.base.errors import TRY_AGAIN
from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Store
from cni_repair.node.context import POD_FAILURES, Node
from cni_repair.node.masters import MasterSteps
from cni_repair.node.verdict import parents_of
from cni_repair.repair.armed.arming import arm
from cni_repair.repair.scheduler import repair, usable_processors, worker_count
from cni_repair.repair.session import RepairOptions
from cni_repair.uplink.ensure import ChainLooks
from cni_repair.uplink.plan import READY, REFUSED
from cni_repair.watch.seen import seen_of, still_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.node.report import Report
    from cni_repair.repair.armed.ready import Armed
    from cni_repair.watch.channel import Channel

# A bond with LACP, or a port with spanning tree, takes long; nobody waits for a heal to end, and
# what it announces, it announces at carrier.
_CARRIER_SECONDS = 30.0


def heal(channel: Channel, request: dict[str, Any]) -> None:
    """Repair what the request is about, each pod as soon as its master is there.

    `files` names some of the directory; None means all that stand on `uplink`, those that come
    while it is away among them. With `wait` the task lasts until every master was there.
    """
    with Store(request["directory"]) as store, Node() as node:
        _Heal(channel, request, store, node).run()


class _Heal:
    """One such task."""

    def __init__(self, channel: Channel, request: dict[str, Any], store: Store, node: Node) -> None:
        self._channel = channel
        self._request = request
        self._store = store
        self._node = node
        self._entries: dict[str, Entry] = {}  # that have not had their turn
        self._known: set[str] = set(request["except"])
        self._refusals: set[str] = set()  # why what has come in a master's place is none
        self._armed: Armed | None = None

    def run(self) -> None:
        self._read_new()
        try:
            while True:
                self._refusals.clear()
                ready = self._ready(self._entries.values())
                if ready:
                    self._repair(ready)
                if not self._entries or not self._request["wait"]:
                    return
                self._arm_once()
                self._wait()
                self._read_new()
        finally:
            if self._armed is not None:
                self._armed.close()

    def _arm_once(self) -> None:
        """Prepare what can be prepared while the master is away."""
        if self._armed is not None:
            return
        count = len(self._entries)
        others = worker_count(count, usable_processors()) - 1
        self._armed = arm(
            self._node,
            self._store,
            _each_told(self._channel, [*self._entries.values()]),
            self._options(),
            others,
        )
        self._channel.send({"armed": self._armed.count, "of": count})

    def _read_new(self) -> None:
        """Take in the records that are there now; those known already are read again where it
        counts, under their locks."""
        names = self._request["files"] or self._store.committed()
        for name in names:
            if name not in self._known:
                self._known.add(name)
                entry = inventory.read_file(self._store, name)
                if entry is not None and self._is_meant(entry):
                    self._entries[name] = entry

    def _is_meant(self, entry: Entry) -> bool:
        if entry.checkpoint is None:
            return False
        uplink = entry.checkpoint.attachment.parents[-1]
        return self._request["files"] is not None or self._request["uplink"] in uplink.names

    def _ready(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those of them whose master is there by now, or can be made."""
        looks = ChainLooks(self._node.rtnl)
        ready = []
        for entry in entries:
            assert entry.checkpoint is not None
            try:
                plan, _ = looks.look(parents_of(entry.checkpoint))
            except POD_FAILURES:
                continue
            if plan.state == READY or not self._request["wait"]:
                ready.append(entry)
            elif plan.state == REFUSED:
                self._refusals.add(plan.reason)
        return ready

    def _wait(self) -> None:
        """Until the daemon has heard of a link that may be the one."""
        self._channel.send({"waiting": len(self._entries), "refusals": sorted(self._refusals)})
        self._channel.receive()
        while self._channel.is_told():
            self._channel.receive()

    def _repair(self, ready: list[Entry]) -> None:
        for entry in ready:
            del self._entries[entry.file]
        files = {entry.key: entry for entry in ready}
        options = replace(
            self._options(),
            armed=self._armed,
            on_restored=lambda report: self._say_restored(files[report.key]),
        )
        self._channel.send({"firing": len(ready), "at": time.monotonic()})
        left = []
        masters = MasterSteps(self._node.rtnl, None)
        for report in repair(self._node, self._store, ready, options):
            entry = files.pop(report.key)
            self._say_verdict(entry, report, masters)
            if report.error is not None and report.error.code == TRY_AGAIN:
                left.append(entry)
        for entry in files.values():  # a DEL was quicker
            self._channel.send({"file": entry.file, "gone": True})
        self._keep_those_away(left)

    def _keep_those_away(self, left: list[Entry]) -> None:
        """Wait again for masters that have gone meanwhile. (Whose lock somebody had is looked at
        by the daemon in its turn.)"""
        have_masters = {entry.file for entry in self._ready(left)}
        self._entries |= {entry.file: entry for entry in left if entry.file not in have_masters}

    def _options(self) -> RepairOptions:
        return RepairOptions(
            run_dir="",
            master_timeout=0.0,
            processors=usable_processors(),
            ipv6_detection=self._request["ipv6Detection"],
            carrier_seconds=_CARRIER_SECONDS,
        )

    def _say_restored(self, entry: Entry) -> None:
        self._channel.send({"restored": entry.file, "at": time.monotonic()})

    def _say_verdict(self, entry: Entry, report: Report, masters: MasterSteps) -> None:
        seen = seen_of(self._store, entry, report, masters)
        said = {**seen, "verdict": True, "steps": len(report.actions)}
        self._channel.send(still_there(said))


def _each_told(channel: Channel, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Each is told before its turn: should the child hang or die in its namespace, the daemon knows
    whom to leave out."""
    for entry in entries:
        channel.send({"arming": entry.file})
        yield entry
