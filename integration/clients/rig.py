"""The host's side: has the clients' programs, installs cni-repair, prints what came of each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from integration.clients.story import CLIENTS
from integration.command import LEFT_OUT, add_options, conclude, print_each, run_rig
from integration.driver.evidence import Evidence
from integration.driver.report import ROW
from integration.errors import RigError
from integration.inside import play
from integration.packages import NODE_PROGRAMS, locked_cache, need_programs
from integration.product import install

_NAME = "integration/clients/run"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run, 3 where a
    client could not be had."""
    options = _parse()
    return run_rig(_NAME, lambda: _run(options))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Take the uplink from a pod of each client of CNI, repair the pod, and have the"
        " client delete it, on a node in namespaces. Touches no link of this machine, and installs"
        " no client; keeps what it downloads and builds in /var/cache/cni-repair-tests.",
    )
    parser.add_argument(
        "client", nargs="*", metavar="CLIENT", help=f"{', '.join(CLIENTS)} (default: all)"
    )
    add_options(parser)
    options = parser.parse_args()
    unknown = set(options.client) - CLIENTS.keys()
    if unknown:
        parser.error(f"no client {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    return options


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-clients", options.evidence)
    with locked_cache():
        need_programs(NODE_PROGRAMS)
    wanted = options.client or list(CLIENTS)
    versions = _prepared(wanted)
    if not versions:
        return LEFT_OUT
    with tempfile.TemporaryDirectory(prefix="cni-repair-clients-", dir="/var/tmp") as directory:
        launcher = install(options.source.resolve(), Path(directory))
        if not options.json:
            _print_title(versions, time.monotonic() - began)
        arguments = [str(launcher), ",".join(versions)]
        told = play("integration.clients.inside", arguments, Path(directory))
        outcomes = print_each(told, options, evidence)
    return conclude(outcomes, options, evidence, began) or LEFT_OUT * (len(versions) < len(wanted))


def _prepared(wanted: list[str]) -> dict[str, str]:
    """The versions of the clients that can be had; of the others it is said why."""
    versions = {}
    for name in wanted:
        try:
            versions[name] = CLIENTS[name].prepare()
        except RigError as error:
            print(f"{_NAME}: {name} is LEFT OUT: {error}", file=sys.stderr, flush=True)
    return versions


def _print_title(versions: dict[str, str], set_up: float) -> None:
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{known}, on a node in namespaces; set up in {set_up:.0f} s")
    print(ROW.format("CLIENT", "WHAT WAS CHECKED", "VERDICT", "SECONDS", "REPAIR"), flush=True)
