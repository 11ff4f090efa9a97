"""Planning the routes through a pod's interface. Pure."""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.kernel.address import network_of, prefix_routes
from cni_repair.network.model import RTPROT_STATIC, Address, Attachment, Route
from cni_repair.network.observed import Observed
from cni_repair.network.operations.route import AddRoute, DropRoute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@frozen
class RouteDrift:
    """A route that is missing or wrong, and the step that puts it right, if there is one."""

    finding: str
    step: AddRoute | None


def route_drifts(desired: Attachment, observed: Observed) -> list[RouteDrift]:
    """Routes that are missing, those to a gateway after those that make gateways reachable (the
    kernel checks); and changed ones."""
    return [*_prefix_gaps(desired, observed), *_recorded_gaps(desired, observed)]


def _prefix_gaps(desired: Attachment, observed: Observed) -> list[RouteDrift]:
    """The routes that came with an address by themselves, and that somebody took away since the
    record was settled: it names those that were gone by then."""
    if not desired.settled:
        return []
    gone = {route.dst for route in desired.absent_routes}
    own = prefix_routes([*desired.addresses, *observed.addresses_by_kernel])
    came = {route.dst for route in own} - gone
    steps = [
        AddRoute(desired.ifname, route)
        for route in observed.missing_prefix_routes
        if route.dst in came
    ]
    return [RouteDrift(f"route {step.route.dst} is missing", step) for step in steps]


def _recorded_gaps(desired: Attachment, observed: Observed) -> list[RouteDrift]:
    routes = _missing_routes(desired, observed)
    strangers = {} if not desired.settled else _strangers(desired, observed)
    own = _own_places(desired)
    taken = {route.slot for route in desired.routes} & {route.slot for route in observed.routes}
    taken |= {place for place, family in own.items() if family == 6}
    in_front = {place for place, family in own.items() if family == 4}
    drifts = []
    for route in _in_order(routes, in_front):
        beside = route.shared or route.slot in taken
        how = "prepend" if route.slot in in_front else "append" if beside else "add"
        drifts.append(_route_gap(desired, observed, route, strangers.pop(route.slot, None), how))
        taken.add(route.slot)
    return drifts


def _own_places(desired: Attachment) -> dict[tuple[object, ...], int]:
    """The places (and families) that routes of the kernel's own take: those which come with the
    addresses. Another route gets in there beside it; of IPv4 it can only have come in front of it,
    as the macvlan plugin puts it, else it would never be used."""
    gone = {route.dst for route in desired.absent_routes}
    routes = prefix_routes(desired.addresses)
    return {route.slot: route.family for route in routes if route.dst not in gone}


def _in_order(routes: list[Route], in_front: set[tuple[object, ...]]) -> list[Route]:
    """Those to a gateway last. Of several in one place the first counts: they keep their order,
    so that those which are put in front come in the opposite one."""
    far = {route.slot for route in routes if route.gateway or route.hops}
    kept = [route for route in routes if route.slot not in in_front]
    turned = [route for route in reversed(routes) if route.slot in in_front]
    return sorted([*kept, *turned], key=lambda route: route.slot in far)


def _missing_routes(desired: Attachment, observed: Observed) -> list[Route]:
    """What is recorded and not there. Until the record is settled, a route that stands in another
    table now, where none is recorded, was moved by a later plugin (sbr): to add it again would undo
    that plugin's work."""
    if desired.settled:
        there = {route.fixed for route in observed.routes}
        # An IPv6 next hop that was left alone has no weight any more.
        lone = {route.fixed for route in observed.routes if not route.shared}
        return [
            route
            for route in desired.routes
            if route.fixed not in there
            and not (route.shared and replace(route.fixed, weight=1) in lone)
            and not (observed.link and route.protocol > RTPROT_STATIC)  # its daemon's business
        ]
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


