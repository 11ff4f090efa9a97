"""The phases `hold` and `release`: the kubelet sees nothing of what its pods go through."""

from __future__ import annotations

import time

from cni_repair.base import log
from cni_repair.upgrade import kubelet
from cni_repair.upgrade.policy import must_hold, seconds_held
from cni_repair.upgrade.progress import HOLD, RELEASE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.upgrade.context import Outcome, Upgrade
    from cni_repair.upgrade.kubelet import Found


def hold(upgrade: Upgrade) -> Outcome:
    """Stop and mask the kubelet."""
    held = _kubelet_to_hold(upgrade)
    if held is None:
        return True, "no kubelet to hold: nothing rebuilds pods here", {}
    _arm(upgrade, held, seconds_held(upgrade.plan), HOLD)
    kubelet.hold(held.unit)
    log.event("held", f"{held.unit} is masked and stopped", UNIT=held.unit, CAUSE="upgrade")
    was = "" if held.active else " (it was not running before)"
    return True, f"{held.unit} is masked and stopped{was}", {}


def release(upgrade: Upgrade) -> Outcome:
    """Give the kubelet back as it was, unless what failed forbids it."""
    held = noted_kubelet(upgrade)
    if held is None:
        return True, "no kubelet was held", {}
    progress = upgrade.events.progress
    if progress.touched and must_hold(upgrade.plan, progress.failed_since):
        assert upgrade.plan.kubelet is not None
        _arm(upgrade, held, upgrade.plan.kubelet.deadman, RELEASE)
        why = f"{held.unit} stays masked and stopped, as on_failure says"
        return False, why, {"held": True}
    kubelet.release(held)
    kubelet.disarm()
    now = "unmasked and started" if held.active else "as it was before"
    log.event("released", f"{held.unit} is {now}", UNIT=held.unit, CAUSE="upgrade")
    return True, f"{held.unit} is {now}", {"held": False}


def noted_kubelet(upgrade: Upgrade) -> Found | None:
    """The kubelet as it was before this upgrade touched it; None where it touched none."""
    noted = upgrade.events.progress.events.get("kubelet")
    if noted is None:
        return None
    return kubelet.Found(noted["unit"], noted["active"], noted["masked"])


def _kubelet_to_hold(upgrade: Upgrade) -> Found | None:
    """The kubelet as it was before this upgrade touched it; None where there is none to hold.

    On disk before it is touched: a resume would find it stopped, and leave it so.
    """
    noted = noted_kubelet(upgrade)
    if noted is not None or upgrade.plan.kubelet is None or not upgrade.settings.hold_kubelet:
        return noted
    unit = kubelet.find(upgrade.plan.kubelet.unit)
    upgrade.events.commit("kubelet", unit=unit.unit, active=unit.active, masked=unit.masked)
    return unit


def _arm(upgrade: Upgrade, held: Found, seconds: float, phase: str) -> None:
    """Have systemd release the kubelet if we are not heard of again."""
    kubelet.arm(held, seconds, phase)
    upgrade.events.add("deadman", until=round(time.time() + seconds, 3))
