"""Whether this process stands where the node's records were made, or in a container beside it.

In another network namespace than the node's, every pod's interface looks as if the pod had made it
itself; without the node's mounts, every pod looks as if it were no more. Who acted on that would
delete what is alive.
"""

from __future__ import annotations

import os

from cni_repair.base.errors import ENVIRONMENT, CniError
from cni_repair.base.names import short_id
from cni_repair.base.procfs import boot_id
from cni_repair.netlink.netns import netns_id_at, netns_id_if_seen
from cni_repair.network.planning.plan import DEGRADED, FOREIGN, HEALTHY, RENAMED
from cni_repair.node.context import POD_FAILURES, in_pod
from cni_repair.node.masters import MasterTroubles
from cni_repair.node.verdict import observe
from cni_repair.uplink.plan import MISSING, REFUSED
from cni_repair.uplink.plan import RENAMED as RENAMED_CARD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.node.context import Node
    from cni_repair.node.report import Report

_INITS_ROOT = "/proc/1/root"


def check_sight(checkpoints: Iterable[Checkpoint]) -> None:
    """Raise Hidden where a recorded namespace's path leads to it where PID 1 is, but not here."""
    for checkpoint in checkpoints:
        identity = checkpoint.netns
        if identity is not None and _is_hidden(identity):
            raise Hidden(checkpoint, identity.path)


class Hidden(CniError):
    """A pod lives that would look as if it were no more."""

    def __init__(self, checkpoint: Checkpoint, path: str) -> None:
        pod = str(checkpoint.pod) or short_id(checkpoint.key.container_id)
        super().__init__(
            ENVIRONMENT,
            f"pod {pod} lives, but its namespace {path} cannot be seen from here",
            "run it on the node itself (in a container: mount the node's"
            f" {os.path.dirname(path)} there)",
        )


def _is_hidden(identity: Identity) -> bool:
    if identity.boot_id != boot_id() or netns_id_at(identity.path) is not None:
        return False
    return netns_id_if_seen(_INITS_ROOT + identity.path) == identity.netns_id


def is_beside_the_node(node: Node, reports: Sequence[Report]) -> bool:
    """Whether pods' recorded interfaces stand on links of another namespace than this one.

    A single pod can make an interface that looks so: it decides nothing as long as another pod's
    interface stands on a link of this namespace, or a recorded master is here.
    """
    if any(_stands_here(report) for report in reports):
        return False
    foreign = [one.checkpoint for one in reports if one.state == FOREIGN and one.checkpoint]
    if not any(_is_over_another(node, checkpoint) for checkpoint in foreign):
        return False
    recorded = [report.checkpoint for report in reports if report.checkpoint]
    troubles = MasterTroubles(node.rtnl, recorded)
    found = [troubles.of(checkpoint) for checkpoint in recorded]
    return all(one is not None and one.what in (MISSING, REFUSED, RENAMED_CARD) for one in found)


def _stands_here(report: Report) -> bool:
    present = report.state == DEGRADED and report.error is None
    return present or report.state in (HEALTHY, RENAMED)


def _is_over_another(node: Node, checkpoint: Checkpoint) -> bool:
    """Whether the pod has the recorded interface, over a link of another namespace."""
    try:
        observed = in_pod(node, checkpoint, "", lambda pair: observe(pair, checkpoint))
    except POD_FAILURES:
        return False
    live, recorded = observed.link, checkpoint.attachment.link
    return (
        live is not None
        and (live.link.kind, live.link.ifindex) == (recorded.kind, recorded.ifindex)
        and live.link.mac == recorded.mac.lower()
        and live.master_netnsid is not None
        and not live.is_over(observed.host_netnsid)
    )
