"""A pass over the node: repairing its attachments.

One pod after the other, each repaired as soon as it was looked at: the first does not wait for a
look at the whole node. Many are shared out among processes. One pod's failure never stops the
others.
"""

from __future__ import annotations

import itertools
import os
import time

from cni_repair.base.frozen import replace
from cni_repair.network.reachability.announce import Announcer
from cni_repair.node.verdict import REPAIRABLE, parents_of
from cni_repair.repair.attachment import repair_attachment
from cni_repair.repair.ledger import Ledger
from cni_repair.repair.session import Session
from cni_repair.uplink.belongings import NodeRecords
from cni_repair.uplink.restorer import NodeRestorer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.model import HostLink
    from cni_repair.node.context import Node
    from cni_repair.node.report import Report
    from cni_repair.repair.session import RepairOptions
    from cni_repair.uplink.ensure import Parents

_LOCK_SECONDS = 45.0
# Carrier comes 1.2 s after a driver's return; duplicate address detection takes up to 2 s.
SETTLE_SECONDS = 8.0
_POLL_SECONDS = 0.1
# With more processes than that, the kernel's lock is what all would wait for.
_MOST_PROCESSES = 4
# Attachments for which a process is worth its start (1-2 ms, and copies of the pages that it
# touches).
_WORTH_A_PROCESS = 16


def repair(node: Node, store: Store, entries: list[Entry], options: RepairOptions) -> list[Report]:
    """Repair what needs it, in the order of `entries`; one report each.

    An attachment whose DEL came first is left out. What is healthy receives no message that could
    change it.
    """
    with Announcer() as announcer:
        return _repair(node, store, entries, options, announcer)


def repair_and_log(
    node: Node, store: Store, entries: list[Entry], options: RepairOptions
) -> list[Report]:
    """As :func:`repair`, and tell the journal what was changed, and what is damaged."""
    examined: list[Report] = []
    began = time.monotonic()
    options = replace(options, on_examined=examined.extend)
    with Announcer() as announcer:
        reports = _repair(node, store, entries, options, announcer)
        if any(report.actions or report.damaged for report in reports):
            # Here, where nobody is without a network any more; and before the announcer's end,
            # whose fork makes each page dear that is written to afterwards.
            from cni_repair.repair.log import log_pass

            log_pass(reports, examined, round(1000 * (time.monotonic() - began)))
    return reports


def _repair(
    node: Node, store: Store, entries: list[Entry], options: RepairOptions, announcer: Announcer
) -> list[Report]:
    restorer = NodeRestorer(node.rtnl, NodeRecords(store, entries))
    session = Session(node, store, options, restorer, announcer.announce)
    return _Repair(session, Ledger(entries)).run()


