"""`repair`: lost interfaces brought back."""

from __future__ import annotations

import sys

from cni_repair.base import log
from cni_repair.cli.common import DAMAGED, INTERRUPTED, USAGE, print_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.cli.scope import Scope
    from cni_repair.node.context import Node
    from cni_repair.node.report import Report


def run(options: argparse.Namespace) -> int:
    """Repair, and print what was done; 0 if all are healthy now."""
    if bool(options.containers) == options.all:
        both = "not both" if options.all else "see cni-repair status"
        print_error(f"repair: name pods (NAMESPACE/NAME), or say --all ({both})")
        return USAGE
    if options.dry_run:
        from cni_repair.cli.commands import plan

        return plan.run(options)
    from cni_repair.cli import render
    from cni_repair.cli.scope import scope_of

    scope = scope_of(options)
    try:
        reports = _repaired(scope, options)
    except KeyboardInterrupt:
        text = "interrupted; what was repaired stays repaired, call again for the rest"
        print_error(text)
        log.event("failed", f"repair: {text}")
        return INTERRUPTED
    if scope.json:
        render.json(reports)
    else:
        render.repaired(reports, scope)
    if options.all and scope.whole_node and _told_of_no_record(scope, reports):
        return DAMAGED
    return render.status_of(reports)


def _told_of_no_record(scope: Scope, reports: list[Report]) -> bool:
    """Say which pods are lost and have no record: `repair --all && systemctl start kubelet` must
    not pass them by. (After the repair: nobody waits for it.)"""
    from cni_repair.cli.coverage import lost_beside

    pods = lost_beside(scope, reports)
    if not pods:
        return False
    count = f"{len(pods)} lost interface{'' if len(pods) == 1 else 's'} without a record"
    text = f"{count}, which no repair brings back: {', '.join(pods)}"
    log.event("trouble", text)
    print_error(
        text,
        f"  next: cni-repair adopt --write{scope.again},",
        f"        then cni-repair repair --all{scope.again}",
    )
    return True


def _repaired(scope: Scope, options: argparse.Namespace) -> list[Report]:
    from cni_repair.cli.scope import check_place, with_entries
    from cni_repair.cni import netconf
    from cni_repair.cni.legacy_hints import hints_of
    from cni_repair.repair.armed.index import Indexed
    from cni_repair.repair.scheduler import repair_and_log, usable_processors
    from cni_repair.repair.session import RepairOptions

    timeout = scope.conf.master_timeout if scope.conf else netconf.MASTER_TIMEOUT_SECONDS
    how = RepairOptions(
        run_dir=scope.run_dir,
        master_timeout=timeout if options.wait is None else options.wait,
        force=options.force,
        probe=options.probe,
        ipv6_detection=_ipv6_detection(scope, options),
        hints=hints_of(scope.conf),
        processors=usable_processors(),
        on_progress=_on_progress,
    )

    indexed: list[Indexed] = []

    def read(node: Node, store: Store, network: str) -> list[Entry]:
        indexed.append(Indexed(node, store, how, network))
        return indexed[0].entries

    def work(node: Node, store: Store, entries: list[Entry]) -> list[Report]:
        with indexed[0]:
            reports = repair_and_log(node, store, entries, indexed[0].options)
        check_place(node, reports)
        return reports

    return with_entries(scope, work, read=read)


def _ipv6_detection(scope: Scope, options: argparse.Namespace) -> str:
    """The option, or what `--conf` says. (What a record says counts in any case.)"""
    if options.ipv6_detection:
        return str(options.ipv6_detection)
    from cni_repair.cni.netconf import IPV6_DETECTIONS

    return scope.conf.ipv6_detection if scope.conf else IPV6_DETECTIONS[0]


def _on_progress(text: str) -> None:
    """A word before a wait, for those who watch."""
    if sys.stderr is not None and sys.stderr.isatty():
        print_error(f"{text} (Ctrl-C is safe)")
