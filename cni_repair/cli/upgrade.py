"""`upgrade`: start, resume, follow, look at, or give up the upgrade of a node."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time

from cni_repair.checkpoint.identity import boot_id
from cni_repair.checkpoint.locks import RUN_DIR, Lock
from cni_repair.checkpoint.store import CHECKPOINT_DIR
from cni_repair.cli.printable import printable
from cni_repair.cli.upgradeview import Aside, forget_stdout, viewer
from cni_repair.cni.conffile import read_conf
from cni_repair.cni.seedhints import hints_of
from cni_repair.errors import TRY_AGAIN, CniError
from cni_repair.strictjson import dumps
from cni_repair.upgrade import driver, kubelet, preflight, report, unit
from cni_repair.upgrade import journal as journals
from cni_repair.upgrade.describe import steps
from cni_repair.upgrade.plan import PlanError, plan_of, read_plan
from cni_repair.upgrade.procedure import FAILED, FINE, REFUSED, Procedure, Settings
from cni_repair.upgrade.progress import (
    CUT_SHORT,
    ENDED,
    REBOOTED,
    RELEASE,
    REPAIR,
    RUNNING,
    Progress,
    progress_of,
    remaining,
)
from cni_repair.upgrade.report import Seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from cni_repair.upgrade.journal import Event, Journal
    from cni_repair.upgrade.plan import Plan

USAGE = 2
INTERRUPTED = 130
# One upgrade a node, wherever the locks of its pods are.
_LOCK = "upgrade"
_LOCK_SECONDS = 0.5  # `--status` holds it for a moment
_POLL_SECONDS = 0.1
_UNIT_SECONDS = 1.0
# What belongs to an upgrade, not to one start of it.
_KEPT_OPTIONS = ("checkpoint_dir", "run_dir", "conf", "no_kubelet")


class _Refused(Exception):
    """Nothing was done; the words are for the user."""


def upgrade(options: argparse.Namespace) -> int:
    """Do what was asked for; exit status 0 fine, 1 failed, 2 wrong usage, 3 refused."""
    mistake = _mistake(options)
    if mistake:
        _complain(f"upgrade: {mistake}")
        return USAGE
    try:
        if options.status:
            return _status(options)
        if options.release:
            return _release(options)
        return _resume(options) if options.resume else _start(options)
    except PlanError as error:
        for problem in error.problems:
            _complain(f"{options.plan or 'the journal'}: {problem}")
        return USAGE
    except _Refused as refusal:
        _complain(str(refusal))
        return REFUSED


def _mistake(options: argparse.Namespace) -> str:
    given = [f"--{name.replace('_', '-')}" for name in _KEPT_OPTIONS if getattr(options, name)]
    given += ["--dry-run"] if options.dry_run else []
    if given and options.plan is None:
        return f"{', '.join(given)}: only with PLAN.yaml; an upgrade that was begun keeps its own"
    paths = (options.plan, options.state_dir, options.checkpoint_dir, options.run_dir, options.conf)
    odd = [path for path in paths if path and not _is_text(path)]
    return f"{odd[0]}: no UTF-8: rename it" if odd else ""


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        if sys.stderr is not None:
            print(f"cni-repair: {printable(text)}", file=sys.stderr)


def _settings(options: argparse.Namespace) -> Settings:
    conf = read_conf(options.conf) if options.conf else None
    return Settings(
        checkpoint_dir=options.checkpoint_dir or (conf.checkpoint_dir if conf else CHECKPOINT_DIR),
        run_dir=options.run_dir or (conf.run_dir if conf else ""),
        state_dir=options.state_dir,
        hints=lambda: hints_of(conf),
        hold_kubelet=not options.no_kubelet,
    )


# --- Starting and resuming ----------------------------------------------------------------------


def _start(options: argparse.Namespace) -> int:
    plan, settings = read_plan(options.plan), _settings(options)
    as_json = options.output == "json"
    if not as_json:
        print(f"upgrade of this node by {printable(options.plan)}:")
        for line in steps(plan, settings):
            print(f"  {printable(line)}".replace("\n", "\n" + 13 * " "))
        with contextlib.suppress(OSError):
            sys.stdout.flush()  # what may become of the kubelet is said before the start
    if options.dry_run:
        return _dry_run(options, plan, settings, as_json)
    if not options.foreground:
        with _alone():
            _check_start(options)
        return _in_unit(options, ["upgrade", os.path.abspath(options.plan)])
    with _alone():
        _check_start(options)
        begin = {
            "plan": plan.document, "planFile": os.path.abspath(options.plan),
            "options": _kept(options), "bootId": boot_id(), "pid": os.getpid(),
        }  # fmt: skip
        try:
            journal, event = journals.begin(options.state_dir, begin)
        except CniError as error:
            raise _Refused(f"{error}: nothing was touched") from error
        status, events = _run(options, plan, settings, journal, [event])
    return _print_report(options, progress_of(events), status)


def _dry_run(options: argparse.Namespace, plan: Plan, settings: Settings, as_json: bool) -> int:
    problems, words = preflight.check(plan, settings)
    try:
        with _alone():
            _check_start(options)
    except _Refused as refusal:
        problems.append(str(refusal))
    if as_json:
        print(dumps({"steps": steps(plan, settings), "problems": problems}))
    else:
        for problem in problems:
            print(f"preflight FAILED: {printable(problem)}")
        if not problems:
            print(f"preflight: {printable(words)}")
        print("dry run: nothing was done")
    return REFUSED if problems else FINE


def _check_start(options: argparse.Namespace) -> None:
    """Refuse to begin over what an earlier upgrade has left."""
    before = progress_of(_journalled(options))
    if not before.begin or before.boot_id != boot_id():
        return
    held = report.kubelet_document(before, Seen(ENDED, time.time()))
    noted = before.events.get("driver")
    again = _again(options)
    if noted is not None and driver.is_alive(driver.noted(noted), RUN_DIR):
        raise _Refused(
            f"the driver command of the last upgrade is still at work (PID {noted['pid']}): wait"
            + ("" if before.given_up else f", or go on with it: cni-repair upgrade --resume{again}")
        )
    if (before.touched and before.end is None) or (held and held["held"]):
        what = "did not end" if before.end is None else f"holds {before.events['kubelet']['unit']}"
        raise _Refused(
            f"the last upgrade {what}: cni-repair upgrade --status{again} shows it; go on with"
            " --resume, or give it up with --release"
        )
    if before.end is not None and before.touched and REPAIR in remaining(before):
        raise _Refused(
            f"the last upgrade left pods unrepaired: cni-repair upgrade --status{again} shows it;"
            " go on with --resume, or give it up with --release"
        )


def _resume(options: argparse.Namespace) -> int:
    if not options.foreground:
        with _alone():
            _begun(options)
        return _in_unit(options, ["upgrade", "--resume"])
    with _alone():
        events = _begun(options)
        again = progress_of(events).begin
        for name in _KEPT_OPTIONS:
            setattr(options, name, again["options"].get(name))
        plan, settings = plan_of(again["plan"]), _settings(options)
        journal = journals.go_on(options.state_dir)
        event = journal.append({"event": "resume", "bootId": boot_id(), "pid": os.getpid()})
        status, events = _run(options, plan, settings, journal, [*events, event])
    return _print_report(options, progress_of(events), status)


def _begun(options: argparse.Namespace) -> list[Event]:
    """The events of an upgrade that can be gone on with."""
    events = _journalled(options)
    progress = progress_of(events)
    if not progress.begin:
        raise _Refused(
            f"no upgrade was begun on this node (by {options.state_dir}): nothing to resume;"
            " cni-repair upgrade PLAN.yaml begins one"
        )
    if progress.boot_id != boot_id():
        raise _Refused(
            "the node was rebooted since: its pods are new, its kubelet is free; there is nothing"
            " to resume"
        )
    if progress.given_up:
        raise _Refused(
            "the last upgrade was given up: cni-repair repair --all brings its pods back, verify"
            " asks their gateways"
        )
    if progress.end is not None and not remaining(progress):
        raise _Refused("the last upgrade has come to its end: there is nothing to resume")
    return events


def _journalled(options: argparse.Namespace) -> list[Event]:
    try:
        return journals.read(options.state_dir)
    except CniError as error:
        raise _Refused(str(error)) from error


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(options, name) for name in _KEPT_OPTIONS}
    for name in ("checkpoint_dir", "run_dir", "conf"):
        if given[name]:
            given[name] = os.path.abspath(given[name])
    return {name: value for name, value in given.items() if value}


def _again(options: argparse.Namespace) -> str:
    """The options that a next command has to repeat."""
    if options.state_dir == journals.STATE_DIR:
        return ""
    return f" --state-dir {shlex.quote(options.state_dir)}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other upgrade of this node runs meanwhile. Raises _Refused where one does."""
    lock = Lock(RUN_DIR, _LOCK, _LOCK_SECONDS)
    try:
        lock.__enter__()
    except CniError as error:
        busy = "another upgrade is at work on this node: cni-repair upgrade --status shows it"
        raise _Refused(busy if error.code == TRY_AGAIN else str(error)) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


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
    view = Aside(viewer()) if options.output != "json" else None
    show = view.show if view else _show_nobody
    with journal:
        try:
            show(events[-1])
            status = Procedure(plan, settings, journal, events, show).run()
        except KeyboardInterrupt:
            status = INTERRUPTED
        except RuntimeError as error:
            _complain(f"{error}: go on with cni-repair upgrade --resume{_again(options)}")
            status = FAILED
    if view:
        view.close()
    if journal.trouble:
        _complain(f"the journal in {options.state_dir} is not complete: {journal.trouble}")
    return status, events


