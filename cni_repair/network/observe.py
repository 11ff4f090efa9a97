"""Reading: one pod's interface, what hangs on it, and what is around it.

Every read is filtered by link and bounded, since the pod's owner decides how much there is. Rules,
permanent neighbours and the like most pods have none of, and each kind costs a dump of its own: a
repair reads what is recorded (:func:`with_recorded`), ADD nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, NotSupported, Rtnetlink, TooMany
from cni_repair.network.kernel.address import MAX_ADDRESSES, addresses_in, addresses_request
from cni_repair.network.kernel.link import (
    link_request,
    live_link,
    name_in,
)
from cni_repair.network.kernel.neighbour import (
    MAX_NEIGHBOURS,
    MAX_READ,
    is_permanent,
    neighbours_in,
    neighbours_request,
)
from cni_repair.network.kernel.route import MAX_BYTES, MAX_ROUTES, routes_in, routes_request
from cni_repair.network.kernel.rule import MAX_RULES, concerning, rules_in, rules_request
from cni_repair.network.kernel.sysctl import (
    ACCEPT_DAD,
    ADDR_GEN_MODE,
    DAD_TRANSMITS,
    DISABLE_IPV6,
    STABLE_SECRET,
    SYSCTLS,
    path_of,
)
from cni_repair.network.links import link_in
from cni_repair.network.model import IFF_RUNNING
from cni_repair.network.observed import Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.base.lightsocket import socket
    from cni_repair.network.kernel.address import Addresses
    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.network.kernel.route import Routes
    from cni_repair.network.model import Attachment, Neighbour, Rule

_BEGINNINGS = (ACCEPT_DAD, ADDR_GEN_MODE, DAD_TRANSMITS, DISABLE_IPV6)
_LOOKS = 3  # at a link that comes and goes: its pod may go on renaming it
_SIOCGIFNAME, _SIOCGIFFLAGS = 0x8910, 0x8913  # include/uapi/linux/sockios.h
_IFREQ = struct.Struct("=16si20x")  # struct ifreq, include/uapi/linux/if.h


def observe_pod(
    rtnl: Rtnetlink,
    node: int,
    ifname: str,
    wanted_ifindex: int = 0,
    link_only: bool = False,
    sysctls: bool = True,
) -> Observed:
    """Look at a pod's interface through a socket of the pod's namespace.

    `node` is an open descriptor of the node's namespace. What stands there that is no child of a
    link of the node is not read any further; `sysctls` says whether those of a link that is up are
    wanted. What is around the interface is for :func:`with_recorded` and :func:`with_all` to read.
    """
    for _ in range(_LOOKS):
        netnsid, body = _link_called(rtnl, node, ifname)
        if body is not None:
            return _observe_present(rtnl, netnsid, body, wanted_ifindex, link_only, sysctls)
        lost = _observe_lost(rtnl, node, netnsid, wanted_ifindex)
        if lost.ifindex_taken_by != ifname:
            break  # else another repair has just made it
    return lost


def _link_called(rtnl: Rtnetlink, node: int, ifname: str) -> tuple[int | None, bytes | None]:
    """By which id the pod knows the node's namespace; its link of that name, if there is one."""
    netnsid = rtnl.netnsids.get(node)
    unknown = [netnsid_request(node)] if netnsid is None else []
    # (In this order: to show a link over one of the node's gives the node's namespace its id.)
    answer, *id_answer = rtnl.get([link_request(name=ifname), *unknown])
    if id_answer and (netnsid := netnsid_in(id_answer[0])) is not None:
        rtnl.netnsids[node] = netnsid
    return netnsid, link_in(answer)


def _observe_lost(rtnl: Rtnetlink, node: int, netnsid: int | None, ifindex: int) -> Observed:
    at_ifindex = _link_at(rtnl, ifindex)
    if at_ifindex and netnsid is None:  # it was not shown before
        netnsid = netnsid_in(rtnl.get([netnsid_request(node)])[0])
    name = at_ifindex.name if at_ifindex else None
    return Observed(netnsid, None, at_ifindex=at_ifindex, ifindex_taken_by=name)


