"""The verdict on one attachment: its checkpoint beside what its pod has now. Changes nothing."""

from __future__ import annotations

from cni_repair.base.errors import STALE, CniError
from cni_repair.base.frozen import replace
from cni_repair.network.observe import observe_pod, with_all, with_recorded
from cni_repair.network.planning import plan as planning
from cni_repair.network.planning.lifetimes import aged, now
from cni_repair.network.planning.plan import DEGRADED, FOREIGN, HEALTHY, LOST
from cni_repair.node.report import UNREADABLE, Report
from cni_repair.uplink.plan import MISSING, READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.model import Address, Attachment, HostLink
    from cni_repair.network.observed import Observed
    from cni_repair.network.planning.plan import Plan
    from cni_repair.uplink.ensure import Parents
    from cni_repair.uplink.plan import ParentPlan

# The states of pods that are there, with an interface that is theirs.
REPAIRABLE = (HEALTHY, LOST, DEGRADED)
_MOST_UNANNOUNCED = 4  # to be named: a pod may have given itself thousands


def parents_of(checkpoint: Checkpoint) -> Parents:
    """What an attachment stands on: shared by most pods of a node, and looked at once for all."""
    return checkpoint.attachment.parents, checkpoint.attachment.follow_renamed_master


def observe(namespaces: NamespacePair, checkpoint: Checkpoint) -> Observed:
    """The attachment's interface as it is, as far as it is recorded."""
    recorded = checkpoint.attachment
    # (Until a record is settled, sysctls are given to what is set up, and not compared.)
    observed = _observe(namespaces, recorded, recorded.settled)
    return with_recorded(namespaces.pod, observed, recorded)


def observe_all(namespaces: NamespacePair, checkpoint: Checkpoint) -> Observed:
    """The attachment's interface as it is, with everything that a checkpoint may hold."""
    recorded = checkpoint.attachment
    return with_all(namespaces.pod, _observe(namespaces, recorded), recorded.ifname)


def _observe(namespaces: NamespacePair, recorded: Attachment, sysctls: bool = True) -> Observed:
    netns, ifindex = namespaces.node_netns, recorded.link.ifindex
    return observe_pod(namespaces.pod, netns, recorded.ifname, ifindex, sysctls=sysctls)


def planned(
    checkpoint: Checkpoint,
    observed: Observed,
    master: HostLink | None,
    force: bool = False,
    beside: bool = False,
) -> Plan:
    """What is wrong with an attachment, by its record and what was observed, as of now.

    `force`: a lost interface is to be made although its address was freed. `beside`: its IPv6
    addresses are to be used while it is asked whether others have them.
    """
    recorded = checkpoint.attachment
    attachment = aged(recorded, now())
    if len(attachment.addresses) != len(recorded.addresses) and not observed.link:
        remaining = {address.key for address in attachment.addresses}
        expired = [
            f"address {address.address}/{address.prefix}: its lifetime has ended"
            for address in recorded.addresses
            if address.key not in remaining
        ]
        observed = replace(observed, troubles=(*observed.troubles, *expired))
    plan = planning.plan(attachment, observed, master, beside)
    if plan.state != LOST:
        return plan
    return unless_released(plan, checkpoint, force)


def unless_released(plan: Plan, checkpoint: Checkpoint, force: bool = False) -> Plan:
    """The plan for a lost interface, as far as its addresses may be used; `force`: those, too, that
    are freed. What another attachment was given is never taken."""
    from cni_repair.node.leases import leases_of  # of no use where nothing is lost

    leases = leases_of(checkpoint)
    findings = list(leases.others)
    if not force:
        findings += [
            f"address {address} was freed ({leases.store} does not have it any more)"
            for address in leases.freed
        ]
    if findings:
        return replace(
            plan,
            state=planning.RELEASED,
            findings=(*plan.findings, *findings),
            operations=(),
            waits=False,
        )
    return replace(plan, unvouched=(*leases.unknown, *leases.freed))


def findings_of(
    checkpoint: Checkpoint, plan: Plan, parent_plan: ParentPlan | None
) -> tuple[str, ...]:
    """What is wrong with an attachment, with what is wrong with its master where that matters."""
    if parent_plan is None or plan.state == HEALTHY:
        return plan.findings
    findings = plan.findings
    lost = plan.state == LOST
    # (That a usable master is down, the finding about a present link's carrier says already; not
    # what is down below a VLAN.)
    is_below = bool(checkpoint.attachment.parents[1:])
    if parent_plan.reason and (lost or parent_plan.state != READY or is_below):
        findings = (*findings, parent_plan.reason)
    if lost and parent_plan.state == MISSING:
        from cni_repair.uplink.fallback import others_in_words  # of no use where it is there

        if others := others_in_words(checkpoint):
            findings = (*findings, f"repair waits for it, then moves the pod to {others}")
    return findings


def notes_of(plan: Plan) -> tuple[str, ...]:
    """What is to be said of an attachment that is no fault of its interface."""
    if not plan.unverified:
        return ()
    # (Which addresses, each of many pods would have to say in lines of its own.)
    return (
        "not verified yet that nobody else has its IPv6 addresses, which are in use: a repair is at"
        " it, was interrupted, or had no carrier; cni-repair repair finishes it",
    )


def remedies(checkpoint: Checkpoint, observed: Observed, plan: Plan, netns: str) -> tuple[str, ...]:
    """What somebody has to do in the pod: no repair does it, nor may it."""
    if observed.link is None or not (plan.state == FOREIGN or observed.dadfailed):
        return ()
    from cni_repair.network.planning import remedy  # of no use on most nodes

    if plan.state == FOREIGN:
        return (remedy.for_stranger(checkpoint.key.ifname, observed.link, netns),)
    if plan.state != DEGRADED:
        return ()
    recorded = {one.address: one for one in checkpoint.attachment.addresses}
    failed = [recorded[one] for one in observed.dadfailed if one in recorded]
    return tuple(remedy.for_dadfailed(observed.link, one, netns) for one in failed)


def unannounced(checkpoint: Checkpoint, found: Iterable[Address] = ()) -> tuple[str, ...]:
    """What is to be said where a repair restores addresses that the network is not told of;
    `found` are those that were there."""
    there = {address.key for address in found}
    silent = [
        address.address
        for address in checkpoint.attachment.addresses
        if address.key not in there and address.address not in checkpoint.announceable
    ]
    if not silent:
        return ()
    addresses = " ".join(silent[:_MOST_UNANNOUNCED])
    if len(silent) > _MOST_UNANNOUNCED:
        addresses += f" and {len(silent) - _MOST_UNANNOUNCED} more"
    return (
        f"restored, but not announced: {addresses}: not from IPAM, the pod may have taken it itself"
        " (cni-repair snapshot --accept POD: to be announced, too)",
    )


def unreadable(entry: Entry) -> Report:
    """The report on a checkpoint that cannot be used."""
    return Report(entry.key, None, "", UNREADABLE, error=entry.error)


def failed(checkpoint: Checkpoint, given_netns: str, error: CniError) -> Report:
    """The report on an attachment that could not be looked at, or worked on."""
    state = planning.STALE if error.code == STALE else DEGRADED
    netns = given_netns or checkpoint.netns_path
    return Report(checkpoint.key, checkpoint, netns, state, error=error)
