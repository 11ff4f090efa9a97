"""`watch`: be the node's watcher; or ask the one that runs, pause it, have it go on."""

from __future__ import annotations

import os
import pwd
import time

from cni_repair.base.strictjson import dumps
from cni_repair.cli.common import DAMAGED, REFUSED, USAGE, print_error
from cni_repair.cli.printable import printable, say
from cni_repair.cli.privileges import why_refused
from cni_repair.cli.watch import view
from cni_repair.node.report import DOCUMENT_VERSION
from cni_repair.upgrade.times import clock, duration
from cni_repair.watch import rundir
from cni_repair.watch.pausing import AlreadyPaused, pause, read_pause, resume
from cni_repair.watch.settings import (
    CONFIG_FILE,
    SettingsError,
    run_dir_of,
    settings_in_force,
)
from cni_repair.watch.status import RUNNING, NotFirst, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cni_repair.watch.pausing import Pause
    from cni_repair.watch.status import Standing

_NOT_ROOT = "must run as root (only root may see or steer the watcher): use sudo"
_LONGEST_NAME = 64
_NOBODY = "no watcher runs on this node now"


def run(options: argparse.Namespace) -> int:
    """Watch until told to end; or do what was asked for."""
    mistake = _mistake_in(options)
    if mistake:
        print_error(f"watch: {mistake}")
        return USAGE
    asks = options.status or options.pause is not None or options.resume
    refusal = ("" if os.geteuid() == 0 else _NOT_ROOT) if asks else why_refused()
    if refusal:
        print_error(refusal)
        return REFUSED
    try:
        return _ask(options) if asks else _watch(options)
    except SettingsError as error:
        for problem in error.problems:
            print_error(f"{options.config or CONFIG_FILE}: {problem}")
        return USAGE
    except (NotFirst, AlreadyPaused) as error:
        print_error(str(error))
        return REFUSED


def _mistake_in(options: argparse.Namespace) -> str:
    asks = options.status or options.pause is not None or options.resume
    if options.pause is not None and options.reason is None:
        return f"say why: cni-repair watch --pause {duration(options.pause)} --reason TEXT"
    if options.reason is not None and options.pause is None:
        return "--reason is of --pause: cni-repair watch --pause 30m --reason TEXT"
    if options.output == "json" and not asks:
        return "-o json is of --status, --pause and --resume"
    if options.no_kubernetes and asks:
        return "--no-kubernetes is of the watcher itself"
    return ""


def _watch(options: argparse.Namespace) -> int:
    settings = settings_in_force(options.config)
    from cni_repair.watch import daemon  # imports what a command that asks has no use for

    return daemon.run(settings, options.no_kubernetes)


def _ask(options: argparse.Namespace) -> int:
    run_dir = run_dir_of(options.config)
    words = ""
    if options.pause is not None:
        before = pause(run_dir, options.pause, _who(), options.reason)
        words = _paused(options.pause, before)
    elif options.resume:
        words = _resumed(resume(run_dir))
    standing, in_force = read_status(run_dir), read_pause(run_dir)
    if options.output == "json":
        print(dumps(document(standing, in_force)))
    elif options.status:
        mistaken = _mistaken(options.config)
        for line in view.lines(standing, in_force, time.time(), rundir.boot_time(), mistaken):
            say(line)
    else:
        say(words)
        if standing.name != RUNNING:
            say(f"{_NOBODY}{': one that is started meanwhile begins so' if in_force else ''}")
    return DAMAGED if options.status and standing.name != RUNNING else 0


def _mistaken(config: str | None) -> str:
    """The configuration file, where no watcher could be started by it."""
    try:
        settings_in_force(config)
    except SettingsError:
        return config or CONFIG_FILE
    return ""


def _paused(seconds: float, before: Pause | None) -> str:
    until = clock(time.time() + seconds)
    if before is None:
        return f"paused for {duration(seconds)}, until {until}"
    return f"the pause by {before.by} ({before.reason}) is prolonged: until {until}"


def _resumed(before: Pause | None) -> str:
    if before is None:
        return "nothing was paused"
    return f"the pause by {before.by} ({before.reason}) has ended"


def _who() -> str:
    """Who is at the keyboard, as far as sudo tells."""
    name = os.environ.get("SUDO_USER") or ""
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid {os.getuid()}"
    return printable(name)[:_LONGEST_NAME]


def document(standing: Standing, in_force: Pause | None) -> dict[str, Any]:
    """What `-o json` prints."""
    until = in_force and round(time.time() + in_force.seconds_left(rundir.boot_time()), 3)
    return {
        "schemaVersion": DOCUMENT_VERSION,
        "standing": standing.name,
        "secondsOld": None if standing.document is None else round(standing.seconds_old, 3),
        "pause": in_force and {"until": until, "by": in_force.by, "reason": in_force.reason},
        "status": standing.document,
    }
