"""Planning: from what should be and what is, to what to do. Pure: no I/O, no clock.

The invariants (tests/unit/test_plan_properties.py): a satisfied state plans nothing; applying a
plan and planning again gives nothing.
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.model import TEMPORARY, Address, Attachment, HostLink
from cni_repair.network.observed import Observed
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.planning.address import (
    added_at_once,
    address_drifts,
    is_detected_beside,
    link_local_at_once,
    unverified,
)
from cni_repair.network.planning.link import bringing_up, link_drifts, link_locals_as_before, making
from cni_repair.network.planning.neighbour import neighbour_drifts
from cni_repair.network.planning.route import route_drifts, route_steps
from cni_repair.network.planning.rule import rule_drifts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_repair.network.operations.base import Operation
    from cni_repair.network.planning.address import AddressDrift
    from cni_repair.network.planning.drift import Drift
    from cni_repair.network.planning.route import RouteDrift

    AnyDrift = Drift | AddressDrift | RouteDrift

HEALTHY = "healthy"
LOST = "lost"
DEGRADED = "degraded"
STALE = "stale"
FOREIGN = "foreign"
RENAMED = "renamed"  # it is there, under another name
RELEASED = "released"  # lost, and its address freed: see node/leases


@frozen
class Plan:
    """The verdict on one attachment, and what would make it healthy."""

    state: str
    findings: tuple[str, ...] = ()  # what is wrong, in words
    operations: tuple[Operation, ...] = ()
    waits: bool = False  # something is left that needs another of the pod's links
    restores_all: bool = False  # nothing is there, and nothing of the record is left out
    # Addresses of a lost interface of which nobody could say whether they are still its own.
    unvouched: tuple[str, ...] = ()
    # IPv6 addresses, as they are to be then, that are used while it is asked who else has them.
    unverified: tuple[Address, ...] = ()


def with_extras(desired: Attachment, observed: Observed) -> Attachment:
    """The attachment with what the pod has besides: for a repair that has to take an address away
    for a moment, with which the kernel takes others along."""
    recorded = {one.key for one in desired.addresses}
    taken = {one.slot for one in desired.routes}
    more = tuple(one for one in observed.addresses if one.key not in recorded)
    routes = tuple(one for one in observed.routes if one.slot not in taken)
    return replace(
        desired,
        addresses=(*desired.addresses, *more),
        routes=(*desired.routes, *routes),
    )


def plan(
    desired: Attachment, observed: Observed, master: HostLink | None, beside: bool = False
) -> Plan:
    """What it takes to make `observed` what `desired` says.

    `master` is the node's link that is the recorded master now; None where it is still to be made.
    `beside`: the IPv6 addresses of a lost interface are used at once, while somebody asks whether
    others have them; else the kernel asks first.
    """
    live, renamed = observed.link, observed.at_ifindex
    # (An altname: the kernel finds a link by those, too.)
    if live is not None and live.name != desired.ifname and renamed is None:
        renamed = live
    if renamed is not None and _is_on_its_way(renamed.name):
        observed = replace(observed, ifindex_taken_by=None)
    elif renamed is not None and _is_ours_renamed(desired, observed, renamed, master):
        return Plan(RENAMED, _renamed_findings(desired, observed, renamed))
    if live is None:
        return _plan_lost(desired, observed, master, beside)
    stranger = _why_foreign(desired, observed, live, master)
    if stranger:
        return Plan(FOREIGN, (stranger,))
    return _plan_present(desired, observed, live, master)


def _is_on_its_way(name: str) -> bool:
    """A repair was killed while it moved the interface into the pod, or moves it now: the next one
    removes it first."""
    return name.startswith(TEMPORARY)


def _plan_lost(
    desired: Attachment, observed: Observed, master: HostLink | None, beside: bool
) -> Plan:
    link = desired.link
    findings = [f"the pod's {desired.ifname} is gone"]
    if link.ifindex and observed.ifindex_taken_by:
        findings.append(
            f"its index {link.ifindex} belongs to {observed.ifindex_taken_by} now: sockets bound to"
            f" {desired.ifname} will not recover"
        )
        link = replace(link, ifindex=0)
    if master is not None and link.mtu > master.mtu:
        # macvlan_common_newlink() refuses an MTU above the master's
        findings.append(
            f"master {master.name} has MTU {master.mtu}, the interface had {link.mtu}:"
            f" ip link set dev {quoted(master.name)} mtu {link.mtu}, then cni-repair repair again"
        )
        if desired.settled:
            # A network with smaller packets, not none; what it lacks is told from then on. (Of a
            # record that is not settled, a smaller MTU may be a later plugin's work.)
            link = replace(link, mtu=master.mtu)
    findings += observed.troubles
    at_once = beside and is_detected_beside(desired, observed)
    added = (added_at_once if at_once else address_drifts)(desired, observed)
    link_local = link_local_at_once(desired, observed) if at_once else None
    carried = _carried(desired, observed, added)
    # The others go with the link; that they are missing goes without saying.
    findings += [drift.finding for drift in carried.drifts if drift.step is None]
    findings += [drift.finding for drift in carried.rules]
    steps = (*making(desired, link, master, link_local), *carried.steps)
    complete = len(findings) == 1 and link == desired.link
    return Plan(LOST, tuple(findings), steps, carried.waits, complete)


def _plan_present(
    desired: Attachment, observed: Observed, live: LiveLink, master: HostLink | None
) -> Plan:
    wrong = link_drifts(desired, live, master)
    carried = _carried(desired, observed, address_drifts(desired, observed))
    findings = [
        *_up_findings(desired, live, master),
        *observed.troubles,
        *(drift.finding for drift in wrong),
        *(f"address {one} is in use by another host (dadfailed)" for one in observed.dadfailed),
        *_tentative_findings(desired, observed),
        *(drift.finding for drift in (*carried.drifts, *carried.rules)),
    ]
    steps = _steps(wrong)
    steps += [] if live.up else bringing_up(desired, live)
    state = DEGRADED if findings else HEALTHY
    return Plan(
        state,
        tuple(findings),
        (*steps, *carried.steps),
        carried.waits,
        unverified=unverified(desired, observed),
    )


@frozen
class _Carried:
    """What is missing or wrong of what the interface carries, and the steps for it in their
    order."""

    drifts: tuple[AnyDrift, ...]
    rules: tuple[Drift, ...]  # which outlive the interface
    steps: tuple[Operation, ...]

    @property
    def waits(self) -> bool:
        return any(drift.step is None for drift in self.drifts)


def _carried(desired: Attachment, observed: Observed, addresses: list[AddressDrift]) -> _Carried:
    """Neighbours before routes: the first packet by a route then finds its gateway's MAC."""
    routes = route_drifts(desired, observed)
    neighbours, rules = neighbour_drifts(desired, observed), rule_drifts(desired, observed)
    up = observed.link is not None and observed.link.up
    steps = (
        *_steps(addresses),
        *([] if up else link_locals_as_before(desired)),
        *_steps(neighbours),
        *route_steps(desired, observed, routes, [drift.step.address for drift in addresses]),
        *_steps(rules),
    )
    return _Carried((*addresses, *neighbours, *routes), tuple(rules), steps)


