"""`status`, `plan` and `repair`: the same look at the node, shown in three ways."""

from __future__ import annotations

import sys

from cni_repair.checkpoint.store import Store
from cni_repair.cli import render
from cni_repair.cni import netconf
from cni_repair.cni.conffile import read_conf
from cni_repair.cni.seedhints import hints_of
from cni_repair.errors import NO_CHECKPOINT, CniError
from cni_repair.node import inventory
from cni_repair.node.look import Node, examine
from cni_repair.node.repair import Options
from cni_repair.node.repair import repair as repair_entries
from cni_repair.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from cni_repair.node.inventory import Entry
    from cni_repair.node.report import Report

_JSON_VERSION = "1.0.0"


@record
class Scope:
    """Which attachments a command is about, and where its state lives."""

    checkpoint_dir: str
    run_dir: str
    conf: netconf.NetConf | None
    containers: tuple[str, ...]


def status(options: argparse.Namespace) -> int:
    """Print the state of the attachments; 0 if all are healthy."""
    scope = _scope(options)
    reports = _work(scope, lambda node, _, entries: examine(node, entries))
    if options.output == "json":
        render.json(reports, _JSON_VERSION)
    else:
        render.table(reports, scope.checkpoint_dir, everything=options.all)
    return _exit_status(reports)


def plan(options: argparse.Namespace) -> int:
    """Print the commands that a repair would equal; 0 if there is nothing to repair."""
    scope = _scope(options)
    reports = _work(scope, lambda node, _, entries: examine(node, entries))
    if options.output == "json":
        render.json(reports, _JSON_VERSION)
    else:
        render.commands(reports, scope.checkpoint_dir)
    return _exit_status(reports)


def repair(options: argparse.Namespace) -> int:
    """Repair, and print what was done; 0 if all are healthy now."""
    scope = _scope(options)
    timeout = scope.conf.master_timeout if scope.conf else netconf.MASTER_TIMEOUT_SECONDS
    how = Options(
        run_dir=scope.run_dir,
        master_timeout=timeout if options.wait is None else options.wait,
        hints=hints_of(scope.conf),
    )
    try:
        reports = _work(
            scope, lambda node, store, entries: repair_entries(node, store, entries, how)
        )
    except KeyboardInterrupt:
        print(
            "cni-repair: interrupted; what was repaired stays repaired, call again for the rest",
            file=sys.stderr,
        )
        return 130
    if options.output == "json":
        render.json(reports, _JSON_VERSION)
    else:
        render.repaired(reports, scope.checkpoint_dir)
    return _exit_status(reports)


def _scope(options: argparse.Namespace) -> Scope:
    conf = read_conf(options.conf) if options.conf else None
    return Scope(
        checkpoint_dir=options.checkpoint_dir
        or (conf.checkpoint_dir if conf else netconf.CHECKPOINT_DIR),
        run_dir=options.run_dir or (conf.run_dir if conf else netconf.RUN_DIR),
        conf=conf,
        containers=tuple(options.containers),
    )


def _work(scope: Scope, work: Callable[[Node, Store, list[Entry]], list[Report]]) -> list[Report]:
    try:
        with Store(scope.checkpoint_dir) as store, Node() as node:
            network = scope.conf.name if scope.conf else ""
            entries = inventory.read_all(store, hints_of(scope.conf), network)
            return work(node, store, _chosen(entries, scope))
    except FileNotFoundError:
        _chosen([], scope)
        print(f"cni-repair: {scope.checkpoint_dir} does not exist (yet)", file=sys.stderr)
        return []


def _chosen(entries: list[Entry], scope: Scope) -> list[Entry]:
    """The entries that the named containers mean; all where none is named."""
    if not scope.containers:
        return entries
    chosen: list[Entry] = []
    for name in scope.containers:
        found = [entry for entry in entries if _is_meant(entry, name)]
        if not found:
            raise CniError(
                NO_CHECKPOINT,
                f"no checkpoint of {name}",
                f"cni-repair status --all --checkpoint-dir {scope.checkpoint_dir} lists them",
            )
        containers = sorted({entry.key.container_id for entry in found})
        if len(containers) > 1:
            raise CniError(NO_CHECKPOINT, f"{name} is ambiguous", ", ".join(containers))
        chosen += [entry for entry in found if entry not in chosen]
    return chosen


def _is_meant(entry: Entry, name: str) -> bool:
    if "/" in name:
        return entry.checkpoint is not None and str(entry.checkpoint.pod) == name
    return entry.key.container_id.startswith(name)


def _exit_status(reports: list[Report]) -> int:
    return 0 if all(report.healthy for report in reports) else 1
