"""`upgrade`: begin the upgrade of a node, or go on with one, here or in a unit of systemd's."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from cni_repair.base import log
from cni_repair.base.errors import CniError, set_last_words
from cni_repair.base.procfs import boot_id
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.cli.common import INTERRUPTED, USAGE, print_error
from cni_repair.cli.printable import say
from cni_repair.cli.upgrade import follow as upgradefollow
from cni_repair.cli.upgrade import status as upgradestatus
from cni_repair.cli.upgrade.consent import is_given
from cni_repair.cli.upgrade.options import kept, mistake_in, put_back, settings_of, ways_on
from cni_repair.cli.upgrade.status import print_report
from cni_repair.cli.upgrade.view import shown
from cni_repair.upgrade import driver, preflight, procedure, report, unit
from cni_repair.upgrade import journal as journals
from cni_repair.upgrade.baseline import NOTHING_KNOWN
from cni_repair.upgrade.context import Upgrade
from cni_repair.upgrade.describe import steps
from cni_repair.upgrade.events import Events
from cni_repair.upgrade.lock import Refused, exclusive
from cni_repair.upgrade.log import log_event
from cni_repair.upgrade.planfile import PlanError, plan_of, read_plan
from cni_repair.upgrade.progress import ENDED, FINE, REFUSED, REPAIR, progress_of, remaining
from cni_repair.upgrade.report import Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from types import FrameType
    from typing import Any

    from cni_repair.upgrade.journal import Event, Journal
    from cni_repair.upgrade.planfile import Plan
    from cni_repair.upgrade.settings import Settings


def run(options: argparse.Namespace) -> int:
    """Do what was asked for; exit status 0 fine, 1 failed, 2 wrong usage, 3 refused."""
    mistake = mistake_in(options)
    if mistake:
        print_error(f"upgrade: {mistake}")
        return USAGE
    try:
        if options.status:
            return upgradestatus.status(options)
        if options.release:
            return upgradestatus.release(options)
        return _resume(options) if options.resume else _start(options)
    except PlanError as error:
        for problem in error.problems:
            print_error(f"{options.plan or 'the journal'}: {problem}")
        return USAGE
    except Refused as ack:
        print_error(str(ack))
        if not (options.status or options.dry_run):
            log.event("refused", f"upgrade refused: {ack}", REASON=str(ack))
        return REFUSED


def _start(options: argparse.Namespace) -> int:
    plan, settings = read_plan(options.plan), settings_of(options)
    as_json = options.output == "json"
    if not as_json:
        say(f"upgrade of this node by {options.plan}:")
        for step in steps(plan, settings):
            first, *more = step.split("\n")  # of a driver command
            for line in (f"  {first}", *(13 * " " + line for line in more)):
                say(line)
        with contextlib.suppress(OSError):
            sys.stdout.flush()  # what may become of the kubelet is said before the start
    if options.dry_run:
        return _dry_run(options, plan, settings, as_json)
    with exclusive():
        _check_start(options)
    if not is_given(options):  # (nobody else waits meanwhile)
        raise Refused("not begun, nothing was touched: answer y, or say --yes")
    if not options.foreground:
        return upgradefollow.in_unit(options, ["upgrade", os.path.abspath(options.plan)])
    with exclusive():
        _check_start(options)
        begin = {
            "plan": plan.document, "planFile": os.path.abspath(options.plan),
            "options": kept(options), **_this_process(options),
        }  # fmt: skip
        try:
            journal, event = journals.begin(options.state_dir, begin)
        except CniError as error:
            raise Refused(f"{error}: nothing was touched") from error
        status, events = _run(options, plan, settings, journal, [event])
    return print_report(options, progress_of(events), status)


def _dry_run(options: argparse.Namespace, plan: Plan, settings: Settings, as_json: bool) -> int:
    found = preflight.check(plan, settings)
    problems = [*found.problems]
    try:
        with exclusive():
            _check_start(options)
    except Refused as ack:
        problems.append(str(ack))
    if as_json:
        now = found.measure or NOTHING_KNOWN
        print(dumps(report.dry_run_document(plan, steps(plan, settings), problems, now)))
    else:
        for problem in problems:
            say(f"preflight FAILED: {problem}")
        if not problems:
            say(f"preflight: {found.words}")
        say("dry run: nothing was done")
    return REFUSED if problems else FINE


def _check_start(options: argparse.Namespace) -> None:
    """Refuse to begin over what an earlier upgrade has left."""
    before = progress_of(_journalled(options))
    if not before.begin or before.boot_id != boot_id():
        return
    held = report.kubelet_document(before, Seen(ENDED, time.time()))
    noted = before.events.get("driver")
    show, go_on = ways_on(options, before)
    if noted is not None and driver.is_alive(driver.noted(noted), RUN_DIR):
        raise Refused(
            f"the driver command of the last upgrade is still at work (PID {noted['pid']}): wait"
            + ("" if before.given_up else f", or go on with it: {go_on}")
        )
    if (before.touched and before.end is None) or (held and held["held"]):
        what = "did not end" if before.end is None else f"holds {before.events['kubelet']['unit']}"
        raise Refused(
            f"the last upgrade {what}: {show} shows it; go on with {go_on}, or give it up with"
            " --release"
        )
    if before.end is not None and before.touched and REPAIR in remaining(before):
        raise Refused(
            f"the last upgrade left pods unrepaired: {show} shows it; go on with {go_on}, or give"
            " it up with --release"
        )


def _resume(options: argparse.Namespace) -> int:
    if not options.foreground:
        with exclusive():
            _begun(options)
        return upgradefollow.in_unit(options, ["upgrade", "--resume"])
    with exclusive():
        events = _begun(options)
        begin = progress_of(events).begin
        put_back(options, begin["options"])
        plan, settings = plan_of(begin["plan"]), settings_of(options)
        journal = journals.go_on(options.state_dir)
        event = journal.append({"event": "resume", **_this_process(options)})
        status, events = _run(options, plan, settings, journal, [*events, event])
    return print_report(options, progress_of(events), status)


def _this_process(options: argparse.Namespace) -> dict[str, Any]:
    """Who does it, for the journal."""
    return {
        "bootId": boot_id(),
        "pid": os.getpid(),
        "foreground": not unit.is_this_process(),  # as a resume should be, too
    }


def _begun(options: argparse.Namespace) -> list[Event]:
    """The events of an upgrade that can be gone on with."""
    events = _journalled(options)
    progress = progress_of(events)
    if not progress.begin:
        raise Refused(
            f"no upgrade was begun on this node (by {options.state_dir}): nothing to resume;"
            " cni-repair upgrade PLAN.yaml begins one"
        )
    if progress.boot_id != boot_id():
        raise Refused(
            "the node was rebooted since: its pods are new, its kubelet is free; there is nothing"
            " to resume"
        )
    if progress.given_up:
        raise Refused(
            "the last upgrade was given up: cni-repair repair --all brings its pods back, verify"
            " asks their gateways"
        )
    if progress.end is not None and not remaining(progress):
        raise Refused("the last upgrade has come to its end: there is nothing to resume")
    return events


def _journalled(options: argparse.Namespace) -> list[Event]:
    try:
        return journals.read(options.state_dir)
    except CniError as error:
        raise Refused(str(error)) from error


def _run(
    options: argparse.Namespace,
    plan: Plan,
    settings: Settings,
    journal: Journal,
    events: list[Event],
) -> tuple[int, list[Event]]:
    """Run the procedure in this process; its exit status, and all events."""
    # The terminal may go, its user may type Ctrl-Z: the upgrade goes on.
    for number in (signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminated)

    def cut_short(error: CniError) -> None:
        _, go_on = ways_on(options, progress_of(events))
        print_error(f"{error}: go on with {go_on}")
        log.event("failed", f"upgrade cut short: {error}", REASON=str(error))

    set_last_words(cut_short)
    with shown(options.output != "json") as show, journal:
        try:
            show(events[-1])
            log_event(events[-1])
            status = procedure.run(Upgrade(plan, settings, Events(journal, events, show)))
        except KeyboardInterrupt:
            status = INTERRUPTED
            log.event("failed", "upgrade cut short by a signal: cni-repair upgrade --resume")
    if journal.trouble:
        log.event("trouble", "the upgrade's journal is not complete", REASON=journal.trouble)
        print_error(f"the journal in {options.state_dir} is not complete: {journal.trouble}")
    return status, events


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
