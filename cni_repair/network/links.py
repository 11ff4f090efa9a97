"""Reading: links of a namespace, the node's above all, by their names, kinds and places."""

from __future__ import annotations

import errno

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink, is_missing
from cni_repair.network.kernel.link import (
    host_link,
    is_short,
    link_request,
    links_request,
    live_link,
    name_in,
)
from cni_repair.network.model import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.network.model import HostLink

_MAX_LINKS = 65536


def link_named(rtnl: Rtnetlink, name: str) -> HostLink | None:
    """The node's link that the kernel finds by that name, be it an altname; None where none is."""
    answer = rtnl.get([link_request(name=name)])[0]
    if isinstance(answer, Ack) and answer.errno == errno.EINVAL and not is_short(name):
        return None  # before 5.5 there were no altnames, and all names were short
    body = link_in(answer)
    return host_link(body) if body else None


def hardware(rtnl: Rtnetlink) -> list[HostLink]:
    """All links of the node that are no virtual ones."""
    links = [host_link(body) for body in rtnl.dump(links_request(), _MAX_LINKS, "links")]
    return [link for link in links if not link.kind]


def vlans(rtnl: Rtnetlink) -> list[HostLink]:
    """All VLAN devices of the node."""
    links = [host_link(body) for body in rtnl.dump(links_request("vlan"), _MAX_LINKS, "VLANs")]
    return [link for link in links if link.vlan is not None]


def legs_of(rtnl: Rtnetlink, master: int) -> list[HostLink]:
    """The node's links that a bond (or a team, a bridge) of that ifindex is made of."""
    bodies = rtnl.dump(links_request(), _MAX_LINKS, "links")
    return [host_link(body) for body in bodies if _enslaved_to(body) == master]


def _enslaved_to(body: bytes) -> int:
    return nl.u32_of(nl.unpack_link(body)[2].get(rt.IFLA_MASTER, b""))


def links_like_pods(rtnl: Rtnetlink, at_most: int) -> list[LiveLink]:
    """The links of the socket's namespace that are of one of the KINDS."""
    found = []
    for kind in KINDS:
        bodies = rtnl.dump(links_request(kind), at_most, f"{kind} links")
        links = [live_link(body) for body in bodies]
        # The kernel filters by kind (rtnl_dump_ifinfo), unless it has none such: it lists all then.
        found += [live for live in links if live.link.kind == kind]
    return found


def names_of_links(rtnl: Rtnetlink, at_most: int) -> set[str]:
    """The names of all links of the socket's namespace."""
    return {name_in(body) for body in rtnl.dump(links_request(), at_most, "links")}


def macs_of(rtnl: Rtnetlink, at_most: int) -> set[bytes]:
    """The MACs of all links of the socket's namespace."""
    links = [nl.unpack_link(body) for body in rtnl.dump(links_request(), at_most, "links")]
    return {attributes.get(rt.IFLA_ADDRESS, b"") for _, _, attributes in links}


def chain_from(rtnl: Rtnetlink, ifindex: int) -> tuple[HostLink, ...]:
    """The node's link of that index, followed by the links that its VLANs stand on."""
    chain: list[HostLink] = []
    while ifindex and all(link.ifindex != ifindex for link in chain):
        answer = link_in(rtnl.get([link_request(ifindex=ifindex)])[0])
        if answer is None:
            break
        link = host_link(answer)
        chain.append(link)
        ifindex = link.lower if link.kind == "vlan" else 0
    return tuple(chain)


def link_in(answer: bytes | Ack) -> bytes | None:
    """The body of an answer about a link; None where there is none."""
    if isinstance(answer, Ack):
        if is_missing(answer):
            return None
        raise CniError(REPAIR_FAILED, "the kernel does not show a link", str(answer))
    return answer
