"""How much the tests do: as much as shows a mistake; all of it with `tests/run --full`."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("CNI_REPAIR_FULL") == "1"

# Scenarios of the guest that are left out, since an emulated machine takes minutes for each: and
# where the same is shown.
_ELSEWHERE = {
    "control": "test_driver.py, from a checkout below /tmp",
    "containerd": "watched-containerd; test_containerd.py: a pod is stopped in the outage",
    "failing": "hangup: a driver command fails under systemd; netns/test_upgrade.py: all the rest",
    "resume": "resume-briefly; netns/test_upgrade_killed.py: killed at every boundary",
    "watched": "watched-bond: eight pods, their connections, the journal; watched-containerd",
}
_INSTEAD = ["resume-briefly"]


def guest_scenarios() -> list[str]:
    """Those that the tests have the driver's rig run."""
    from integration.driver.scenarios import SCENARIOS

    if IS_FULL:
        return [*SCENARIOS]
    return [name for name in SCENARIOS if name not in _ELSEWHERE] + _INSTEAD
