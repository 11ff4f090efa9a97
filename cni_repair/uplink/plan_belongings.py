"""Planning what the node has of its own over the pods' masters: addresses and routes on their
VLANs, shims. Pure.

It goes with making: on a link that is there and up nothing is given back, for whoever set it up
(systemd-networkd, an administrator) decides what is on it. One that is down, over a link that is
up, is one that a repair made and could not finish: it is set up last but for the routes, which need
that.
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.model import NodeLink
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.route import AddRoute
from cni_repair.network.planning.address import as_made
from cni_repair.uplink.operations import AddShim, SetNodeLinkUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cni_repair.network.model import HostLink, NodeLinks, PodLink
    from cni_repair.network.operations.base import Operation


@frozen
class ShimPlan:
    """What is wrong with one shim, and what it takes to have it again: nothing where its name is
    another link's."""

    name: str
    finding: str
    operations: tuple[Operation, ...] = ()


def newest(
    chain: tuple[HostLink, ...], records: Iterable[tuple[tuple[HostLink, ...], NodeLinks]]
) -> tuple[NodeLink, ...]:
    """What the node had on the links of `chain`, by the newest of the records that know each, and
    under the names that `chain` has for them.

    Pods share their masters, and each has a record of its own time: an older one must not bring
    back an address that was given to another host since. `records`: each with the links that it was
    taken of, the pod's master first.
    """
    known = sorted(records, key=lambda one: one[1].seen_at, reverse=True)
    found: list[NodeLink] = []
    for depth, link in enumerate(chain):
        below = chain[depth:]
        for others, taken in known:
            if is_same_chain(others[-len(below) :], below):
                then = others[-len(below)].name
                found += [
                    _over(one, link.name) for one in taken.links if (one.master or one.name) == then
                ]
                break
    return tuple(found)


def _over(one: NodeLink, name: str) -> NodeLink:
    return replace(one, master=name) if one.master else replace(one, name=name)


def is_same_chain(one: tuple[HostLink, ...], other: tuple[HostLink, ...]) -> bool:
    """Whether two records speak of the same links, by whichever of their names."""
    return len(one) == len(other) and all(map(_is_same_link, one, other))


def _is_same_link(one: HostLink, other: HostLink) -> bool:
    if one.name == other.name or not {*one.names}.isdisjoint(other.names):
        return True
    # (Over the same link, which is compared, too.)
    if one.vlan is None or other.vlan is None:
        return False
    return (one.vlan.id, one.vlan.protocol) == (other.vlan.id, other.vlan.protocol)


def with_belongings(
    operations: tuple[Operation, ...],
    recorded: tuple[NodeLink, ...],
    there: Mapping[str, NodeLink],
) -> tuple[Operation, ...]:
    """The operations that make VLANs, with those that give them their addresses and routes.

    `there`: what those VLANs have that are there already, but down.
    """
    missing = {one.name: _missing(one, there.get(one.name)) for one in recorded if one.shim is None}
    to_be_set_up = {one.ifname for one in operations if isinstance(one, SetNodeLinkUp)}
    steps: list[Operation] = []
    for operation in operations:
        name = operation.ifname
        addresses, routes = missing.get(name, ((), ()))
        if isinstance(operation, SetNodeLinkUp):
            steps += [*addresses, operation, *routes]
        elif operation.over and name not in to_be_set_up:
            # The link below is down. The routes wait for it, too: they are tried again at the end.
            steps += [operation, *addresses, *routes]
        else:
            steps.append(operation)
    return tuple(steps)


def plan_shims(
    recorded: tuple[NodeLink, ...],
    present: Mapping[str, HostLink],
    to_be_made: frozenset[str],
    there: Mapping[str, NodeLink],
) -> tuple[ShimPlan, ...]:
    """What it takes to have the recorded shims again, for those that are not as they should be. A
    shim whose master is not there is none of ours yet.

    `present`: the node's links that bear the names of shims or of their masters; `to_be_made`: the
    masters that the repair makes first; `there`: what those shims have that are down.
    """
    plans = [
        _plan_shim(one, one.shim, present, one.master in to_be_made, there.get(one.name))
        for one in recorded
        if one.shim is not None
    ]
    return tuple(plan for plan in plans if plan is not None)


def _plan_shim(
    wanted: NodeLink,
    shim: PodLink,
    present: Mapping[str, HostLink],
    comes: bool,
    there: NodeLink | None,
) -> ShimPlan | None:
    name, master, found = wanted.name, present.get(wanted.master), present.get(wanted.name)
    if master is None and not comes:
        return None
    what = f"{name}, a {shim.kind} over {wanted.master},"
    if found is None:
        addresses, routes = _missing(wanted, None)
        steps: list[Operation] = [AddShim(name, wanted.master, shim), *addresses]
        steps += [SetNodeLinkUp(name), *routes] if wanted.up else []
        return ShimPlan(name, f"the node's {what} is gone", tuple(steps))
    if master is None or found.kind != shim.kind or found.lower != master.ifindex:
        other = f"a {found.kind or 'hardware'} link over {_name_of(found.lower, present)}"
        return ShimPlan(name, f"the node had {what} which is {other} now: left alone")
    if found.up or not wanted.up or not master.up:
        return None
    addresses, routes = _missing(wanted, there)
    rest: list[Operation] = [*addresses, SetNodeLinkUp(name), *routes]
    return ShimPlan(name, f"the node's {what} is down", tuple(rest))


def lacking(recorded: tuple[NodeLink, ...], there: Mapping[str, NodeLink]) -> tuple[Operation, ...]:
    """What is recorded of links that are there and up, and is not on them: nothing that a repair
    touches, but something to be said. `there`: what those links have."""
    found: list[Operation] = []
    for one in recorded:
        if one.name in there:
            addresses, routes = _missing(one, there[one.name])
            found += [*addresses, *routes]
    return tuple(found)


def _name_of(ifindex: int, present: Mapping[str, HostLink]) -> str:
    names = (link.name for link in present.values() if link.ifindex == ifindex)
    return next(names, f"link {ifindex}" if ifindex else "nothing")


def _missing(
    wanted: NodeLink, there: NodeLink | None
) -> tuple[tuple[AddAddress, ...], tuple[AddRoute, ...]]:
    """Addresses and routes to be added; those to a gateway last, as it has to be reachable."""
    has = there or NodeLink(wanted.name)
    known_addresses = {one.key for one in has.addresses}
    known_routes = {one.key for one in has.routes}
    name = wanted.name
    routes = sorted(wanted.routes, key=lambda route: route.gateway is not None)
    return (
        tuple(
            AddAddress(name, one)
            for one in as_made(wanted.addresses)
            if one.key not in known_addresses
        ),
        tuple(AddRoute(name, one) for one in routes if one.key not in known_routes),
    )
