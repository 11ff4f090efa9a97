"""Generated pod configurations, and what tells two views of a pod's namespace apart.

A configuration is a list of shell commands, to be run inside the pod in their order, such that a
failing one can be pasted into a terminal; what belongs together is one command. In them `$n` is
the pod's number on its node, `$x` the same in hexadecimal, `$low`, `$mid` and `$high` are host
parts of its own in 10.9.0.0/24, `$v4` and `$v6` the addresses that ADD gave it, `$net1` that of a
second interface.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import Template
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cni_repair.network.kernel.sysctl import ADDR_GEN_MODE, STABLE_SECRET, SYSCTLS

Json = dict[str, Any]
Lines = st.SearchStrategy[list[str]]

# What a pod may have of IPv6: nothing (as the runtime of an IPv4 cluster leaves it), the kernel's
# link-local address alone, or addresses and routes of both families.
NO_IPV6, LINK_LOCAL, DUAL = "no IPv6", "link-local", "dual"
# A second interface: none; a veth made inside the pod, which no reload touches; another network's
# macvlan over another uplink.
ALONE, VETH, ATTACHED = "", "veth", "attached"
MADE_VETH = (
    "ip link add net1 type veth peer name far1 && ip addr add $net1/24 dev net1"
    " && ip link set dev net1 up && ip link set dev far1 up"
)


@dataclass(frozen=True)
class Configuration:
    """One pod as the generator made it."""

    ipv6: str = NO_IPV6
    second: str = ALONE
    commands: tuple[str, ...] = ()

    def script(self, n: int, v4: str, v6: str, net1: str = "") -> list[str]:
        """The commands for the pod of this number, with these addresses."""
        names = {"n": n, "x": f"{n:x}", "low": 100 + n, "mid": 150 + n, "high": 200 + n}
        names |= {"v4": v4, "v6": v6, "net1": net1 or f"10.8.0.{names['low']}"}
        made = (MADE_VETH,) if self.second == VETH else ()
        return [Template(command).substitute(names) for command in (*made, *self.commands)]

    def with_commands(self, commands: Sequence[str]) -> Configuration:
        return replace(self, commands=tuple(commands))

    def __str__(self) -> str:
        shape = f"{self.ipv6}{', second interface: ' + self.second if self.second else ''}"
        return "\n".join([f"pod ({shape})", *(f"    {command}" for command in self.commands)])


# --- building blocks -----------------------------------------------------------------------------


def one(*commands: str) -> Lines:
    """One of these."""
    return st.sampled_from(commands).map(lambda command: [command])


def some(*commands: str) -> Lines:
    """Some of these, in any order."""
    return st.lists(st.sampled_from(commands), min_size=1, max_size=4, unique=True)


def words(*groups: Sequence[str]) -> st.SearchStrategy[str]:
    """One of each group, as one string; most often the first."""
    drawn = [st.one_of(st.just(group[0]), st.sampled_from(group)) for group in groups]
    return st.tuples(*drawn).map(lambda chosen: " ".join(filter(None, chosen)))


def each(form: str, options: st.SearchStrategy[str], at_most: int = 4) -> Lines:
    """A few commands; `{k}` differs from one to the next, in the options too."""
    return st.lists(options, min_size=1, max_size=at_most).map(
        lambda drawn: [
            form.replace("OPTIONS", o).replace("{k}", str(k)) for k, o in enumerate(drawn)
        ]
    )


def sysctl(family: str, name: str, value: str) -> str:
    return f"echo {value} > /proc/sys/net/{family}/conf/eth0/{name}"


# --- the link ------------------------------------------------------------------------------------

NEW_MAC = "ip link set dev eth0 address 02:00:00:0a:$n:05"
# What goes down loses its routes, and with IPv6 its addresses.
DOWN_UP_4 = (
    "ip link set dev eth0 down && {} && ip link set dev eth0 up"
    " && ip route add default via 10.9.0.1"
)
DOWN_UP_6 = f"{DOWN_UP_4} && ip addr add $v6/64 dev eth0 && ip route add default via fd00:9::1"
SECRET = "echo 2001:db8::$x > /proc/sys/net/ipv6/conf/eth0/stable_secret"

# What somebody might set, where 0 and 1 are not all.
VALUES = {
    "ipv4/arp_accept": "012",
    "ipv4/arp_announce": "012",
    "ipv4/arp_ignore": "0128",
    "ipv4/force_igmp_version": "0123",
    "ipv4/medium_id": "057",
    "ipv4/rp_filter": "012",
    "ipv6/accept_dad": "012",
    "ipv6/accept_ra": "012",
    "ipv6/accept_ra_min_hop_limit": "15",
    "ipv6/accept_untracked_na": "012",
    "ipv6/dad_transmits": "0123",
    "ipv6/drop_unsolicited_na": "01",
    "ipv6/force_mld_version": "012",
    "ipv6/max_addresses": ("16", "64"),
    "ipv6/keep_addr_on_down": ("-1", "0", "1"),
    "ipv6/ndisc_tclass": ("0", "184"),
    "ipv6/router_solicitations": ("-1", "0", "5"),
    "ipv6/use_tempaddr": ("-1", "0", "1", "2"),
}
# Those that change what else there is have features of their own, below.
OF_THEIR_OWN = {ADDR_GEN_MODE, STABLE_SECRET, "ipv6/disable_ipv6"}


def sysctls(family: str) -> Lines:
    names = sorted(key for key in SYSCTLS - OF_THEIR_OWN if key.startswith(family))
    return some(
        *(
            sysctl(family, key.partition("/")[2], value)
            for key in names
            for value in VALUES.get(key, "01")
        )
    )


# What new links begin with, and with some of them what present ones get.
DEFAULTS_4 = some(
    "echo 2 > /proc/sys/net/ipv4/conf/default/rp_filter",
    "echo 1 > /proc/sys/net/ipv4/conf/default/arp_ignore",
    "echo 1 > /proc/sys/net/ipv4/conf/all/proxy_arp",
    "echo 1 > /proc/sys/net/ipv4/ip_forward",
)
DEFAULTS_6 = some(
    "echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra",
    "echo 1 > /proc/sys/net/ipv6/conf/default/keep_addr_on_down",
    "echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode",
    "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
)


# --- addresses -----------------------------------------------------------------------------------

LIFETIMES = (
    "",
    "valid_lft 86400 preferred_lft 43200",
    "valid_lft 86400 preferred_lft 0",
    "valid_lft forever preferred_lft 3600",
)
ADDRESSES_4 = each(
    "ip addr add OPTIONS dev eth0",
    words(
        [
            "10.2{k}.$n.1/24",
            "10.2{k}.$n.1/24 broadcast +",
            "10.2{k}.$n.1/24 broadcast 10.2{k}.$n.99",
            "10.2{k}.$n.1/31",
            "10.2{k}.$n.1/32",
            "10.2{k}.$n.1 peer 10.2{k}.$n.2/32",
            "10.2{k}.$n.1 peer 10.2{k}.$n.2/24",
        ],
        ["", "label eth0:web"],
        ["", "scope host", "scope link", "scope 200"],
        ["", "noprefixroute"],
        ["", "metric 77"],
        LIFETIMES,
    ),
)
SECONDARIES = some(
    "ip addr add 10.9.0.$low/24 dev eth0",
    "ip addr add 10.9.0.$high/24 broadcast + label eth0:second dev eth0",
    "ip addr add 10.9.0.$mid/25 dev eth0",
)
ADDRESSES_6 = each(
    "ip addr add OPTIONS dev eth0",
    words(
        [
            "fd01:$x:{k}::1/64",
            "fd01:$x:{k}::1/48",
            "fd01:$x:{k}::1/128",
            "fd01:$x:{k}::1 peer fd01:$x:{k}::2/128",
            "fd01:$x::{k}/64",
        ],
        ["", "nodad", "optimistic"],
        ["", "noprefixroute"],
        ["", "home"],
        ["", "metric 77"],
        LIFETIMES,
    ),
)

# --- routes --------------------------------------------------------------------------------------

# In the main table `proto kernel` says that the kernel made it; elsewhere, that it is a copy.
TABLES = ("", "table 100", "table 1000", "table 253", "table 100 proto kernel")
PROTOCOLS = ("", "proto static", "proto 99")
METRICS = (
    "",
    "mtu 1300",
    "mtu lock 1300",
    "advmss 1000 window 9000",
    "initcwnd 12 initrwnd 11",
    "rtt 100ms rttvar 50ms rto_min 300ms",
    "cwnd 33 ssthresh 44 hoplimit 9 quickack 1 reordering 5",
    "features ecn",
    "congctl reno",
    "congctl lock reno mtu lock 1400",
    "fastopen_no_cookie 1",
)
ROUTES_4 = each(
    "ip route add OPTIONS",
    words(
        [
            "192.0.2.{k}/32 via 10.9.0.1",
            "192.0.2.{k}/32 via 10.9.0.$high src $v4",
            "192.0.2.{k}/32 dev eth0",
            "192.0.2.{k}/32 dev eth0 scope host",
            "192.0.2.{k}/32 dev eth0 scope link src $v4",
            "192.0.2.{k}/32 dev eth0 scope 200",
            "192.0.2.{k}/32 via 203.0.113.1 dev eth0 onlink",
        ],
        [*TABLES, *PROTOCOLS[1:]],
        ["", "metric 5", "metric 4294967295"],
        ["", "tos 0x10", "tos 0x04"],
        ["", "realm 5", "realms 6/5"],
        METRICS,
    ),
)
SAME_PREFIX_4 = some(
    "ip route append 198.51.100.0/24 via 10.9.0.1",
    "ip route append 198.51.100.0/24 via 10.9.0.$high",
    "ip route append 198.51.100.0/24 dev eth0",
    "ip route append 198.51.100.0/24 via 10.9.0.1 metric 7",
    "ip route append 198.51.100.0/24 via 10.9.0.1 tos 0x10",
    "ip route append 198.51.100.0/25 via 10.9.0.1",
)
TYPES_4 = some(
    "ip route add local 192.0.2.100/32 dev eth0",
    "ip route add local 192.0.2.101/32 dev eth0 table 100",
    "ip route add broadcast 192.0.2.102/32 dev eth0",
    "ip route add broadcast 192.0.2.103/32 dev eth0 table 7",
    "ip route add anycast 192.0.2.104/32 dev eth0 table 7",
    "ip route add multicast 239.5.0.0/16 dev eth0",
    "ip route add 224.0.0.0/4 dev eth0",
)
VIA_6 = some(
    "ip route add 192.0.2.120/32 via inet6 fe80::1 dev eth0",
    "ip route add 192.0.2.121/32 via inet6 fd00:9::1 dev eth0 table 100 metric 9",
)
MULTIPATH_4 = some(
    "ip route add 192.0.2.140/32 nexthop via 10.9.0.1 weight 3 nexthop via 10.9.0.$high",
    "ip route add 192.0.2.141/32 table 100 metric 9 mtu 1300 nexthop via 10.9.0.1 dev eth0"
    " nexthop via 10.9.0.$high dev eth0",
    "ip route add 192.0.2.142/32 nexthop dev eth0 weight 7 nexthop via 10.9.0.1",
    "ip route add 192.0.2.143/32 nexthop via 10.9.0.1 realms 6 nexthop via 203.0.113.1 dev eth0"
    " onlink weight 256",
)
DEFAULT_4 = one(
    "ip route del default && ip route add default via 10.9.0.1 metric 100",
    "ip route del default && ip route add default via 10.9.0.1 table 100",
    "ip route replace default via 10.9.0.$high",
    "ip route replace default via 10.9.0.1 src $v4 mtu 1400",
    "ip route replace default dev eth0",
    "ip route del default",
)
ROUTES_6 = each(
    "ip route add OPTIONS",
    words(
        [
            "2001:db8:{k}::/48 via fd00:9::1",
            "2001:db8:{k}::/48 via fd00:9::1 src $v6",
            "2001:db8:{k}::/48 via fe80::1 dev eth0",
            "2001:db8:{k}::/48 dev eth0",
            "2001:db8:{k}::/48 dev eth0 src $v6",
            "2001:db8:{k}::/48 via fd77::1 dev eth0 onlink",
        ],
        [*TABLES, *PROTOCOLS[1:]],
        ["", "metric 5"],
        ["", "pref high", "pref low"],
        METRICS,
    ),
)
EXPIRING_6 = some(
    "ip route add 2001:db8:90::/48 via fd00:9::1 expires 86400",
    "ip route add 2001:db8:91::/48 dev eth0 expires 86400 table 100 metric 5",
)
SAME_PREFIX_6 = some(
    "ip route append 2001:db8:100::/48 via fd00:9::1",
    "ip route append 2001:db8:100::/48 via fe80::1 dev eth0",
    "ip route append 2001:db8:100::/48 dev eth0",
    "ip route append 2001:db8:100::/48 via fd00:9::1 metric 7",
    "ip route add 2001:db8:100::/48 from 2001:db8:ff::/64 via fd00:9::1",
    "ip route append 2001:db8:100::/49 via fd00:9::1",
)
TYPES_6 = some(
    "ip route add local 2001:db8:101::1/128 dev eth0",
    "ip route add local 2001:db8:102::/48 dev eth0 table 100",
    "ip route add anycast 2001:db8:103::1/128 dev eth0",
    "ip route add multicast ff05::/16 dev eth0 table 9",
)
MULTIPATH_6 = some(
    "ip route add 2001:db8:120::/48 nexthop via fe80::1 dev eth0 weight 3"
    " nexthop via fe80::2 dev eth0",
    "ip route add 2001:db8:121::/48 table 100 metric 9 mtu 1300 nexthop via fd00:9::1"
    " nexthop via fd00:9::7",
)
DEFAULT_6 = one(
    "ip -6 route del default && ip route add default via fd00:9::1 metric 100",
    "ip -6 route del default && ip -6 route add default via fe80::1 dev eth0",
    "ip -6 route del default",
)

# --- rules, neighbours ---------------------------------------------------------------------------

RULES_4 = some(
    "ip rule add from $v4 lookup 100 priority 1000",
    "ip rule add from 10.9.0.0/24 lookup 100",
    "ip rule add iif eth0 to 192.0.2.0/24 fwmark 0x5/0xff lookup 1000 priority 50",
    "ip rule add not from 198.51.100.0/24 oif eth0 ipproto tcp dport 80 lookup 7 protocol 9",
    "ip rule add uidrange 5-6 sport 100-200 lookup 100 suppress_prefixlength 0 tos 0x10",
    "ip rule add from 10.9.0.0/16 unreachable priority 40000",
    "ip rule add from 10.9.0.0/16 to 203.0.113.0/24 blackhole table 9 priority 40000",
    "ip rule add from 10.8.0.0/16 realms 5 lookup 7",
    "ip rule add lookup 7 suppress_ifgroup 5 priority 60",
    "ip rule add tun_id 5 lookup 7",
    "ip rule add iif eth0 goto 40001 priority 39000 && ip rule add nop priority 40001",
)
RULES_6 = some(
    "ip -6 rule add from $v6 lookup 100 priority 1000",
    "ip -6 rule add iif eth0 prohibit priority 100",
    "ip -6 rule add oif eth0 to 2001:db8::/32 lookup 100",
)
NEIGHBOURS_4 = some(
    "ip neigh add 10.9.0.240 lladdr 02:00:00:00:00:77 nud permanent dev eth0",
    "ip neigh add 10.9.0.241 lladdr 02:00:00:00:00:78 nud permanent router dev eth0 protocol 5",
    "ip neigh add 10.9.0.242 lladdr 02:00:00:00:00:79 nud permanent extern_learn dev eth0",
    "ip neigh replace 10.9.0.1 lladdr 02:00:00:00:00:80 nud permanent dev eth0",
    "ip neigh add proxy 10.9.0.243 dev eth0",
    "ip neigh add proxy 10.9.0.244 dev eth0 protocol 7",
)
NEIGHBOURS_6 = some(
    "ip neigh add fd00:9::77 lladdr 02:00:00:00:00:77 nud permanent dev eth0",
    "ip neigh add fe80::77 lladdr 02:00:00:00:00:77 nud permanent router extern_learn dev eth0",
    "ip neigh add proxy fd00:9::79 dev eth0",
    "ip neigh add proxy fd00:9::80 dev eth0 router",
)

# What is not the interface's: to be there afterwards as it was, without anybody's help.
FOREIGN = some(
    "ip route add blackhole 198.18.0.0/15",
    "ip route add unreachable default metric 4000000",
    "ip route add prohibit 198.18.0.0/17 table 9",
    "ip route add throw 198.18.0.0/18 table 100",
    "ip addr add 10.99.$n.1/32 dev lo",
    "ip route add 198.19.0.0/16 dev lo",
    "ip route add local 198.20.0.0/16 dev lo",
    "ip rule add goto 32766 priority 9500",
    "ip -6 route add blackhole 2001:db8:dead::/48",
)

# --- a second interface --------------------------------------------------------------------------

SECOND_MULTIPATH = some(
    "ip route add 192.0.2.160/32 nexthop via 10.9.0.1 dev eth0 weight 2"
    " nexthop via 10.8.0.1 dev net1",
    "ip route add 192.0.2.161/32 table 100 nexthop via 10.8.0.1 dev net1"
    " nexthop via 10.9.0.1 dev eth0 nexthop via 10.9.0.$high dev eth0",
)
SECOND_MULTIPATH_6 = some(
    "ip route add 2001:db8:140::/48 nexthop via fe80::1 dev eth0 nexthop via fe80::1 dev net1",
    "ip route append 2001:db8:141::/48 via fe80::1 dev net1 metric 9"
    " && ip route append 2001:db8:141::/48 via fe80::1 dev eth0 metric 9",
)
SECOND_DEFAULT = one(
    "ip route replace default via 10.8.0.1 dev net1",
    "ip route add default via 10.8.0.1 dev net1 metric 50",
    "ip route del default && ip route add default nexthop via 10.9.0.1 nexthop via 10.8.0.1",
)
SECOND_ROUTES = some(
    "ip route add 192.0.2.170/32 via 10.8.0.1 dev net1 metric 5",
    # (Not two in one place, one over each link: which comes first, the kernel's order of adding
    # decides, and no link's record knows of the other's.)
    "ip route add default via 10.8.0.1 table 101",
    "ip rule add from 10.8.0.0/24 lookup 101 priority 1001",
    "ip route add 192.0.2.172/32 via 10.9.0.1 src $net1",
    "ip neigh add 10.8.0.77 lladdr 02:00:00:00:00:77 nud permanent dev net1",
)

# What goes with the address that is its source, but only from the main table (fib_sync_down_addr).
SOURCE_OF_FIRST = some(
    "ip route add 192.0.2.180/32 via 10.8.0.1 src $v4",
    "ip route add 192.0.2.181/32 via 10.8.0.1 src $v4 table 101",
)

# --- features ------------------------------------------------------------------------------------

# In the order in which they are applied: what would take others along comes first, what takes
# something away last.
_ANY_POD: dict[str, Lines] = {
    "mode": one(*(f"ip link set dev eth0 type macvlan mode {m}" for m in ("private", "vepa"))),
    "bcqueuelen": one("ip link set dev eth0 type macvlan bcqueuelen 2000"),
    "alias": one("ip link set dev eth0 alias 'the web, § 7'", "ip link set dev eth0 alias x"),
    "altname": some(
        *(f"ip link property add dev eth0 altname {name}" for name in ("web", "blue-7", "a"))
    ),
    "txqueuelen": one(*(f"ip link set dev eth0 txqueuelen {number}" for number in (0, 1, 5000))),
    "mtu": one(*(f"ip link set dev eth0 mtu {number}" for number in (1280, 1400, 1499))),
    "mac": one(NEW_MAC),
    "allmulticast": one("ip link set dev eth0 allmulticast on"),
    "promisc": one("ip link set dev eth0 promisc on"),
    "group": one("ip link set dev eth0 group 5"),
    "gso": one(*(f"ip link set dev eth0 gso_max_size {number}" for number in (9000, 200_000))),
    "gso-segments": one("ip link set dev eth0 gso_max_segs 20"),
    "gro": one("ip link set dev eth0 gro_max_size 8000"),
    "arp": one("ip link set dev eth0 arp off"),
    "multicast": one("ip link set dev eth0 multicast off"),
    "sysctl-default": DEFAULTS_4,
    "sysctl": sysctls("ipv4"),
    "address-again": one("ip addr del $v4/24 dev eth0 && ip addr add $v4/24 dev eth0"),
    "address": ADDRESSES_4,
    "secondary": SECONDARIES,
    # Not of IPv6: the kernel keeps the membership of a link that went, and refuses the next of the
    # same index (ipv6_sock_mc_join); nothing makes it forget.
    "multicast-address": one("ip addr add 239.1.$n.1/32 dev eth0 autojoin"),
    "route": ROUTES_4,
    "route-same-prefix": SAME_PREFIX_4,
    "route-type": TYPES_4,
    "multipath": MULTIPATH_4,
    "rule": RULES_4,
    "neighbour": NEIGHBOURS_4,
    "foreign": FOREIGN,
    "default-route": DEFAULT_4,
    "prefix-route": one(
        "ip route del 10.9.0.0/24 dev eth0",
        "ip route replace 10.9.0.0/24 dev eth0 scope link proto static mtu 1300",
        "ip route replace 10.9.0.0/24 dev eth0 scope link src $v4 metric 9"
        " && ip route del 10.9.0.0/24 dev eth0 metric 0",
    ),
}
_WITHOUT_ADDRESSES: dict[str, Lines] = {
    "disable-ipv6": one(*(sysctl("ipv6", "disable_ipv6", value) for value in "01")),
    # Below 1280 the interface has no IPv6 at all.
    "small-mtu": one("ip link set dev eth0 mtu 1000", "ip link set dev eth0 mtu 68"),
    "mac-while-down": one(DOWN_UP_4.format(NEW_MAC)),
}
_DUAL: dict[str, Lines] = {
    "mac-while-down-6": one(DOWN_UP_6.format(NEW_MAC)),
    "down-and-up": one(DOWN_UP_6.format("ip link set dev eth0 mtu 1450")),
    "sysctl-default-6": DEFAULTS_6,
    "sysctl-6": sysctls("ipv6"),
    "address-6-again": one(
        "ip addr add fd01:$x:98::1/64 dev eth0 nodad && ip addr del $v6/64 dev eth0"
        " && ip addr add $v6/64 dev eth0",
    ),
    "addr-gen-mode": one(
        sysctl("ipv6", "addr_gen_mode", "1"),
        f"{sysctl('ipv6', 'addr_gen_mode', '1')} && ip -6 addr flush dev eth0 scope link",
        # (Set on a link that is up, 3 makes a second address before the first: the kernel alone can
        # make it, and makes it first on a new link.)
        SECRET,
        f"{SECRET} && {sysctl('ipv6', 'addr_gen_mode', '0')}",
        DOWN_UP_6.format(SECRET),
        DOWN_UP_6.format(sysctl("ipv6", "addr_gen_mode", "1")),
        DOWN_UP_6.format(sysctl("ipv6", "addr_gen_mode", "3")),
    ),
    "address-6": ADDRESSES_6,
    "link-local": one(
        "ip addr add fe80::$x:7/64 dev eth0",
        "ip -6 addr flush dev eth0 scope link",
        "ip -6 addr flush dev eth0 scope link && ip addr add fe80::$x:7/64 dev eth0",
    ),
    # With use_tempaddr the kernel would make random addresses of it.
    "address-managed": one(
        f"{sysctl('ipv6', 'use_tempaddr', '0')} && ip addr add fd01:$x:99::1/64 dev eth0 mngtmpaddr"
    ),
    "route-6": ROUTES_6,
    "route-expiring-6": EXPIRING_6,
    "route-same-prefix-6": SAME_PREFIX_6,
    "route-type-6": TYPES_6,
    "route-via-6": VIA_6,
    "multipath-6": MULTIPATH_6,
    "rule-6": RULES_6,
    "neighbour-6": NEIGHBOURS_6,
    "default-route-6": DEFAULT_6,
    "prefix-route-6": some(
        "ip -6 route del fe80::/64 dev eth0", "ip -6 route del fd00:9::/64 dev eth0"
    ),
}
_SECOND: dict[str, Lines] = {
    "second-routes": SECOND_ROUTES,
    "second-multipath": SECOND_MULTIPATH,
    "second-default": SECOND_DEFAULT,
}
_ATTACHED: dict[str, Lines] = {"source-of-first": SOURCE_OF_FIRST}
_SECOND_DUAL: dict[str, Lines] = {"second-multipath-6": SECOND_MULTIPATH_6}

_ALL = {**_ANY_POD, **_WITHOUT_ADDRESSES, **_DUAL, **_SECOND, **_ATTACHED, **_SECOND_DUAL}
_LAST = ("default-route", "default-route-6", "prefix-route", "prefix-route-6")
_FIRST = ("mac-while-down", "mac-while-down-6", "down-and-up")
# What is generated. To look at one thing: CNI_REPAIR_FEATURES=alias,route
FEATURES = frozenset(os.environ.get("CNI_REPAIR_FEATURES", ",".join(_ALL)).split(","))


def _possible(ipv6: str, second: str) -> list[str]:
    """The features that a pod of this shape can have, in the order in which to apply them."""
    names = [*_ANY_POD, *(_DUAL if ipv6 == DUAL else _WITHOUT_ADDRESSES)]
    if second:
        names += [*_SECOND, *(_SECOND_DUAL if ipv6 == DUAL else ())]
    if second == ATTACHED:
        names += _ATTACHED
    ordered = [*_FIRST, *(name for name in names if name not in _FIRST + _LAST), *_LAST]
    return [name for name in ordered if name in names and name in FEATURES]


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Any pod that this machine's kernel can have."""
    ipv6 = draw(st.sampled_from([DUAL, NO_IPV6, LINK_LOCAL]))
    second = draw(st.sampled_from([ALONE, ALONE, VETH, ATTACHED]))
    possible = _possible(ipv6, second)
    at_least = min(3, len(possible))
    chosen = draw(st.sets(st.sampled_from([*possible, ""]), min_size=at_least, max_size=12))
    commands: list[str] = []
    for name in possible:
        if name in chosen:
            commands += draw(_ALL[name])
    return Configuration(ipv6, second, tuple(commands))