def _observe_present(
    rtnl: Rtnetlink,
    netnsid: int | None,
    body: bytes,
    wanted_ifindex: int,
    link_only: bool,
    sysctls: bool,
) -> Observed:
    live = live_link(body, sysctls)
    is_another = wanted_ifindex and live.link.ifindex != wanted_ifindex
    at_ifindex = _link_at(rtnl, wanted_ifindex) if is_another else None
    if link_only or not live.is_over(netnsid):
        return Observed(netnsid, live, at_ifindex=at_ifindex)
    addresses = read_addresses(rtnl, live.link.ifindex, live.link.mac)
    routes = read_routes(rtnl, live.link.ifindex, live.name)
    return Observed(
        netnsid,
        live,
        addresses.configured,
        routes.configured,
        addresses.tentative,
        addresses.dadfailed,
        addresses_by_kernel=addresses.by_kernel,
        routes_by_kernel=routes.by_kernel,
        stable_private=addresses.stable_private,
        at_ifindex=at_ifindex,
    )


def _link_at(rtnl: Rtnetlink, ifindex: int) -> LiveLink | None:
    """The link of that index, under whatever name."""
    if name_at(rtnl, ifindex) is None:  # which mostly spares the question, see there
        return None
    answer = link_in(rtnl.get([link_request(ifindex=ifindex)])[0])
    return live_link(answer, sysctls=False) if answer else None


def name_at(rtnl: Rtnetlink, ifindex: int) -> str | None:
    """The name of the interface of that index; None where there is none."""
    return name_seen_by(rtnl.sock, ifindex)


def name_seen_by(sock: socket, ifindex: int) -> str | None:
    """As :func:`name_at`, for any socket of the namespace.

    By ioctl, which needs no lock (netdev_get_name), where RTM_GETLINK waits for the RTNL, and so
    for whatever link somebody makes. A netlink socket hands it down (netlink_ioctl).
    """
    if not ifindex:
        return None
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFNAME, _IFREQ.pack(b"", ifindex))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return nl.string_of(_IFREQ.unpack(answer)[0])


def has_carrier(rtnl: Rtnetlink, ifname: str) -> bool:
    """Whether an interface that is there is up, and hears the wire. As :func:`name_at` by ioctl."""
    return carrier_seen_by(rtnl.sock, ifname)


def carrier_seen_by(sock: socket, ifname: str) -> bool:
    """As :func:`has_carrier`, for any socket of the namespace."""
    request = _IFREQ.pack(nl.raw_string(ifname), 0)
    answer = fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, request)
    return bool(_IFREQ.unpack(answer)[1] & IFF_RUNNING)


def ifindex_of(rtnl: Rtnetlink, ifname: str) -> int:
    """The index of the interface of that name, 0 where there is none."""
    answer = link_in(rtnl.get([link_request(name=ifname)])[0])
    return nl.unpack_link(answer)[0] if answer else 0


def links_named(rtnl: Rtnetlink, names: set[str]) -> tuple[tuple[str, int], ...]:
    """Name and index of those that are there."""
    # One after the other: altnames make an answer up to 64 KB long, and the socket holds 212.
    found = [(name, ifindex_of(rtnl, name)) for name in sorted(names)]
    return tuple((name, ifindex) for name, ifindex in found if ifindex)


def netnsid_request(netns: int) -> nl.Message:
    """Asks by which id the socket's namespace knows another one, given as an open descriptor."""
    return nl.Message(rt.RTM_GETNSID, 0, bytes(4) + nl.u32(rt.NETNSA_FD, netns))


@nl.decoder
def netnsid_in(answer: bytes | Ack) -> int | None:
    """The answer to :func:`netnsid_request`; None where there is no id yet."""
    if isinstance(answer, Ack):
        raise CniError(REPAIR_FAILED, "the kernel does not name namespaces", str(answer))
    netnsid = nl.s32_of(nl.attributes_of(answer, 4)[rt.NETNSA_NSID])
    return netnsid if netnsid >= 0 else None


# --- what a link carries --------------------------------------------------------------------------


def read_addresses(rtnl: Rtnetlink, ifindex: int, mac: str) -> Addresses:
    """The addresses of the link of that index and MAC."""
    bodies = rtnl.dump(addresses_request(ifindex), MAX_ADDRESSES, "addresses")
    return addresses_in(bodies, ifindex, mac)


