"""The last upgrade: what came of it, where it stands, and how it is given up."""

from __future__ import annotations

import sys
import time

from cni_repair.base import log
from cni_repair.base.procfs import boot_id
from cni_repair.base.strictjson import dumps
from cni_repair.checkpoint.locks import RUN_DIR
from cni_repair.cli.common import INTERRUPTED, print_error
from cni_repair.cli.printable import say
from cni_repair.cli.upgrade.options import again
from cni_repair.cli.upgrade.view import forget_stdout
from cni_repair.upgrade import driver, kubelet, report
from cni_repair.upgrade import journal as journals
from cni_repair.upgrade.baseline import measured_after, measured_before
from cni_repair.upgrade.lock import exclusive, is_at_work
from cni_repair.upgrade.log import log_event
from cni_repair.upgrade.measuring import links_called
from cni_repair.upgrade.progress import (
    CUT_SHORT,
    ENDED,
    FAILED,
    FINE,
    NONE,
    REBOOTED,
    REFUSED,
    RELEASE,
    RUNNING,
    progress_of,
)
from cni_repair.upgrade.report import Seen
from cni_repair.upgrade.times import clock
from cni_repair.upgrade.verdict import how_it_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cni_repair.upgrade.progress import Progress


def print_report(options: argparse.Namespace, progress: Progress, status: int) -> int:
    """Print what came of it; a reader that has gone changes nothing of that."""
    seen = _seen(options, progress, ENDED if progress.end else CUT_SHORT)
    try:
        if options.output == "json":
            print(dumps(report.document(progress, seen)))
        else:
            say()
            for line in report.lines(progress, seen):
                say(line)
            if seen.standing == CUT_SHORT:
                _say_driver(progress)
            say(_last_words(progress, status))
        sys.stdout.flush()
    except OSError:
        forget_stdout()
    return status


def _seen(options: argparse.Namespace, progress: Progress, standing: str) -> Seen:
    known = {**measured_before(progress).links, **measured_after(progress).links}
    cards = [name for name, link in known.items() if link.driver]
    return Seen(standing, time.time(), again(options), links_called(cards) if cards else {})


def _last_words(progress: Progress, status: int) -> str:
    if status == FINE:
        return f"upgrade {how_it_ended(progress)}"
    words = {REFUSED: "refused: nothing was touched", INTERRUPTED: "interrupted"}
    return f"upgrade {words.get(status, 'FAILED: see above')}"


def status(options: argparse.Namespace) -> int:
    """Print where the last upgrade stands; 0 if it has ended well."""
    progress = progress_of(journals.read(options.state_dir))
    if not progress.begin:
        _say_none(options, "no upgrade was begun on this node")
        return FAILED
    seen = _seen(options, progress, progress.standing(boot_id(), is_at_work()))
    if options.output == "json":
        print(dumps(report.document(progress, seen)))
    else:
        begun = clock(progress.begin["at"])
        plan = progress.begin["planFile"]
        say(f"upgrade by {plan}, begun {begun}: {_where(progress, seen)}")
        for line in report.lines(progress, seen):
            say(line)
        if seen.standing == CUT_SHORT:
            _say_driver(progress)
    return FINE if progress.end and progress.end["status"] == FINE else FAILED


def _say_none(options: argparse.Namespace, words: str) -> None:
    if options.output == "json":
        print(dumps(report.document(progress_of([]), Seen(NONE, time.time()))))
    else:
        say(words)


def _where(progress: Progress, seen: Seen) -> str:
    if progress.end is not None:
        return how_it_ended(progress)
    if seen.standing == RUNNING:
        return f"running (PID {progress.pid})"
    return "cut short by a reboot: nothing to resume" if seen.standing == REBOOTED else "cut short"


def _say_driver(progress: Progress) -> None:
    """Warn where an upgrade's driver command outlives it: nobody should run another beside it."""
    noted = progress.events.get("driver")
    if noted is None or progress.boot_id != boot_id():
        return
    if driver.is_alive(driver.noted(noted), RUN_DIR):
        say(f"the driver command is still at work (PID {noted['pid']}), and is left alone")


def release(options: argparse.Namespace) -> int:
    """Give the last upgrade up, and release the kubelet that it may hold."""
    with exclusive():
        progress = progress_of(journals.read(options.state_dir))
        if not progress.begin:
            _say_none(options, "no upgrade was begun on this node: nothing to release")
            return FINE
        with journals.go_on(options.state_dir) as journal:
            words = _release_kubelet(progress)
            journal.append({"event": "phase", "phase": RELEASE})
            journal.append(
                {"event": "done", "phase": RELEASE, "ok": True, "words": words, "data": {}}
            )
            ended = progress.end["status"] if progress.end else FAILED
            log_event(journal.append({"event": "end", "status": ended, "givenUp": True}))
    if options.output == "json":
        now = progress_of(journals.read(options.state_dir))
        print(dumps(report.document(now, _seen(options, now, ENDED))))
    else:
        say(words)
        if ended != FINE and progress.touched:
            say("the upgrade is given up; the pods: cni-repair status")
        _say_driver(progress)
    if journal.trouble:
        print_error(f"the journal in {options.state_dir} cannot be kept: {journal.trouble}")
    return FINE


def _release_kubelet(progress: Progress) -> str:
    noted = progress.events.get("kubelet")
    if noted is None or progress.boot_id != boot_id():
        return "it held no kubelet: nothing to release"
    found = kubelet.Found(noted["unit"], noted["active"], noted["masked"])
    kubelet.release(found)
    kubelet.disarm()
    log.event("released", f"{found.unit} was released by hand", UNIT=found.unit)
    return f"{found.unit} was released by hand"
