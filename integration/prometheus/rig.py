"""The rig: installs cni-repair, has a node watched and scraped, prints what came of each step."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from cni_repair.demo.lab import Lab, LabError
from integration.command import add_options, conclude, print_each, run_rig
from integration.driver.evidence import Evidence
from integration.driver.report import ROW, Outcome
from integration.packages import NODE_PROGRAMS, locked_cache, need_programs
from integration.product import install
from integration.prometheus import servers
from integration.prometheus.story import PODS, STEPS, made
from integration.steps import not_there, run_steps

_NAME = "integration/prometheus/run"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run."""
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Have Debian's Prometheus and node_exporter scrape cni-repair watch on a node"
        " in namespaces; lose a pod, an uplink, the watcher: the alerts of conf/prometheus fire,"
        " and clear. Touches no link of this machine; keeps its downloads in"
        " /var/cache/cni-repair-tests.",
    )
    add_options(parser)
    options = parser.parse_args()
    return run_rig(_NAME, lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-prometheus", options.evidence)
    with locked_cache():
        need_programs(NODE_PROGRAMS)
    servers.prepare()
    with tempfile.TemporaryDirectory(prefix="cni-repair-prometheus-", dir="/var/tmp") as directory:
        launcher = install(options.source.resolve(), Path(directory))
        if not options.json:
            print(f"Prometheus on a node in namespaces; set up in {time.monotonic() - began:.0f} s")
            row = ROW.format("STEP", "WHAT WAS CHECKED", "VERDICT", "SECONDS", "")
            print(row.rstrip(), flush=True)
        outcomes = print_each(_outcomes(launcher), options, evidence)
    return conclude(outcomes, options, evidence, began)


def _outcomes(launcher: Path) -> Generator[Outcome, None, None]:
    try:
        with Lab(PODS, command=[str(launcher)], ipv6=False) as lab, ExitStack() as cleanup:
            node = made(lab, cleanup)
            yield from run_steps(STEPS, node, lambda: node.evidence)
    except LabError as error:
        yield not_there("node", error)
