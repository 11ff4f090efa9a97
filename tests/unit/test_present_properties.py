"""Present but wrong: each single damage of a settled pod is one finding and one operation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import prefix_routes
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.kernel.sysctl import ADDR_GEN_MODE
from cni_repair.network.model import (
    IFF_ALLMULTI,
    IFF_DYNAMIC,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_PROMISC,
    Address,
    Attachment,
    PodLink,
    Route,
)
from cni_repair.network.observed import Observed
from cni_repair.network.operations.address import ChangeAddress
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.planning.plan import DEGRADED, HEALTHY, Plan, plan
from tests.unit.examples import examples
from tests.unit.samples import MASTER
from tests.unit.simulator import complete, repaired, with_sysctls
from tests.unit.test_plan_properties import attachments

pytestmark = pytest.mark.slow  # `tests/run --fast` is to take two minutes

Damages = Iterator[tuple[str, Observed]]
MODES = {"private": "vepa", "vepa": "bridge", "bridge": "private"}


def link_of(whole: Observed) -> LiveLink:
    assert whole.link is not None
    return whole.link


def link_damages(desired: Attachment, whole: Observed) -> Damages:
    live, link = link_of(whole), link_of(whole).link
    for what, changed in attributes_changed(link):
        yield what, replace(whole, link=replace(live, link=changed))
    sysctls = {**dict(desired.sysctls)}
    if desired.addr_gen_mode is not None:
        sysctls[ADDR_GEN_MODE] = str(desired.addr_gen_mode)
    for key, value in sysctls.items():
        other = "2001:db8::dead" if ":" in value else "9"
        yield key, replace(whole, link=with_sysctls(live, {key: other}))


def attributes_changed(link: PodLink) -> Iterator[tuple[str, PodLink]]:
    yield "mtu", replace(link, mtu=1300)
    yield "txqueuelen", replace(link, txqueuelen=5)
    yield "group", replace(link, group=3)
    if link.kind == "macvlan":
        yield "mac", replace(link, mac="02:00:00:00:00:99")
        yield "bcqueuelen", replace(link, bcqueuelen=77)
        yield "flags", replace(link, flags=link.flags ^ 1)
    if link.mode in MODES:
        yield "mode", replace(link, mode=MODES[link.mode])
    if link.alias:
        yield "alias", replace(link, alias="mine")
    for name in link.altnames:
        left = tuple(one for one in link.altnames if one != name)
        yield f"altname {name}", replace(link, altnames=left)
    flags = link.device_flags or 0
    for flag in (IFF_NOARP, IFF_MULTICAST, IFF_DYNAMIC):
        yield f"flag {flag:#x}", replace(link, device_flags=flags ^ flag)
    for flag in (IFF_PROMISC, IFF_ALLMULTI):
        if flags & flag:
            yield f"flag {flag:#x}", replace(link, device_flags=flags & ~flag)


def entry_damages(desired: Attachment, whole: Observed) -> Damages:
    for address in whole.addresses:
        for changed in address_changed(address):
            yield "address", replace(whole, addresses=instead(whole.addresses, address, changed))
    # (An IPv4 address takes others along, and routes.)
    for address in whole.addresses:
        if address.family == 6:
            left = tuple(one for one in whole.addresses if one is not address)
            made = {one.dst for one in prefix_routes((*left, *whole.addresses_by_kernel))}
            by_kernel = tuple(one for one in whole.routes_by_kernel if one in made)
            yield "address", replace(whole, addresses=left, routes_by_kernel=by_kernel)
    if desired.addr_gen_mode is None and whole.addresses_by_kernel:
        yield "link-local", replace(whole, addresses_by_kernel=())
    for route in whole.routes:
        yield "route", replace(whole, routes=tuple(x for x in whole.routes if x is not route))
        if not route.shared:
            changed_route = replace(route, metrics=((2, 1400),))
            yield "route's MTU", replace(whole, routes=instead(whole.routes, route, changed_route))
    for dst in whole.routes_by_kernel:
        left_routes = tuple(one for one in whole.routes_by_kernel if one != dst)
        yield "prefix route", replace(whole, routes_by_kernel=left_routes)
    for neighbour in whole.neighbours:
        others = tuple(one for one in whole.neighbours if one is not neighbour)
        yield "neighbour", replace(whole, neighbours=others)
        changed_one = replace(neighbour, flags=0x80)
        yield "neighbour's flags", replace(whole, neighbours=(*others, changed_one))
    for rule in whole.rules:
        yield "rule", replace(whole, rules=tuple(one for one in whole.rules if one is not rule))


def address_changed(address: Address) -> Iterator[Address]:
    yield replace(address, valid=600)
    if address.family == 4:
        yield replace(address, broadcast="10.0.0.250")
    else:
        yield replace(address, flags=address.flags ^ 0x200)


def instead(found: tuple[object, ...], old: object, new: object) -> tuple[object, ...]:
    return tuple(new if one is old else one for one in found)


def settled(desired: Attachment) -> Attachment:
    """As CHECK or a snapshot takes it: from a link that is there, and has an index."""
    return replace(desired, settled=True, link=replace(desired.link, ifindex=7))


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Attachment, str, Observed]:
    desired = settled(draw(attachments()))
    whole = complete(desired)
    found = [*link_damages(desired, whole), *entry_damages(desired, whole)]
    return desired, *draw(st.sampled_from(found))


def lasting(made: Plan, desired: Attachment) -> list[object]:
    """The operations, without the routes that are there for the moment only."""
    absent = {*desired.absent_routes}
    return [
        step
        for step in made.operations
        if not isinstance(step, DropRoute)
        and not (isinstance(step, AddRoute) and step.route in absent)
    ]


@given(damaged())
@examples(200)
def test_one_damage_is_one_finding_and_one_operation(
    case: tuple[Attachment, str, Observed],
) -> None:
    desired, what, before = case
    made = plan(desired, before, MASTER)
    assert made.state == DEGRADED, what
    assert len(made.findings) == 1, what
    assert len(lasting(made, desired)) == 1, what


@given(damaged())
def test_one_damage_is_repaired(case: tuple[Attachment, str, Observed]) -> None:
    """An address may have to go for a moment; what goes with it is found missing then."""
    desired, what, before = case
    made = plan(desired, before, MASTER)
    after = repaired(made.operations, before)
    if any(isinstance(step, ChangeAddress) for step in made.operations):
        after = repaired(plan(desired, after, MASTER).operations, after)
    assert plan(desired, after, MASTER) == Plan(HEALTHY), what


@given(damaged())
def test_one_damage_is_repaired_without_touching_the_rest(
    case: tuple[Attachment, str, Observed],
) -> None:
    desired, what, before = case
    made = plan(desired, before, MASTER)
    if any(isinstance(step, ChangeAddress) for step in made.operations):
        return
    after, whole = repaired(made.operations, before), complete(desired)
    found, wanted = link_of(after).link, link_of(whole).link
    assert {*found.altnames} == {*wanted.altnames}, what  # the one that was gone comes last now
    assert replace(found, altnames=wanted.altnames) == wanted, what
    assert dict(link_of(after).sysctls) == dict(link_of(whole).sysctls), what
    for kind in ("addresses", "addresses_by_kernel", "routes_by_kernel", "neighbours", "rules"):
        assert {*getattr(after, kind)} == {*getattr(whole, kind)}, (what, kind)
    assert {one.fixed for one in after.routes} == {one.fixed for one in whole.routes}, what


@given(damaged())
def test_record_of_add_alone_says_nothing_of_what_later_plugins_change(
    case: tuple[Attachment, str, Observed],
) -> None:
    desired, what, before = case
    later = ("mac", "mtu", "txqueuelen", "group", "prefix route", "link-local", "route's MTU")
    if what in later or what.startswith(("flag ", "ipv", "neighbour's")):
        made = plan(replace(desired, settled=False), before, MASTER)
        assert made == Plan(HEALTHY), what


@given(attachments())
def test_what_a_pod_added_itself_is_left_alone(desired: Attachment) -> None:
    desired = settled(desired)
    whole = complete(desired)
    live = link_of(whole)
    flags = (live.link.device_flags or 0) | IFF_PROMISC | IFF_ALLMULTI
    link = replace(live.link, altnames=(*live.link.altnames, "mine"), device_flags=flags)
    more = replace(
        whole,
        link=with_sysctls(replace(live, link=link), {"ipv4/rp_filter": "2"}),
        addresses=(*whole.addresses, Address(4, "10.9.9.1", 32)),
        routes=(*whole.routes, Route(4, "10.7.0.0/16"), Route(6, "fd77::/64", metric=5)),
    )
    assert plan(desired, more, MASTER) == Plan(HEALTHY)
