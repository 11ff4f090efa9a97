"""`forget`: records that no pod owns, removed."""

from __future__ import annotations

from cni_repair.base import log
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps
from cni_repair.cli.common import DAMAGED, REFUSED, USAGE, print_error
from cni_repair.cli.printable import one_line, say
from cni_repair.cli.scope import scope_of, with_entries
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.planning.plan import STALE
from cni_repair.node import forget as forgetting
from cni_repair.node.examine import examine
from cni_repair.node.forget import FORGETTABLE, FORGOTTEN, KEPT, Forgotten
from cni_repair.node.report import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.cli.scope import Scope
    from cni_repair.node.context import Node

_REMEDY = {
    UNREADABLE: "kept, unreadable: delete the pod; or restore the file in {directory};\n"
    "  or move it away, then cni-repair adopt --write{again}",
    STALE: "kept, stale: what the reason names holds its namespace, but the record does not\n"
    "  lead there any more: no repair reaches it; delete the pod, or end what holds it",
    "": "kept: a living pod needs its record, which goes when the pod is deleted",
}


def run(options: argparse.Namespace) -> int:
    """Remove records; 0 if all that are meant are gone, 3 if nothing was touched."""
    if not options.containers and not options.stale:
        print_error("forget: name pods (NAMESPACE/NAME), or say --stale (see cni-repair status)")
        return USAGE
    scope = scope_of(options)

    def work(node: Node, store: Store, entries: list[Entry]) -> list[Forgotten]:
        found = forgetting.examine(node, examine(node, entries))
        meant = [
            (entry, one)
            for entry, one in zip(entries, found)
            if not options.stale or one.report.state == STALE
        ]
        # A name that is typed is meant; where one is wrong, the others may be, too.
        refused = not options.stale and any(one.outcome == KEPT for _, one in meant)
        if options.dry_run or refused:
            return [one for _, one in meant]
        return [_removed(scope, store, entry, one) for entry, one in meant]

    forgotten = with_entries(scope, work)
    if scope.json:
        print(dumps(forgetting.document(forgotten, options.dry_run)))
    else:
        _show(forgotten, scope, options.dry_run)
    return _status_of(forgotten, options.dry_run)


def _removed(scope: Scope, store: Store, entry: Entry, one: Forgotten) -> Forgotten:
    if one.outcome == KEPT:
        return one
    title, fields = one.report.title, one.report.log_fields
    try:
        forgetting.forget(store, entry, scope.run_dir, hints_of(scope.conf))
    except CniError as error:
        log.failure(f"record of {title} not forgotten", error, **fields)
        return replace(one, outcome=KEPT, error=error)
    log.event("forgotten", f"forgot {title}: {one.proof}", **fields, REASON=one.proof)
    return replace(one, outcome=FORGOTTEN)


def _status_of(forgotten: list[Forgotten], dry_run: bool) -> int:
    outcomes = {one.outcome for one in forgotten}
    if KEPT not in outcomes:
        return 0
    return DAMAGED if FORGOTTEN in outcomes and not dry_run else REFUSED


def _show(forgotten: list[Forgotten], scope: Scope, dry_run: bool) -> None:
    for one in forgotten:
        say(f"{one.outcome:11} {one_line(one.report.title)}")
        say(f"    {one_line(one.reason)}")
    if not forgotten:
        say(f"no stale record in {scope.checkpoint_dir}: nothing to forget")
    kept = [one for one in forgotten if one.outcome == KEPT]
    gone = [one for one in forgotten if one.outcome == FORGOTTEN]
    forgettable = [one for one in forgotten if one.outcome == FORGETTABLE]
    # (Where nothing is removed, their addresses stay as they are, too.)
    _show_reserved([path for one in (forgettable if dry_run else gone) for path in one.reserved])
    if kept and not dry_run and not gone:
        say("nothing was removed, because of what is kept")
    for state in sorted({_kind(one) for one in kept}):
        for line in _REMEDY[state].splitlines():
            say(line.format(again=scope.again, directory=scope.checkpoint_dir))
    if kept and forgettable and not dry_run:
        say("  next: cni-repair forget, without what is kept")
    if dry_run and forgettable:
        say("dry run: nothing was removed; without --dry-run it is")


def _kind(one: Forgotten) -> str:
    if one.report.checkpoint is None:
        return UNREADABLE
    return STALE if one.report.state == STALE else ""


def _show_reserved(paths: list[str]) -> None:
    """Say what IPAM is left with: records are ours, addresses are not."""
    if not paths:
        return
    say("IPAM was not asked: addresses stay reserved until the runtime's DEL, which needs")
    say("no record. Only if the runtime has forgotten the pod, too, and none will come:")
    for path in paths:
        say(f"  rm {quoted(path)}")