def _steps(drifts: Iterable[AnyDrift]) -> list[Operation]:
    return [drift.step for drift in drifts if drift.step is not None]


def _tentative_findings(desired: Attachment, observed: Observed) -> Iterator[str]:
    """Nobody can use such an address yet. It becomes usable by itself, unless somebody has it."""
    recorded = {address.address for address in desired.addresses}
    for address in observed.tentative:
        if address in recorded:
            yield f"address {address} is tentative: duplicate address detection has not ended"


def _up_findings(desired: Attachment, live: LiveLink, master: HostLink | None) -> tuple[str, ...]:
    if not live.up:
        return (f"the pod's {desired.ifname} is down",)
    if not live.carrier:
        return (f"the pod's {desired.ifname} has no carrier{_why_no_carrier(desired, master)}",)
    return ()


def _why_no_carrier(desired: Attachment, master: HostLink | None) -> str:
    """As far as the master tells; what that stands on may have another name than the recorded one,
    and is looked at by others (uplink/plan.py)."""
    if master is None:
        return ""
    if master.up:
        return f": look at the node's {master.name}"
    remedy = "" if desired.parents[1:] else f": ip link set dev {quoted(master.name)} up"
    return f": the node's {master.name} is down{remedy}"


def _why_foreign(
    desired: Attachment, observed: Observed, live: LiveLink, master: HostLink | None
) -> str:
    """Why the link under our name is not ours; empty where it is.

    A pod with CAP_NET_ADMIN can make a macvlan of the same name, on the same ifindex, over a link
    of its own: only IFLA_LINK_NETNSID tells that the master is the node's.
    """
    name = desired.ifname
    if live.name != name:
        return f"{name} is another name of the pod's link {live.name}"
    return _why_another(desired, observed, live, master)


