"""Inside the guest: does the work on its disks, and tells the host's share what was done."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

from integration.trust.power.disk import FILE_SYSTEMS
from integration.trust.power.recording import note_on, work

_EVENTS = Path("/run/job/events")


def main(launcher: str) -> None:
    """On each disk, one after the other; its serial number says which file system is on it."""
    try:
        for system in FILE_SYSTEMS:
            disk = _disk_of(system.name)
            done = work(disk, system, [launcher], note_on(disk, system))
            _tell(event="done", system=system.name, done=done.document())
    except Exception:
        _tell(event="failed", why=traceback.format_exc())


def _disk_of(serial: str) -> Path:
    for path in Path("/sys/block").glob("vd*/serial"):
        if path.read_text().strip() == serial:
            return Path("/dev", path.parent.name)
    raise LookupError(f"no disk with the serial number {serial}")


def _tell(**event: Any) -> None:
    with _EVENTS.open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")
