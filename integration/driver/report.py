"""The table of what was checked."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from typing import Any

DRIVER = "e1000e"
ROW = "{:<12} {:<88} {:<8} {:>7} {:>7}"


@dataclass
class Outcome:
    """What came of one scenario, as the guest tells it."""

    scenario: str
    checks: list[dict[str, Any]]  # of checks.Check
    seconds: float
    outage: str  # of the slowest pod, in words
    log: str
    # By name: what the node looked like when the first check failed.
    evidence: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)  # where it is to be drawn
    kept_in: str = ""  # the directory, where it failed

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check["holds"] for check in self.checks)

    @property
    def failed(self) -> str:
        """The first check that does not hold."""
        names = (str(check["what"]) for check in self.checks if not check["holds"])
        return next(names, "" if self.holds else "no check was made")

    def document(self) -> dict[str, Any]:
        return asdict(self)


def print_title(release: str, set_up: float) -> None:
    print(f"stock kernel {release}, driver {DRIVER}, VLAN 3; set up in {set_up:.0f} s")
    print(ROW.format("SCENARIO", "WHAT WAS CHECKED", "VERDICT", "GUEST S", "OUTAGE"), flush=True)


def print_outcome(outcome: Outcome, verbose: bool) -> None:
    """A line for each check, with what was seen where it does not hold; where all of it is kept."""
    last = (f"{outcome.seconds:.1f}", outcome.outage)
    for check in outcome.checks:
        name = outcome.scenario if check is outcome.checks[0] else ""
        verdict = "holds" if check["holds"] else "FAILS"
        print(ROW.format(name, check["what"], verdict, *last).rstrip())
        if not check["holds"] and check["detail"]:
            print(f"{'':<12} {check['detail']}")
        last = ("", "")
    if outcome.kept_in:
        print(f"{'':<12} kept: {outcome.kept_in}")
    sys.stdout.flush()
    if verbose:
        about = f"\n=== {outcome.scenario}: what was called\n{outcome.log}\n"
        print(about, file=sys.stderr, flush=True)


def print_summary(outcomes: list[Outcome], seconds: float) -> None:
    checks = [check["holds"] for outcome in outcomes for check in outcome.checks]
    failed = [f"{one.scenario} ({one.failed})" for one in outcomes if not one.holds]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all hold"
    print(f"{len(outcomes)} scenarios, {len(checks)} checks: {verdict}; {seconds:.0f} s in all")
