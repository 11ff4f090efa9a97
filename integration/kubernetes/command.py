"""What the rigs that build parts of Kubernetes share: options, and how they are done."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from integration.command import LEFT_OUT
from integration.kubernetes.build import NotBuilt


def add_build_options(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--build-seconds",
        type=float,
        default=0.0,
        metavar="N",
        help=f"give up, with exit status {LEFT_OUT}, if {what} is not built by then, or"
        " cannot be on this distribution (default: wait until it is)",
    )
    parser.add_argument("--build", action="store_true", help=f"build {what} only")


def work_or_build(
    program: str,
    options: argparse.Namespace,
    build: Callable[[float], object],
    work: Callable[[argparse.Namespace], int],
) -> int:
    """Do the work, or only build what it needs; the exit status, which says what was not built."""
    try:
        if options.build:
            build(options.build_seconds)
            return 0
        return work(options)
    except NotBuilt as error:
        print(f"{program}: {error}", file=sys.stderr)
        return LEFT_OUT
