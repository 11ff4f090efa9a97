"""Everything that can be known to be wrong before anything is touched."""

from __future__ import annotations

import os
import shutil
import time

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import Store
from cni_repair.network.links import link_named
from cni_repair.node.context import Node, wrapped
from cni_repair.node.discovery import unmanaged
from cni_repair.node.placement import check_sight
from cni_repair.node.snapshot import Snapshot, SnapshotOptions, snapshot
from cni_repair.upgrade import kubelet, measuring
from cni_repair.upgrade.context import living
from cni_repair.upgrade.drivercommand import SEARCH_PATH, check_command
from cni_repair.upgrade.pods import group_by_reason, in_words, summarise
from cni_repair.upgrade.requirements import unmet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.upgrade.baseline import Measure
    from cni_repair.upgrade.planfile import Plan
    from cni_repair.upgrade.settings import Settings

# A snapshot writes a few kilobytes an attachment.
_WANTED_BYTES = 16 << 20
_LOCK_SECONDS = 5.0


@frozen
class Findings:
    """What is to be known before anything is touched."""

    problems: list[str]  # each with its remedy
    words: str  # where there is none
    measure: Measure | None  # of what afterwards must be no worse; None: it could not be taken


def check(plan: Plan, settings: Settings, known: Measure | None = None) -> Findings:
    """All problems, and how the node is now; touches nothing. `known`: its measure, where that was
    taken before the driver command was started."""
    problems = [*_of_command(plan), *_of_kubelet(plan, settings)]
    words, measure = "", known
    try:
        with Node() as node:
            problems += _of_masters(plan, node)
            taken, entries = _look(node, settings)
            # (Such pods would be stale, and no coverage be asked for them.)
            check_sight(entry.checkpoint for entry in entries if entry.checkpoint is not None)
            measure = measure or measuring.measure(node, entries, plan)
            problems += unmet(plan, living(node, entries), measure)
        problems += too_little_coverage(plan, taken)
        problems += _of_locks(entries, settings)
        words = f"{taken.restorable} of {taken.total} interfaces could be restored"
        words += in_words("; already out of order, so not required afterwards: ", measure.troubles)
    except (CniError, OSError) as error:
        problems.append(str(wrapped(error)))
    for directory in (settings.checkpoint_dir, settings.state_dir):
        problems += _of_disk(directory)
    return Findings(problems, words, measure)


def _look(node: Node, settings: Settings) -> tuple[Snapshot, list[Entry]]:
    try:
        with Store(settings.checkpoint_dir) as store:
            entries = inventory.read_all(store, settings.hints())
            only_look = SnapshotOptions(settings.run_dir, write=False, all_pods=True)
            return snapshot(node, store, entries, only_look), entries
    except FileNotFoundError:  # no pod was ever attached through us
        return Snapshot((), tuple(unmanaged(node, set()))), []


def too_little_coverage(plan: Plan, taken: Snapshot) -> list[str]:
    """What of the node could not be restored, if that is more than the plan allows."""
    if taken.total == 0 or 100 * taken.restorable >= plan.coverage * taken.total:
        return []
    return [
        f"coverage is {taken.restorable} of {taken.total}, the plan wants {plan.coverage}%"
        f" (see cni-repair snapshot): {summarise(group_by_reason(_lost_for_good(taken)))}"
    ]


def not_restorable(taken: Snapshot) -> list[str]:
    """What would be lost with the driver, and why."""
    return [f"{title}: {reason}" for title, reason in _lost_for_good(taken)]


def _lost_for_good(taken: Snapshot) -> list[tuple[str, str]]:
    known = [
        (record.report.title, f"{record.report.state}: {record.reason}")
        for record in taken.records
        if record.counts and not record.restorable
    ]
    return [*known, *((str(pod), "no record: cni-repair adopt") for pod in taken.unmanaged)]


def _of_command(plan: Plan) -> list[str]:
    problem = check_command(plan.driver.command)
    return [f"$.driver.command: {problem}"] if problem else []


def _of_kubelet(plan: Plan, settings: Settings) -> list[str]:
    if plan.kubelet is None or not settings.hold_kubelet:
        return []
    try:
        kubelet.find(plan.kubelet.unit)
    except CniError as error:
        return [f"$.kubelet: {error}"]
    if not shutil.which("systemd-run", path=SEARCH_PATH):
        return ["$.kubelet: no systemd-run for the dead-man timer: install systemd's tools"]
    return []


def _of_masters(plan: Plan, node: Node) -> list[str]:
    return [
        f"$.masters.names: {name} does not exist now; name links of this node"
        for name in plan.masters.names
        if link_named(node.rtnl, name) is None
    ]


def _of_disk(directory: str) -> list[str]:
    try:
        status = os.statvfs(_existing(directory))
    except OSError as error:
        return [f"{directory} cannot be used: {error.strerror}: name another"]
    if status.f_flag & os.ST_RDONLY:
        return [f"{directory} is on a read-only file system: nothing could be noted there"]
    free = status.f_bavail * status.f_frsize
    if free < _WANTED_BYTES or (status.f_files and not status.f_favail):
        return [f"{directory} is full ({free >> 20} MiB free): make room, 16 MiB will do"]
    return []


def _existing(path: str) -> str:
    """The path, or what there is of it by now."""
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _of_locks(entries: list[Entry], settings: Settings) -> list[str]:
    """Whoever holds a lock for long would hold up the repair."""
    until = time.monotonic() + _LOCK_SECONDS
    for entry in entries:
        run_dir, left = inventory.run_dir_of(entry, settings.run_dir), until - time.monotonic()
        try:
            with Lock(run_dir, entry.key.name, max(0.0, left)):
                pass
        except CniError as error:
            return [str(error)]  # one is enough to wait for
    return []
