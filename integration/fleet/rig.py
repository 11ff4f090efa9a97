"""The rig: a fleet in namespaces, rolled out over by ansible; prints what came of each step."""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cni_repair.demo.lab import LabError, PrivateLab
from integration.command import add_options, conclude, print_each, run_rig
from integration.driver.evidence import Evidence
from integration.driver.report import ROW, Outcome
from integration.fleet import controller
from integration.fleet.hosts import fleet
from integration.fleet.story import STEPS, Fleet, install
from integration.packages import NODE_PROGRAMS, locked_cache, need_programs
from integration.prometheus import servers
from integration.steps import not_there, run_step

HOSTS = 50
_FEWEST = 4  # so that there are four batches
_PARTS = ("install.sh", "conf", "cni_repair", "pyproject.toml", "README.md", "LICENSE")
_NAME = "integration/fleet/run"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run."""
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Have ansible-core, from Python's package index, roll a driver out over hosts"
        " in namespaces by the playbooks of conf/ansible, and let a canary fail, an alert fire, a"
        " host be killed. Touches no link of this machine; keeps its downloads in"
        " /var/cache/cni-repair-tests.",
    )
    parser.add_argument(
        "--hosts", type=int, default=HOSTS, metavar="N", help=f"how many (default {HOSTS})"
    )
    parser.add_argument(
        "steps",
        nargs="*",
        metavar="STEP",
        help=f"which, after the installation (default: all): {', '.join(STEPS)}",
    )
    add_options(parser)
    options = parser.parse_args()
    unknown = [name for name in options.steps if name not in STEPS]
    if unknown:
        parser.error(f"no step {', '.join(unknown)}")
    if options.hosts < _FEWEST:
        parser.error(f"--hosts: {_FEWEST} at least")
    return run_rig(_NAME, lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-fleet", options.evidence)
    with locked_cache():
        need_programs(NODE_PROGRAMS)
    servers.prepare()
    controller.prepare()
    with tempfile.TemporaryDirectory(prefix="cni-repair-fleet-", dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        archive(options.source.resolve(), directory / "cni-repair.tar.gz")
        if not options.json:
            print(
                f"{options.hosts} hosts in namespaces; set up in {time.monotonic() - began:.0f} s"
            )
            row = ROW.format("STEP", "WHAT WAS CHECKED", "VERDICT", "SECONDS", "")
            print(row.rstrip(), flush=True)
        outcomes = print_each(_outcomes(directory, options), options, evidence)
    return conclude(outcomes, options, evidence, began)


def archive(source: Path, to: Path) -> None:
    """A checkout, as `git archive` would have it, with what is not committed yet."""
    with tarfile.open(to, "w:gz") as file:
        for part in filter(Path.exists, (source / name for name in _PARTS)):
            file.add(part, f"cni-repair/{part.name}")


def _outcomes(directory: Path, options: argparse.Namespace) -> Generator[Outcome, None, None]:
    known = Fleet(controller.Controller(directory), directory)
    installed, _ = run_step("install", partial(install, known), lambda: known.evidence)
    yield installed
    if not installed.holds:
        return
    try:
        with ExitStack() as cleanup:
            began = time.monotonic()
            known.hosts = cleanup.enter_context(fleet(options.hosts, [str(known.command)]))
            lab = cleanup.enter_context(PrivateLab(0, ipv6=False))
            lab.ip(lab.node, "link", "set", "lo", "up")
            known.controller.stand_in(lab, known.hosts)
            took = time.monotonic() - began
            known.figures.append(f"{options.hosts} hosts with their pods: up in {took:.1f} s")
            yield from _steps(known, [name for name in STEPS if name in (options.steps or STEPS)])
            if not options.json:
                print("\n".join(known.figures), flush=True)
    except LabError as error:
        yield not_there("fleet", error)


def _steps(known: Fleet, names: list[str]) -> Generator[Outcome, None, None]:
    for name in names:
        outcome, _ = run_step(name, partial(STEPS[name], known), lambda: known.evidence)
        yield outcome
        if not outcome.holds:
            return  # the next ones build upon it
