"""A small simulator of the kernel: what it makes of each operation on a pod."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import link_local_of, network_of, prefix_routes
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.kernel.sysctl import ADDR_GEN_MODE, STABLE_SECRET
from cni_repair.network.model import (
    DEFAULT_BCQUEUELEN,
    RTPROT_KERNEL,
    SETTABLE_FLAGS,
    Address,
    Attachment,
    HostLink,
    Neighbour,
    PodLink,
    Route,
)
from cni_repair.network.observed import Observed
from cni_repair.network.operations.address import AddAddress, ChangeAddress, DropAddress, SetAddress
from cni_repair.network.operations.link import (
    AddAltname,
    AddPodLink,
    SetAddrGenMode,
    SetLink,
    SetSysctl,
    SetUp,
    SetUpWithLinkLocal,
)
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.operations.rule import AddRule
from tests.unit.samples import MASTER, NODE_NETNSID, live

if TYPE_CHECKING:
    from cni_repair.network.operations.base import Operation

FRESH_IFINDEX = 77
# What a new link of the pod begins with.
DEFAULTS = {"ipv4/arp_notify": "0", "ipv4/rp_filter": "0", "ipv6/accept_ra": "1",
    ADDR_GEN_MODE: "0", "ipv6/disable_ipv6": "0"}  # fmt: skip
KERNELS_PROTO = 3  # IFAPROT_KERNEL_LL


class Refused(AssertionError):
    """The kernel would not do this operation."""


def repaired(
    operations: Sequence[Operation], observed: Observed, master: HostLink = MASTER
) -> Observed:
    for operation in operations:
        observed = applied(operation, observed, master)
    return observed


def applied(operation: Operation, observed: Observed, master: HostLink) -> Observed:
    """What the kernel makes of one operation on a pod, or Refused."""
    if isinstance(operation, AddPodLink):
        return _created(operation, observed, master)
    if isinstance(operation, AddRule):
        if operation.rule in observed.rules:
            raise Refused("EEXIST")
        return replace(observed, rules=(*observed.rules, operation.rule))
    link = observed.link
    if link is None:
        raise Refused("ENODEV")
    if isinstance(operation, SetUp):
        return _brought_up(observed, link, master)
    if isinstance(operation, SetUpWithLinkLocal):
        for part in operation.steps:
            observed = applied(part, observed, master)
        return observed
    if isinstance(operation, (SetLink, AddAltname, SetSysctl, SetAddrGenMode)):
        return replace(observed, link=_link_set(operation, link, master))
    if isinstance(operation, (AddAddress, ChangeAddress, SetAddress)):
        for step in operation.steps:
            assert isinstance(step, (AddAddress, DropAddress, SetAddress))
            observed = _addressed(step, observed, link)
        return observed
    if isinstance(operation, SetNeighbour):
        return _known(operation.neighbour, observed)
    if isinstance(operation, DropRoute):
        left = tuple(one for one in observed.routes_by_kernel if one != operation.route.dst)
        return replace(observed, routes_by_kernel=left)
    assert isinstance(operation, AddRoute)
    return _routed(operation, observed, link)


# --- the link ------------------------------------------------------------------------------------


def _created(operation: AddPodLink, observed: Observed, master: HostLink) -> Observed:
    wanted = operation.link
    if observed.link is not None or (wanted.ifindex and observed.ifindex_taken_by):
        raise Refused("EEXIST")
    if wanted.mtu > master.mtu:
        raise Refused("EINVAL")
    as_master = wanted.inherits_mac or wanted.mode == "passthru"
    link = replace(
        wanted,
        ifindex=wanted.ifindex or FRESH_IFINDEX,
        mac=master.mac if as_master else wanted.mac,
        mtu=wanted.mtu or master.mtu,
        alias="",
        altnames=(),
        bcqueuelen=(wanted.bcqueuelen or DEFAULT_BCQUEUELEN) if wanted.kind == "macvlan" else 0,
        device_flags=wanted.usual_flags,
    )
    made = LiveLink(operation.ifname, link, False, False, master.ifindex, NODE_NETNSID)
    made = replace(made, sysctls=tuple(DEFAULTS.items()))
    return Observed(NODE_NETNSID, made, rules=observed.rules, links=observed.links)


def _brought_up(observed: Observed, link: LiveLink, master: HostLink) -> Observed:
    link = replace(link, up=True, carrier=master.carrier)
    made = [address for address in own_link_local(link) if address not in _all(observed)]
    by_kernel = (*observed.addresses_by_kernel, *made)
    observed = replace(observed, link=link, addresses_by_kernel=by_kernel)
    return replace(observed, routes_by_kernel=prefixes(_all(observed)))


def own_link_local(link: LiveLink) -> tuple[Address, ...]:
    """The address that the kernel makes of the MAC, of those that it can be told to make."""
    if dict(link.sysctls).get(ADDR_GEN_MODE) != "0" or link.link.inherits_mac:
        return ()
    address = link_local_of(link.link.mac)
    return (Address(6, address, 64, scope=253, proto=KERNELS_PROTO),)


def _link_set(
    step: SetLink | AddAltname | SetSysctl | SetAddrGenMode, live: LiveLink, master: HostLink
) -> LiveLink:
    link = live.link
    if isinstance(step, AddAltname):
        if step.altname in link.altnames:
            raise Refused("EEXIST")
        return replace(live, link=replace(link, altnames=(*link.altnames, step.altname)))
    if isinstance(step, SetAddrGenMode):
        return with_sysctls(live, {ADDR_GEN_MODE: str(step.mode)})
    if isinstance(step, SetSysctl):
        if live.up and step.key == ADDR_GEN_MODE:
            raise Refused("it would make an address beside those that are there")
        secret = {ADDR_GEN_MODE: "2"} if step.key == STABLE_SECRET else {}
        return with_sysctls(live, {**secret, step.key: step.value})
    return replace(live, link=_attribute_set(step, link, master))


def with_sysctls(live: LiveLink, sysctls: dict[str, str]) -> LiveLink:
    return replace(live, sysctls=tuple({**dict(live.sysctls), **sysctls}.items()))


def _attribute_set(step: SetLink, link: PodLink, master: HostLink) -> PodLink:
    wanted, what = step.link, step.what
    if what in SETTABLE_FLAGS:
        flag = SETTABLE_FLAGS[what]
        assert link.device_flags is not None
        flags = link.device_flags & ~flag | (wanted.device_flags or 0) & flag
        return replace(link, device_flags=flags)
    if what == "mode":
        if "passthru" in (wanted.mode, link.mode) and wanted.mode != link.mode:
            raise Refused("EINVAL")
        return replace(link, mode=wanted.mode, flags=wanted.flags)
    if (what == "mtu" and wanted.mtu > master.mtu) or (what == "mac" and link.inherits_mac):
        raise Refused("EINVAL")
    return replace(link, **{what: getattr(wanted, what)})


# --- addresses -----------------------------------------------------------------------------------


def _all(observed: Observed) -> tuple[Address, ...]:
    return (*observed.addresses, *observed.addresses_by_kernel)


def prefixes(addresses: Iterable[Address]) -> tuple[str, ...]:
    return tuple(route.dst for route in prefix_routes(addresses))


def _addressed(
    step: AddAddress | DropAddress | SetAddress, observed: Observed, link: LiveLink
) -> Observed:
    address = step.address
    there = {one.key for one in _all(observed)}
    if isinstance(step, AddAddress):
        if address.key in there:
            raise Refused("EEXIST")
        return _with_address(address, observed, link)
    if address.key not in there:
        raise Refused("EADDRNOTAVAIL")
    if isinstance(step, DropAddress):
        return _without_address(address, observed)
    return replace(
        observed,
        **{
            kind: tuple(
                address if one.key == address.key else one for one in getattr(observed, kind)
            )
            for kind in ("addresses", "addresses_by_kernel")
        },
    )


def _with_address(address: Address, observed: Observed, link: LiveLink) -> Observed:
    which = "addresses_by_kernel" if address.proto == KERNELS_PROTO else "addresses"
    observed = replace(observed, **{which: (*getattr(observed, which), address)})
    by_kernel = prefixes((address,)) if link.up else ()
    together = tuple(dict.fromkeys((*observed.routes_by_kernel, *by_kernel)))
    return replace(observed, routes_by_kernel=together)


def _without_address(address: Address, observed: Observed) -> Observed:
    """Secondary addresses go with the primary, and the family's routes with its last address."""
    same = [one for one in observed.addresses if address.family == 4 and _net(one) == _net(address)]
    is_primary = bool(same) and same[0].key == address.key
    gone = {one.key for one in same} if is_primary else {address.key}
    left = tuple(one for one in observed.addresses if one.key not in gone)
    families = {one.family for one in left} | {6}
    kept = {*prefixes((*left, *observed.addresses_by_kernel))}
    return replace(
        observed,
        addresses=left,
        routes=tuple(one for one in observed.routes if one.family in families),
        routes_by_kernel=tuple(one for one in observed.routes_by_kernel if one in kept),
    )


