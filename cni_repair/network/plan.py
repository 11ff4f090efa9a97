"""Planning: from what should be and what is, to what to do. Pure: no I/O, no clock.

The invariants (tests/unit/test_plan_properties.py): a satisfied state plans nothing; applying a
plan and planning again gives nothing.
"""

from __future__ import annotations

from cni_repair.network.operations import (
    AddAddress,
    AddMacvlan,
    AddRoute,
    AddRule,
    DropRoute,
    SetNeighbour,
    SetSysctl,
    SetUp,
)
from cni_repair.network.prefixes import prefix_routes
from cni_repair.network.state import (
    Address,
    Attachment,
    HostLink,
    LiveLink,
    Neighbour,
    Observed,
    Route,
    Rule,
)
from cni_repair.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations import Addition, PodOperation

HEALTHY = "healthy"
LOST = "lost"
DEGRADED = "degraded"
STALE = "stale"
FOREIGN = "foreign"


@record
class Plan:
    """The verdict on one attachment, and what would make it healthy."""

    state: str
    findings: tuple[str, ...] = ()  # what is wrong, in words
    operations: tuple[PodOperation, ...] = ()


def plan(desired: Attachment, observed: Observed, master: HostLink | None) -> Plan:
    """What it takes to make `observed` what `desired` says.

    `master` is the node's link that bears the recorded master's name now; None where it is still
    to be made.
    """
    live = observed.link
    if live is None:
        return _plan_lost(desired, observed, master)
    stranger = _why_foreign(desired, observed, live, master)
    if stranger:
        return Plan(FOREIGN, (stranger,))
    return _plan_present(desired, observed, live, master)


def _plan_lost(desired: Attachment, observed: Observed, master: HostLink | None) -> Plan:
    link = desired.link
    findings = [f"{desired.ifname} is gone"]
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
            f" ip link set dev {master.name} mtu {link.mtu}"
        )
    steps = _missing(desired, observed)
    # The others go with the link; that they are missing goes without saying.
    findings += [_finding(step) for step in steps if isinstance(step, AddRule)]
    create = AddMacvlan(desired.ifname, desired.parents[0].name, link)
    return Plan(LOST, tuple(findings), (create, *_bring_up(desired), *steps))


def _plan_present(
    desired: Attachment, observed: Observed, live: LiveLink, master: HostLink | None
) -> Plan:
    steps = _missing(desired, observed)
    findings = [
        *_link_findings(desired, live, master),
        *(f"address {one} is in use by another host (dadfailed)" for one in observed.dadfailed),
        *(_finding(step) for step in steps if not isinstance(step, DropRoute)),
    ]
    up = [] if live.up else _bring_up(desired)
    return Plan(DEGRADED if findings else HEALTHY, tuple(findings), (*up, *steps))


def _link_findings(desired: Attachment, live: LiveLink, master: HostLink | None) -> tuple[str, ...]:
    if not live.up:
        return (f"{desired.ifname} is down",)
    if not live.carrier:
        return (f"{desired.ifname} has no carrier: {_why_no_carrier(desired, master)}",)
    return ()


def _why_no_carrier(desired: Attachment, master: HostLink | None) -> str:
    name = desired.parents[0].name
    if master is not None and not master.up:
        return f"its master {name} is down: ip link set dev {desired.parents[-1].name} up"
    return f"look at its master {name}"


def _bring_up(desired: Attachment) -> list[PodOperation]:
    """Sysctls first: accept_ra or disable_ipv6 would come too late after `up`.

    They go with the way up alone, not with every present link: on a living interface they are the
    pod's own (a later plugin in the chain may have set them), while a link that is down may be one
    that we left half-made.
    """
    steps: list[PodOperation] = [
        SetSysctl(desired.ifname, key, value) for key, value in desired.sysctls
    ]
    return [*steps, SetUp(desired.ifname)]


def _missing(desired: Attachment, observed: Observed) -> list[Addition]:
    """What is recorded and not there, to be added. Neighbours before routes: the first packet by a
    route then finds its gateway's MAC."""
    name = desired.ifname
    addresses = _missing_addresses(desired, observed)
    routes = _missing_routes(desired, observed)
    return [
        *(AddAddress(name, one) for one in _as_made(addresses)),
        *(SetNeighbour(name, one) for one in _missing_neighbours(desired, observed)),
        *_route_steps(name, routes, _come_again(desired, observed, addresses, routes)),
        *(AddRule(one) for one in _missing_rules(desired, observed)),
    ]