def _why_another(
    desired: Attachment, observed: Observed, live: LiveLink, master: HostLink | None
) -> str:
    """Why the link, whatever its name, is not what REPAIR or the plugin made; empty where it is."""
    name, kind = live.name, desired.link.kind
    if live.link.kind != kind:
        return f"{name} is a {live.link.kind or 'hardware'} link, not a {kind}"
    if live.master_netnsid is None:
        return f"{name} is a {kind} over a link of the pod itself"
    if live.master_netnsid != observed.host_netnsid:
        return f"{name} is a {kind} over a link of another namespace than the node's"
    if master is not None and live.master != master.ifindex:
        return (
            f"{name} is a {kind} over the node's link {live.master},"
            f" not over {master.name} ({master.ifindex})"
        )
    return ""


# --- renamed --------------------------------------------------------------------------------------


def _is_ours_renamed(
    desired: Attachment, observed: Observed, link: LiveLink, master: HostLink | None
) -> bool:
    """Whether a link of another name is the attachment's: it has the recorded index, and stands on
    the recorded master. A MAC proves nothing: who renames an interface may give its MAC to another
    one (KubeVirt)."""
    recorded = desired.link.ifindex
    if not recorded or link.link.ifindex != recorded or link.name == desired.ifname:
        return False
    if _why_another(desired, observed, link, master):
        return False
    if master is None and link.master != desired.parents[0].ifindex:
        return False  # a link that is renamed itself keeps its index
    return not _was_made_again(desired, observed, master)


def _was_made_again(desired: Attachment, observed: Observed, master: HostLink | None) -> bool:
    """Whether the link of the recorded name is the attachment's: a repair made it with another
    index, since its own was taken."""
    live, wanted = observed.link, desired.link
    if live is None or _why_foreign(desired, observed, live, master):
        return False
    return not wanted.inherits_mac and live.link.mac == wanted.mac.lower()


def _renamed_findings(
    desired: Attachment, observed: Observed, renamed: LiveLink
) -> tuple[str, ...]:
    name, wanted, live = desired.ifname, desired.link, observed.link
    findings = [f"{name} is called {renamed.name} now: it was renamed inside the pod"]
    if live is not None and live.link.ifindex != renamed.link.ifindex:
        findings.append(f"{name} is a {live.link.kind or 'hardware'} link of another index now")
    if wanted.mac and not wanted.inherits_mac and wanted.mac.lower() != renamed.link.mac:
        findings.append(f"{renamed.name} has MAC {renamed.link.mac}, it had {wanted.mac}")
    if not renamed.up:
        findings.append(f"{renamed.name} is down")
    elif not renamed.carrier:
        findings.append(f"{renamed.name} has no carrier")
    return tuple(findings)
