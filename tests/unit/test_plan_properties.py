"""The invariants of planning (DESIGN §3), on a small simulator of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import prefix_routes
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.kernel.sysctl import ADDR_GEN_MODE, STABLE_SECRET
from cni_repair.network.model import (
    IFF_NOARP,
    IFF_RUNNING,
    IFF_UP,
    KINDS,
    Address,
    Attachment,
    Hop,
    HostLink,
    Neighbour,
    PodLink,
    Route,
    Rule,
)
from cni_repair.network.observed import Observed
from cni_repair.network.operations.address import AddAddress, ChangeAddress
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.link import (
    AddAltname,
    AddPodLink,
    SetAddrGenMode,
    SetLink,
    SetSysctl,
    SetUp,
)
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.operations.rule import AddRule
from cni_repair.network.planning.plan import FOREIGN, HEALTHY, LOST, plan
from cni_repair.uplink.operations import AddVlan, SetNodeLinkUp
from cni_repair.uplink.plan import READY, plan_parents
from tests.unit.samples import LINK, MASTER, NODE_NETNSID, UPLINK, live
from tests.unit.simulator import (
    FRESH_IFINDEX,
    KERNELS_PROTO,
    Refused,
    as_siblings,
    complete,
    prefixes,
    repaired,
    with_sysctls,
)
from tests.unit.strategies import device_flags, vlans

ORDER = (
    (AddPodLink,),
    (SetLink, AddAltname),
    (SetSysctl,),
    (SetUp,),
    (AddAddress, ChangeAddress),
    (SetAddrGenMode,),
    (SetNeighbour,),
    (AddRoute,),
    (AddRule,),
)


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


def links_of(kind: str) -> st.SearchStrategy[PodLink]:
    macvlan = kind == "macvlan"
    return st.builds(
        PodLink,
        ifindex=st.sampled_from([7, 0]),
        mac=st.sampled_from(["02:00:00:00:00:07", "02:00:00:00:00:08"]),
        mtu=st.sampled_from([1400, 1500]),
        kind=st.just(kind),
        mode=st.sampled_from(KINDS[kind]),
        flags=st.sampled_from([0, 1]),
        txqueuelen=st.sampled_from([0, 1000]),
        alias=st.sampled_from(["", "shop/cart-0"]),
        altnames=st.sampled_from([(), ("podnet0",), ("podnet0", "cart")]),
        group=st.sampled_from([0, 7]),
        bcqueuelen=st.sampled_from([1000, 5000]) if macvlan else st.just(0),
        device_flags=device_flags,
    )


pod_links = links_of("macvlan") | links_of("ipvlan")
SYSCTLS = (("ipv4/arp_notify", "1"), ("ipv6/accept_ra", "0"))
BY_SECRET = ((STABLE_SECRET, "2001:db8::1"), (ADDR_GEN_MODE, "2"))
SETTINGS: list[tuple[tuple[str, str], ...]] = [(), SYSCTLS, BY_SECRET]
PINNED = Address(6, "fe80::99", 64, scope=253, proto=KERNELS_PROTO)


@st.composite
def several_ways(draw: st.DrawFn, near: Sequence[tuple[int, str]]) -> list[Route]:
    """A route by way of two links, or an IPv6 one by two ways through the one."""
    gateways = sorted({gateway for family, gateway in near if family == 4})
    if draw(st.booleans()) and gateways:
        hops = (Hop("eth0", gateways[0], 3), Hop("net1", "192.0.2.1"))
        return [Route(4, "198.51.100.0/24", hops=hops)]
    ways = sorted({gateway for family, gateway in near if family == 6})[:2]
    if len(ways) < 2:
        return []
    return [Route(6, "fd0a::/64", gateway=way, metric=1024, shared=True) for way in ways]


@st.composite
def attachments(draw: st.DrawFn) -> Attachment:
    """What a pod may have had: every gateway was reachable, no two entries were the same."""
    held = draw(st.lists(addresses(), max_size=3, unique_by=lambda one: one.key))
    routes = draw(st.lists(onlink_routes() | own_prefix_routes, max_size=2))
    near = [(one.family, one.address) for one in held]
    near += [(one.family, one.dst.partition("/")[0]) for one in routes]
    several = draw(several_ways(near))
    if near:
        routes += draw(st.lists(gateway_routes(near), max_size=3))
    shuffled = draw(st.permutations(list({one.slot: one for one in routes}.values())))
    by_kernel = [
        route
        for route in prefix_routes(held)
        if draw(st.booleans()) or _carries(route, [*routes, *several])
    ]
    slots = {route.slot for route in by_kernel}
    link = draw(pod_links)
    sysctls = draw(st.sampled_from(SETTINGS))
    mode = None if link.inherits_mac else draw(st.sampled_from([None, None, 0, 1, 2, 3]))
    pinned = (PINNED,) if mode is not None and draw(st.booleans()) else ()
    return Attachment(
        "eth0",
        link,
        (MASTER, UPLINK),
        (*held, *pinned),
        (*(route for route in shuffled if route.slot not in slots), *several),
        sysctls,
        rules=tuple(draw(st.lists(rules, max_size=3, unique=True))),
        neighbours=tuple(draw(st.lists(neighbours, max_size=3, unique_by=lambda one: one.key))),
        absent_routes=tuple(route for route in prefix_routes(held) if route not in by_kernel),
        settled=draw(st.booleans()),
        addr_gen_mode=mode,
    )


def _carries(by_kernel: Route, routes: list[Route]) -> bool:
    """Whether a gateway is reachable by this prefix route alone: such a one cannot be added again
    to an interface that has lost it alone."""
    onlink = [one for one in routes if one.gateway is None and not one.hops]
    return any(
        _holds(by_kernel, one) and not any(_holds(other, one) for other in onlink) for one in routes
    )


def _holds(route: Route, through: Route) -> bool:
    gateways = (through.gateway, *(hop.gateway for hop in through.hops))
    if route.family != through.family:
        return False
    return any(
        gateway is not None and ip_address(gateway) in ip_network(route.dst) for gateway in gateways
    )


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Attachment, Observed]:
    """An attachment, and what is left of it: anything from nothing to all, with other things."""
    desired = draw(attachments())
    kept_rules = tuple(one for one in desired.rules if draw(st.booleans()))
    if draw(st.booleans()):
        taken = draw(st.sampled_from([None, "net1"]))
        return desired, Observed(
            NODE_NETNSID, None, ifindex_taken_by=taken, rules=kept_rules, links=(("net1", 9),)
        )
    whole = complete(desired)
    live = whole.link
    assert live is not None
    addresses = tuple(one for one in whole.addresses if draw(st.booleans()))
    left = replace(
        whole,
        link=draw(st.sampled_from([live, worn(live)])),
        addresses=addresses,
        routes=as_siblings([one for one in whole.routes if draw(st.booleans())]),
        dadfailed=draw(st.sampled_from([(), ("fd00::1",)])),
        rules=kept_rules,
        neighbours=tuple(one for one in desired.neighbours if draw(st.booleans())),
        routes_by_kernel=_kept_by_kernel(desired, (*addresses, *whole.addresses_by_kernel)),
    )
    if draw(st.booleans()):  # down: the kernel drops routes and neighbours, and its own addresses
        assert left.link is not None
        down = replace(left.link, up=False, carrier=False)
        left = replace(
            left, link=down, routes=(), neighbours=(), routes_by_kernel=(), addresses_by_kernel=()
        )
    return desired, _with_strangers(left, *draw(strangers))


def worn(live: LiveLink) -> LiveLink:
    """A link of which much was changed."""
    link = replace(
        live.link, mtu=1300, txqueuelen=5, alias="mine", altnames=("mine",), group=3,
        device_flags=(live.link.device_flags or 0) ^ IFF_NOARP,
    )  # fmt: skip
    return with_sysctls(replace(live, link=link), {"ipv4/arp_notify": "2"})


def _kept_by_kernel(desired: Attachment, addresses: tuple[Address, ...]) -> tuple[str, ...]:
    absent = {route.dst for route in desired.absent_routes}
    return tuple(one for one in prefixes(addresses) if one not in absent)


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
    made = plan(desired, complete(desired), MASTER)
    assert (made.state, made.findings, made.operations) == (HEALTHY, (), ())


@given(attachments(), strangers)
def test_what_nobody_wants_causes_nothing(
    desired: Attachment, more: tuple[list[Address], list[Route]]
) -> None:
    observed = _with_strangers(complete(desired), *more)
    assert plan(desired, observed, MASTER) == plan(desired, complete(desired), MASTER)


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
    assert {one.key for one in (*before.addresses, *desired.addresses)} <= {
        one.key for one in (*after.addresses, *after.addresses_by_kernel)
    }
    assert {one.fixed for one in (*before.routes, *desired.routes)} == {
        one.fixed for one in after.routes
    }
    if before.link and after.link:
        assert {*before.link.link.altnames} <= {*after.link.link.altnames}


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
    whole = complete(desired)
    together = dict.fromkeys((*whole.routes_by_kernel, dst))
    assert plan(desired, replace(whole, routes_by_kernel=tuple(together)), MASTER).operations == ()


@given(damaged())
def test_lost_comes_back_whole(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    made = plan(desired, before, MASTER)
    assert (made.state == LOST) == (before.link is None)
    after = repaired(made.operations, before)
    assert after.link is not None
    if before.link is None:
        ifindex = after.link.link.ifindex
        as_master = {"mac": MASTER.mac} if desired.link.inherits_mac else {}
        expected = replace(desired.link, ifindex=ifindex, **as_master)
        assert after.link.link == expected
        free = desired.link.ifindex and not before.ifindex_taken_by
        assert ifindex == (desired.link.ifindex if free else FRESH_IFINDEX)
        whole = complete(desired)
        assert whole.link is not None
        assert dict(after.link.sysctls) == dict(whole.link.sysctls)
        assert {*after.addresses_by_kernel} == {*whole.addresses_by_kernel}


@given(damaged())
def test_operations_stand_in_the_kernels_order(case: tuple[Attachment, Observed]) -> None:
    desired, before = case
    steps = plan(desired, before, MASTER).operations
    if before.link and before.link.up:  # which needs not be prepared, nor be kept from going on
        steps = tuple(one for one in steps if not isinstance(one, (SetSysctl, SetAddrGenMode)))
    places = [place(step) for step in steps if not isinstance(step, DropRoute)]
    assert places == sorted(places)
    added = [step.route for step in steps if isinstance(step, AddRoute)]
    far = {route.slot for route in added if route.gateway or route.hops}
    through = [route.slot in far for route in added]
    assert through == sorted(through)


def place(step: object) -> int:
    return next(index for index, kinds in enumerate(ORDER) if isinstance(step, kinds))


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
            live(replace(LINK, ifindex=99), "evil0"),
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
    operations: Sequence[Operation], present: dict[str, HostLink]
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
            assert isinstance(operation, SetNodeLinkUp)
            link = present[operation.ifname]
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
