"""The sysctls of a pod's interface: which of them a pod may get back, how netlink has them.

How they are comes with every answer about a link (IFLA_AF_SPEC: ipv4_devconf and ipv6_devconf as
they are in memory); only what a new link would begin with has to be read from /proc.
"""

from __future__ import annotations

import struct

from cni_repair.base.lightsocket import AF_INET, AF_INET6
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt

# Their places in the kernel's arrays: IPV4_DEVCONF_* in include/uapi/linux/ip.h (from 1 on),
# DEVCONF_* in include/uapi/linux/ipv6.h (from 0 on). Not among them: what router advertisements
# change (hop_limit, mtu), and intervals, which the arrays have in clock ticks.
_IPV4 = {
    "accept_local": 23, "accept_redirects": 4, "accept_source_route": 9, "arp_accept": 21,
    "arp_announce": 18, "arp_evict_nocarrier": 33, "arp_filter": 13, "arp_ignore": 19,
    "arp_notify": 22, "bc_forwarding": 32, "disable_policy": 16, "disable_xfrm": 15,
    "drop_gratuitous_arp": 31, "drop_unicast_in_l2_multicast": 30, "force_igmp_version": 17,
    "forwarding": 1, "ignore_routes_with_linkdown": 29, "log_martians": 11, "medium_id": 14,
    "promote_secondaries": 20, "proxy_arp": 3, "proxy_arp_pvlan": 25, "route_localnet": 26,
    "rp_filter": 8, "secure_redirects": 5, "send_redirects": 6, "shared_media": 7,
    "src_valid_mark": 24,
}  # fmt: skip
_IPV6 = {
    "accept_dad": 27, "accept_ra": 3, "accept_ra_defrtr": 17, "accept_ra_from_local": 33,
    "accept_ra_min_hop_limit": 38, "accept_ra_mtu": 35, "accept_ra_pinfo": 18,
    "accept_ra_rt_info_max_plen": 21, "accept_ra_rt_info_min_plen": 49,
    "accept_ra_rtr_pref": 19, "accept_redirects": 4, "accept_source_route": 24,
    "accept_untracked_na": 57, "addr_gen_mode": 47, "autoconf": 5, "dad_transmits": 6,
    "disable_ipv6": 26, "disable_policy": 48, "drop_unicast_in_l2_multicast": 40,
    "drop_unsolicited_na": 41, "enhanced_dad": 46, "force_mld_version": 16, "force_tllao": 28,
    "forwarding": 0, "ignore_routes_with_linkdown": 39, "keep_addr_on_down": 42,
    "max_addresses": 15, "ndisc_evict_nocarrier": 56, "ndisc_notify": 29, "ndisc_tclass": 50,
    "optimistic_dad": 23, "proxy_ndp": 22, "router_solicitations": 7, "suppress_frag_ndisc": 32,
    "use_oif_addrs_only": 37, "use_optimistic": 34, "use_tempaddr": 10,
}  # fmt: skip
# Those that a message can set as well (inet_set_link_af), since devinet_conf_proc() does no more
# for them than store the value: no flush of routes, no word to who listens for netconf.
_PLAIN = (
    "accept_redirects", "accept_source_route", "arp_accept", "arp_announce", "arp_evict_nocarrier",
    "arp_filter", "arp_ignore", "arp_notify", "drop_gratuitous_arp", "log_martians", "medium_id",
    "proxy_arp_pvlan", "secure_redirects", "send_redirects", "shared_media", "src_valid_mark",
)  # fmt: skip
BY_MESSAGE = {f"ipv4/{name}": _IPV4[name] for name in _PLAIN}
ADDR_GEN_MODE = "ipv6/addr_gen_mode"
# The key of link-local addresses that tell nothing about the MAC (RFC 7217), as an IPv6 address.
# Setting it makes ADDR_GEN_MODE 2.
STABLE_SECRET = "ipv6/stable_secret"
# What decides whether the kernel looks for duplicates of an address before it lets it be used.
ACCEPT_DAD, DAD_TRANSMITS = "ipv6/accept_dad", "ipv6/dad_transmits"
DISABLE_IPV6 = "ipv6/disable_ipv6"
_PLACES = {
    rt.IFLA_INET_CONF: tuple((f"ipv4/{name}", place - 1) for name, place in sorted(_IPV4.items())),
    rt.IFLA_INET6_CONF: tuple((f"ipv6/{name}", place) for name, place in sorted(_IPV6.items())),
}

# The only sysctls that a checkpoint may name: net/<family>/conf/<ifname>/<name>.
SYSCTLS = frozenset(key for places in _PLACES.values() for key, _ in places) | {STABLE_SECRET}


def sysctls_in(af_spec: bytes) -> tuple[tuple[str, str], ...]:
    """Those of a link, from its IFLA_AF_SPEC; what this kernel does not have, or not for this link
    (IPv6 with an MTU below 1280), is left out."""
    families = nl.attributes_of(af_spec)
    found: list[tuple[str, str]] = []
    for family, kind in ((AF_INET, rt.IFLA_INET_CONF), (AF_INET6, rt.IFLA_INET6_CONF)):
        raw = nl.attributes_of(families.get(family, b"")).get(kind, b"")
        values = struct.unpack(f"={len(raw) // 4}i", raw[: len(raw) // 4 * 4])
        known = len(values)
        found += [(key, str(values[place])) for key, place in _PLACES[kind] if place < known]
    return tuple(found)


def own_settings(
    sysctls: tuple[tuple[str, str], ...], defaults: dict[str, str]
) -> tuple[tuple[str, str], ...]:
    """Those of a link that differ from what a new one begins with: somebody set them."""
    secret = defaults.get(STABLE_SECRET)
    own = tuple(
        (key, value)
        for key, value in sysctls
        if value != defaults.get(key, value) or (secret and key == ADDR_GEN_MODE)
    )
    return (*own, (STABLE_SECRET, secret)) if secret else own


def path_of(key: str, ifname: str) -> str:
    """Its file; /proc/sys/net shows the namespace of the thread that opens it."""
    family, _, name = key.partition("/")
    return f"/proc/sys/net/{family}/conf/{ifname}/{name}"


def sysctl_body(ifindex: int, key: str, value: str) -> bytes:
    """What RTM_NEWLINK says to set one of BY_MESSAGE."""
    number = nl.s32(BY_MESSAGE[key], int(value))
    family = nl.attribute(AF_INET, nl.attribute(rt.IFLA_INET_CONF, number))
    return nl.link_body(ifindex, 0, 0, nl.attribute(rt.IFLA_AF_SPEC, family))


def addr_gen_mode_body(ifindex: int, mode: int) -> bytes:
    """What RTM_NEWLINK says to set how link-local addresses are made from now on."""
    family = nl.attribute(AF_INET6, nl.u8(rt.IFLA_INET6_ADDR_GEN_MODE, mode))
    return nl.link_body(ifindex, 0, 0, nl.attribute(rt.IFLA_AF_SPEC, family))
