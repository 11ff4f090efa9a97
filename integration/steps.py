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


def run_steps(
    steps: Mapping[str, Callable[[S, Checks], None]],
    story: S,
    look: Callable[[], dict[str, str]],
    called: Callable[[], str] = lambda: "",
) -> Iterator[Outcome]:
    """What came of each step, up to the first that did not run to its end: the next build upon it.

    `look` tells what people need to know of a failure, while it is all there; `called` what was
    called so far.
    """
    for name, step in steps.items():
        evidence: dict[str, str] = {}
        checks = Checks(on_first_failure=partial(_update, evidence, look))
        began = time.monotonic()
        finished = False
        try:
            step(story, checks)
            finished = True
        except (LabError, TooLate) as error:
            checks("runs to its end", False, error)
        except Exception:
            checks("runs to its end", False, traceback.format_exc())  # a mistake of ours
        yield _outcome(name, checks, time.monotonic() - began, called(), evidence)
        if not finished:
            return


def no_node(error: Exception, called: str = "") -> Outcome:
    """What is told where there is no node, or more than one that is gone."""
    checks = Checks()
    checks("a node to begin with, and nothing of it left in the end", False, error)
    return _outcome("node", checks, 0.0, called, {})


def _update(evidence: dict[str, str], look: Callable[[], dict[str, str]]) -> None:
    evidence.update(look())


def _outcome(
    name: str, checks: Checks, seconds: float, called: str, evidence: dict[str, str]
) -> Outcome:
    made = [asdict(check) for check in checks.made]
    return Outcome(name, made, seconds, checks.outage, called, evidence)
