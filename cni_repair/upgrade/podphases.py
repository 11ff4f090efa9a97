"""The phases that are about pods: what can be restored, and what was."""

from __future__ import annotations

import time

from cni_repair.base.errors import IO, CniError
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.store import Store
from cni_repair.network.planning.plan import DEGRADED, LOST, RENAMED, STALE
from cni_repair.node.context import Node
from cni_repair.node.snapshot import REFRESHED, SnapshotOptions, log_snapshot
from cni_repair.node.snapshot import snapshot as take_snapshot
from cni_repair.repair.armed.index import Indexed, write_index
from cni_repair.repair.log import log_repaired
from cni_repair.repair.scheduler import repair as repair_entries
from cni_repair.repair.scheduler import usable_processors
from cni_repair.repair.session import RepairOptions
from cni_repair.upgrade import measuring, uplinks
from cni_repair.upgrade import preflight as preflighting
from cni_repair.upgrade.baseline import (
    BEFORE,
    Measure,
    as_bad_as_before,
    is_no_worse,
    measured_before,
    thinner_bonds,
)
from cni_repair.upgrade.context import living
from cni_repair.upgrade.holding import noted_kubelet
from cni_repair.upgrade.pods import (
    PodResult,
    before_of,
    group_by_reason,
    in_words,
    noted_before,
    pod_results,
    summarise,
)
from cni_repair.upgrade.progress import MASTERS, SNAPSHOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.node.report import Report
    from cni_repair.upgrade.context import Outcome, Upgrade

_WAS_SO = "; was so before: "


def preflight(upgrade: Upgrade) -> Outcome:
    """Look for all that can be known to be wrong, and measure what is in order; touches nothing."""
    progress = upgrade.events.progress
    known = measured_before(progress) if progress.touched else None
    found = preflighting.check(upgrade.plan, upgrade.settings, known)
    if known is None and found.measure is not None:
        upgrade.events.commit(BEFORE, **found.measure.document())
    problems, text = found.problems, found.words
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
        log_snapshot(taken)
        if not upgrade.events.progress.touched:
            _measure_news(upgrade, node, store)
            write_index(node, store, upgrade.settings.run_dir, upgrade.settings.hints())
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


def _measure_news(upgrade: Upgrade, node: Node, store: Store) -> None:
    """The records may have learned of gateways that nobody has asked yet."""
    known = measured_before(upgrade.events.progress)
    entries = inventory.read_all(store, upgrade.settings.hints())
    measure = measuring.measure_news(node, entries, upgrade.plan, known)
    if measure is not known:
        upgrade.events.commit(BEFORE, **measure.document())


def masters(upgrade: Upgrade) -> Outcome:
    """Wait for what the pods stand on."""
    plan = upgrade.plan.masters
    before = measured_before(upgrade.events.progress)

    def note_back(name: str) -> None:
        upgrade.events.add("back", durable=False, link=name)

    with upgrade.node() as (node, _, entries):
        links = uplinks.awaited(upgrade.plan, living(node, entries), before)
        away = uplinks.wait(node.rtnl, links, plan.deadline, note_back)
    if away:
        return False, f"{'; '.join(away)} (after {plan.deadline:g} s)", {}
    return True, uplinks.words(links, plan.carrier), {}


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
    with (
        Store(upgrade.settings.checkpoint_dir) as store,
        Node() as node,
        Indexed(node, store, how) as indexed,
    ):
        _check_records(upgrade, indexed.entries)
        reports = repair_entries(node, store, indexed.entries, indexed.options)
    results = pod_results(examined, reports, restored, upgrade.events.progress)
    _log(results, examined)
    ok, text, data = _repaired(results)
    gone = _living_before(upgrade) - sum(result.state != STALE for result in results)
    if gone > 0:
        text += f"; {gone} gone since the snapshot, their sandboxes with them"
    # Nobody but a held kubelet deletes pods.
    return ok and (gone <= 0 or noted_kubelet(upgrade) is None), text, data