def generate(count: int, fixed: bool) -> list[Configuration]:
    """`count` different configurations; with `fixed` the same ones each time."""
    found: dict[Configuration, None] = {}

    # The pods of a batch share one node, one reload, one repair: hypothesis only makes them here.
    @settings(
        max_examples=count + count // 4 + 10,  # some come twice
        derandomize=fixed,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(configurations())
    def collect(configuration: Configuration) -> None:
        found[configuration] = None

    collect()
    assert len(found) >= count or set(_ALL) > FEATURES  # of some features there are not so many
    return list(found)[:count]


# --- views ---------------------------------------------------------------------------------------

View = dict[str, list[Json]]  # what was asked for: what the kernel answered, one row a thing
QUESTIONS = [
    "-j link show",
    "-j addr show",
    "-j neigh show nud permanent",
    "-j neigh show proxy",
    # As text: iproute2's JSON leaves out which metrics are locked.
    "-4 route show table all",
    "-6 route show table all",
    "-4 rule show",
    "-6 rule show",
]
SYSCTL = "sysctl"
# The kernel shows hash tables of neighbours as they come, and a new link has another order.
_UNORDERED = {"-j neigh show nud permanent", "-j neigh show proxy"}
_LIFETIMES = ("valid_life_time", "preferred_life_time", "expires")
_TOLERANCE = 120  # seconds; the lifetimes that are generated are far above
_SEPARATOR = "---\n"
# A file that cannot be read is no line: stable_secret, where there is none.
_SYSCTLS = "cd /proc/sys/net; grep -s . ipv4/conf/*/* ipv6/conf/*/*; true"


def viewing(netns: str) -> str:
    """A script that prints everything of a namespace that a repair must bring back."""
    asks = [f"ip -d -N -n {netns} {words} && echo ---" for words in QUESTIONS]
    return " && ".join([*asks, f"nsenter --net=/run/netns/{netns} sh -c '{_SYSCTLS}'"])


def view_of(printed: str) -> View:
    """What a `viewing` script printed."""
    answers = printed.split(_SEPARATOR)
    view = {words: _rows(words, answer) for words, answer in zip([*QUESTIONS, SYSCTL], answers)}
    for words in (*_UNORDERED, SYSCTL):
        view[words].sort(key=json.dumps)
    return view


def _rows(words: str, answer: str) -> list[Json]:
    if not words.startswith("-j"):
        # What begins with a tab goes on with the line before it: the hops of a multipath route.
        return [_of_line(line) for line in answer.replace("\n\t", " ").splitlines()]
    rows = [row for row in json.loads(answer or "[]") if row]
    return [one for row in rows for one in _parts(words, row)]


def _of_line(line: str) -> Json:
    line, *hops = line.split(" nexthop ")
    if any(hop.startswith("via ") and ":" in hop for hop in hops):
        # Each is a route of its own, in the order in which they came: see `differences`.
        hops.sort(key=_device)
    line = " nexthop ".join([line, *hops])
    expires = re.search(r" expires (\d+)sec", line)
    if expires is None:
        return {"": " ".join(line.split())}
    return {"": " ".join(line.replace(expires[0], "").split()), "expires": int(expires[1])}


def _parts(words: str, row: Json) -> list[Json]:
    """A link's row one attribute a row, addresses one by one: for a difference that can be read."""
    name = row.get("ifname")
    if "link" in words:
        # IFLA_LINK is the index of the master, which came back with another one; `link` is how
        # that index reads in the pod's own namespace.
        shown = {key: value for key, value in row.items() if key not in ("link", "link_index")}
        return [{"link": name, key: value} for key, value in shown.items()]
    if "addr" in words:
        return [{"link": name, **address} for address in row["addr_info"]]
    return [row]


def differences(before: View, after: View, by_device: bool = False) -> list[str]:
    """Rows that went (-), came (+), or stand in another order.

    Among equal routes the kernel puts the newest last. So its own (ff00::/8) stand in the order in
    which links went up, whoever owns them; with `by_device`, so does every other.
    """
    found = []
    for words, rows in before.items():
        sides = (rows, _with_lifetimes_of(rows, after[words]))
        if "route" in words:
            sides = (_by_device(sides[0], by_device), _by_device(sides[1], by_device))
        was, now = ([_text(row) for row in side] for side in sides)
        told = list(difflib.unified_diff(was, now, n=0, lineterm=""))[2:]
        found += [f"{words}: {line}" for line in told if not line.startswith("@@")]
    return found


def _by_device(rows: list[Json], every: bool) -> list[Json]:
    def key(row: Json) -> str:
        return _device(row[""]) if every or " proto 2 " in row[""] else ""

    return sorted(rows, key=key)


def _device(text: str) -> str:
    found = re.search(r"\bdev (\S+)", text)
    return found[1] if found else ""


def _text(row: Json) -> str:
    return " ".join(str(value) if not key else f"{key}={value}" for key, value in row.items())


def _with_lifetimes_of(before: list[Json], after: list[Json]) -> list[Json]:
    """`after`, with the lifetimes of `before` where they may have run down to its own."""
    by_rest = {_rest(row): row for row in before}
    rows = []
    for row in after:
        was = by_rest.get(_rest(row), {})
        given = {k: was[k] for k in _LIFETIMES if k in was and _ran_down(was[k], row[k])}
        rows.append({**row, **given})
    return rows


def _rest(row: Json) -> str:
    return _text({key: None if key in _LIFETIMES else value for key, value in row.items()})


def _ran_down(before: int, after: int) -> bool:
    return 0 <= before - after <= _TOLERANCE
