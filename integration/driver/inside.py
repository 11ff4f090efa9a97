"""Inside the guest: runs the scenarios, and writes what came of each to the host's share."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from integration.driver.checks import Checks
from integration.driver.node import CONTAINERD, FAR, LabError, Node
from integration.driver.scenarios import PLOTTED, SCENARIOS

SCENARIO_SECONDS = 360

_EVENTS, _NEXT = Path("/run/job/events"), Path("/run/job/next")
_POLL_SECONDS = 0.1
_LOG_CHARACTERS = 20_000


def main(launcher: str) -> None:
    """Run what the host gives with the cni-repair that was installed as `launcher`."""
    signal.signal(signal.SIGALRM, _too_late)
    while name := _next():
        _tell(event="end", scenario=name, **_outcome(launcher, name))


def _next() -> str:
    """The next scenario's name; empty where there is none any more."""
    _tell(event="ready")
    while not _NEXT.exists():  # it comes whole, by a rename
        time.sleep(_POLL_SECONDS)
    name = _NEXT.read_text()
    _NEXT.unlink()
    return name


def _too_late(number: int, frame: FrameType | None) -> None:
    raise LabError(f"no end after {SCENARIO_SECONDS} s")


def _tell(**event: Any) -> None:
    with _EVENTS.open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")


def _outcome(launcher: str, name: str) -> dict[str, Any]:
    checks = Checks()
    began = time.monotonic()
    signal.alarm(SCENARIO_SECONDS)
    node = Node(launcher, name)
    diagnosis = ""
    try:
        with node:
            diagnosis = _run({**SCENARIOS, **PLOTTED}[name], node, checks)
    except LabError as error:
        checks("a clean state to begin with, and left behind", False, str(error))
    finally:
        signal.alarm(0)
    return {
        "checks": [vars(check) for check in checks.made],
        "seconds": time.monotonic() - began,
        "outage": checks.outage,
        "measured": checks.measured,
        "log": "\n".join(node.log),
        "diagnosis": diagnosis,
    }


def _run(scenario: Callable[[Node, Checks], None], node: Node, checks: Checks) -> str:
    """Run a scenario; what people need to know where it does not hold, while it is all there."""
    try:
        scenario(node, checks)
    except LabError as error:
        checks("runs to its end", False, str(error))
    except Exception:
        # A mistake in a scenario: the others are still worth running.
        checks("runs to its end", False, traceback.format_exc())
    return "" if checks.hold else _diagnosis(node)


def _diagnosis(node: Node) -> str:
    """The state of the guest at the time of a failure."""
    shown = [["journalctl", "--no-pager", "--output=short-monotonic"]]  # the kernel's, too
    shown += [["tail", "-c", str(_LOG_CHARACTERS), str(CONTAINERD / "log")]]
    shown += [["ip", "-d", "-s", "link"]]
    shown += [["ip", "-n", netns.name, "-d", "-s", "link"] for netns in (FAR, *node.pods)]
    parts = []
    for command in shown:
        done = node.run(command)
        parts.append(f"--- {' '.join(command)}\n{(done.stdout + done.stderr)[-_LOG_CHARACTERS:]}")
    return "\n".join(parts)
