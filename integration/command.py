"""What the rigs' commands share: options, signals, exit statuses, and how outcomes are printed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType

from cni_repair.demo.errors import LabError
from integration.driver.evidence import Evidence
from integration.driver.report import Outcome, print_outcome, print_summary
from integration.errors import RigError

CHECKOUT = Path(__file__).resolve().parents[1]
LEFT_OUT = 3  # the exit status where all holds, but not all could be had


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON document, not a table")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what was called, too")
    parser.add_argument(
        "--evidence",
        type=Path,
        metavar="DIR",
        help="where to keep what is known of what failed; the last line names it"
        " (default: a new directory in /var/tmp)",
    )
    parser.add_argument(
        "--source",
        type=Path,
        default=CHECKOUT,
        help="the checkout whose install.sh is used: another one to see checks fail (default: own)",
    )


def run_rig(program: str, work: Callable[[], int]) -> int:
    """Do the work as root; its exit status, 2 where it cannot be done on this machine."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        if os.geteuid() != 0:
            raise RigError("not root: run it with sudo")
        return work()
    except (RigError, LabError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # through the context managers, which end all that we started


def print_each(
    coming: Generator[Outcome, None, None], options: argparse.Namespace, evidence: Evidence
) -> list[Outcome]:
    """All outcomes; where people read, each is printed as it comes. What failed is kept.

    Whatever ends us, `coming` is closed first: its programs end before their directory goes.
    """
    outcomes = []
    with contextlib.closing(coming):
        for outcome in coming:
            outcomes.append(outcome)
            if not outcome.holds:
                evidence.keep(outcome)
            if not options.json:
                print_outcome(outcome, options.verbose)
    return outcomes


def conclude(
    outcomes: list[Outcome], options: argparse.Namespace, evidence: Evidence, began: float
) -> int:
    """Print what there is to say at the end; 0 if all that was checked holds, else 1.

    The last line names where everything about what failed is kept.
    """
    if options.json:
        print(json.dumps([outcome.document() for outcome in outcomes]))
    else:
        print_summary(outcomes, time.monotonic() - began)
    if evidence.place:
        file = sys.stderr if options.json else sys.stdout  # stdout is one document then
        print(f"evidence: {evidence.place}", file=file, flush=True)
    return 0 if all(outcome.holds for outcome in outcomes) else 1
