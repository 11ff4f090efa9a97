"""The upgrade, phase by phase.

    preflight ─► snapshot ─► hold kubelet ─► driver ─► masters ─► repair ─► verify ─► release

Until the driver command is started nothing is touched but the kubelet, and a failure ends the
upgrade. From then on every phase is done whatever came of the one before: pods that can be repaired
are. What failed decides at the end what becomes of the kubelet (the plan's `on_failure`).
"""

from __future__ import annotations

import contextlib
import time

from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import frozen
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.identity import still_stands
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.checkpoint.store import Store
from cni_repair.network.planning.plan import DEGRADED, LOST, STALE
from cni_repair.node import verify as verifying
from cni_repair.node.examine import Node, wrapped
from cni_repair.node.snapshot import REFRESHED, snapshot
from cni_repair.repair.attachment import Options
from cni_repair.repair.scheduler import repair
from cni_repair.upgrade import driver, kubelet, preflight
from cni_repair.upgrade import uplinks as masters
from cni_repair.upgrade.link_monitor import LinkMonitor
from cni_repair.upgrade.pods import (
    PodResult,
    before_of,
    group_by_reason,
    noted_before,
    pod_results,
    summarise,
)
from cni_repair.upgrade.policy import must_hold, seconds_held
from cni_repair.upgrade.progress import (
    DRIVER,
    HOLD,
    MASTERS,
    PREFLIGHT,
    RELEASE,
    REPAIR,
    SNAPSHOT,
    VERIFY,
    progress_of,
    remaining,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cni_repair.checkpoint.inventory import Entry, LegacyHints
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.node.report import Report
    from cni_repair.upgrade.journal import Event, Journal
    from cni_repair.upgrade.kubelet import Found
    from cni_repair.upgrade.planfile import Plan
    from cni_repair.upgrade.progress import Progress

    Outcome = tuple[bool, str, dict[str, Any]]  # whether it went well; in words; for the report

FINE, FAILED, REFUSED = 0, 1, 3
# Between the links' loss and their pods' repair nothing waits for a disk: a power cut would end the
# upgrade anyway (another boot), and kill -9 takes nothing from what was written.
_HURRIED = (MASTERS, REPAIR)


@frozen
class Settings:
    """Where the node's state lives, and how this upgrade is run."""

    checkpoint_dir: str
    run_dir: str  # of locks; empty: as each attachment's own configuration has it
    state_dir: str
    hints: Callable[[], LegacyHints | None]  # for the incident's own checkpoints
    hold_kubelet: bool = True


class Procedure:
    """One start, or one resume, of an upgrade."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        journal: Journal,
        before: list[Event],
        on_progress: Callable[[Event], None],
    ) -> None:
        """`before`: the journal's events up to now; `tell` gets each further one."""
        self._plan = plan
        self._settings = settings
        self._journal = journal
        self._events = before
        self._on_progress = on_progress
        self._phases: dict[str, Callable[[], Outcome]] = {
            PREFLIGHT: self._preflight,
            SNAPSHOT: self._snapshot,
            HOLD: self._hold,
            DRIVER: self._driver,
            MASTERS: self._masters,
            REPAIR: self._repair,
            VERIFY: self._verify,
            RELEASE: self._release,
        }

    def run(self) -> int:
        """Do what is left to do; FINE, FAILED or REFUSED."""
        for phase in remaining(self._progress):
            if not self._do(phase) and not self._progress.touched:
                return self._give_up(phase)
        return self._end(FAILED if self._progress.failed else FINE)

    def _give_up(self, phase: str) -> int:
        """Nothing was touched but, maybe, the kubelet."""
        if phase in (PREFLIGHT, SNAPSHOT):
            return self._end(REFUSED)
        self._do(RELEASE)
        return self._end(FAILED)

    def _end(self, status: int) -> int:
        self._event("end", status=status)
        return status

    def _do(self, phase: str) -> bool:
        self._event("phase", durable=phase not in _HURRIED, phase=phase)
        try:
            ok, words, data = self._phases[phase]()
        except RuntimeError:
            raise  # in the wrong namespace (see `entered`): nothing may be done any more
        except Exception as error:  # a bug, too, must not leave the kubelet held, pods unrepaired
            ok, words, data = False, str(wrapped(error)), {}
        hurried = phase in (DRIVER, MASTERS)
        self._event("done", durable=not hurried, phase=phase, ok=ok, words=words, data=data)
        return ok

    @property
    def _progress(self) -> Progress:
        return progress_of(self._events)

    def _event(self, kind: str, durable: bool = True, **more: Any) -> None:
        self._happened(self._journal.append({"event": kind, **more}, durable))

    def _note(self, kind: str, **more: Any) -> None:
        """An event that a resume builds on: what follows is done only if it is on disk."""
        self._happened(self._journal.commit({"event": kind, **more}))

    def _happened(self, event: Event) -> None:
        self._events.append(event)
        self._on_progress(event)

    def _say(self, text: str) -> None:
        self._event("word", durable=False, text=text)

    @contextlib.contextmanager
    def _node(self, create: bool = False) -> Iterator[tuple[Node, Store, list[Entry]]]:
        """The node, and all that is remembered of its pods (`create`: where no pod ever was)."""
        with Store(self._settings.checkpoint_dir, create) as store, Node() as node:
            yield node, store, inventory.read_all(store, self._settings.hints())

    # --- Phases --------------------------------------------------------------------------------

    def _preflight(self) -> Outcome:
        problems, words = preflight.check(self._plan, self._settings)
        if len(problems) > 1:
            for problem in problems:
                self._say(problem)
            words = f"{len(problems)} problems"
        return not problems, problems[0] if len(problems) == 1 else words, {"problems": problems}

    def _snapshot(self) -> Outcome:
        with self._node(create=True) as (node, store, entries):
            taken = snapshot(node, store, entries, self._settings.run_dir, True, True)
        failed = group_by_reason(
            [(one.report.title, one.reason) for one in taken.records if one.failed]
        )
        coverage = preflight.too_little_coverage(self._plan, taken)
        refreshed = sum(one.outcome == REFRESHED for one in taken.records)
        words = f"{taken.restorable} of {taken.total} interfaces restorable, {refreshed} refreshed"
        data = {
            "attachments": taken.total,
            "restorable": taken.restorable,
            "living": sum(one.counts for one in taken.records),
            "before": noted_before(taken),
            "notRestorable": preflight.not_restorable(taken),
        }
        if failed or coverage:
            return False, "; ".join([*coverage, *([summarise(failed)] if failed else [])]), data
        return True, words, data

    def _hold(self) -> Outcome:
        held = self._kubelet()
        if held is None:
            return True, "no kubelet to hold: nothing rebuilds pods here", {}
        self._arm(held, seconds_held(self._plan), HOLD)
        kubelet.hold(held.unit)
        was = "" if held.active else " (it was not running before)"
        return True, f"{held.unit} is masked and stopped{was}", {}

    def _kubelet(self) -> Found | None:
        """The kubelet as it was before this upgrade touched it; None where there is none to hold.

        On disk before it is touched: a resume would find it stopped, and leave it so.
        """
        noted = self._noted_kubelet()
        if noted is not None or self._plan.kubelet is None or not self._settings.hold_kubelet:
            return noted
        found = kubelet.find(self._plan.kubelet.unit)
        self._note("kubelet", unit=found.unit, active=found.active, masked=found.masked)
        return found

    def _noted_kubelet(self) -> Found | None:
        noted = self._progress.events.get("kubelet")
        if noted is None:
            return None
        return kubelet.Found(noted["unit"], noted["active"], noted["masked"])

    def _arm(self, held: Found, seconds: float, phase: str) -> None:
        """Have systemd release the kubelet if we are not heard of again."""
        kubelet.arm(held, seconds, phase)
        self._event("deadman", until=round(time.time() + seconds, 3))

    def _driver(self) -> Outcome:
        with self._node() as (node, _, entries):
            # What has no carrier now cannot lose it: its first news would be of its return.
            stacked = masters.stacked_names(_living(node, entries))
            names = masters.with_carrier(node.rtnl, stacked)
        began = time.monotonic()
        with LinkMonitor(
            names, lambda link: self._event("lost", durable=False, link=link)
        ) as losses:
            ended = self._driver_of_before(losses) or self._watched(self._started(), losses)
        took = f"after {time.monotonic() - began:.1f} s"
        if ended.timed_out:
            deadline = f"{self._plan.driver.deadline:g} s"
            return False, f"killed at its deadline of {deadline}", {"timedOut": True}
        if ended.status is None:
            return False, f"ended {took}, nobody knows how: was it killed?", {}
        last = self._progress.events.get("output", {}).get("line", "").strip()
        why = f": {last}" if ended.status and last else ""
        return ended.status == 0, f"exit {ended.status} {took}{why}", {"status": ended.status}

    def _watched(self, running: driver.Running, losses: LinkMonitor) -> driver.Ended:
        return driver.watch(running, RUN_DIR, self._output, losses.listen)

    def _output(self, line: str) -> None:
        self._event("output", durable=False, line=line)

    def _driver_of_before(self, losses: LinkMonitor) -> driver.Ended | None:
        """What came of the command that a killed upgrade started; None where there was none, or
        where it was killed, too, and has to be run again."""
        noted = self._progress.events.get("driver")
        if noted is None:
            return None
        running = driver.noted(noted)
        if driver.is_alive(running, RUN_DIR):
            self._say(f"the driver command is still at work (PID {running.pid})")
        ended = self._watched(running, losses)
        if ended.status is None and not ended.timed_out:
            self._say("the driver command did not come to its end: it is run again")
            return None
        return ended

    def _started(self) -> driver.Running:
        plan = self._plan.driver
        with driver.Prepared(plan.command, RUN_DIR, plan.deadline) as prepared:
            running = prepared.running
            deadline = round(running.deadline, 3)
            self._note("driver", pid=running.pid, start=running.start, deadline=deadline)
            return prepared.go()

    def _masters(self) -> Outcome:
        plan = self._plan.masters
        with self._node() as (node, _, entries):
            uplinks = masters.uplinks_of(_living(node, entries))
            away = masters.wait(
                node.rtnl, plan.names, uplinks, plan.carrier, plan.deadline,
                lambda name: self._event("back", durable=False, link=name),
            )  # fmt: skip
        if away:
            return False, f"{'; '.join(away)} (after {plan.deadline:g} s)", {}
        names = plan.names or dict.fromkeys(one.name for one in uplinks)
        state = "there, with carrier" if plan.carrier else "there"
        return True, f"{', '.join(names)}: {state}" if names else "none to wait for", {}

    def _repair(self) -> Outcome:
        looked: list[Report] = []
        restored: dict[str, float] = {}

        def note(report: Report) -> None:
            restored[report.key.name] = time.time()
            self._event("restored", durable=False, attachment=report.key.name)

        def look(reports: list[Report]) -> None:
            looked.extend(reports)
            todo = sum(one.state in (LOST, DEGRADED) for one in reports)
            self._event("damaged", durable=False, todo=todo, attachments=len(reports))

        # The masters were waited for; one that is not there by now is not waited for again.
        how = Options(
            self._settings.run_dir, 0.0, self._settings.hints(),
            on_progress=self._say, looked=look, restored=note,
        )  # fmt: skip
        with self._node() as (node, store, entries):
            self._check_records(entries)
            reports = repair(node, store, entries, how)
        results = pod_results(looked, reports, restored, self._progress)
        ok, words, data = _repaired(results)
        gone = self._living_before() - sum(one.state != STALE for one in results)
        if gone > 0:
            words += f"; {gone} gone since the snapshot, their sandboxes with them"
        # Nobody but a held kubelet deletes pods.
        return ok and (gone <= 0 or self._noted_kubelet() is None), words, data

    def _living_before(self) -> int:
        """How many attachments there were at the snapshot."""
        taken = self._progress.done.get(SNAPSHOT)
        return int(taken.data.get("living", 0)) if taken else 0

    def _check_records(self, entries: list[Entry]) -> None:
        """A file system that went with the NIC leaves an empty directory: pods there are."""
        taken = self._progress.done.get(SNAPSHOT)
        if not entries and taken and taken.data.get("restorable"):
            raise CniError(
                IO,
                f"the records in {self._settings.checkpoint_dir} are gone",
                f"bring back its file system, which had {taken.data['restorable']} at the snapshot",
            )

    def _verify(self) -> Outcome:
        options = verifying.Options(self._plan.verify.timeout, self._plan.verify.duplicates)
        with self._node() as (node, _, entries):
            verdicts = verifying.verify(node, entries, options)
        given_up = before_of(self._progress).given_up
        known = [one for one in verdicts if one.verdict != STALE]
        wanted = [one for one in known if one.passed or one.key.name not in given_up]
        bad = group_by_reason(
            [(one.report.title, f"{one.verdict}: {one.reason}") for one in wanted if not one.passed]
        )
        data = {"verdicts": [one.document() for one in known]}
        passed = sum(one.passed for one in wanted)
        good = f"{passed} of {len(wanted)} verified"
        return not bad, "; ".join([good, summarise(bad)] if bad else [good]), data

    def _release(self) -> Outcome:
        held = self._noted_kubelet()
        if held is None:
            return True, "no kubelet was held", {}
        if self._progress.touched and must_hold(self._plan, self._progress.failed_since):
            assert self._plan.kubelet is not None
            self._arm(held, self._plan.kubelet.deadman, RELEASE)
            return (
                False,
                f"{held.unit} stays masked and stopped, as on_failure says",
                {"held": True},
            )
        kubelet.release(held)
        kubelet.disarm()
        now = "unmasked and started" if held.active else "as it was before"
        return True, f"{held.unit} is {now}", {"held": False}


def _living(node: Node, entries: list[Entry]) -> list[Checkpoint]:
    """Those whose pods are there: links of others may be gone for good."""
    checkpoints = [one.checkpoint for one in entries if one.checkpoint]
    return [one for one in checkpoints if one.netns is None or still_stands(one.netns, node.own)]


def _repaired(results: list[PodResult]) -> Outcome:
    wanted = [one for one in results if one.state != STALE and not one.given_up]
    bad = group_by_reason([(one.title, one.reason) for one in wanted if not one.healthy])
    healthy = sum(one.healthy for one in wanted)
    done = sum(one.repaired for one in wanted)
    words = [f"{healthy} of {len(wanted)} healthy, {done} of them repaired"]
    given_up = sum(one.given_up for one in results)
    if given_up:
        words.append(f"{given_up} given up, as the plan's coverage allows")
    if bad:
        words.append(summarise(bad))
    return not bad, "; ".join(words), {"pods": [one.document() for one in results]}
