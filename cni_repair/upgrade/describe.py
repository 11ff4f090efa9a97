"""What an upgrade is going to do, before it does it. Pure."""

from __future__ import annotations

import shlex

from cni_repair.upgrade.drivercommand import SHELL
from cni_repair.upgrade.policy import seconds_held, wishes
from cni_repair.upgrade.progress import PHASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.upgrade.planfile import Plan
    from cni_repair.upgrade.settings import Settings


def steps(plan: Plan, settings: Settings) -> list[str]:
    """A line or two for each phase, with its commands, and what becomes of the kubelet."""
    held = plan.kubelet if settings.hold_kubelet else None
    texts = dict.fromkeys(PHASES, "")
    unit_too = ", the kubelet's unit" if held else ""
    texts["preflight"] = (
        f"{plan.coverage}% of the interfaces can be restored; the driver command, the disks, the"
        f" locks{unit_too} are in order{_required(plan)}; who answers now is noted"
    )
    texts["snapshot"] = f"bring the records in {settings.checkpoint_dir} up to date"
    texts["hold"] = "no kubelet to hold: nothing rebuilds pods here"
    texts["release"] = "nothing to release"
    if held is not None:
        unit = shlex.quote(held.unit)
        texts["hold"] = (
            f"systemctl stop {unit}, and mask it until the next boot"
            f" (a timer of systemd's undoes it after {_time(seconds_held(plan))}, should cni-repair"
            " vanish)"
        )
        texts["release"] = f"unmask it; systemctl start {unit}"
    texts["driver"] = f"{command(plan).rstrip()} (killed after {_time(plan.driver.deadline)})"
    names = ", ".join(plan.masters.names) or "the uplinks that the records name"
    carrier = ", with carrier where there is carrier now" if plan.masters.carrier else ""
    texts["masters"] = f"wait up to {_time(plan.masters.deadline)} for {names}{carrier}"
    texts["repair"] = "as cni-repair repair --all"
    probe = ", and look for others that have the pods' addresses" if plan.verify.duplicates else ""
    within = f"within {_time(plan.verify.timeout)}"
    texts["verify"] = f"every pod's gateways that answer now answer again {within}{probe}"
    text = [f"{phase:<10} {texts[phase]}" for phase in PHASES]
    return [*text, *_policies(plan, held is not None)]


def _required(plan: Plan) -> str:
    """What the plan requires, before and afterwards."""
    scopes = [
        ("carrier of", plan.require.carrier, "all uplinks"),
        ("answers of", plan.require.gateways, "all gateways"),
    ]
    return "".join(
        f"; required: {what} {everything if scope.everything else ', '.join(scope.names)}"
        for what, scope, everything in scopes
        if scope.everything or scope.names
    )


def command(plan: Plan) -> str:
    """The driver command as one would type it."""
    command = plan.driver.command
    return command[-1] if command[:-1] == SHELL else shlex.join(command)


def _policies(plan: Plan, held: bool) -> list[str]:
    but = " but the kubelet, which is released" if held else ""
    text = [
        f"a failure before the driver command ends the upgrade, and nothing was touched{but};"
        " after it, the rest is done all the same"
    ]
    if not held:
        return text
    by_phase = ", ".join(f"{phase}: {wish}" for phase, wish in wishes(plan).items())
    return [*text, f"what becomes of the kubelet where a phase failed: {by_phase}"]


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    parts = [f"{minutes:g} min"] if minutes else []
    return " ".join([*parts, f"{rest:g} s"] if rest or not parts else parts)
