"""Planning what a pod's interface carries: addresses, neighbours, routes, rules. Pure.

Until a record is settled (:class:`~cni_repair.network.model.Attachment`), entries are compared by
what tells them apart; from then on in full. What is there and not recorded is the pod's own.
"""

from __future__ import annotations

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import link_local_of
from cni_repair.network.model import (
    FOREVER,
    IFAPROT_KERNEL_LL,
    RT_SCOPE_LINK,
    RTPROT_STATIC,
    Address,
    Attachment,
    Observed,
    Route,
)
from cni_repair.network.operations.entries import AddAddress, AddRule, ChangeAddress, SetNeighbour
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.planning.link import Drift
from cni_repair.network.planning.linklocal import makes_eui64
from cni_repair.network.prefixes import missing_prefix_routes, network_of, prefix_routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.network.operations.link import PodOperation

# How findings call the parts of Address.fixed.
_PARTS = (
    "prefix", "broadcast", "scope", "label", "flags", "peer", "metric", "valid", "preferred",
)  # fmt: skip


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


def address_drifts(desired: Attachment, observed: Observed) -> list[Drift]:
    """Addresses that are missing, in the order in which to add them; and changed ones."""
    there = {one.key: one for one in (*observed.addresses_by_kernel, *observed.addresses)}
    missing = [one for one in desired.addresses if one.key not in there]
    name = desired.ifname
    drifts = [
        Drift(f"address {one.address}/{one.prefix} is missing", AddAddress(name, one))
        for one in as_made(missing)
    ]
    if desired.settled:
        changed = [one for one in desired.addresses if _differs(one, there.get(one.key))]
        drifts += [
            Drift(_changes(one, there[one.key]), ChangeAddress(name, one, there[one.key]))
            for one in changed
        ]
        drifts += _link_local_gaps(desired, observed)
    return drifts


def _link_local_gaps(desired: Attachment, observed: Observed) -> list[Drift]:
    """The link-local address that the kernel made of the recorded MAC, and somebody deleted.

    It is in no record, as a new link gets it by itself: see Attachment.addr_gen_mode.
    """
    live = observed.link
    if live is None or desired.addr_gen_mode is not None or not makes_eui64(live):
        return []
    address = link_local_of(desired.link.mac)
    if any(one.address == address for one in (*observed.addresses_by_kernel, *observed.addresses)):
        return []
    made = Address(6, address, 64, scope=RT_SCOPE_LINK, proto=IFAPROT_KERNEL_LL)
    return [Drift(f"address {address}/64 is missing", AddAddress(desired.ifname, made))]


def as_made(addresses: Iterable[Address]) -> list[Address]:
    """The order in which to add addresses, to have the kernel list them as they were recorded.

    It lists IPv4 addresses as they came, the primary first, but puts an IPv6 address before the
    others of its scope (ipv6_link_dev_addr); source address selection takes the first of equals.
    """
    by_family: dict[int, list[Address]] = {4: [], 6: []}
    for address in addresses:
        by_family[address.family].append(address)
    return by_family[4] + by_family[6][::-1]


def _differs(wanted: Address, found: Address | None) -> bool:
    return found is not None and wanted.fixed != found.fixed


def _changes(wanted: Address, found: Address) -> str:
    """What became of an address, in words."""
    had, has = dict(zip(_PARTS, wanted.fixed)), dict(zip(_PARTS, found.fixed))
    parts = [
        f"{part} {_value(found, part)}, it had {_value(wanted, part)}"
        for part in _PARTS
        if has[part] != had[part]
    ]
    return f"address {wanted.address}/{wanted.prefix} has {'; '.join(parts)}"


def _value(address: Address, part: str) -> str:
    value = getattr(address, part)
    if part == "flags":
        return hex(value)
    return "for ever" if value == FOREVER else str(value or "none")


def neighbour_drifts(desired: Attachment, observed: Observed) -> list[Drift]:
    """Permanent neighbours and proxy entries that are missing; and changed ones."""
    there = {entry.key: entry for entry in observed.neighbours}
    drifts = []
    for wanted in desired.neighbours:
        found = there.get(wanted.key)
        kind = "permanent neighbour" if wanted.mac else "proxy entry"
        step = SetNeighbour(desired.ifname, wanted)
        if found is None:
            drifts.append(Drift(f"{kind} {wanted.address} is missing", step))
        elif desired.settled and found != wanted:
            what = f"has MAC {found.mac}, it had {wanted.mac}"
            what = what if found.mac != wanted.mac else "has other flags"
            drifts.append(Drift(f"{kind} {wanted.address} {what}", step))
    return drifts


def rule_drifts(desired: Attachment, observed: Observed) -> list[Drift]:
    """Rules that are missing. They outlive the link: those still there must not come twice."""
    there = set(observed.rules)
    steps = [AddRule(rule) for rule in desired.rules if rule not in there]
    return [Drift(f"rule {step.words} is missing", step) for step in steps]


