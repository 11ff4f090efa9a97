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
    diagnosis: str
    measured: dict[str, Any] = field(default_factory=dict)  # where it is to be drawn

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check["holds"] for check in self.checks)

    def document(self) -> dict[str, Any]:
        return asdict(self)


def print_title(release: str, set_up: float) -> None:
    print(f"stock kernel {release}, driver {DRIVER}, VLAN 3; set up in {set_up:.0f} s")
    print(ROW.format("SCENARIO", "WHAT WAS CHECKED", "VERDICT", "GUEST S", "OUTAGE"), flush=True)


def print_outcome(outcome: Outcome, verbose: bool) -> None:
    """A line for each check; on stderr all there is to know where one does not hold."""
    last = (f"{outcome.seconds:.1f}", outcome.outage)
    for check in outcome.checks:
        name = outcome.scenario if check is outcome.checks[0] else ""
        verdict = "holds" if check["holds"] else "FAILS"
        print(ROW.format(name, check["what"], verdict, *last).rstrip())
        if not check["holds"] and check["detail"]:
            print(f"{'':<12} {check['detail']}")
        last = ("", "")
    sys.stdout.flush()
    if verbose or not outcome.holds:
        about = f"\n=== {outcome.scenario}: what was called\n{outcome.log}\n{outcome.diagnosis}\n"
        print(about, file=sys.stderr, flush=True)


def print_summary(outcomes: list[Outcome], seconds: float) -> None:
    checks = [check["holds"] for outcome in outcomes for check in outcome.checks]
    failed = [outcome.scenario for outcome in outcomes if not outcome.holds]
    verdict = f"FAILED: {', '.join(failed)}" if failed else "all hold"
    print(f"{len(outcomes)} scenarios, {len(checks)} checks: {verdict}; {seconds:.0f} s in all")
