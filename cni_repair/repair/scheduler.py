"""A pass over the node: repairing its attachments.

One pod after the other, each repaired as soon as it was looked at: the first does not wait for a
look at the whole node. Many are shared out among processes. One pod's failure never stops the
others.
"""

from __future__ import annotations

import itertools
import time

from cni_repair.base.frozen import replace
from cni_repair.network.reachability.announce import Announcer
from cni_repair.node.examine import REPAIRABLE, parents_of
from cni_repair.repair.attachment import AttachmentRepair
from cni_repair.repair.workers import Workers, hands_for
from cni_repair.uplink.belongings import NodeSide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.node.examine import Node, Parents
    from cni_repair.node.report import Report
    from cni_repair.repair.attachment import Options

_LOCK_SECONDS = 45.0
# Carrier comes 1.2 s after a driver's return; duplicate address detection takes up to 2 s.
SETTLE_SECONDS = 8.0
_POLL_SECONDS = 0.1


def repair(node: Node, store: Store, entries: list[Entry], options: Options) -> list[Report]:
    """Repair what needs it, in the order of `entries`; one report each.

    An attachment whose DEL came first is left out. What is healthy receives no message that could
    change it.
    """
    side = NodeSide(node.rtnl, store, entries)
    with Announcer() as announcer:
        each = AttachmentRepair(node, store, entries, options, side, announcer)
        return _Repair(each, side, options).run()


class _Repair:
    """One pass over the node: who has his turn when, and in which process."""

    def __init__(self, each: AttachmentRepair, side: NodeSide, options: Options) -> None:
        self._each = each
        self._side = side
        self._options = options
        self._until = time.monotonic() + options.master_timeout
        # What is to be said of the node's side over each chain, with which pod's report.
        self._notes: dict[Parents, tuple[int, list[str]]] = {}

    def run(self) -> list[Report]:
        self._repair_all()
        if self._options.looked:
            self._options.looked([*self._each.before.values()])
        self._repair_as_masters_come()
        self._give_shims()
        self._settle()
        self._repair_busy()
        self._settle()
        self._repair_again()
        self._tell_of_the_node()
        return [report for report in self._each.reports if report is not None]

    # --- In which order, and by whom ---

    def _repair_all(self) -> None:
        """Give each its first turn. Pods over a chain go before the others until one of them has
        asked for it: it is made here, once, and whoever shares the rest knows what became of it."""
        rest = []
        for pod in self._each.pods.values():
            if all(map(self._knows_master, pod)):
                rest.append(pod)
            else:
                for index in pod:
                    self._each.repair(index)
        self._repair_shared(rest)

    def _knows_master(self, index: int) -> bool:
        checkpoint = self._each.entries[index].checkpoint
        return checkpoint is None or self._each.masters.is_decided(parents_of(checkpoint))

    def _repair_shared(self, pods: list[list[int]]) -> None:
        """Repair pods by several processes; whoever takes one does all of its interfaces."""
        each = self._each
        everything = [*itertools.chain(*pods)]
        for index in everything:
            each.reports[index] = None

        def by_another(pod: int) -> Any:
            return [each.repair_as_a_hand(index) for index in pods[pod]]

        others = hands_for(len(everything)) - 1
        with Workers(others, range(len(pods)), each.become_a_hand, by_another) as workers:
            for pod in workers.mine():
                for index in pods[pod]:
                    each.repair(index)
                self._take(workers.done())
            self._take(workers.rest())
        for index in everything:
            if each.reports[index] is None:  # whoever had it died, or found another record
                each.repair(index)

    def _take(self, results: Iterable[Any]) -> None:
        for found in itertools.chain.from_iterable(results):
            self._each.take(*found)

    def _repair_as_masters_come(self) -> None:
        """Repair each pod as soon as its own master is there."""
        each, pods = self._each, self._each.pods.values()
        while each.away:
            todo, each.away = each.away, []
            last = time.monotonic() >= self._until
            for wanted, index in {each.wanted(index): index for index in todo}.items():
                each.masters.ask(wanted, each.run_dir_of(index), last)
            found = {index: each.masters.master(each.wanted(index)) for index in todo}
            each.away = [index for index in todo if not any(found[index])]
            there = [[one for one in pod if one in found and found[one][0]] for pod in pods]
            self._repair_shared([pod for pod in there if pod])
            for index in todo:
                if found[index][1]:
                    each.repair(index)
            if each.away:
                time.sleep(_POLL_SECONDS)

    def _repair_busy(self) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        busy, self._each.busy = self._each.busy, []
        for index in busy:
            self._each.repair(index, max(0.0, until - time.monotonic()))

    def _repair_again(self) -> None:
        """What needed another of the pod's links, or an IPv6 address that was still tentative, may
        be done now that all of them had their turn."""
        each = self._each
        again, each.again = sorted({*each.again}), []
        for index in again:
            before = each.reports[index]
            each.repair(index)
            after = each.reports[index]
            if before is not None and after is not None:
                # In the report stands what was done for the pod in all.
                each.reports[index] = replace(
                    after,
                    actions=(*before.actions, *after.actions),
                    notes=(*before.notes, *after.notes),
                )
        self._settle()

    def _settle(self) -> None:
        """Wait, for all at once, until carrier is there and IPv6 addresses may be used; announce
        then. What has not settled in time is reported so."""
        until = time.monotonic() + SETTLE_SECONDS
        each = self._each
        pending, each.unsettled = each.unsettled, []
        if pending:
            each.on_progress(
                f"waiting up to {SETTLE_SECONDS:g} s for carrier and for IPv6 addresses"
            )
        while pending:
            last = time.monotonic() >= until
            pending = [one for one in pending if not each.has_settled(one, last) and not last]
            if pending:
                time.sleep(_POLL_SECONDS)

    # --- The node's side ---

    def _give_shims(self) -> None:
        """Look after the node's own links over the pods' masters, once the pods have theirs."""
        for index, report in enumerate(self._each.reports):
            if report is None or report.checkpoint is None or report.state not in REPAIRABLE:
                continue
            wanted = parents_of(report.checkpoint)
            if wanted not in self._notes:
                self._notes[wanted] = (index, [])
                if self._side.knows_shims(wanted[0]) and self._each.masters.is_there(wanted):
                    run_dir = self._each.run_dir_of(index)
                    self._notes[wanted][1].extend(self._side.give_shims(wanted[0], run_dir))

    def _tell_of_the_node(self) -> None:
        for wanted, (index, notes) in self._notes.items():
            notes += self._side.finish(wanted[0])
            report = self._each.reports[index]
            if report is not None and notes:
                self._each.reports[index] = replace(report, notes=(*report.notes, *notes))