def _show_nobody(event: Event) -> None:
    pass


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _print_report(options: argparse.Namespace, progress: Progress, status: int) -> int:
    """Print what came of it; a reader that has gone changes nothing of that."""
    standing = ENDED if progress.end else CUT_SHORT
    seen = Seen(standing, time.time(), _again(options))
    try:
        if options.output == "json":
            print(dumps(report.document(progress, seen)))
        else:
            print()
            for line in report.lines(progress, seen):
                print(printable(line))
            if standing == CUT_SHORT:
                _say_driver(progress)
            print(_VERDICTS.get(status, "upgrade FAILED: see above"))
        sys.stdout.flush()
    except OSError:
        forget_stdout()
    return status


_VERDICTS = {
    FINE: "upgrade ended well",
    REFUSED: "upgrade refused: nothing was touched",
    INTERRUPTED: "upgrade interrupted",
}


# --- Following a unit ---------------------------------------------------------------------------


def _in_unit(options: argparse.Namespace, words: list[str]) -> int:
    """Have a unit of systemd's do it, and follow its journal."""
    follower = _Follower(options)
    rest = ["--foreground", "--state-dir", os.path.abspath(options.state_dir)]
    try:
        unit.start(follower.unit, [*words, *rest, *_words_of(options)])
    except CniError as error:
        raise _Refused(str(error)) from error
    try:
        return follower.follow()
    except KeyboardInterrupt:
        _complain(
            f"the upgrade goes on in {follower.unit}: cni-repair upgrade --status"
            f"{_again(options)} shows it (journalctl -u {follower.unit})"
        )
        return INTERRUPTED