def _net(address: Address) -> tuple[str, int]:
    return network_of(address.address, address.prefix), address.prefix


# --- neighbours, routes ---------------------------------------------------------------------------


def _known(neighbour: Neighbour, observed: Observed) -> Observed:
    """It takes the place of an entry of the same address."""
    others = [one for one in observed.neighbours if one.key != neighbour.key]
    return replace(observed, neighbours=(*others, neighbour))


def _routed(step: AddRoute, observed: Observed, link: LiveLink) -> Observed:
    route = step.route
    if not link.up:
        raise Refused("ENETDOWN")
    if not _reachable(route, observed):
        raise Refused("ENETUNREACH")
    if {hop.ifname for hop in route.hops} - {link.name, *dict(observed.links)}:
        raise Refused("ENODEV")
    if route.protocol == RTPROT_KERNEL and route.table == 254:
        if route.dst in observed.routes_by_kernel:
            raise Refused("EEXIST")
        return replace(observed, routes_by_kernel=(*observed.routes_by_kernel, route.dst))
    place = [one for one in observed.routes if one.slot == route.slot]
    if step.how == "replace" and place:  # the first, whatever it is
        routes = tuple(route if one is place[0] else one for one in observed.routes)
    elif step.how in ("append", "prepend") and route.key in {one.key for one in place}:
        raise Refused("EEXIST")
    elif step.how == "add" and (place or _is_kernels(route, observed)):
        raise Refused("EEXIST")  # NLM_F_EXCL looks at no gateway
    elif step.how == "prepend":
        routes = (route, *observed.routes)
    else:
        routes = (*observed.routes, route)
    return replace(observed, routes=as_siblings(routes))


