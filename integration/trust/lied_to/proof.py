"""The proof: all cases on one node at once; with --full each alone, too, and over a VLAN."""

from __future__ import annotations

import subprocess

from cni_repair.demo.lab import Lab, kernel_has_vlans
from integration.product import command_here
from integration.trust.lied_to.cases import CASES, Case
from integration.trust.lied_to.scene import Scene
from integration.trust.proof import Extent, Failure, Outcome

NAME = "lied to"
WHAT = "pods squat, flood, forge, change in a loop, and name themselves in shell text"
_VLAN = 3
_UPGRADE = "upgrade"  # under all cases at once


def prove(extent: Extent) -> Outcome:
    """Play the cases."""
    absent = _absent_kinds({case.needs for case in CASES if case.needs})
    cases = [case for case in CASES if case.needs not in absent]
    chosen = [case for case in CASES if extent.case == case.name]
    tried, slowest = 0, 0.0
    failures: list[Failure] = []
    with command_here() as command:
        for together, vlan, by_upgrade in _scenes(cases, chosen, extent):
            lab = Lab(command=command, detect_duplicates=False, ipv6=False, vlan=vlan)
            with lab:
                scene = Scene(lab, together, extent.full)
                scene.play(by_upgrade)
            tried += len(together)
            slowest = max(slowest, scene.slowest)
            failures += scene.failures
    figures = [("the honest pods were repaired within", f"{slowest:.2f} s")]
    if absent:
        left_out = [case.name for case in CASES if case.needs in absent]
        figures.append(("not on this kernel", ", ".join(left_out)))
    if extent.full and not kernel_has_vlans():
        figures.append(("not on this kernel", "VLAN parents"))
    return Outcome(tried, tuple(dict.fromkeys(failures)), tuple(figures))


def _scenes(
    cases: list[Case], chosen: list[Case], extent: Extent
) -> list[tuple[list[Case], int, bool]]:
    """Which cases share a node, over which VLAN, and whether an upgrade repairs it."""
    if chosen:
        return [(chosen, 0, False)]
    if extent.case == _UPGRADE:
        return [(cases, 0, True)]
    scenes = [(cases, 0, False)]
    if extent.full:
        scenes += [(cases, 0, True), *(([case], 0, False) for case in cases)]
        if kernel_has_vlans():
            scenes += [(cases, _VLAN, False)]
    return scenes


def _absent_kinds(kinds: set[str]) -> set[str]:
    """Those that this kernel cannot make: of a link over a veth, in a namespace that goes."""
    script = (
        "ip link add under type veth peer name far;"
        " for kind in {kinds}; do ip link add link under name t0 type $kind 2>/dev/null"
        " || ip link add t0 type $kind 2>/dev/null || echo $kind; ip link del t0 2>/dev/null; done"
    )
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script.format(kinds=" ".join(sorted(kinds)))],
        capture_output=True,
        text=True,
        check=False,
    )
    return set(done.stdout.split())
