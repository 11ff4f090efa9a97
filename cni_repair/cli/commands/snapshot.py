"""`snapshot`: which pods could be restored, from records that are up to date."""

from __future__ import annotations

from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps
from cni_repair.cli.common import DAMAGED, USAGE, print_error
from cni_repair.cli.coverage import shown, uncovered_beside
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.scope import scope_of, with_entries
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.planning.plan import DEGRADED
from cni_repair.node.context import Node
from cni_repair.node.discovery import unmanaged
from cni_repair.node.snapshot import (
    KEPT,
    REFRESHED,
    UNCHANGED,
    Snapshot,
    SnapshotOptions,
    log_snapshot,
    snapshot,
)
from cni_repair.repair.armed.index import write_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.cli.scope import Scope
    from cni_repair.node.report import Report
    from cni_repair.node.snapshot import Record


def run(options: argparse.Namespace) -> int:
    """Bring the records up to date (not with `--check`); 0 if every pod can be restored."""
    if options.accept and (options.check or not options.containers):
        wanted = "it writes: not with --check" if options.check else "name the pods that it is for"
        print_error(f"snapshot --accept: {wanted}")
        return USAGE
    scope = scope_of(options)
    everything = scope.whole_node
    how = SnapshotOptions(
        scope.run_dir, not options.check, everything, options.accept, new_gateways=True
    )

    def work(node: Node, store: Store, entries: list[Entry]) -> list[Snapshot]:
        taken = snapshot(node, store, entries, how)
        if how.write:
            write_index(node, store, scope.run_dir, hints_of(scope.conf))
        return [taken]

    taken = with_entries(scope, work, begins=True)
    found = taken[0] if taken else _of_no_record(everything)
    if how.write:
        log_snapshot(found)
    # (Also what a runtime alone remembers: coverage must not rise when such a pod's link dies.)
    reports = [record.report for record in found.records]
    bare = uncovered_beside(scope, reports, found.unmanaged)
    found = replace(found, unmanaged=bare.unmanaged)
    if scope.json:
        print(dumps(found.document()))
    else:
        show(found, scope, options.check, shown(bare, scope, "snapshot").advice)
    return 0 if found.complete else DAMAGED


def _of_no_record(everything: bool) -> Snapshot:
    with Node() as node:
        return Snapshot((), tuple(unmanaged(node, set())) if everything else ())


def show(found: Snapshot, scope: Scope, check: bool, more: tuple[str, ...] = ()) -> None:
    """What keeps the coverage from being complete, a line each, and the totals last."""
    for line in _kept(found):
        say(line)
    kept = {_name(one.report) for one in found.records if _could_be_accepted(one)}
    if kept and not check:
        which = kept.pop() if len(kept) == 1 else "NAMESPACE/NAME"
        say(
            "record kept: where what is missing or changed is meant to stay so,"
            f" cni-repair snapshot --accept{scope.again} {which}"
        )
    for pod in found.unmanaged:
        say(f"{'unmanaged':15} {one_line(str(pod))}")
    for line in more:
        say(line)
    if not check:
        summary = found.summary()
        counts = [f"{summary[one]} {one}" for one in (REFRESHED, UNCHANGED, KEPT) if summary[one]]
        say(f"records: {', '.join(counts) or 'none'}")
    say(f"coverage: {found.restorable} of {found.total} interfaces could be restored")


def _kept(found: Snapshot) -> Iterator[str]:
    """Records with a reason: those of one together, and it once."""
    groups: dict[tuple[str, str], list[str]] = {}
    for record in found.records:
        if record.reason:
            verdict = f"{_verdict(record):15}"
            groups.setdefault((verdict, record.reason), []).append(one_line(record.report.title))
    for (verdict, reason), titles in groups.items():
        if titles[1:]:
            yield from (f"{verdict} {title}" for title in titles)
            yield f"    all {len(titles)}: {one_line(reason)}"
        else:
            yield f"{verdict} {titles[0]}: {one_line(reason)}"


def _could_be_accepted(record: Record) -> bool:
    report = record.report
    return report.state == DEGRADED and report.error is None and bool(record.reason)


def _name(report: Report) -> str:
    """What the command line calls its pod, as a word of a shell."""
    return quoted(report.pod if "/" in report.pod else report.key.container_id)


def _verdict(record: Record) -> str:
    if not record.counts:
        return "stale"
    if not record.restorable:
        return "not restorable"
    if record.outcome != KEPT:
        return "not remembered"
    return "not refreshed" if record.failed else "record kept"
