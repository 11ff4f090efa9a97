"""Looking at a node's attachments: what is lost, and what a repair would do. Changes nothing."""

from __future__ import annotations

from cni_repair.node.context import POD_FAILURES, in_pod, wrapped
from cni_repair.node.masters import MasterSteps
from cni_repair.node.report import Report
from cni_repair.node.verdict import (
    REPAIRABLE,
    failed,
    findings_of,
    notes_of,
    observe,
    parents_of,
    planned,
    remedies,
    unannounced,
    unreadable,
)
from cni_repair.uplink.plan import REFUSED, RENAMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.node.context import Node
    from cni_repair.uplink.belongings import NodeRecords


def examine(
    node: Node,
    entries: list[Entry],
    given_netns: str = "",
    records: NodeRecords | None = None,
    force: bool = False,
) -> list[Report]:
    """What is lost, and what would bring it back; takes no lock.

    With `records`, what the node itself had over the masters is looked at, too. `force`: as if
    freed addresses were to be used again.
    """
    masters = MasterSteps(node.rtnl, records)
    return [examine_one(node, entry, masters, given_netns, force) for entry in entries]


def examine_one(
    node: Node, entry: Entry, masters: MasterSteps, given_netns: str = "", force: bool = False
) -> Report:
    """As :func:`examine`, of one attachment; `masters` is shared by all of one look."""
    checkpoint = entry.checkpoint
    if checkpoint is None:
        return unreadable(entry)
    parents = parents_of(checkpoint)
    try:
        parent_plan, master = masters.look(parents)
        observed = in_pod(node, checkpoint, given_netns, lambda pair: observe(pair, checkpoint))
        plan = planned(checkpoint, observed, master, force)
    except POD_FAILURES as error:
        return failed(checkpoint, given_netns, wrapped(error))
    netns = given_netns or checkpoint.netns_path
    actions: list[str] = []
    notes: list[str] = []
    # A repair makes nothing over a link that is refused: pods would stand on another network.
    if plan.state in REPAIRABLE and parent_plan.state not in (REFUSED, RENAMED):
        actions, notes = masters.steps_for(parents)
        actions += masters.unsaid(step.describe(netns) for step in plan.operations)
        notes += unannounced(checkpoint, observed.addresses)
    return Report(
        checkpoint.key,
        checkpoint,
        netns,
        plan.state,
        findings_of(checkpoint, plan, parent_plan),
        tuple(actions),
        notes=(*remedies(checkpoint, observed, plan, netns), *notes_of(plan), *notes),
        unverified=bool(plan.unverified),
    )