def _log(results: list[PodResult], examined: list[Report]) -> None:
    """A line for each pod that was changed, or that is damaged since."""
    before = {report.key: report for report in examined}
    for result in results:
        if result.report.actions or (result.damaged and not result.as_before):
            log_repaired(result.report, before.get(result.report.key), result.outage_ms)


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
    bad = [result for result in counted if result.damaged]
    failed = [(result.title, result.reason) for result in bad if not result.as_before]
    healthy = sum(result.healthy for result in counted)
    done = sum(result.repaired for result in counted)
    text = f"{healthy} of {len(counted)} healthy, {done} of them repaired"
    given_up = sum(result.given_up for result in results)
    renamed = [result for result in counted if result.state == RENAMED]
    if renamed:
        text += f"; {len(renamed)} renamed, not touched"
    if given_up:
        text += f"; {given_up} given up, as the plan's coverage allows"
    text += in_words("; ", failed)
    text += in_words(_WAS_SO, [(result.title, result.reason) for result in bad if result.as_before])
    return not failed, text, {"pods": [result.document() for result in results]}


def verify(upgrade: Upgrade) -> Outcome:
    """Ask every pod's gateways, and look whether the node is no worse than before."""
    progress = upgrade.events.progress
    before, given_up = measured_before(progress), before_of(progress).given_up
    with upgrade.node() as (node, _, entries):
        checkpoints = living(node, entries)
        thinner = _wait_for_links(upgrade, node, checkpoints, before)
        verdicts = measuring.ask(node, entries, upgrade.plan)
        links = measuring.links_now(node.rtnl, checkpoints, before.links)
    after = Measure(links, measuring.pods_of(verdicts))
    counted = {name: pod for name, pod in after.pods.items() if pod.passed or name not in given_up}
    passed = sum(pod.passed for pod in counted.values())
    bad = {name: pod for name, pod in counted.items() if pod.failed}
    worse = [
        (pod.title, pod.reason)
        for name, pod in bad.items()
        if not is_no_worse(before.pods.get(name), pod)
    ]
    known = [verdict for verdict in verdicts if verdict.verdict != STALE]
    data = {"verdicts": [verdict.document() for verdict in known], "after": after.document()}
    text = f"{passed} of {len(counted)} verified"
    text += in_words("; ", [*(("", why) for why in thinner), *worse])
    text += in_words(_WAS_SO, as_bad_as_before(before, after))
    return not worse and not thinner, text, data


def _wait_for_links(
    upgrade: Upgrade, node: Node, checkpoints: list[Checkpoint], before: Measure
) -> list[str]:
    """Wait once more for the masters, and for the legs of their bonds; why a bond has fewer legs
    than before, once the masters' time is over.

    Its pods need one leg, and are repaired without waiting for the others. Where the plan names
    masters, it is those that count. Who has mended a link resumes at once: it is waited for anew.
    """

    def why_not() -> str:
        return "; ".join(_thinner(upgrade, node, checkpoints, before))

    links = uplinks.awaited(upgrade.plan, checkpoints, before)
    waiting = [*uplinks.questions(node.rtnl, links), ("", why_not)]
    uplinks.wait_until_none(waiting, _masters_time_left(upgrade))
    return _thinner(upgrade, node, checkpoints, before)


def _thinner(
    upgrade: Upgrade, node: Node, checkpoints: list[Checkpoint], before: Measure
) -> list[str]:
    plan = upgrade.plan.masters
    if not plan.carrier or plan.names:
        return []
    return thinner_bonds(before, Measure(measuring.links_now(node.rtnl, checkpoints, ())))


def _masters_time_left(upgrade: Upgrade) -> float:
    """It began with the masters phase; or with this resume, where that phase was done before."""
    progress, deadline = upgrade.events.progress, upgrade.plan.masters.deadline
    waited = progress.done.get(MASTERS)
    began = max(progress.started, waited.began if waited else 0.0)
    return min(began + deadline - time.time(), deadline)
