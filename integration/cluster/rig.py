"""The host's side: builds what the cluster is made of, and prints what came of each step."""

from __future__ import annotations

import argparse
import contextlib
import sys
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
from integration.packages import locked_cache, need_programs

LEFT_OUT = 3  # the exit status

# Beside what kubelet, containerd and the control plane are made of.
PROGRAMS = {
    "/usr/bin/setpriv": "util-linux",
    "/usr/lib/cni/macvlan": "containernetworking-plugins",
    "/sbin/ip": "iproute2",
}
_NAME = "integration/cluster/run"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run, 3 where there
    was no time to build Kubernetes."""
    options = _parse()
    return run_rig(_NAME, lambda: _work(options))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Roll cni-repair out on a cluster of three bare nodes in namespaces, take their"
        " NICs, update it under load, and take it away again. Touches no link of this machine;"
        " keeps its downloads, and the Kubernetes that it builds (minutes, the first time), in"
        " /var/cache/cni-repair-tests.",
    )
    parser.add_argument(
        "--build-seconds",
        type=float,
        default=0.0,
        metavar="N",
        help=f"give up, with exit status {LEFT_OUT}, if Kubernetes is not built by then, or"
        " cannot be on this distribution (default: wait until it is)",
    )
    parser.add_argument("--build", action="store_true", help="build Kubernetes only")
    add_options(parser)
    return parser.parse_args()


def _work(options: argparse.Namespace) -> int:
    try:
        if options.build:
            build.prepare_all(options.build_seconds)
            return 0
        return _run(options)
    except build.NotBuilt as error:
        print(f"{_NAME}: {error}", file=sys.stderr)
        return LEFT_OUT


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-cluster", options.evidence)
    with locked_cache():
        need_programs(PROGRAMS)
    runtime.prepare()
    control.prepare(options.build_seconds)
    with tempfile.TemporaryDirectory(prefix="cni-repair-cluster-", dir="/var/tmp") as name:
        directory = Path(name)
        images = make_images(options.source.resolve(), directory)
        if not options.json:
            _print_title(images, time.monotonic() - began)
        # Closed before the directory goes, whatever ends us.
        told = play("integration.cluster.inside", [name], directory, inside.SECONDS)
        with contextlib.closing(told) as steps:
            outcomes = print_each(steps, options, evidence)
    return conclude(outcomes, options, evidence, began)


def _print_title(images: Images, set_up: float) -> None:
    megabytes = Path(images.first.archive).stat().st_size / 1e6
    print(f"Kubernetes 1.20 on {len(NODES)} nodes in namespaces, an image of", end=" ")
    print(f"{megabytes:.1f} MB; set up in {set_up:.0f} s")
    print(ROW.format("STEP", "WHAT WAS CHECKED", "VERDICT", "SECONDS", "OUTAGE"), flush=True)