def _strangers(desired: Attachment, observed: Observed) -> dict[tuple[object, ...], Route]:
    """Routes through the link that are not recorded, by the place that they take: what a recorded
    route has become. None beside a recorded one: `replace` takes the first of a place, which may be
    that (fib_table_insert)."""
    recorded = {route.fixed for route in desired.routes}
    kept = {route.slot for route in observed.routes if route.fixed in recorded}
    return {
        route.slot: route
        for route in observed.routes
        if route.fixed not in recorded and route.slot not in kept
    }


def _route_gap(
    desired: Attachment,
    observed: Observed,
    route: Route,
    stranger: Route | None,
    how: str,
) -> RouteDrift:
    name = desired.ifname
    words = _in_words(route)
    known = {name, *(link for link, _ in observed.links)}
    absent = sorted({hop.ifname for hop in route.hops} - known)
    if absent:
        return RouteDrift(f"route {words} waits for {', '.join(absent)}", None)
    if stranger is not None and not route.shared:
        now = AddRoute(name, stranger).words
        step = AddRoute(name, route, "replace")
        return RouteDrift(f"route {step.words} is now {now}", step)
    # An IPv6 route beside another link's would share its traffic.
    beside = how == "add" and route.family == 4 and desired.settled
    return RouteDrift(f"route {words} is missing", AddRoute(name, route, how, beside))


def _in_words(route: Route) -> str:
    via = [hop.gateway or hop.ifname for hop in route.hops]
    via = via or [route.gateway] if route.gateway else via
    return f"{route.dst} via {', '.join(via)}" if via else route.dst


def route_steps(
    desired: Attachment, observed: Observed, drifts: Iterable[RouteDrift], added: Sequence[Address]
) -> list[AddRoute | DropRoute]:
    """The steps for routes, and those that take away what comes with the addresses `added` and had
    been taken away before: first what stands in the way of another route, at last the others, by
    which gateways may be reachable until then. Where one does not come by itself now, and a gateway
    is reachable by it alone, it is put there for the moment."""
    routes = [drift.step for drift in drifts if drift.step is not None]
    if not desired.absent_routes:
        return [*routes]
    slots = {step.route.slot for step in routes}
    again = _come_again(desired, observed, added, slots)
    first = [DropRoute(desired.ifname, one) for one in again if one.slot in slots]
    last = [DropRoute(desired.ifname, one) for one in again if one.slot not in slots]
    helpers = _for_the_moment(desired, observed, again, [step.route for step in routes])
    return [
        *first,
        *(AddRoute(desired.ifname, one) for one in helpers),
        *routes,
        *last,
        *(DropRoute(desired.ifname, one) for one in helpers),
    ]


def _for_the_moment(
    desired: Attachment, observed: Observed, again: tuple[Route, ...], routes: list[Route]
) -> list[Route]:
    gateways = {
        gateway
        for route in routes
        if not route.onlink
        for gateway in (route.gateway, *(hop.gateway for hop in route.hops))
        if gateway is not None
    }
    # By prefix length: a pod may have a thousand of these, and thousands of gateways.
    lengths = {(route.family, int(route.dst.partition("/")[2])) for route in desired.absent_routes}
    holding = {
        network_of(gateway, length)
        for gateway in gateways
        for family, length in lengths
        if (family == 6) == (":" in gateway)
    }
    comes, recorded = set(again), {route.slot for route in desired.routes}
    return [
        route
        for route in desired.absent_routes
        if route not in comes
        and route.dst not in observed.routes_by_kernel
        and route.slot not in recorded  # which is as good, and the two cannot both be there
        and route.dst in holding
    ]


def _come_again(
    desired: Attachment,
    observed: Observed,
    added: Sequence[Address],
    slots: set[tuple[object, ...]],
) -> tuple[Route, ...]:
    """Of the routes that were taken away, those that the repair brings again: all with the way up,
    else those of addresses to be added. And those that stand in the way of a route to be added
    (`slots`: their places): a repair may have ended between the two.

    No others: what came to a living interface by another hand is its own business.
    """
    if observed.link is None or not observed.link.up:
        return desired.absent_routes
    made = {route.dst for route in prefix_routes(added)}
    return tuple(
        route
        for route in desired.absent_routes
        if route.dst in made or (route.dst in observed.routes_by_kernel and route.slot in slots)
    )