def _words_of(options: argparse.Namespace) -> list[str]:
    words = []
    for name, value in _kept(options).items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return words


class _Follower:
    """Shows the events that come to a journal, until the upgrade's end or its unit's."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._reader = journals.Reader(options.state_dir)
        self._events = self._reader.fresh()
        self._begun = False
        resumes = progress_of(self._events).resumes
        self.unit = unit.name_of(resumes + 1 if options.resume else 0)

    def follow(self) -> int:
        view = Aside(viewer()) if self._options.output != "json" else None
        show = view.show if view else _show_nobody
        try:
            running = True
            while running and not self._ended():
                running = unit.is_running(self.unit)
                self._pass_on(show)
        finally:
            if view:
                view.close()
        if not self._begun and not self._options.resume:
            _complain(f"{self.unit} did not begin, nothing was done: see journalctl -u {self.unit}")
            return REFUSED
        if not self._ended():
            _complain(
                f"{self.unit} ended without a word: see journalctl -u {self.unit}; go on with"
                f" cni-repair upgrade --resume{_again(self._options)}"
            )
            return FAILED
        progress = progress_of(self._events)
        assert progress.end is not None
        return _print_report(self._options, progress, progress.end["status"])

    def _pass_on(self, show: Callable[[Event], None]) -> None:
        """Show what comes within a second: systemd is not asked more often than that."""
        until = time.monotonic() + _UNIT_SECONDS
        while True:
            for event in self._reader.fresh():
                if event["event"] == "begin":
                    self._events = []
                self._begun = True
                self._events.append(event)
                show(event)
            if self._ended() or time.monotonic() >= until:
                return
            time.sleep(_POLL_SECONDS)

    def _ended(self) -> bool:
        return self._begun and self._events[-1]["event"] == "end"


# --- Looking, and giving up ---------------------------------------------------------------------


def _status(options: argparse.Namespace) -> int:
    progress = progress_of(journals.read(options.state_dir))
    if not progress.begin:
        print("null" if options.output == "json" else "no upgrade was begun on this node")
        return FAILED
    seen = Seen(progress.standing(boot_id(), _is_at_work()), time.time(), _again(options))
    if options.output == "json":
        print(dumps(report.document(progress, seen)))
    else:
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(progress.begin["at"]))
        plan = printable(progress.begin["planFile"])
        print(f"upgrade by {plan}, begun {begun}: {_where(progress, seen)}")
        for line in report.lines(progress, seen):
            print(printable(line))
        if seen.standing == CUT_SHORT:
            _say_driver(progress)
    return FINE if progress.end and progress.end["status"] == FINE else FAILED


def _say_driver(progress: Progress) -> None:
    """Warn where an upgrade's driver command outlives it: nobody should run another beside it."""
    noted = progress.events.get("driver")
    if noted is None or progress.boot_id != boot_id():
        return
    if driver.is_alive(driver.noted(noted), RUN_DIR):
        print(f"the driver command is still at work (PID {noted['pid']}), and is left alone")


