"""`cni-repair watch` as on a node: the unit that install.sh installs, run by systemd."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from integration.driver.node import OPERATORS_UNITS, LabError, Node, poll_until

WATCH = "cni-repair-watch.service"

_UNIT = Path(__file__).parents[2] / "conf" / "systemd" / WATCH
_CONFIG = Path("/etc/cni-repair/watch.yaml")
_STATUS = Path("/run/cni-repair/watch.json")
# What hangs takes longer, on the slowest machine, too.
WATCH_SECONDS = 300.0

Json = dict[str, Any]


class Watcher:
    """The watcher's service, which runs."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def status(self) -> Json:
        """What it last wrote down of itself; empty while there is nothing."""
        try:
            found: Json = json.loads(_STATUS.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return found

    @property
    def pid(self) -> int:
        return int(self._node.unit(WATCH)["MainPID"])

    def kill(self) -> int:
        """As the kernel does when memory is short; the process that was killed."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def sees(self, **attachments: int) -> bool:
        """Whether it knows of just so many attachments by state."""
        found: dict[str, int] | None = self.status.get("attachments")
        return found is not None and {n: c for n, c in found.items() if c} == {
            n: c for n, c in attachments.items() if c
        }

    def wait_for(self, **attachments: int) -> None:
        """Raises LabError where it does not come to see just these."""
        poll_until(
            lambda: self.sees(**attachments), WATCH_SECONDS, f"{attachments}, not {self.status}"
        )

    def wait_for_heals(self, count: int) -> None:
        """The same for so many that it has healed since it began, all of them healthy now. (What it
        has written of all as healthy may be of before a loss.)"""
        poll_until(
            lambda: self.sees(healthy=count) and self.status["heals"]["total"] >= count,
            WATCH_SECONDS,
            f"{count} heals, not {self.status}",
        )

    def events(self, kind: str) -> list[Json]:
        """What it has told the journal."""
        self._node.run(["journalctl", "--sync"], check=True)
        shown = self._node.run(
            ["journalctl", "--unit", WATCH, "--output=json", f"EVENT={kind}"], check=True
        )
        return [json.loads(line) for line in shown.stdout.splitlines()]


def _installed(launcher: str) -> str:
    """The unit as install.sh --watch writes it. The rig's installation is in /var/tmp, of which the
    service has one of its own; and no deadline of the rig's measures speed."""
    start = f"ExecStart={launcher}"
    text = re.sub("(?m)^ExecStart=[^ ]*", start, _UNIT.read_text())
    text = re.sub("(?m)^(TimeoutStartSec|WatchdogSec)=.*", r"\1=600s", text)
    place = Path(launcher).parents[1]
    return text.replace(start, f"BindReadOnlyPaths={place}\n{start}")


@contextlib.contextmanager
def watching(node: Node, attachments: int, **settings: Any) -> Iterator[Watcher]:
    """Context: the watcher runs, and has seen that many healthy attachments."""
    _CONFIG.parent.mkdir(exist_ok=True)
    _CONFIG.write_text(json.dumps({"version": 1, **settings}))
    unit = OPERATORS_UNITS / WATCH
    unit.write_text(_installed(node.launcher))
    node.systemctl("daemon-reload")
    try:
        node.systemctl("start", WATCH)
        watcher = Watcher(node)
        watcher.wait_for(healthy=attachments)
        yield watcher
    finally:
        node.systemctl("stop", WATCH)
        with contextlib.suppress(LabError):
            node.systemctl("reset-failed", WATCH)
        unit.unlink()
        node.systemctl("daemon-reload")