def usable_processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def worker_count(attachments: int, processors: int) -> int:
    """How many processes should share the work, this one among them. Pure."""
    return max(1, min(_MOST_PROCESSES, processors, attachments // _WORTH_A_PROCESS))


def _fire(session: Session, ledger: Ledger, places: Sequence[int]) -> None:
    """Fire what is armed before anything is looked at; what is done then is reported."""
    armed = session.options.armed
    if armed is not None:
        from cni_repair.repair.armed.fired import FiredRepair  # of no use where nothing is armed

        FiredRepair(session, ledger, armed).fire(places)


class _Repair:
    """One pass over the node: who has his turn when, and in which process."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger
        self._until = time.monotonic() + session.options.master_timeout
        # What is to be said of the node's side over each chain, with which pod's report.
        self._notes: dict[Parents, tuple[int, list[str]]] = {}

    def run(self) -> list[Report]:
        self._repair_all()
        if self._session.options.on_examined:
            self._session.options.on_examined([*self._ledger.before.values()])
        self._repair_doubtful()
        self._repair_as_masters_come()
        self._give_shims()
        self._settle()
        self._repair_locked()
        self._settle()
        self._repair_again()
        self._report_the_node()
        return [report for report in self._ledger.reports if report is not None]

    # --- In which order, and by whom ---

    def _repair_all(self) -> None:
        """Give each its first turn. Pods over a chain go before the others until one of them has
        asked for it: it is made here, once, and whoever shares the rest knows what became of it."""
        _fire(self._session, self._ledger, range(len(self._ledger.entries)))
        others = []
        for pod in self._ledger.undone():
            if all(map(self._knows_master, pod)):
                others.append(pod)
            else:
                for place in pod:
                    repair_attachment(self._session, self._ledger, place)
        self._repair_shared(others)

    def _knows_master(self, place: int) -> bool:
        checkpoint = self._ledger.entries[place].checkpoint
        return checkpoint is None or self._session.uplinks.is_decided(parents_of(checkpoint))

    def _repair_shared(self, pods: list[list[int]]) -> None:
        """Repair pods, by several processes where there are many."""
        places = [*itertools.chain(*pods)]
        for place in places:
            self._ledger.reports[place] = None
        processes = worker_count(len(places), self._session.options.processors)
        if processes > 1:
            # What one pod's repair, which all wait for, does not have to pay for.
            from cni_repair.repair.transfer import SharedRepair

            SharedRepair(self._session, self._ledger).run(pods, processes)
        for place in places:
            # (Also where the process that had it died, or found another record.)
            if self._ledger.reports[place] is None:
                repair_attachment(self._session, self._ledger, place)

    def _repair_as_masters_come(self) -> None:
        """Repair each pod as soon as its own master is there."""
        ledger, uplinks = self._ledger, self._session.uplinks
        while ledger.away:
            waiting, ledger.away = ledger.away, []
            last = time.monotonic() >= self._until
            for parents, place in {ledger.parents(place): place for place in waiting}.items():
                uplinks.ask(parents, self._session.run_dir_of(ledger.entries[place]), last)
            known = {place: uplinks.master(ledger.parents(place)) for place in waiting}
            ledger.away = [place for place in waiting if not any(known[place])]
            ready = {place for place, (master, _) in known.items() if master is not None}
            for place in ready:
                ledger.reports[place] = None
            _fire(self._session, ledger, sorted(ready))
            ready = {place for place in ready if ledger.reports[place] is None}
            pods = [[place for place in pod if place in ready] for pod in ledger.pods.values()]
            self._repair_shared([pod for pod in pods if pod])
            self._repair_doubtful()
            for place in waiting:
                if known[place][1]:
                    repair_attachment(self._session, ledger, place)
            if ledger.away:
                time.sleep(_POLL_SECONDS)

    def _repair_doubtful(self) -> None:
        """Ask, once for all, whether others have the addresses of which IPAM cannot say whose they
        are; give these pods their turn then."""
        ledger = self._ledger
        places, ledger.unasked = {*ledger.unasked}, []
        if not places:
            return
        from cni_repair.repair.doubts import holders_of  # rare: host-local can say it

        over: dict[HostLink, list[Checkpoint]] = {}
        for place in sorted(places):
            checkpoint = ledger.entries[place].checkpoint
            master, _ = self._session.uplinks.master(ledger.parents(place))
            if checkpoint is not None and master is not None:
                over.setdefault(master, []).append(checkpoint)
        ledger.holders.update(holders_of(self._session, over))
        pods = [[place for place in pod if place in places] for pod in ledger.pods.values()]
        self._repair_shared([pod for pod in pods if pod])

    def _repair_locked(self) -> None:
        until = time.monotonic() + _LOCK_SECONDS
        locked, self._ledger.locked = self._ledger.locked, []
        for place in locked:
            seconds = max(0.0, until - time.monotonic())
            repair_attachment(self._session, self._ledger, place, seconds)
        self._repair_doubtful()

    def _repair_again(self) -> None:
        """What needed another of the pod's links, or an IPv6 address that was still tentative, may
        be done now that all of them had their turn."""
        ledger = self._ledger
        unfinished, ledger.unfinished = sorted({*ledger.unfinished}), []
        for place in unfinished:
            before = ledger.reports[place]
            repair_attachment(self._session, ledger, place)
            after = ledger.reports[place]
            if before is not None and after is not None:
                # In the report stands what was done for the pod in all.
                ledger.reports[place] = replace(
                    after,
                    actions=(*before.actions, *after.actions),
                    notes=tuple(dict.fromkeys((*before.notes, *after.notes))),
                )
        self._settle()

    def _settle(self) -> None:
        """Wait, for all at once, until carrier is there and IPv6 addresses may be used; announce
        then. What has not settled in time is reported so."""
        session, ledger = self._session, self._ledger
        if ledger.unsettled:
            from cni_repair.repair.settling import settle  # most have settled at once

            seconds = max(SETTLE_SECONDS, session.options.carrier_seconds)
            session.say(f"waiting up to {seconds:g} s for carrier and for IPv6 addresses")
            settle(session, ledger, seconds)

    # --- The node's side ---

    def _give_shims(self) -> None:
        """Look after the node's own links over the pods' masters, once the pods have theirs."""
        restorer, seen = self._session.restorer, None
        for place, report in enumerate(self._ledger.reports):
            if report is None or report.state not in REPAIRABLE:
                continue
            parents = self._ledger.chains.get(place)
            if parents is None:
                assert report.checkpoint is not None
                parents = parents_of(report.checkpoint)
            elif parents is seen:  # of those that were fired, mostly: to look it up takes longer
                continue
            seen = parents
            if parents not in self._notes:
                self._notes[parents] = (place, [])
                if restorer.knows_shims(parents[0]) and self._session.uplinks.is_there(parents):
                    run_dir = self._session.run_dir_of(self._ledger.entries[place])
                    self._notes[parents][1].extend(restorer.give_shims(parents[0], run_dir))

    def _report_the_node(self) -> None:
        for parents, (place, notes) in self._notes.items():
            notes += self._session.restorer.finish(parents[0])
            report = self._ledger.reports[place]
            if report is not None and notes:
                self._ledger.reports[place] = replace(report, notes=(*report.notes, *notes))
