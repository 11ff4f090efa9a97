"""The host's side: builds what the cluster is made of, and prints what came of each step."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from integration.cluster import control, inside
from integration.cluster.images import make_images
from integration.cluster.overlay import Images
from integration.cluster.story import NODES
from integration.command import add_options, conclude, print_each, run_rig
from integration.containerd import runtime
from integration.driver.evidence import Evidence
from integration.driver.report import ROW
from integration.inside import play
from integration.kubernetes import build
from integration.kubernetes.command import add_build_options, work_or_build
from integration.packages import NODE_PROGRAMS, locked_cache, need_programs

_NAME = "integration/cluster/run"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run, 3 where there
    was no time to build Kubernetes."""
    options = _parse()
    return run_rig(_NAME, lambda: work_or_build(_NAME, options, build.prepare_all, _run))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Roll cni-repair out on a cluster of three bare nodes in namespaces, take their"
        " NICs, update it under load, and take it away again. Touches no link of this machine;"
        " keeps its downloads, and the Kubernetes that it builds (minutes, the first time), in"
        " /var/cache/cni-repair-tests.",
    )
    add_build_options(parser, "Kubernetes")
    add_options(parser)
    return parser.parse_args()


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-cluster", options.evidence)
    with locked_cache():
        need_programs(NODE_PROGRAMS)
    runtime.prepare()
    control.prepare(options.build_seconds)
    with tempfile.TemporaryDirectory(prefix="cni-repair-cluster-", dir="/var/tmp") as name:
        directory = Path(name)
        images = make_images(options.source.resolve(), directory)
        if not options.json:
            _print_title(images, time.monotonic() - began)
        told = play("integration.cluster.inside", [name], directory, inside.SECONDS)
        outcomes = print_each(told, options, evidence)
    return conclude(outcomes, options, evidence, began)


def _print_title(images: Images, set_up: float) -> None:
    megabytes = Path(images.first.archive).stat().st_size / 1e6
    print(f"Kubernetes 1.20 on {len(NODES)} nodes in namespaces, an image of", end=" ")
    print(f"{megabytes:.1f} MB; set up in {set_up:.0f} s")
    print(ROW.format("STEP", "WHAT WAS CHECKED", "VERDICT", "SECONDS", "OUTAGE"), flush=True)
