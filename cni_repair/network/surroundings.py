"""What is around a pod's interface: rules, permanent neighbours, routes that somebody took away.

Apart from the rest of the reading, as most pods have none of it, and each kind costs a dump of its
own: a repair reads what is recorded, ADD nothing.
"""

from __future__ import annotations

from cni_repair.base.frozen import replace
from cni_repair.netlink.socket import Rtnetlink, TooMany
from cni_repair.network.kernel.neighbour import permanent_neighbours, proxy_entries
from cni_repair.network.kernel.rule import concerning, read_rules
from cni_repair.network.kernel.sysctl import STABLE_SECRET, read_secret
from cni_repair.network.observe import links_named
from cni_repair.network.prefixes import missing_prefix_routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.model import Attachment, Observed


def with_recorded(rtnl: Rtnetlink, observed: Observed, desired: Attachment) -> Observed:
    """What was observed, with as much of the surroundings as the record can be compared with.

    To be called inside the pod's namespace.

    Of the rules all, in a namespace without the interface, too: they outlive it.
    """
    link = observed.link
    if link is not None and not observed.over_node:
        return observed
    if link is not None and any(key == STABLE_SECRET for key, _ in desired.sysctls):
        known = replace(link, sysctls=(*link.sysctls, *read_secret(desired.ifname)))
        observed = replace(observed, link=known)
    if desired.rules:
        observed = _with_rules(observed, desired)
    hops = {hop.ifname for route in desired.routes for hop in route.hops} - {desired.ifname}
    if hops:
        observed = replace(observed, links=links_named(rtnl, hops))
    if desired.neighbours and link is not None:
        ifindex = link.link.ifindex
        kinds = {neighbour.mac is None for neighbour in desired.neighbours}
        found = permanent_neighbours(rtnl, ifindex) if False in kinds else ()
        found += proxy_entries(rtnl, ifindex) if True in kinds else ()
        observed = replace(observed, neighbours=found)
    return observed


def _with_rules(observed: Observed, desired: Attachment) -> Observed:
    """Where there are too many to be read, the recorded ones count as there: they outlive the link,
    and the rest of it need not wait."""
    try:
        with Rtnetlink() as rtnl:  # of no use any more once there was too much
            return replace(observed, rules=read_rules(rtnl))
    except TooMany as error:
        return replace(observed, rules=desired.rules, troubles=(f"its rules: {error.msg}",))


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
        absent_routes=missing_prefix_routes(observed),
    )
