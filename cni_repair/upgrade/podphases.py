"""The phases that are about pods: what can be restored, and what was."""

from __future__ import annotations

import time

from cni_repair.base.errors import IO, CniError
from cni_repair.network.planning.plan import DEGRADED, LOST, RENAMED, STALE
from cni_repair.node import verify as verifying
from cni_repair.node.snapshot import REFRESHED, SnapshotOptions
from cni_repair.node.snapshot import snapshot as take_snapshot
from cni_repair.repair.scheduler import repair as repair_entries
from cni_repair.repair.scheduler import usable_processors
from cni_repair.repair.session import RepairOptions
from cni_repair.upgrade import preflight as preflighting
from cni_repair.upgrade import uplinks
from cni_repair.upgrade.context import living
from cni_repair.upgrade.holding import noted_kubelet
from cni_repair.upgrade.pods import (
    PodResult,
    before_of,
    group_by_reason,
    noted_before,
    pod_results,
    summarise,
)
from cni_repair.upgrade.progress import SNAPSHOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.node.report import Report
    from cni_repair.upgrade.context import Outcome, Upgrade


def preflight(upgrade: Upgrade) -> Outcome:
    """Look for all that can be known to be wrong; touches nothing."""
    problems, text = preflighting.check(upgrade.plan, upgrade.settings)
    if len(problems) > 1:
        for problem in problems:
            upgrade.events.say(problem)
        text = f"{len(problems)} problems"
    return not problems, problems[0] if len(problems) == 1 else text, {"problems": problems}


def snapshot(upgrade: Upgrade) -> Outcome:
    """Bring the records up to date."""
    how = SnapshotOptions(upgrade.settings.run_dir, write=True, all_pods=True)
    with upgrade.node(create=True) as (node, store, entries):
        taken = take_snapshot(node, store, entries, how)
    failed = group_by_reason(
        [(record.report.title, record.reason) for record in taken.records if record.failed]
    )
    coverage = preflighting.too_little_coverage(upgrade.plan, taken)
    refreshed = sum(record.outcome == REFRESHED for record in taken.records)
    text = f"{taken.restorable} of {taken.total} interfaces restorable, {refreshed} refreshed"
    data = {
        "attachments": taken.total,
        "restorable": taken.restorable,
        "living": sum(record.counts for record in taken.records),
        "before": noted_before(taken),
        "notRestorable": preflighting.not_restorable(taken),
    }
    if failed or coverage:
        return False, "; ".join([*coverage, *([summarise(failed)] if failed else [])]), data
    return True, text, data


def masters(upgrade: Upgrade) -> Outcome:
    """Wait for what the pods stand on."""
    plan = upgrade.plan.masters

    def note_back(name: str) -> None:
        upgrade.events.add("back", durable=False, link=name)

    with upgrade.node() as (node, _, entries):
        recorded = uplinks.uplinks_of(living(node, entries))
        away = uplinks.wait(node.rtnl, plan.names, recorded, plan.carrier, plan.deadline, note_back)
    if away:
        return False, f"{'; '.join(away)} (after {plan.deadline:g} s)", {}
    names = plan.names or dict.fromkeys(uplink.name for uplink in recorded)
    state = "there, with carrier" if plan.carrier else "there"
    return True, f"{', '.join(names)}: {state}" if names else "none to wait for", {}


def repair(upgrade: Upgrade) -> Outcome:
    """Give the pods back what they lost, with all processors: no thread runs beside."""
    examined: list[Report] = []
    restored: dict[str, float] = {}

    def note_restored(report: Report) -> None:
        restored[report.key.name] = time.time()
        upgrade.events.add("restored", durable=False, attachment=report.key.name)

    def note_examined(reports: list[Report]) -> None:
        examined.extend(reports)
        todo = sum(report.state in (LOST, DEGRADED) for report in reports)
        upgrade.events.add("damaged", durable=False, todo=todo, attachments=len(reports))

    how = RepairOptions(
        upgrade.settings.run_dir,
        # The masters were waited for; one that is not there by now is not waited for again.
        master_timeout=0.0,
        hints=upgrade.settings.hints(),
        processors=usable_processors(),
        on_progress=upgrade.events.say,
        on_examined=note_examined,
        on_restored=note_restored,
    )
    with upgrade.node() as (node, store, entries):
        _check_records(upgrade, entries)
        reports = repair_entries(node, store, entries, how)
    results = pod_results(examined, reports, restored, upgrade.events.progress)
    ok, text, data = _repaired(results)
    gone = _living_before(upgrade) - sum(result.state != STALE for result in results)
    if gone > 0:
        text += f"; {gone} gone since the snapshot, their sandboxes with them"
    # Nobody but a held kubelet deletes pods.
    return ok and (gone <= 0 or noted_kubelet(upgrade) is None), text, data


def _living_before(upgrade: Upgrade) -> int:
    """How many attachments there were at the snapshot."""
    taken = upgrade.events.progress.done.get(SNAPSHOT)
    return int(taken.data.get("living", 0)) if taken else 0


def _check_records(upgrade: Upgrade, entries: list[Entry]) -> None:
    """A file system that went with the NIC leaves an empty directory: pods there are."""
    taken = upgrade.events.progress.done.get(SNAPSHOT)
    if not entries and taken and taken.data.get("restorable"):
        raise CniError(
            IO,
            f"the records in {upgrade.settings.checkpoint_dir} are gone",
            f"bring back its file system, which had {taken.data['restorable']} at the snapshot",
        )


def _repaired(results: list[PodResult]) -> Outcome:
    counted = [result for result in results if result.state != STALE and not result.given_up]
    bad = group_by_reason([(result.title, result.reason) for result in counted if result.damaged])
    healthy = sum(result.healthy for result in counted)
    done = sum(result.repaired for result in counted)
    parts = [f"{healthy} of {len(counted)} healthy, {done} of them repaired"]
    given_up = sum(result.given_up for result in results)
    renamed = [result for result in counted if result.state == RENAMED]
    if renamed:
        parts.append(f"{len(renamed)} renamed, not touched")
    if given_up:
        parts.append(f"{given_up} given up, as the plan's coverage allows")
    if bad:
        parts.append(summarise(bad))
    return not bad, "; ".join(parts), {"pods": [result.document() for result in results]}


def verify(upgrade: Upgrade) -> Outcome:
    """Ask every pod's gateways."""
    plan = upgrade.plan.verify
    options = verifying.VerifyOptions(plan.timeout, plan.duplicates)
    with upgrade.node() as (node, _, entries):
        verdicts = verifying.verify(node, entries, options)
    given_up = before_of(upgrade.events.progress).given_up
    known = [verdict for verdict in verdicts if verdict.verdict != STALE]
    counted = [verdict for verdict in known if verdict.passed or verdict.key.name not in given_up]
    bad = group_by_reason(
        [
            (verdict.report.title, f"{verdict.verdict}: {verdict.reason}")
            for verdict in counted
            if verdict.failed
        ]
    )
    data = {"verdicts": [verdict.document() for verdict in known]}
    passed = sum(verdict.passed for verdict in counted)
    good = f"{passed} of {len(counted)} verified"
    return not bad, "; ".join([good, summarise(bad)] if bad else [good]), data
