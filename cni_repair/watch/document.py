"""The watcher's status, from all that it knows."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from cni_repair.network.planning.plan import STALE
from cni_repair.watch.problems import WITHOUT_NETWORK

if TYPE_CHECKING:
    from cni_repair.watch.attachments import Attachments
    from cni_repair.watch.healing import Healing
    from cni_repair.watch.keeping import Keeping
    from cni_repair.watch.links import Link
    from cni_repair.watch.looking import Looking
    from cni_repair.watch.nodelinks import NodeLinks
    from cni_repair.watch.policy import Mode
    from cni_repair.watch.status import Coverage, Damaged, Master, Refused, Status
    from cni_repair.watch.telling import Telling


def status_of(
    mode: Mode, telling: Telling, node: NodeLinks, looking: Looking, keeping: Keeping
) -> Status:
    """What is written down for whoever asks."""
    attachments, healing, held = node.attachments, node.healing, keeping.held
    masters = [_master(name, node, healing) for name in sorted(attachments.masters())]
    return {
        "pid": os.getpid(),
        "since": telling.since,
        "config": telling.settings.path,
        "mode": mode.name,
        "reason": mode.reason,
        "heal": telling.settings.heal,
        "lastLook": looking.finished_at,
        "attachments": dict(Counter(one.state for one in attachments if one.state)),
        "byNetwork": _by_network(attachments),
        "damaged": _damaged(node),
        "masters": masters,
        "armed": healing.armed(),
        "heals": telling.heals,
        "refused": _refused(attachments, healing),
        "kubelet": {"held": held is not None, "since": held.since if held is not None else None},
        "unmanaged": len(looking.unmanaged),
        "coverage": _coverage(attachments, len(looking.unmanaged)),
        "kubernetes": telling.cluster.told,
    }


def _damaged(node: NodeLinks) -> Damaged:
    damaged = [one for one in node.attachments if one.state in WITHOUT_NETWORK]
    on_up = sum(all(_is_up(node.links.get(name)) for name in one.chain) for one in damaged)
    return {"uplinkUp": on_up, "uplinkDown": len(damaged) - on_up}


def _is_up(link: Link | None) -> bool:
    return link is not None and link.up and link.carrier


def _by_network(attachments: Attachments) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for one in attachments:
        if one.state:
            states = found.setdefault(one.network, {})
            states[one.state] = states.get(one.state, 0) + 1
    return found


def _master(name: str, node: NodeLinks, healing: Healing) -> Master:
    link = node.links.get(name)
    away = node.away.get(name)
    return {
        "name": name,
        "up": link is not None and link.up,
        "carrier": link is not None and link.carrier,
        "awaySince": away[1] if away is not None else None,
        "attachments": node.attachments.masters()[name],
        "armed": healing.armed(name),
    }


def _refused(attachments: Attachments, healing: Healing) -> list[Refused]:
    return [
        {
            "containerID": one.container_id,
            "ifname": one.ifname,
            "pod": one.pod,
            "state": one.state,
            "reason": why,
        }
        for one in attachments
        if (why := healing.choosing.why_refused(one))
    ]


def _coverage(attachments: Attachments, unmanaged: int) -> Coverage:
    living = [one for one in attachments if one.state and one.state != STALE]
    restorable = sum(one.restorable for one in living)
    return {"restorable": restorable, "interfaces": len(living) + unmanaged}
