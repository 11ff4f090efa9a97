"""Prefixes of addresses, and the routes that the kernel makes of them. Pure."""

from __future__ import annotations

from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton
from cni_repair.network.model import (
    IFA_F_NOPREFIXROUTE,
    RT_SCOPE_LINK,
    RTPROT_KERNEL,
    Address,
    Observed,
    Route,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_METRIC_6 = 256  # IP6_RT_PRIO_ADDRCONF


def network_of(address: str, length: int) -> str:
    """The prefix of that length which holds the address: 10.9.0.0/24 for 10.9.0.5."""
    family = AF_INET6 if ":" in address else AF_INET
    raw = inet_pton(family, address)
    host_bits = 8 * len(raw) - length
    number = int.from_bytes(raw, "big") >> host_bits << host_bits
    return f"{inet_ntop(family, number.to_bytes(len(raw), 'big'))}/{length}"


def prefix_routes(addresses: Iterable[Address]) -> tuple[Route, ...]:
    """The routes that come with an interface's addresses by themselves.

    Addresses of one prefix share one: that of the first, the primary.
    """
    routes: dict[str, Route] = {}
    for address in addresses:
        route = _prefix_route(address)
        if route is not None:
            routes.setdefault(route.dst, route)
    return tuple(routes.values())


def missing_prefix_routes(observed: Observed) -> tuple[Route, ...]:
    """The routes that come with the addresses by themselves, and are not there any more.

    Told while there is carrier only: before, some of them are not there yet.
    """
    link = observed.link
    if link is None or not (link.up and link.carrier):
        return ()
    link_local = [one for one in observed.addresses_by_kernel if one.scope == RT_SCOPE_LINK]
    made = prefix_routes([*observed.addresses, *link_local])
    return tuple(route for route in made if route.dst not in observed.routes_by_kernel)


def _prefix_route(address: Address) -> Route | None:
    """fib_add_ifaddr(), inet6_addr_add()"""
    if address.flags & IFA_F_NOPREFIXROUTE:
        return None
    dst = network_of(address.peer or address.address, address.prefix)
    if address.family == 6:
        made = Route(6, dst, metric=address.metric or _METRIC_6, protocol=RTPROT_KERNEL)
        return None if address.peer else made
    if dst == f"{address.address}/32" or dst.startswith("0."):
        return None
    return Route(
        4,
        dst,
        metric=address.metric,
        scope=RT_SCOPE_LINK,
        protocol=RTPROT_KERNEL,
        prefsrc=address.address,
    )
