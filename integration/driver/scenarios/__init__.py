"""What is done to a node full of pods, and what must hold afterwards.

Each scenario gets a node that has just booted: uplinks eth0 and eth1 (e1000e), no pods. The host
imports these modules, too, for the names.
"""

from __future__ import annotations

from collections.abc import Callable

from integration.driver.checks import Checks
from integration.driver.node import Node
from integration.driver.scenarios import (
    armed,
    bond,
    clash,
    containerd,
    ipvlan,
    late,
    legs,
    many,
    names,
    outage,
    qinq,
    reload,
    systemd,
    upgrade,
    watched,
)

SCENARIOS: dict[str, Callable[[Node, Checks], None]] = {
    **reload.SCENARIOS,
    **bond.SCENARIOS,
    **clash.SCENARIOS,
    **containerd.SCENARIOS,
    **late.SCENARIOS,
    **names.SCENARIOS,
    **qinq.SCENARIOS,
    **ipvlan.SCENARIOS,
    **systemd.SCENARIOS,
    **upgrade.SCENARIOS,
    **legs.SCENARIOS,
    **watched.SCENARIOS,
    **armed.SCENARIOS,
}

# What runs only where it is named: it measures, and has little to check that others do not; or it
# takes minutes; or it is a part of another.
MEASURED: dict[str, Callable[[Node, Checks], None]] = {
    **many.SCENARIOS,
    **watched.LONG,
    **upgrade.BRIEF,
}

# What `run --plot` runs, and nobody else: their checks are among those of the others.
AGAINST_PODS = "against-pods"
PLOTTED: dict[str, Callable[[Node, Checks], None]] = {
    **outage.SCENARIOS,
    AGAINST_PODS: armed.against_pods,
}
