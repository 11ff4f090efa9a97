"""What a scenario found: named checks, each of which holds or does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cni_repair.demo.errors import LabError
from cni_repair.demo.process import Outcome


class TooLate(Exception):
    """Nothing has happened for too long. No LabError: whoever waits for something, and can do
    without it, catches that."""


@dataclass(frozen=True)
class Check:
    """One statement, whether it holds, and, where it does not, what was there instead."""

    what: str
    holds: bool
    detail: str = ""


class Checks:
    """Collects the checks of one scenario. A failed one does not end it: the others tell more."""

    def __init__(
        self,
        on_check: Callable[[str], None] = lambda what: None,
        on_first_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_check, self._on_first_failure = on_check, on_first_failure
        self.made: list[Check] = []
        self.outage = ""  # of the slowest pod, in words
        self.measured: dict[str, Any] = {}  # where it is to be drawn: an outage.Run

    def __call__(self, what: str, holds: bool, detail: object = "") -> None:
        """`detail` is shown where the check fails."""
        failed_before = any(not check.holds for check in self.made)
        self.made.append(Check(what, bool(holds), str(detail)))
        self._on_check(what)
        if not holds and not failed_before:
            self._on_first_failure()

    def succeeds(self, what: str, work: Callable[[], object]) -> None:
        """Check that `work` raises no LabError."""
        try:
            work()
        except LabError as error:
            self(what, False, error)
        else:
            self(what, True)

    @property
    def hold(self) -> bool:
        return bool(self.made) and all(check.holds for check in self.made)


def states(outcome: Outcome) -> list[str]:
    """The state of each attachment in an answer of REPAIR or `-o json`."""
    return [one["state"] for one in outcome.document["attachments"]]


def said(outcome: Outcome) -> str:
    """All that an answer says, in one line."""
    return " ".join((outcome.stdout + outcome.stderr).split())