# --- routes ---------------------------------------------------------------------------------------


def route_drifts(desired: Attachment, observed: Observed) -> list[Drift]:
    """Routes that are missing, those to a gateway after those that make gateways reachable (the
    kernel checks); and changed ones."""
    return [*_prefix_gaps(desired, observed), *_recorded_gaps(desired, observed)]


def _prefix_gaps(desired: Attachment, observed: Observed) -> list[Drift]:
    """The routes that came with an address by themselves, and that somebody took away since the
    record was settled: it names those that were gone by then."""
    if not desired.settled:
        return []
    gone = {route.dst for route in desired.absent_routes}
    own = prefix_routes([*desired.addresses, *observed.addresses_by_kernel])
    came = {route.dst for route in own} - gone
    steps = [
        AddRoute(desired.ifname, route)
        for route in missing_prefix_routes(observed)
        if route.dst in came
    ]
    return [Drift(f"route {step.route.dst} is missing", step) for step in steps]


def _recorded_gaps(desired: Attachment, observed: Observed) -> list[Drift]:
    routes = _missing_routes(desired, observed)
    strangers = {} if not desired.settled else _strangers(desired, observed)
    taken = {route.slot for route in desired.routes} & {route.slot for route in observed.routes}
    drifts = []
    # Of several in one place the first counts: they keep their order.
    far = {route.slot for route in routes if route.gateway or route.hops}
    for route in sorted(routes, key=lambda one: one.slot in far):
        drifts.append(_route_gap(desired, observed, route, strangers.pop(route.slot, None), taken))
        taken.add(route.slot)
    return drifts


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
    taken: set[tuple[object, ...]],
) -> Drift:
    """`taken`: the places of recorded routes that are there, or come before."""
    name = desired.ifname
    words = _in_words(route)
    known = {name, *(link for link, _ in observed.links)}
    absent = sorted({hop.ifname for hop in route.hops} - known)
    if absent:
        return Drift(f"route {words} waits for {', '.join(absent)}", None)
    if stranger is not None and not route.shared:
        now = AddRoute(name, stranger).words
        step = AddRoute(name, route, "replace")
        return Drift(f"route {step.words} is now {now}", step)
    how = "append" if route.shared or route.slot in taken else "add"
    # An IPv6 route beside another link's would share its traffic.
    beside = how == "add" and route.family == 4 and desired.settled
    return Drift(f"route {words} is missing", AddRoute(name, route, how, beside))


def _in_words(route: Route) -> str:
    via = [hop.gateway or hop.ifname for hop in route.hops]
    via = via or [route.gateway] if route.gateway else via
    return f"{route.dst} via {', '.join(via)}" if via else route.dst


def around_drops(
    desired: Attachment, observed: Observed, added: list[PodOperation], routes: list[PodOperation]
) -> list[PodOperation]:
    """The steps for routes, and those that take away what comes with the addresses `added` and had
    been taken away before: first what stands in the way of another route, at last the others, by
    which gateways may be reachable until then. Where one does not come by itself now, and a gateway
    is reachable by it alone, it is put there for the moment."""
    again = _come_again(desired, observed, added, routes)
    slots = _slots(routes)
    first = [DropRoute(desired.ifname, one) for one in again if one.slot in slots]
    last = [DropRoute(desired.ifname, one) for one in again if one.slot not in slots]
    helpers = _for_the_moment(desired, observed, again, routes)
    return [
        *first,
        *(AddRoute(desired.ifname, one) for one in helpers),
        *routes,
        *last,
        *(DropRoute(desired.ifname, one) for one in helpers),
    ]


def _for_the_moment(
    desired: Attachment, observed: Observed, again: tuple[Route, ...], routes: list[PodOperation]
) -> list[Route]:
    gateways = {
        gateway
        for step in routes
        if isinstance(step, AddRoute) and not step.route.onlink
        for gateway in (step.route.gateway, *(hop.gateway for hop in step.route.hops))
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
    desired: Attachment, observed: Observed, added: list[PodOperation], routes: list[PodOperation]
) -> tuple[Route, ...]:
    """Of the routes that were taken away, those that the repair brings again: all with the way up,
    else those of addresses to be added. And those that stand in the way of a route to be added: a
    repair may have ended between the two.

    No others: what came to a living interface by another hand is its own business.
    """
    if observed.link is None or not observed.link.up:
        return desired.absent_routes
    new = [step.address for step in added if isinstance(step, (AddAddress, ChangeAddress))]
    made = {route.dst for route in prefix_routes(new)}
    slots = _slots(routes)
    return tuple(
        route
        for route in desired.absent_routes
        if route.dst in made or (route.dst in observed.routes_by_kernel and route.slot in slots)
    )


def _slots(steps: list[PodOperation]) -> set[tuple[object, ...]]:
    return {step.route.slot for step in steps if isinstance(step, AddRoute)}
