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

from integration.driver.checks import Checks, TooLate
from integration.driver.node import CONTAINERD, FAR, LabError, Node
from integration.driver.scenarios import MEASURED, PLOTTED, SCENARIOS

CHECK_SECONDS = 900  # from one check to the next: longer takes what hangs

_EVENTS, _NEXT = Path("/run/job/events"), Path("/run/job/next")
_POLL_SECONDS = 0.1
_LOG_CHARACTERS = 50_000
_LOOK = "link show\naddr show\nroute show table all\nrule show\nneigh show\n"


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
    raise TooLate(f"no check for {CHECK_SECONDS} s")


def _goes_on(what: str) -> None:
    """A check was made: neither we nor the host need give the scenario up."""
    signal.alarm(CHECK_SECONDS)
    _tell(event="check", what=what)


def _tell(**event: Any) -> None:
    with _EVENTS.open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n")


def _outcome(launcher: str, name: str) -> dict[str, Any]:
    node = Node(launcher, name)
    evidence: dict[str, str] = {}
    checks = Checks(_goes_on, lambda: evidence.update(_look_at(node)))
    began = time.monotonic()
    signal.alarm(CHECK_SECONDS)
    try:
        with node:
            _run({**SCENARIOS, **MEASURED, **PLOTTED}[name], node, checks)
    except (LabError, TooLate) as error:
        checks("a clean state to begin with, and left behind", False, str(error))
    finally:
        signal.alarm(0)
    return {
        "checks": [vars(check) for check in checks.made],
        "seconds": time.monotonic() - began,
        "outage": checks.outage,
        "measured": checks.measured,
        "log": "\n".join(node.log),
        "evidence": evidence,
    }


def _run(scenario: Callable[[Node, Checks], None], node: Node, checks: Checks) -> None:
    try:
        scenario(node, checks)
    except (LabError, TooLate) as error:
        checks("runs to its end", False, str(error))
    except Exception:
        # A mistake in a scenario: the others are still worth running.
        checks("runs to its end", False, traceback.format_exc())


def _look_at(node: Node) -> dict[str, str]:
    """What people need to know of a failure, while it is all there."""
    places = [["ip"], *(["ip", "-n", netns.name] for netns in (FAR, *node.pods))]
    return {
        "journal": _said(node, ["journalctl", "--no-pager", "--output=short-monotonic"]),
        "containerd": _said(node, ["tail", "-c", str(_LOG_CHARACTERS), str(CONTAINERD / "log")]),
        "links": "\n".join(_said(node, [*ip, "-d", "-s", "-batch", "-"], _LOOK) for ip in places),
    }


def _said(node: Node, command: list[str], stdin: str = "") -> str:
    """What a command says, under its name; that it says nothing is worth knowing, too."""
    try:
        done = node.run(command, stdin=stdin)
    except LabError as error:
        return f"--- {error}"
    return f"--- {' '.join(command)}\n{(done.stdout + done.stderr)[-_LOG_CHARACTERS:]}"
