"""The device of the node's default route: the pods' master where their configuration names none."""

from __future__ import annotations

import errno

from cni_repair.base.lightsocket import AF_INET, if_indextoname
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.model import RT_TABLE_MAIN, RTN_UNICAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RTNH_F_DEAD = 1
_MAX_ROUTES = 1 << 24  # of which the default ones are kept


def default_route_device() -> str | None:
    """The name of the device; None where the node has no default route that leads anywhere.

    The macvlan plugin takes the first of the main table in the kernel's order: IPv4's before
    IPv6's, the lowest metric first. It fails where that one is a multipath route, or leads nowhere
    (blackhole, unreachable); here the next hops, and the next routes, count, too.
    """
    with Rtnetlink() as rtnl:
        request = nl.Message(rt.RTM_GETROUTE, 0, nl.route_body((0,) * 9, b""))
        bodies = rtnl.dump(request, _MAX_ROUTES, "routes", _is_default)
    return next(filter(None, map(_name, devices_of(bodies))), None)


def devices_of(bodies: Iterable[bytes]) -> list[int]:
    """The indices of the devices of these default routes, the preferred one first."""
    ipv4_first = sorted(bodies, key=lambda body: nl.route_header(body)[0] != AF_INET)
    return [index for body in ipv4_first for index in _devices(body)]


def _is_default(body: bytes) -> bool:
    family, prefix, _, _, table, _, _, kind, flags = nl.route_header(body)
    leads_somewhere = kind == RTN_UNICAST and not flags & rt.RTM_F_CLONED
    return prefix == 0 and family in nl.FAMILIES and table == RT_TABLE_MAIN and leads_somewhere


def _devices(body: bytes) -> Iterator[int]:
    flags = nl.route_header(body)[-1]
    attributes = nl.route_attributes(body)
    if rt.RTA_OIF in attributes and not flags & _RTNH_F_DEAD:
        yield nl.u32_of(attributes[rt.RTA_OIF])
    for hop_flags, _, index, _ in nl.unpack_nexthops(attributes.get(rt.RTA_MULTIPATH, b"")):
        if not hop_flags & _RTNH_F_DEAD:
            yield index


def _name(ifindex: int) -> str | None:
    try:
        return if_indextoname(ifindex)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):
            return None  # it has gone since
        raise
