"""Attachments that other processes repair: what they find, and how that is taken over here."""

from __future__ import annotations

import itertools

from cni_repair.base.frozen import replace
from cni_repair.node.report import Report
from cni_repair.repair.attachment import note_restored, repair_attachment
from cni_repair.repair.workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cni_repair.repair.ledger import Ledger
    from cni_repair.repair.session import Session


class SharedRepair:
    """The turns of many attachments, by this process and others."""

    def __init__(self, session: Session, ledger: Ledger) -> None:
        self._session = session
        self._ledger = ledger
        self._announcements: list[tuple[str, str, tuple[str, ...]]] = []

    def run(self, pods: list[list[int]], processes: int) -> None:
        """Give each its turn, but for those that other processes leave undone; whoever takes a pod
        repairs all of its interfaces."""

        def by_another(number: int) -> Any:
            return [self._repair_there(place) for place in pods[number]]

        with Workers(processes - 1, range(len(pods)), self._begin_there, by_another) as workers:
            for number in workers.mine():
                for place in pods[number]:
                    repair_attachment(self._session, self._ledger, place)
                self._take_all(workers.done())
            self._take_all(workers.rest())

    # --- In another process ---

    def _begin_there(self) -> None:
        """Sockets and callbacks are the first process's."""
        self._session.node.rtnl.renew()
        self._session.options = replace(self._session.options, on_progress=None, on_restored=None)
        self._session.announce = self._keep_announcement

    def _keep_announcement(self, master: str, mac: str, addresses: tuple[str, ...]) -> None:
        self._announcements.append((master, mac, addresses))  # the first process sends it

    def _repair_there(self, place: int) -> Any:
        """The attachment's turn, and all that it found, in values for :meth:`_take`."""
        self._announcements = []
        ledger = self._ledger
        entry = ledger.entries[place]
        repair_attachment(self._session, ledger, place)
        before, after = ledger.before.get(place), ledger.reports[place]
        if ledger.entries[place] is not entry or before is None or after is None:
            return place, None  # its record is another by now: to be done anew
        waits = [place in places[-1:] for places in ledger.waiting()]
        is_restored = place in ledger.restored
        return place, (before.verdict, after.verdict, waits, is_restored, self._announcements)

    # --- In the first process ---

    def _take_all(self, results: Iterable[Any]) -> None:
        for place, result in itertools.chain.from_iterable(results):
            if result is not None:
                self._take(place, *result)

    def _take(
        self, place: int, before: Any, after: Any, waits: Any, is_restored: Any, announced: Any
    ) -> None:
        for announcement in announced:
            self._session.announce(*announcement)
        ledger = self._ledger
        entry = ledger.entries[place]
        recorded = entry.checkpoint.netns_path if entry.checkpoint else ""
        netns = self._session.options.netns or recorded
        ledger.before[place] = Report.of(entry.key, entry.checkpoint, netns, before)
        report = Report.of(entry.key, entry.checkpoint, netns, after)
        ledger.reports[place] = report
        for places, is_waiting in zip(ledger.waiting(), waits):
            places += [place] * is_waiting
        if is_restored:
            note_restored(self._session, ledger, place, report)
