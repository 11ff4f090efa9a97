"""The upgrade, phase by phase.

    preflight ─► snapshot ─► hold kubelet ─► driver ─► masters ─► repair ─► verify ─► release

Until the driver command is started nothing is touched but the kubelet, and a failure ends the
upgrade. From then on every phase is done whatever came of the one before: pods that can be repaired
are. What failed decides at the end what becomes of the kubelet (the plan's `on_failure`).
"""

from __future__ import annotations

from cni_repair.node.context import wrapped
from cni_repair.upgrade import driverphase, holding, podphases
from cni_repair.upgrade.progress import (
    DRIVER,
    FAILED,
    FINE,
    HOLD,
    MASTERS,
    PREFLIGHT,
    REFUSED,
    RELEASE,
    REPAIR,
    SNAPSHOT,
    VERIFY,
    remaining,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_repair.upgrade.context import Outcome, Upgrade

    PhaseWork = Callable[[Upgrade], Outcome]

PHASE_WORK: Mapping[str, PhaseWork] = {
    PREFLIGHT: podphases.preflight,
    SNAPSHOT: podphases.snapshot,
    HOLD: holding.hold,
    DRIVER: driverphase.run,
    MASTERS: podphases.masters,
    REPAIR: podphases.repair,
    VERIFY: podphases.verify,
    RELEASE: holding.release,
}
# Between the links' loss and their pods' repair nothing waits for a disk: a power cut would end the
# upgrade anyway (another boot), and kill -9 takes nothing from what was written.
_BEGIN_HURRIED = (MASTERS, REPAIR)
_END_HURRIED = (DRIVER, MASTERS)


def run(upgrade: Upgrade, work: Mapping[str, PhaseWork] = PHASE_WORK) -> int:
    """Do what is left to do, by the `work` of each phase; FINE, FAILED or REFUSED."""
    for phase in remaining(upgrade.events.progress):
        if not _do(upgrade, phase, work[phase]) and not upgrade.events.progress.touched:
            return _give_up(upgrade, phase, work)
    # A driver command that failed is not run again: who resumes was told, and asks for the rest.
    return _end(upgrade, FAILED if upgrade.events.progress.failed_since else FINE)


def _give_up(upgrade: Upgrade, phase: str, work: Mapping[str, PhaseWork]) -> int:
    """Nothing was touched but, maybe, the kubelet."""
    if phase in (PREFLIGHT, SNAPSHOT):
        return _end(upgrade, REFUSED)
    _do(upgrade, RELEASE, work[RELEASE])
    return _end(upgrade, FAILED)


def _end(upgrade: Upgrade, status: int) -> int:
    upgrade.events.add("end", status=status)
    return status


def _do(upgrade: Upgrade, phase: str, work: PhaseWork) -> bool:
    upgrade.events.add("phase", durable=phase not in _BEGIN_HURRIED, phase=phase)
    try:
        ok, text, data = work(upgrade)
    except Exception as error:  # a bug, too, must not leave the kubelet held, pods unrepaired
        ok, text, data = False, str(wrapped(error)), {}
    durable = phase not in _END_HURRIED
    upgrade.events.add("done", durable=durable, phase=phase, ok=ok, words=text, data=data)
    return ok
