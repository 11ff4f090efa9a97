"""The host's side: builds kubelet, installs cni-repair, and prints what came of each step."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from integration.command import add_options, conclude, print_each, run_rig
from integration.containerd import runtime
from integration.driver.evidence import Evidence
from integration.driver.report import ROW
from integration.inside import play
from integration.kubernetes import build
from integration.kubernetes.command import add_build_options, work_or_build
from integration.packages import NODE_PROGRAMS, locked_cache, need_programs
from integration.product import install

PROGRAMS = {**NODE_PROGRAMS, "/usr/bin/ping": "iputils-ping"}
_NAME = "integration/kubelet/run"


def main() -> int:
    """Run the rig; 0 if all that was checked holds, 1 if not, 2 where it cannot run, 3 where there
    was no time to build kubelet."""
    options = _parse()
    return run_rig(_NAME, lambda: work_or_build(_NAME, options, build.prepare, _run))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME,
        description="Take the uplink from pods of a real kubelet and containerd, and repair them,"
        " on a node in namespaces. Touches no link of this machine; keeps its downloads, and the"
        " kubelet that it builds (minutes, the first time), in /var/cache/cni-repair-tests.",
    )
    add_build_options(parser, "kubelet")
    add_options(parser)
    return parser.parse_args()


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    evidence = Evidence("cni-repair-kubelet", options.evidence)
    with locked_cache():
        need_programs(PROGRAMS)
    runtime.prepare()
    kubelet = build.prepare(options.build_seconds)
    with tempfile.TemporaryDirectory(prefix="cni-repair-kubelet-", dir="/var/tmp") as directory:
        launcher = install(options.source.resolve(), Path(directory))
        if not options.json:
            _print_title(kubelet, time.monotonic() - began)
        told = play("integration.kubelet.inside", [str(launcher), str(kubelet)], Path(directory))
        outcomes = print_each(told, options, evidence)
    return conclude(outcomes, options, evidence, began)


def _print_title(kubelet: Path, set_up: float) -> None:
    said = subprocess.run([str(kubelet), "--version"], check=True, capture_output=True, text=True)
    print(f"kubelet {said.stdout.split()[-1]} over containerd, on a node in namespaces;", end=" ")
    print(f"set up in {set_up:.0f} s")
    print(ROW.format("STEP", "WHAT WAS CHECKED", "VERDICT", "SECONDS", "OUTAGE"), flush=True)
