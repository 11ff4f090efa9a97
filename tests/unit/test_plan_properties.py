"""The invariants of planning (DESIGN §3), on a small simulator of the kernel."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from cni_repair.network.nodeoperations import (
    AddVlan,
    SetNodeLinkUp,
)
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
from cni_repair.network.plan import (
    FOREIGN,
    HEALTHY,
    LOST,
    plan,
)
from cni_repair.network.planparents import (
    READY,
    plan_parents,
)
from cni_repair.network.prefixes import holds, prefix_routes
from cni_repair.network.state import (
    IFF_RUNNING,
    IFF_UP,
    Address,
    Attachment,
    HostLink,
    LiveLink,
    Neighbour,
    Observed,
    Route,
    Rule,
)
from cni_repair.record import replace
from tests.unit.samples import LINK, MASTER, NODE_NETNSID, UPLINK, as_desired, live
from tests.unit.strategies import pod_links, vlans

Addition: TypeAlias = AddAddress | SetNeighbour | AddRoute | DropRoute | AddRule
PodOperation: TypeAlias = AddMacvlan | SetSysctl | SetUp | Addition
ORDER = (AddMacvlan, SetSysctl, SetUp, AddAddress, SetNeighbour, AddRoute, AddRule)
FRESH_IFINDEX = 77


class Refused(AssertionError):
    """The kernel would not do this operation."""


def applied(operation: PodOperation, observed: Observed, master: HostLink) -> Observed:
    """What the kernel makes of one operation on a pod, or Refused."""
    if isinstance(operation, AddMacvlan):
        return _created(operation, observed, master)
    if isinstance(operation, SetSysctl):
        return observed
    if isinstance(operation, AddRule):
        if operation.rule in observed.rules:
            raise Refused("EEXIST")
        return replace(observed, rules=(*observed.rules, operation.rule))
    link = observed.link
    if link is None:
        raise Refused("ENODEV")
    if isinstance(operation, SetUp):
        by_kernel = _prefixes(observed.addresses)
        link = replace(link, up=True, carrier=master.carrier)
        return replace(observed, link=link, routes_by_kernel=by_kernel)
    if isinstance(operation, AddAddress):
        if operation.address.key in {one.key for one in observed.addresses}:
            raise Refused("EEXIST")
        by_kernel = _prefixes((operation.address,)) if link.up else ()
        return replace(
            observed,
            addresses=(*observed.addresses, operation.address),
            routes_by_kernel=tuple(dict.fromkeys((*observed.routes_by_kernel, *by_kernel))),
        )
    if isinstance(operation, SetNeighbour):
        return _known(operation.neighbour, observed)
    if isinstance(operation, DropRoute):
        left = tuple(one for one in observed.routes_by_kernel if one != operation.route.dst)
        return replace(observed, routes_by_kernel=left)
    return _routed(operation.route, observed, link)


def _prefixes(addresses: Iterable[Address]) -> tuple[str, ...]:
    return tuple(route.dst for route in prefix_routes(addresses))


def _known(neighbour: Neighbour, observed: Observed) -> Observed:
    """It takes the place of an entry of the same address."""
    others = [one for one in observed.neighbours if one.key != neighbour.key]
    return replace(observed, neighbours=(*others, neighbour))


def _created(operation: AddMacvlan, observed: Observed, master: HostLink) -> Observed:
    ifindex = operation.link.ifindex or FRESH_IFINDEX
    if observed.link is not None or (operation.link.ifindex and observed.ifindex_taken_by):
        raise Refused("EEXIST")
    link = replace(operation.link, ifindex=ifindex)
    made = LiveLink(operation.ifname, link, False, False, master.ifindex, NODE_NETNSID)
    return Observed(NODE_NETNSID, made, rules=observed.rules)


def _routed(route: Route, observed: Observed, link: LiveLink) -> Observed:
    if not link.up:
        raise Refused("ENETDOWN")
    if not _reachable(route, observed):
        raise Refused("ENETUNREACH")
    if _slot(route) in map(_slot, observed.routes):  # NLM_F_EXCL looks at no gateway
        raise Refused("EEXIST")
    by_kernel = 256 if route.family == 6 else 0
    if (route.table, route.metric) == (254, by_kernel) and route.dst in observed.routes_by_kernel:
        raise Refused("EEXIST")
    return replace(observed, routes=(*observed.routes, route))


def _slot(route: Route) -> tuple[object, ...]:
    return route.family, route.table, route.dst, route.tos, route.metric


def _reachable(route: Route, observed: Observed) -> bool:
    if route.gateway is None or route.onlink:
        return True
    gateway = ipaddress.ip_address(route.gateway)
    onlink = [one.dst for one in observed.routes if one.gateway is None]
    onlink += observed.routes_by_kernel
    return any(gateway in ipaddress.ip_network(dst, strict=False) for dst in onlink)


def repaired(
    operations: Sequence[PodOperation], observed: Observed, master: HostLink = MASTER
) -> Observed:
    for operation in operations:
        observed = applied(operation, observed, master)
    return observed


# Small pools, so that values meet.
subnets = st.sampled_from([(4, "10.0.0.{}", 24), (4, "10.0.1.{}", 16), (6, "fd00::{}", 64)])


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    family, form, prefix = draw(subnets)
    label = draw(st.sampled_from(["eth0", "eth0:1", None])) if family == 4 else None
    return Address(family, form.format(draw(st.integers(1, 4))), prefix, label=label)


@st.composite
def onlink_routes(draw: st.DrawFn) -> Route:
    family, form, _ = draw(subnets)
    dst = f"{form.format(draw(st.integers(100, 103)))}/{32 if family == 4 else 128}"
    return Route(family, dst, metric=1024 if family == 6 else 0, scope=253 if family == 4 else 0)


@st.composite
def gateway_routes(draw: st.DrawFn, near: Sequence[tuple[int, str]]) -> Route:
    family, gateway = draw(st.sampled_from(near))
    dsts = ["0.0.0.0/0", "192.0.2.0/24"] if family == 4 else ["::/0", "fd09::/64"]
    return Route(
        family,
        draw(st.sampled_from(dsts)),
        gateway=gateway,
        table=draw(st.sampled_from([254, 100])),
        metric=draw(st.sampled_from([1024, 50])) if family == 6 else 0,
        type=draw(st.sampled_from([1, 7])),
    )


rules = st.builds(
    Rule,
    family=st.sampled_from([4, 6]),
    priority=st.sampled_from([10, 11]),
    iif=st.sampled_from(["eth0", None]),
    table=st.sampled_from([100, 101]),
)
neighbours = st.builds(
    Neighbour,
    family=st.just(4),
    address=st.sampled_from(["10.0.0.100", "10.0.0.101"]),
    mac=st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02", None]),
)
own_prefix_routes = st.builds(
    Route, st.just(4), st.sampled_from(["10.0.0.0/24", "10.0.0.0/16"]), protocol=st.just(4)
)


@st.composite
def attachments(draw: st.DrawFn) -> Attachment:
    """What a pod may have had: every gateway was reachable, no two entries were the same."""
    held = draw(st.lists(addresses(), max_size=3, unique_by=lambda one: one.key))
    routes = draw(st.lists(onlink_routes() | own_prefix_routes, max_size=2))
    near = [(one.family, one.address) for one in held]
    near += [(one.family, one.dst.partition("/")[0]) for one in routes]
    if near:
        routes += draw(st.lists(gateway_routes(near), max_size=3))
    shuffled = draw(st.permutations(list({_slot(one): one for one in routes}.values())))
    sysctls = draw(st.sampled_from([(), (("ipv4/arp_notify", "1"), ("ipv6/accept_ra", "0"))]))
    by_kernel = [
        route for route in prefix_routes(held) if draw(st.booleans()) or _carries(route, routes)
    ]
    slots = {_slot(route) for route in by_kernel}
    return Attachment(
        "eth0",
        draw(pod_links),
        (MASTER, UPLINK),
        tuple(held),
        tuple(route for route in shuffled if _slot(route) not in slots),
        sysctls,
        rules=tuple(draw(st.lists(rules, max_size=3, unique=True))),
        neighbours=tuple(draw(st.lists(neighbours, max_size=3, unique_by=lambda one: one.key))),
        absent_routes=tuple(route for route in prefix_routes(held) if route not in by_kernel),
    )


def _carries(by_kernel: Route, routes: list[Route]) -> bool:
    """Whether a gateway is reachable by this prefix route alone: such a one cannot be added again
    to an interface that has lost it alone."""
    onlink = [one for one in routes if one.gateway is None]
    return any(
        _holds(by_kernel, one) and not any(_holds(other, one) for other in onlink) for one in routes
    )


def _holds(route: Route, through: Route) -> bool:
    gateway = through.gateway
    if gateway is None or route.family != through.family:
        return False
    return holds(route.dst, gateway)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Attachment, Observed]:
    """An attachment, and what is left of it: anything from nothing to all, with other things."""
    desired = draw(attachments())
    kept_rules = tuple(one for one in desired.rules if draw(st.booleans()))
    if draw(st.booleans()):
        taken = draw(st.sampled_from([None, "net1"]))
        return desired, Observed(NODE_NETNSID, None, ifindex_taken_by=taken, rules=kept_rules)
    addresses = tuple(one for one in desired.addresses if draw(st.booleans()))
    left = Observed(
        NODE_NETNSID,
        live(desired.link),
        addresses,
        tuple(one for one in desired.routes if draw(st.booleans())),
        dadfailed=draw(st.sampled_from([(), ("fd00::1",)])),
        rules=kept_rules,
        neighbours=tuple(one for one in desired.neighbours if draw(st.booleans())),
        routes_by_kernel=_kept_by_kernel(desired, addresses),
    )
    if draw(st.booleans()):  # down: the kernel drops routes and neighbours
        assert left.link is not None
        down = replace(left.link, up=False, carrier=False)
        left = replace(left, link=down, routes=(), neighbours=(), routes_by_kernel=())
    return desired, _with_strangers(left, *draw(strangers))


def _kept_by_kernel(desired: Attachment, addresses: tuple[Address, ...]) -> tuple[str, ...]:
    absent = {route.dst for route in desired.absent_routes}
    return tuple(one for one in _prefixes(addresses) if one not in absent)


strangers: st.SearchStrategy[Any] = st.tuples(
    st.lists(
        st.builds(Address, st.just(4), st.sampled_from(["10.9.9.1", "10.9.9.2"]), st.just(32))
    ),
    st.lists(st.builds(Route, st.just(4), st.sampled_from(["10.7.0.0/16", "10.6.0.0/16"]))),
)


def _with_strangers(
    observed: Observed, more_addresses: list[Address], more: list[Route]
) -> Observed:
    """`observed` with addresses and routes that nobody wants; where it is up, for the routes."""
    link = observed.link
    assert link is not None
    return replace(
        observed,
        addresses=(*observed.addresses, *dict.fromkeys(more_addresses)),
        routes=(*observed.routes, *dict.fromkeys(more)) if link.up else (),
    )


@given(attachments())
def test_satisfied_state_plans_nothing(desired: Attachment) -> None:
    made = plan(desired, as_desired(desired), MASTER)
    assert (made.state, made.findings, made.operations) == (HEALTHY, (), ())


@given(attachments(), strangers)
def test_what_nobody_wants_causes_nothing(
    desired: Attachment, more: tuple[list[Address], list[Route]]
) -> None:
    observed = _with_strangers(as_desired(desired), *more)
    assert plan(desired, observed, MASTER) == plan(desired, as_desired(desired), MASTER)


@given(damaged())
def test_planning_after_applying_gives_nothing(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    after = repaired(plan(desired, before, MASTER).operations, before)
    again = plan(desired, after, MASTER)
    assert again.operations == ()
    assert (again.state == HEALTHY) == (not after.dadfailed)


@given(damaged())
def test_twice_is_as_once(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    once = repaired(plan(desired, before, MASTER).operations, before)
    assert repaired(plan(desired, once, MASTER).operations, once) == once


@given(damaged())
def test_repair_takes_nothing_away(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    after = repaired(plan(desired, before, MASTER).operations, before)
    assert {*before.addresses, *desired.addresses} == set(after.addresses)
    assert {*before.routes, *desired.routes} == set(after.routes)


@given(damaged())
def test_rules_and_neighbours_come_back_once_and_none_goes(
    case: tuple[Attachment, Observed],
) -> None:
    desired, before = case
    after = repaired(plan(desired, before, MASTER).operations, before)
    assert sorted(map(repr, after.rules)) == sorted(
        map(repr, dict.fromkeys((*before.rules, *desired.rules)))
    )
    assert {one.key for one in after.neighbours} == {
        one.key for one in (*before.neighbours, *desired.neighbours)
    }


@given(damaged())
def test_what_was_taken_away_stays_away(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    after = repaired(plan(desired, before, MASTER).operations, before)
    assert {route.dst for route in desired.absent_routes}.isdisjoint(after.routes_by_kernel)
    assert set(_kept_by_kernel(desired, desired.addresses)) <= set(after.routes_by_kernel)


@given(attachments(), st.sampled_from(["10.0.0.0/24", "10.0.0.0/16", "fd00::/64"]))
def test_prefix_route_that_came_by_another_hand_stays(desired: Attachment, dst: str) -> None:
    observed = replace(as_desired(desired), routes_by_kernel=(dst,))
    assert plan(desired, observed, MASTER).operations == ()


@given(damaged())
def test_lost_comes_back_whole(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    made = plan(desired, before, MASTER)
    assert (made.state == LOST) == (before.link is None)
    after = repaired(made.operations, before)
    assert after.link is not None
    if before.ifindex_taken_by is None and desired.link.ifindex:
        assert after.link == live(desired.link)


@given(damaged())
def test_operations_stand_in_the_kernels_order(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    steps = plan(desired, before, MASTER).operations
    places = [ORDER.index(type(step)) for step in steps if not isinstance(step, DropRoute)]
    assert places == sorted(places)
    through = [step.route.gateway is not None for step in steps if isinstance(step, AddRoute)]
    assert through == sorted(through)


@given(damaged())
def test_half_made_repair_is_finished_by_the_next(case: tuple[Attachment, Observed]) -> None:
    """Killed after any operation (but for creating alone: what is down is brought up)."""
    desired, before = case
    steps = plan(desired, before, MASTER).operations
    for done in range(1, len(steps) + 1):
        midway = repaired(steps[:done], before)
        after = repaired(plan(desired, midway, MASTER).operations, midway)
        assert plan(desired, after, MASTER).operations == ()


@given(
    damaged(),
    st.sampled_from(
        [
            live(replace(LINK, kind="veth")),
            live(name="evil0"),
            replace(live(), master_netnsid=None),
            replace(live(), master_netnsid=NODE_NETNSID + 1),
            replace(live(), master=MASTER.ifindex + 1),
        ]
    ),
    st.booleans(),
)
def test_foreign_is_never_touched(
    case: tuple[Attachment, Observed], stranger: LiveLink, up: bool
) -> None:
    desired, before = case
    made = plan(desired, replace(before, link=replace(stranger, up=up)), MASTER)
    assert (made.state, made.operations) == (FOREIGN, ())
    assert made.findings


# --- parents ------------------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn) -> tuple[HostLink, ...]:
    """An uplink with up to three VLANs on top of each other."""
    chain = [UPLINK]
    for index in range(draw(st.integers(0, 3))):
        below = chain[0]
        vlan = draw(vlans)
        name = f"{below.name}.{index}"
        chain.insert(
            0, HostLink(name, 10 + index, "vlan", "", 1500, MASTER.flags, below.ifindex, vlan=vlan)
        )
    return tuple(chain)


def node_after(
    operations: Sequence[AddVlan | SetNodeLinkUp], present: dict[str, HostLink]
) -> dict[str, HostLink]:
    """What the kernel makes of operations on the node."""
    for operation in operations:
        if isinstance(operation, AddVlan):
            if operation.name in present or operation.master not in present:
                raise Refused("EEXIST or ENODEV")
            below = present[operation.master]
            made = HostLink(
                operation.name, 100 + len(present), "vlan", below.mac, operation.mtu or below.mtu,
                0, below.ifindex, vlan=operation.vlan,
            )  # fmt: skip
            present = {**present, operation.name: made}
        else:
            link = present[operation.name]
            below = next(one for one in present.values() if one.ifindex == link.lower)
            if not below.up:
                raise Refused("ENETDOWN")
            present = {**present, link.name: replace(link, flags=below.flags)}
    return present


@given(chains(), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_parents_are_ready_after_their_plan(
    chain: tuple[HostLink, ...], missing: int, down: int, uplink_up: bool
) -> None:
    """The upper `missing` links are gone, the next `down` are down."""
    present = {}
    for index, link in enumerate(chain):
        is_uplink = index == len(chain) - 1
        is_up = uplink_up and (is_uplink or index >= missing + down)
        if is_uplink or index >= missing:
            present[link.name] = replace(link, flags=IFF_UP | IFF_RUNNING if is_up else 0)
    made = plan_parents(chain, present)
    assert made.state == READY
    after = node_after(made.operations, present)
    assert all(link.name in after for link in chain)
    assert all(after[link.name].up == uplink_up for link in chain)
    again = plan_parents(chain, after)
    assert (again.state, again.operations) == (READY, ())