def _where(progress: Progress, seen: Seen) -> str:
    if progress.end is not None:
        words = {FINE: "ended well", REFUSED: "refused, nothing was touched"}
        return words.get(progress.end["status"], "ended, FAILED")
    if seen.standing == RUNNING:
        return f"running (PID {progress.pid})"
    return "cut short by a reboot: nothing to resume" if seen.standing == REBOOTED else "cut short"


def _is_at_work() -> bool:
    try:
        with Lock(RUN_DIR, _LOCK, 0.0):
            return False
    except CniError as error:
        return error.code == TRY_AGAIN


def _release(options: argparse.Namespace) -> int:
    """Give the last upgrade up, and release the kubelet that it may hold."""
    with _alone():
        progress = progress_of(journals.read(options.state_dir))
        if not progress.begin:
            print("no upgrade was begun on this node: nothing to release")
            return FINE
        with journals.go_on(options.state_dir) as journal:
            words = _release_kubelet(progress)
            journal.append({"event": "phase", "phase": RELEASE})
            journal.append(
                {"event": "done", "phase": RELEASE, "ok": True, "words": words, "data": {}}
            )
            status = progress.end["status"] if progress.end else FAILED
            journal.append({"event": "end", "status": status, "givenUp": True})
    print(words)
    _say_driver(progress)
    if journal.trouble:
        _complain(f"the journal in {options.state_dir} cannot be kept: {journal.trouble}")
    return FINE


def _release_kubelet(progress: Progress) -> str:
    noted = progress.events.get("kubelet")
    if noted is None or progress.boot_id != boot_id():
        return "it held no kubelet: nothing to release"
    found = kubelet.Found(noted["unit"], noted["active"], noted["masked"])
    kubelet.release(found)
    kubelet.disarm()
    return f"{found.unit} was released by hand"
