"""What a plan requires of the node beyond what it had: held before, it is asked for again. Pure."""

from __future__ import annotations

from cni_repair.network.reachability.gateways import ANSWERED, DOUBTFUL, PERMANENT
from cni_repair.upgrade.baseline import NOT_ASKED
from cni_repair.upgrade.pods import group_by_reason, summarise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.upgrade.baseline import Measure, PodFacts
    from cni_repair.upgrade.planfile import Plan, Required


def links_required(plan: Plan, checkpoints: list[Checkpoint], measure: Measure) -> list[str]:
    """The links that must have carrier."""
    chains = [checkpoint.attachment.parents for checkpoint in checkpoints]
    scope = plan.require.carrier
    if scope.everything:
        legs = [link.name for link in measure.links.values() if link.bond]
        names = [*(chain[-1].name for chain in chains), *legs, *plan.masters.names]
    else:
        # A VLAN device has the carrier of what it stands on, and is made again with the first pod.
        below = {link.name: chain[-1].name for chain in chains for link in chain if link.vlan}
        names = [below.get(name, name) for name in scope.names]
    return list(dict.fromkeys(names))


def unmet(plan: Plan, checkpoints: list[Checkpoint], measure: Measure) -> list[str]:
    """Why an upgrade by this plan is refused: what it requires is not so even now."""
    return [
        *_without_carrier(links_required(plan, checkpoints, measure), measure),
        *_silent_gateways(plan.require.gateways, measure),
    ]


def _without_carrier(names: list[str], measure: Measure) -> list[str]:
    facts = [(name, measure.links.get(name)) for name in names]
    return [
        f"$.require.carrier: {link.trouble if link else f'{name} does not exist'} now: put that"
        " right, or do not require it"
        for name, link in facts
        if link is None or link.trouble
    ]


def _silent_gateways(scope: Required, measure: Measure) -> list[str]:
    pods = list(measure.pods.values())
    silent = group_by_reason([(pod.title, why) for pod in pods for why in _unheard(pod, scope)])
    known = {address for pod in pods for address in pod.gateways}
    nobodys = [f"no pod has {name} as its gateway" for name in scope.names if name not in known]
    if not silent and not nobodys:
        return []
    text = summarise([*silent, *nobodys])
    return [f"$.require.gateways: {text}: put that right, or do not require it"]


def _unheard(pod: PodFacts, scope: Required) -> list[str]:
    """Which of the gateways that must answer a pod do not."""
    return [
        _why_unheard(pod, address, state)
        for address, state in pod.gateways.items()
        if state not in (ANSWERED, PERMANENT) and (scope.everything or address in scope.names)
    ]


def _why_unheard(pod: PodFacts, address: str, state: str) -> str:
    if state == NOT_ASKED:
        return f"gateway {address} cannot be asked now ({pod.reason or state})"
    if state == DOUBTFUL:
        return f"who answers for gateway {address} is not certain ({pod.reason})"
    return f"gateway {address} does not answer now"
