"""Who else is on a rig's wire: another host with a pod's address, and one that listens."""

from __future__ import annotations

import socket
from typing import Any

from tests.netns.rig import HANG_SECONDS, Json, Pod, Rig

# Addresses for which no store speaks: IPAM's `static` gives them.
FOUR, SIX = "10.9.0.50", "fd00:9::50"
MAC = "02:00:00:00:00:66"  # of the other host


def static(rig: Rig, *addresses: str, **changes: Any) -> Json:
    given = [{"address": f"{one}/{64 if ':' in one else 24}"} for one in addresses or (FOUR,)]
    return rig.conf(ipam={"type": "static", "addresses": given}, **changes)


def another_host(rig: Rig, address: str = FOUR, how: str = "nodad") -> Pod:
    """One that has the address: behind the uplink, not on this node. `how` an IPv6 one is added."""
    is_six = ":" in address
    host = rig.pod("host", ipv6=is_six)
    rig.ip(f"link add hostx link tor0 address {MAC} type macvlan mode bridge", "tor")
    rig.ip(f"link set hostx netns {host.name}", "tor")
    rig.ip("link set hostx up", host)
    if is_six:
        rig.settle(host)
    rig.ip(f"addr add {address}/{f'64 {how}' if is_six else 24} dev hostx", host)
    return host


def arp_listener(rig: Rig, netns: str) -> socket.socket:
    """All ARP frames that arrive in a namespace from now on."""

    def listen() -> socket.socket:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        listener.settimeout(HANG_SECONDS)
        return listener

    return rig.inside(netns, listen)
