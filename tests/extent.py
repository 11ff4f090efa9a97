"""How much the tests do: as much as shows a mistake; all of it with `tests/run --full`."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("CNI_REPAIR_FULL") == "1"

# An emulated machine takes a minute or two for each scenario, half an hour of a processor for all.
# What only the guest has stays: a driver that is reloaded, VLANs, bonds, an older kernel. The rest
# has its like in namespaces: late and renamed NICs (netns/test_repair, test_renamed), failing,
# hanging and killed upgrades (netns/test_upgrade*), kubelet under systemd
# (install/test_watch_kubelet), containerd's pods (test_containerd, test_kubelet_held); or is a part
# of one that stays: bond-new and watched of watched-bond, upgrade of resume-briefly.
_IN_THE_GUEST = (
    "control", "eth0.3", "bond-kept", "clash", "old-kernel", "altnames", "qinq", "qinq-in-part",
    "ipvlan", "resume-briefly", "upgrade-bond", "watched-bond", "armed",
)  # fmt: skip


def guest_scenarios() -> list[str]:
    """Those that the tests have the driver's rig run."""
    from integration.driver.scenarios import SCENARIOS

    return [*SCENARIOS] if IS_FULL else [*_IN_THE_GUEST]
