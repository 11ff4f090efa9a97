"""The watcher's line below `status`: whether somebody heals by itself what that shows."""

from __future__ import annotations

import os

from cni_repair.base.errors import CniError
from cni_repair.cli.printable import one_line
from cni_repair.upgrade.times import duration
from cni_repair.watch import rundir
from cni_repair.watch.pausing import read_pause
from cni_repair.watch.policy import HEALING, UPGRADING
from cni_repair.watch.settings import run_dir_of
from cni_repair.watch.status import DEAD, HUNG, NONE, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.watch.status import Standing

UNIT_FILE = "/etc/systemd/system/cni-repair-watch.service"
_NOT_HEALED = "nothing is healed by itself"
_MORE = "cni-repair watch --status"
_LONGEST_WHO = 7  # in a line of 80 columns


def lines(run_dir: str) -> list[str]:
    """One line, where a watcher is installed or has run; else none. `run_dir` is what the command
    line names, if it does."""
    try:
        run_dir = run_dir or run_dir_of(None)
        standing, pause = read_status(run_dir), read_pause(run_dir)
    except CniError as error:
        return [f"watch: nobody can tell whether it runs: {one_line(str(error))}"]
    if standing.name == NONE:
        is_installed = os.path.exists(UNIT_FILE)
        start = "systemctl start cni-repair-watch"
        return [f"watch: does not run, heals nothing: {start}"] if is_installed else []
    if standing.name in (DEAD, HUNG):
        how = "DOES NOT RUN" if standing.name == DEAD else "HANGS"
        return [f"watch: {how}: {_NOT_HEALED}: {_MORE}"]
    if pause is not None:
        left = duration(pause.seconds_left(rundir.boot_time()))
        by = one_line(pause.by)
        if len(by) > _LONGEST_WHO:
            by = f"{by[: _LONGEST_WHO - 1]}…"
        return [f"watch: heals nothing, paused by {by}, {left} left: {_MORE}"]
    if standing.document is not None and standing.document["mode"] == UPGRADING:
        return ["watch: heals nothing during an upgrade: cni-repair upgrade --status"]
    return [f"watch: {_does(standing)}: {_MORE}"]


def _does(standing: Standing) -> str:
    status: dict[str, Any] = standing.document or {"mode": HEALING, "heal": ""}
    if status["mode"] != HEALING:
        return f"{status['mode']}, {_NOT_HEALED}"
    if status.get("refused"):
        pods = f"{len(status['refused'])} pod{'' if len(status['refused']) == 1 else 's'}"
        return f"heals by itself, but has refused {pods}"
    if status["heal"] == "drift":
        return "heals by itself what pods lose"
    return "heals by itself what an uplink takes with it"
