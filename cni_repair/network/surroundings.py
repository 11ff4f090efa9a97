"""What is around a pod's interface: rules, permanent neighbours, routes that somebody took away.

Apart from the rest of the reading, as most pods have none of it, and each kind costs a dump of its
own: a repair reads what is recorded, ADD nothing.
"""

from __future__ import annotations

from cni_repair.network.neighbours import permanent_neighbours, proxy_entries
from cni_repair.network.prefixes import prefix_routes
from cni_repair.network.rules import concerning, read_rules
from cni_repair.network.state import RT_SCOPE_LINK
from cni_repair.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.rtnetlink import Rtnetlink
    from cni_repair.network.state import Attachment, Observed, Route


def with_recorded(rtnl: Rtnetlink, observed: Observed, desired: Attachment) -> Observed:
    """What was observed, with as much of the surroundings as the record can be compared with.

    Of the rules all, in a namespace without the interface, too: they outlive it.
    """
    link = observed.link
    if link is not None and not observed.over_node:
        return observed
    if desired.rules:
        observed = replace(observed, rules=read_rules(rtnl))
    if desired.neighbours and link is not None:
        ifindex = link.link.ifindex
        kinds = {neighbour.mac is None for neighbour in desired.neighbours}
        found = permanent_neighbours(rtnl, ifindex) if False in kinds else ()
        found += proxy_entries(rtnl, ifindex) if True in kinds else ()
        observed = replace(observed, neighbours=found)
    return observed


def with_all(rtnl: Rtnetlink, observed: Observed, ifname: str) -> Observed:
    """What was observed of an interface, with everything around it that a checkpoint holds."""
    link = observed.link
    if link is None or not observed.over_node:
        return observed
    ifindex = link.link.ifindex
    return replace(
        observed,
        rules=concerning(ifname, observed.addresses, observed.routes, read_rules(rtnl)),
        neighbours=permanent_neighbours(rtnl, ifindex) + proxy_entries(rtnl, ifindex),
        absent_routes=_absent_routes(observed),
    )


def _absent_routes(observed: Observed) -> tuple[Route, ...]:
    """The routes that come with the addresses by themselves, and are not there any more.

    Told while there is carrier only: before, some of them are not there yet.
    """
    link = observed.link
    if link is None or not (link.up and link.carrier):
        return ()
    link_local = [one for one in observed.addresses_by_kernel if one.scope == RT_SCOPE_LINK]
    made = prefix_routes([*observed.addresses, *link_local])
    return tuple(route for route in made if route.dst not in observed.routes_by_kernel)
