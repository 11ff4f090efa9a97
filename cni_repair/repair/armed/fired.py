"""What armed attachments come to in a pass over the node: fired first, all of them, then told."""

from __future__ import annotations

from cni_repair.network.planning.plan import DEGRADED, HEALTHY, LOST
from cni_repair.node.report import Report
from cni_repair.repair.armed.entries import IndexedEntry, IndexedReport
from cni_repair.repair.armed.firing import DONE, NOT_DONE
from cni_repair.repair.attachment import note_restored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cni_repair.network.model import HostLink
    from cni_repair.repair.armed.firing import ArmedPod, Shot
    from cni_repair.repair.armed.ready import Armed
    from cni_repair.repair.ledger import Ledger
    from cni_repair.repair.session import Session


class FiredRepair:
    """Firing, in one repair. What is done, and proved, needs no turn; the others have theirs."""

    def __init__(self, session: Session, ledger: Ledger, armed: Armed) -> None:
        self._session = session
        self._ledger = ledger
        self._armed = armed
        self._of_chains: dict[int, tuple[str, ...]] = {}  # what was wrong with the masters

    def fire(self, places: Sequence[int]) -> None:
        """Fire those of the attachments that are armed, as far as their masters are there."""
        by_file = {self._ledger.entries[place].file: place for place in places}
        masters = self._masters([*by_file])
        indices = {chain: master.ifindex for chain, master in masters.items()}
        for pod, shot in self._armed.fire([*by_file], indices):
            self._take(by_file[pod.file], pod, shot, masters[pod.chain])
        for place in places:
            if self._ledger.reports[place] is None:
                self._read(place)

    def _masters(self, files: list[str]) -> dict[int, HostLink]:
        """The masters that are there, by the numbers of their chains; made, if need be."""
        uplinks, found = self._session.uplinks, {}
        for chain in self._armed.chains_of(files):
            parents = self._armed.chains[chain]
            if not self._armed.was_lost(chain):
                continue
            self._armed.start()
            if not uplinks.is_there(parents):
                uplinks.ask_once(parents, self._armed.run_dir_of(chain))
            master, _ = uplinks.master(parents)
            plan = uplinks.plan_before(parents)
            self._of_chains[chain] = (plan.reason,) if plan and plan.reason else ()
            # The steps were put in words with the recorded name.
            if master is not None and master.name == parents[0][0].name:
                found[chain] = master
        return found

    def _take(self, place: int, pod: ArmedPod, shot: Shot, master: HostLink) -> None:
        outcome, has_carrier, why = shot
        if outcome == NOT_DONE:
            self._armed.missed[why] = self._armed.missed.get(why, 0) + 1
            return
        ledger = self._ledger
        ledger.chains[place] = self._armed.chains[pod.chain]
        findings, actions, notes = pod.told()
        findings = (*findings, *self._of_chains[pod.chain])
        before = self._report(place, pod, LOST, findings=findings)
        ledger.before.setdefault(place, before)
        if outcome == DONE:
            ledger.fired[place] = actions
            return
        if not (has_carrier and master.carrier):
            if self._read(place):
                ledger.reports[place] = self._report(
                    place, pod, DEGRADED, actions=actions, notes=notes
                )
                ledger.unsettled.append(place)
            return
        report = ledger.reports[place] = self._report(
            place, pod, HEALTHY, actions=actions, notes=notes
        )
        if pod.addresses:
            self._session.announce(master.name, pod.mac, pod.addresses)
        note_restored(self._session, ledger, place, report)

    def _report(self, place: int, pod: ArmedPod, state: str, **more: Any) -> Report:
        entry, netns = self._ledger.entries[place], pod.identity.path
        if isinstance(entry, IndexedEntry):
            later: Any = entry.later
            return IndexedReport(entry.key, later, netns, state, **more)
        return Report(entry.key, entry.checkpoint, netns, state, **more)

    def _read(self, place: int) -> bool:
        """Read the record of one that needs a turn; whether it is still there."""
        ledger, entry = self._ledger, self._ledger.entries[place]
        if isinstance(entry, IndexedEntry):
            known = entry.later.entry()
            if known is None:
                ledger.drop(place)
                return False
            ledger.entries[place] = known
        return True