def read_routes(rtnl: Rtnetlink, ifindex: int, ifname: str) -> Routes:
    """The routes through the link of that index and name, of all tables."""
    request = routes_request(ifindex)
    bodies = rtnl.dump(request, MAX_ROUTES, "routes", at_most_bytes=MAX_BYTES)
    names = {ifindex: ifname}

    def name_of(index: int) -> str:
        if index not in names:
            answer = rtnl.get([link_request(ifindex=index)])[0]
            names[index] = "" if isinstance(answer, Ack) else name_in(answer)
        return names[index]

    return routes_in(bodies, ifindex, name_of)


def read_rules(rtnl: Rtnetlink) -> tuple[Rule, ...]:
    """The rules of the socket's namespace, but for those that a checkpoint cannot hold."""
    try:
        return rules_in(rtnl.dump(rules_request(), MAX_RULES, "rules"))
    except NotSupported:
        return ()  # CONFIG_IP_MULTIPLE_TABLES is not set


def permanent_neighbours(rtnl: Rtnetlink, ifindex: int) -> tuple[Neighbour, ...]:
    """The entries that somebody made to stay."""
    request = neighbours_request(ifindex, proxy=False)
    bodies = rtnl.dump(request, MAX_READ, "neighbours", is_permanent)
    return _bounded(bodies, ifindex, "permanent neighbours")


def proxy_entries(rtnl: Rtnetlink, ifindex: int) -> tuple[Neighbour, ...]:
    """The addresses that the interface answers for (`ip neigh add proxy`)."""
    bodies = rtnl.dump(neighbours_request(ifindex, proxy=True), MAX_READ, "neighbours")
    return _bounded(bodies, ifindex, "proxy entries")


def _bounded(bodies: list[bytes], ifindex: int, what: str) -> tuple[Neighbour, ...]:
    if len(bodies) > MAX_NEIGHBOURS:
        raise TooMany(REPAIR_FAILED, f"more than {MAX_NEIGHBOURS} {what}: too many to mirror")
    return neighbours_in(bodies, ifindex)


def read_defaults(ifname: str) -> dict[str, str]:
    """The sysctls that a new link of the namespace begins with, and the interface's own secret.

    To be called inside the pod's namespace.
    """
    found = {}
    for key in SYSCTLS - {STABLE_SECRET}:
        value = _read_sysctl(key, "default")
        if value is not None:
            found[key] = value
    return {**found, **dict(read_secret(ifname))}


def with_beginnings(observed: Observed) -> Observed:
    """What was observed of a namespace without the interface, with what decides how a new one's
    IPv6 addresses come into use. To be called inside the pod's namespace."""
    found = ((key, _read_sysctl(key, "default")) for key in _BEGINNINGS)
    begins_with = tuple((key, value) for key, value in found if value is not None)
    return replace(observed, begins_with=begins_with)


def read_secret(ifname: str) -> tuple[tuple[str, str], ...]:
    """STABLE_SECRET of the interface, if it was ever set: the kernel's answers leave it out. To be
    called inside the pod's namespace."""
    secret = _read_sysctl(STABLE_SECRET, ifname)
    return ((STABLE_SECRET, secret),) if secret else ()


def _read_sysctl(key: str, ifname: str) -> str | None:
    try:
        fd = os.open(path_of(key, ifname), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # this kernel does not have it, or IPv6 is off
    try:
        return os.read(fd, 64).decode("ascii").strip()
    except OSError as error:
        if key == STABLE_SECRET and error.errno == errno.EIO:
            return None  # none was ever set (addrconf_sysctl_stable_secret)
        raise
    finally:
        os.close(fd)


# --- what is around it ----------------------------------------------------------------------------


def with_recorded(rtnl: Rtnetlink, observed: Observed, desired: Attachment) -> Observed:
    """What was observed, with as much of the surroundings as the record can be compared with.

    To be called inside the pod's namespace. Of the rules all, in a namespace without the interface,
    too: they outlive it.
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
        absent_routes=observed.missing_prefix_routes,
    )
