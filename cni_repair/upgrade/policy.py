"""What a plan says about the kubelet, at the end and in the worst case. Pure."""

from __future__ import annotations

from cni_repair.upgrade.planfile import HOLD
from cni_repair.upgrade.progress import DRIVER, MASTERS, REPAIR, VERIFY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.upgrade.planfile import Plan

# For what is over in seconds, or waits: for systemd (`systemctl stop`: 90 s), for a pod's lock
# (45 s), for carrier and IPv6 (2 x 8 s).
_SLACK_SECONDS = 240.0


def wishes(plan: Plan) -> dict[str, str]:
    """What becomes of the kubelet where a phase failed."""
    policies = plan.on_failure
    return {
        DRIVER: policies.driver,
        MASTERS: policies.masters,
        REPAIR: policies.repair,
        VERIFY: policies.verify,
    }


def must_hold(plan: Plan, failed: Iterable[str]) -> bool:
    """Whether the kubelet stays held at the end."""
    return any(wishes(plan).get(phase) == HOLD for phase in failed)


def seconds_held(plan: Plan) -> float:
    """After which the kubelet is let go, should the upgrade have vanished.

    For all phases at once: while pods are without a network nothing waits for systemd.
    """
    assert plan.kubelet is not None
    working = plan.driver.deadline + plan.masters.deadline + plan.verify.timeout
    return working + _SLACK_SECONDS + plan.kubelet.deadman