def as_siblings(routes: Sequence[Route]) -> tuple[Route, ...]:
    """IPv6 routes of one place are shown as one with several next hops."""
    slots = [one.slot for one in routes]
    return tuple(
        replace(one, shared=one.family == 6 and slots.count(one.slot) > 1) for one in routes
    )


def _is_kernels(route: Route, observed: Observed) -> bool:
    by_kernel = 256 if route.family == 6 else 0
    usual = (route.table, route.metric) == (254, by_kernel)
    return usual and route.dst in observed.routes_by_kernel


def _reachable(route: Route, observed: Observed) -> bool:
    gateways = [route.gateway, *(hop.gateway for hop in route.hops if hop.ifname == "eth0")]
    onlink = [one.dst for one in observed.routes if one.gateway is None and not one.hops]
    onlink += observed.routes_by_kernel
    return all(
        gateway is None or route.onlink or any(_holds(dst, gateway) for dst in onlink)
        for gateway in gateways
    )


def _holds(dst: str, gateway: str) -> bool:
    return ipaddress.ip_address(gateway) in ipaddress.ip_network(dst, strict=False)


# --- a pod ---------------------------------------------------------------------------------------


def complete(desired: Attachment) -> Observed:
    """The pod as it was when all was well, as the kernel shows it."""
    sysctls = {**DEFAULTS, **dict(desired.sysctls)}
    if desired.addr_gen_mode is not None:
        sysctls[ADDR_GEN_MODE] = str(desired.addr_gen_mode)
    link = with_sysctls(live(desired.link, desired.ifname), sysctls)
    pinned = tuple(one for one in desired.addresses if one.proto == KERNELS_PROTO)
    by_kernel = pinned if desired.addr_gen_mode is not None else own_link_local(link)
    absent = {route.dst for route in desired.absent_routes}
    made = prefixes((*desired.addresses, *by_kernel))
    return Observed(
        NODE_NETNSID,
        link,
        tuple(one for one in desired.addresses if one not in pinned),
        as_siblings(desired.routes),
        rules=desired.rules,
        neighbours=desired.neighbours,
        addresses_by_kernel=by_kernel,
        routes_by_kernel=tuple(one for one in made if one not in absent),
        links=(("net1", 9),),
    )