def _finding(step: AddAddress | SetNeighbour | AddRoute | AddRule) -> str:
    if isinstance(step, AddAddress):
        return f"address {step.address.address}/{step.address.prefix} is missing"
    if isinstance(step, SetNeighbour):
        kind = "permanent neighbour" if step.neighbour.mac else "proxy entry"
        return f"{kind} {step.neighbour.address} is missing"
    if isinstance(step, AddRoute):
        return f"route {step.route.dst}{_via(step.route)} is missing"
    return f"rule {step.words} is missing"


def _missing_addresses(desired: Attachment, observed: Observed) -> list[Address]:
    there = {address.key for address in observed.addresses}
    return [one for one in desired.addresses if one.key not in there]


def _missing_neighbours(desired: Attachment, observed: Observed) -> list[Neighbour]:
    """Those whose address has no such entry. One with another MAC is the pod's own will."""
    there = {entry.key for entry in observed.neighbours}
    return [one for one in desired.neighbours if one.key not in there]


def _as_made(addresses: list[Address]) -> list[Address]:
    """The order in which to add addresses, to have the kernel list them as they were recorded.

    It lists IPv4 addresses as they came, the primary first, but puts an IPv6 address before the
    others of its scope (ipv6_link_dev_addr); source address selection takes the first of equals.
    """
    ipv4 = [address for address in addresses if address.family == 4]
    ipv6 = [address for address in addresses if address.family == 6]
    return ipv4 + ipv6[::-1]


def _reachable_first(routes: list[Route]) -> list[Route]:
    """Routes to a gateway after those that make gateways reachable (the kernel checks)."""
    return sorted(routes, key=lambda route: route.gateway is not None)


def _missing_routes(desired: Attachment, observed: Observed) -> list[Route]:
    """What is recorded and not there. A route that stands in another table now, where none is
    recorded, was moved by a later plugin (sbr): to add it again would undo that plugin's work."""
    present = {route.key for route in observed.routes}
    missing = [route for route in desired.routes if route.key not in present]
    if not missing:
        return []
    recorded = {route.key for route in desired.routes}
    tables: dict[tuple[object, ...], set[int]] = {}
    for route in observed.routes:
        if route.key not in recorded:
            tables.setdefault(_way(route), set()).add(route.table)
    return [route for route in missing if not tables.get(_way(route), set()) - {route.table}]


def _way(route: Route) -> tuple[object, ...]:
    return route.family, route.dst, route.gateway, route.type


def _route_steps(
    ifname: str, routes: list[Route], again: tuple[Route, ...]
) -> list[AddRoute | DropRoute]:
    """Add routes, and take away those of `again` that came with the addresses: first what stands in
    the way of another one, at last the others, by which gateways may be reachable until then."""
    slots = {_slot(route) for route in routes}
    first = [DropRoute(ifname, one) for one in again if _slot(one) in slots]
    last = [DropRoute(ifname, one) for one in again if _slot(one) not in slots]
    return [*first, *(AddRoute(ifname, route) for route in _reachable_first(routes)), *last]


def _slot(route: Route) -> tuple[object, ...]:
    """What an exclusive new route must differ in from all others."""
    return route.family, route.table, route.dst, route.tos, route.metric


def _come_again(
    desired: Attachment, observed: Observed, added: list[Address], routes: list[Route]
) -> tuple[Route, ...]:
    """Of the routes that were taken away, those that the repair brings again: all with the way up,
    else those of addresses to be added. And those that stand in the way of a route to be added: a
    repair may have ended between the two.

    No others: what came to a living interface by another hand is its own business.
    """
    if observed.link is None or not observed.link.up:
        return desired.absent_routes
    made = {route.dst for route in prefix_routes(added)}
    slots = {_slot(route) for route in routes}
    return tuple(
        route
        for route in desired.absent_routes
        if route.dst in made or (route.dst in observed.routes_by_kernel and _slot(route) in slots)
    )


def _missing_rules(desired: Attachment, observed: Observed) -> list[Rule]:
    """Rules outlive the link: those that are still there must not come twice."""
    there = set(observed.rules)
    return [rule for rule in desired.rules if rule not in there]


def _via(route: Route) -> str:
    return f" via {route.gateway}" if route.gateway else ""


def _why_foreign(
    desired: Attachment, observed: Observed, live: LiveLink, master: HostLink | None
) -> str:
    """Why the link under our name is not ours; empty where it is.

    A pod with CAP_NET_ADMIN can make a macvlan of the same name, on the same ifindex, over a link
    of its own: only IFLA_LINK_NETNSID tells that the master is the node's.
    """
    name = desired.ifname
    kind = desired.link.kind
    if live.name != name:
        return f"{name} is another name of the pod's link {live.name}"
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
