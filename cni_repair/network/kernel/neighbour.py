"""The permanent neighbours and the proxy entries of a pod's interface. They go with the link."""

from __future__ import annotations

import struct

from cni_repair.base.errors import REPAIR_FAILED
from cni_repair.base.lightsocket import inet_ntop
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Rtnetlink, TooMany
from cni_repair.network.model import NTF_PROXY, NUD_PERMANENT, Neighbour

MAX_NEIGHBOURS = 4096
# The kernel cannot leave out what it learned by itself, of which a busy pod on a large network may
# have as much as the node allows (net.ipv4.neigh.default.gc_thresh3: 1024 unless raised).
_MAX_READ = 65536

# NTF_EXT_LEARNED, NTF_ROUTER: the flags that are somebody's configuration
_CONFIGURABLE = 0x10 | 0x80
_ETHERNET = 6
_STATE = struct.Struct("=8xH")  # ndm_state in struct ndmsg


def permanent_neighbours(rtnl: Rtnetlink, ifindex: int) -> tuple[Neighbour, ...]:
    """The entries that somebody made to stay."""
    return _read(rtnl, ifindex, 0, "permanent neighbours")


def proxy_entries(rtnl: Rtnetlink, ifindex: int) -> tuple[Neighbour, ...]:
    """The addresses that the interface answers for (`ip neigh add proxy`)."""
    return _read(rtnl, ifindex, NTF_PROXY, "proxy entries")


def _read(rtnl: Rtnetlink, ifindex: int, flags: int, what: str) -> tuple[Neighbour, ...]:
    filtered = nl.u32(rt.NDA_IFINDEX, ifindex)
    request = nl.Message(rt.RTM_GETNEIGH, 0, nl.neighbour_body(0, 0, 0, flags, filtered))
    keep = None if flags else _is_permanent
    bodies = rtnl.dump(request, _MAX_READ, "neighbours", keep)
    if len(bodies) > MAX_NEIGHBOURS:
        raise TooMany(REPAIR_FAILED, f"more than {MAX_NEIGHBOURS} {what}: too many to mirror")
    found = {entry for body in bodies if (entry := neighbour_in(body, ifindex)) is not None}
    # The kernel's order is that of its hash table, which may be another the next time.
    return tuple(sorted(found, key=lambda entry: (entry.family, entry.address)))


def _is_permanent(body: bytes) -> bool:
    return bool(_STATE.unpack_from(body)[0] & NUD_PERMANENT)


def neighbour_in(body: bytes, ifindex: int) -> Neighbour | None:
    """One entry of a dump; None for one of another link or family (older kernels list the proxy
    entries of all links), and for one that no interface of ours can have."""
    family, link, _, flags, attributes = nl.unpack_neighbour(body)
    address = attributes.get(rt.NDA_DST)
    mac = attributes.get(rt.NDA_LLADDR, b"")
    proxy = bool(flags & NTF_PROXY)
    if family not in nl.FAMILIES or link != ifindex or address is None:
        return None
    if not proxy and len(mac) != _ETHERNET:
        return None
    return Neighbour(
        family=nl.FAMILIES[family],
        address=inet_ntop(family, address),
        mac=None if proxy else mac.hex(":"),
        flags=flags & _CONFIGURABLE,
        protocol=attributes.get(rt.NDA_PROTOCOL, b"\0")[0],
    )
