"""The steps of a story, one after the other, and what came of each."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TypeVar

from cni_repair.demo.lab import LabError
from integration.driver.checks import Checks, TooLate
from integration.driver.report import Outcome

S = TypeVar("S")
Step = Callable[[S, Checks], None]


class Steps(dict[str, Callable[[S, Checks], None]]):
    """A story's steps by name, in their order."""

    def step(self, name: str) -> Callable[[Step[S]], Step[S]]:
        """Make a function the next step."""

        def register(function: Step[S]) -> Step[S]:
            self[name] = function
            return function

        return register


def run_steps(
    steps: Mapping[str, Step[S]],
    story: S,
    look: Callable[[], dict[str, str]],
    called: Callable[[], str] = lambda: "",
) -> Iterator[Outcome]:
    """What came of each step, up to the first that did not run to its end: the next build upon it.

    `look` tells what people need to know of a failure, while it is all there; `called` what was
    called so far.
    """
    for name, step in steps.items():
        outcome, finished = run_step(name, partial(step, story), look, called)
        yield outcome
        if not finished:
            return


def run_step(
    name: str,
    step: Callable[[Checks], None],
    look: Callable[[], dict[str, str]],
    called: Callable[[], str] = lambda: "",
) -> tuple[Outcome, bool]:
    """What came of one, and whether it ran to its end."""
    evidence: dict[str, str] = {}
    checks = Checks(on_first_failure=lambda: evidence.update(look()))
    began = time.monotonic()
    finished = False
    try:
        step(checks)
        finished = True
    except (LabError, TooLate) as error:
        checks("runs to its end", False, error)
    except Exception:
        checks("runs to its end", False, traceback.format_exc())  # a mistake of ours
    return _outcome(name, checks, time.monotonic() - began, called(), evidence), finished


def not_there(what: str, error: Exception, called: str = "") -> Outcome:
    """What is told where there is no node, or no fleet, or more of it than all that is gone."""
    checks = Checks()
    checks(f"a {what} to begin with, and nothing of it left in the end", False, error)
    return _outcome(what, checks, 0.0, called, {})


def _outcome(
    name: str, checks: Checks, seconds: float, called: str, evidence: dict[str, str]
) -> Outcome:
    made = [asdict(check) for check in checks.made]
    return Outcome(name, made, seconds, checks.outage, called, evidence)
