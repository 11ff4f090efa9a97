"""Reading what the node has of its own over its pods' masters: on their VLANs, and on shims."""

from __future__ import annotations

from cni_repair.base.errors import REPAIR_FAILED
from cni_repair.base.frozen import replace
from cni_repair.netlink.socket import Rtnetlink, TooMany
from cni_repair.network.kernel.address import IFA_F_MCAUTOJOIN
from cni_repair.network.links import links_like_pods
from cni_repair.network.model import FOREVER, KINDS, TEMPORARY, NodeLink
from cni_repair.network.observe import read_addresses, read_routes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.network.model import Address, HostLink, Route

_MAX_SHIMS = 4096  # of a kind
# Addresses and routes in all: every pod's checkpoint holds them, and there are two hundred pods.
_MAX_ENTRIES = 512
# RTPROT_BOOT, RTPROT_STATIC: what a person or a network service configured for good. Routing
# daemons and DHCP clients make theirs again themselves, and know better which are right by then.
_CONFIGURED = {3, 4}


def read_node_links(rtnl: Rtnetlink, chain: tuple[HostLink, ...]) -> tuple[NodeLink, ...]:
    """What the node has on the links of `chain` as they are now: on its VLANs, and on the shims
    over any of them. Hardware and bonds are the distribution's, with what they carry.

    Raises TooMany where that is more than a checkpoint is to hold.
    """
    vlans = [_of_vlan(_read(rtnl, link)) for link in chain if link.vlan is not None]
    found = [one for one in vlans if one.addresses or one.routes]
    names = {link.ifindex: link.name for link in chain}
    for live in _shims(rtnl):
        if live.master in names:
            found.append(_shim(rtnl, live, names[live.master]))
    if sum(len(one.addresses) + len(one.routes) for one in found) > _MAX_ENTRIES:
        what = f"addresses and routes of the node over {chain[0].name}"
        raise TooMany(REPAIR_FAILED, f"more than {_MAX_ENTRIES} {what}: too many to remember")
    return tuple(found)


def belongings_of(links: Iterable[HostLink]) -> dict[str, NodeLink]:
    """What links of the node have, by their names, as far as it can be given back. One that has
    more than can be read is left out."""
    found = {}
    for link in links:
        try:
            with Rtnetlink() as rtnl:  # of no use any more once there was too much
                found[link.name] = _read(rtnl, link)
        except TooMany:
            continue
    return found


def _read(rtnl: Rtnetlink, link: HostLink) -> NodeLink:
    addresses, routes = _belongings(rtnl, link.ifindex, link.name, link.mac)
    return NodeLink(link.name, addresses, routes)


def _of_vlan(found: NodeLink) -> NodeLink:
    return replace(found, addresses=tuple(one for one in found.addresses if _stays_here(one)))


def _shims(rtnl: Rtnetlink) -> list[LiveLink]:
    return [
        live
        for live in links_like_pods(rtnl, _MAX_SHIMS)
        if live.link.mode in KINDS[live.link.kind]
        and live.master_netnsid is None
        and not live.name.startswith(TEMPORARY)
    ]


def _shim(rtnl: Rtnetlink, live: LiveLink, master: str) -> NodeLink:
    addresses, routes = _belongings(rtnl, live.link.ifindex, live.name, live.link.mac)
    # Its index is the kernel's to choose: nobody else counts on it.
    link = replace(live.link, ifindex=0, alias="", altnames=(), device_flags=None)
    return NodeLink(live.name, addresses, routes, link, master, live.up)


def _belongings(
    rtnl: Rtnetlink, ifindex: int, name: str, mac: str
) -> tuple[tuple[Address, ...], tuple[Route, ...]]:
    addresses = read_addresses(rtnl, ifindex, mac).configured
    routes = read_routes(rtnl, ifindex, name).configured
    return (
        tuple(one for one in addresses if _is_for_good(one)),
        tuple(one for one in routes if _is_its_own(one)),
    )


def _is_for_good(address: Address) -> bool:
    """A lease, and what a daemon marked as its own, may be another host's by the time of a repair:
    they come back by their owner's hand. (`autojoin` is membership of a group: a daemon's, too.)"""
    for_good = address.valid == FOREVER and not address.proto
    return for_good and not address.flags & IFA_F_MCAUTOJOIN


def _stays_here(address: Address) -> bool:
    """Not one that may wander from node to node, as keepalived's virtual addresses on a VLAN do: of
    the whole length. (On a shim that is the usual thing, and the node's own.)"""
    return address.prefix != (32 if address.family == 4 else 128) or address.peer is not None


def _is_its_own(route: Route) -> bool:
    """Whether somebody configured it for good, and through this link alone."""
    for_good = route.protocol in _CONFIGURED and not route.expires
    return for_good and not route.hops and not route.shared
