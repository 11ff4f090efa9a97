"""What is kept of scenarios that failed: a directory, with one below it for each of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from integration.driver.report import Outcome

_DETAIL_INDENT = " " * 7


class Evidence:
    """Where all is kept that is known of failed scenarios; made when there is the first.

    checks.txt     which checks failed, and what was seen instead; those that hold
    called.txt     every command, its exit status and its output
    outcome.json   all of it, for programs
    and what the rig has asked the node when the first check failed (console, journal, links, …)
    """

    def __init__(self, name: str, wanted: Path | None = None) -> None:
        self.directory = wanted
        self._name = name
        self._used = False

    @property
    def place(self) -> str:
        """The directory; empty where nothing had to be kept."""
        return str(self.directory) if self._used else ""

    def keep(self, outcome: Outcome) -> None:
        """Keep what is known of a failed scenario, and note in it where."""
        if self.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix=f"{self._name}-failed-", dir="/var/tmp"))
        self._used = True
        place = self.directory / outcome.scenario
        place.mkdir(parents=True, exist_ok=True)
        outcome.kept_in = str(place)
        files = {"checks": checks_text(outcome), "called": outcome.log, **outcome.evidence}
        for name, text in files.items():
            (place / f"{name}.txt").write_text(f"{text}\n", "utf-8", "replace")
        (place / "outcome.json").write_text(json.dumps(outcome.document()), "utf-8")


def checks_text(outcome: Outcome) -> str:
    """Every check of a scenario, and what was seen where it does not hold."""
    good = sum(check["holds"] for check in outcome.checks)
    lines = [f"{outcome.scenario}: {good} of {len(outcome.checks)} checks hold"]
    for check in outcome.checks:
        lines.append(f"{'holds' if check['holds'] else 'FAILS'}  {check['what']}")
        if not check["holds"]:
            seen = check["detail"] or "(the check tells nothing more)"
            lines += [_DETAIL_INDENT + line for line in seen.splitlines()]
    return "\n".join(lines)
