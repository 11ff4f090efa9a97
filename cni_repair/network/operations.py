"""The steps of a repair: frozen values that describe themselves and make their own netlink message.

Nothing here does I/O. Each operation reads as the `iproute2` command that it equals
(:meth:`command`), and becomes one message (:meth:`message`), sent through a socket of the namespace
that it works in: the node's for a VLAN, the pod's for everything else.
"""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, inet_pton

from cni_repair.network import rtnetlink as nl
from cni_repair.network.state import (
    FIB_RULE_INVERT,
    FOREVER,
    FR_ACT_TO_TBL,
    IFF_UP,
    MACVLAN_MODES,
    NTF_PROXY,
    NUD_PERMANENT,
    RULE_ACTIONS,
    Address,
    Neighbour,
    PodLink,
    Route,
    Rule,
)
from cni_repair.network.words import inside, ip, quoted, words
from cni_repair.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Addition: TypeAlias = "AddAddress | SetNeighbour | AddRoute | DropRoute | AddRule"
    PodOperation: TypeAlias = "AddMacvlan | SetSysctl | SetUp | Addition"

_FAMILIES = {4: AF_INET, 6: AF_INET6}
_MODE_NUMBERS = {name: number for number, name in MACVLAN_MODES.items()}
_NEW = nl.NLM_F_CREATE | nl.NLM_F_EXCL

# include/uapi/linux/rtnetlink.h, as iproute2 writes them
_ROUTE_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
    7: "unreachable", 8: "prohibit", 9: "throw", 10: "nat",
}  # fmt: skip
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_METRICS = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
    9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
    14: "initrwnd", 15: "quickack",
}  # fmt: skip
_RTAX_LOCK, _RTAX_CC_ALGO = 1, 16
_NEIGHBOUR_FLAGS = {0x10: "extern_learn", 0x80: "router"}
_ADDRESS_FLAGS = {0x02: "nodad", 0x10: "home", 0x100: "mngtmpaddr", 0x200: "noprefixroute"}


@record
class Where:
    """What a pod's messages need to know that only the moment tells (indices and ids)."""

    ifindex: int  # of the pod's interface
    master: int  # of the node's link below it
    node_netnsid: int  # by which id the pod's namespace knows the node's


@record
class AddMacvlan:
    """Create the pod's interface, down, in its place, with its old index, name and MAC.

    One message does it, through a socket of the pod that names the master by the node's id there
    (IFLA_LINK_NETNSID). Kernels before 6.15 make the link in the master's namespace first and move
    it then: a node that has an eth0 of its own, or a link of that index, makes that EEXIST. The
    way round is two messages through a socket of the node: :meth:`temporary` and :meth:`move`.
    NLM_F_EXCL: without it the message would change whatever has that name or index.
    """

    ifname: str
    master: str
    link: PodLink  # ifindex 0: the kernel chooses

    def command(self, netns: str) -> str:
        return words(
            f"ip link add link {quoted(self.master)} name {quoted(self.ifname)}",
            f"index {self.link.ifindex}" if self.link.ifindex else "",
            f"address {self.link.mac}" if self.link.mac else "",
            f"mtu {self.link.mtu}" if self.link.mtu else "",
            f"txqueuelen {self.link.txqueuelen}",
            f"netns {quoted(netns)} type {self.link.kind} mode {self.link.mode}",
            "nopromisc" if self.link.flags & 1 else "",
        )

    def message(self, where: Where) -> nl.Message:
        netnsid = nl.attribute(nl.IFLA_LINK_NETNSID, struct.pack("=i", where.node_netnsid))
        attributes = nl.text(nl.IFLA_IFNAME, self.ifname) + netnsid + self._made_of(where.master)
        return nl.Message(nl.RTM_NEWLINK, _NEW, nl.link_body(self.link.ifindex, 0, 0, attributes))

    def temporary(self, name: str, master: int) -> nl.Message:
        """Create it in the node, under a name that nothing else has; the kernel picks an index."""
        attributes = nl.text(nl.IFLA_IFNAME, name) + self._made_of(master)
        return nl.Message(nl.RTM_NEWLINK, _NEW, nl.link_body(0, 0, 0, attributes))

    def move(self, ifindex: int, netns: int) -> nl.Message:
        """Give the temporary link its place: namespace (an open descriptor), name and index.

        IFLA_NEW_IFINDEX is known since 5.13; an older kernel ignores it and chooses the index.
        """
        attributes = nl.u32(nl.IFLA_NET_NS_FD, netns) + nl.text(nl.IFLA_IFNAME, self.ifname)
        if self.link.ifindex:
            attributes += nl.u32(nl.IFLA_NEW_IFINDEX, self.link.ifindex)
        return nl.Message(nl.RTM_NEWLINK, 0, nl.link_body(ifindex, 0, 0, attributes))

    def _made_of(self, master: int) -> bytes:
        link = self.link
        data = nl.u32(nl.IFLA_MACVLAN_MODE, _MODE_NUMBERS[link.mode])
        if link.flags:
            data += nl.attribute(nl.IFLA_MACVLAN_FLAGS, link.flags.to_bytes(2, "little"))
        return (
            nl.u32(nl.IFLA_LINK, master)
            + (nl.attribute(nl.IFLA_ADDRESS, _mac(link.mac)) if link.mac else b"")
            + (nl.u32(nl.IFLA_MTU, link.mtu) if link.mtu else b"")
            + nl.u32(nl.IFLA_TXQLEN, link.txqueuelen)
            + nl.link_info(link.kind, data)
        )


@record
class SetSysctl:
    """Set one of the interface's own sysctls: a file below /proc/sys/net, no message."""

    ifname: str
    key: str  # "ipv4/arp_notify"
    value: str

    @property
    def path(self) -> str:
        family, _, name = self.key.partition("/")
        return f"/proc/sys/net/{family}/conf/{self.ifname}/{name}"

    def command(self, netns: str) -> str:
        name = self.key.replace("/", f"/conf/{self.ifname}/")
        return f"{inside(netns)} sysctl -q -w {quoted(f'net/{name}={self.value}')}"


@record
class SetUp:
    """Set the pod's interface up."""

    ifname: str

    def command(self, netns: str) -> str:
        return f"{inside(netns)} ip link set dev {quoted(self.ifname)} up"

    def message(self, where: Where) -> nl.Message:
        return nl.Message(nl.RTM_NEWLINK, 0, nl.link_body(where.ifindex, IFF_UP, IFF_UP, b""))


@record
class AddAddress:
    """Give the pod's interface one address."""

    ifname: str
    address: Address

    def command(self, netns: str) -> str:
        a = self.address
        flags = [word for bit, word in _ADDRESS_FLAGS.items() if a.flags & bit]
        where = f"{a.address} peer {a.peer}/{a.prefix}" if a.peer else f"{a.address}/{a.prefix}"
        return words(
            f"{inside(netns)} ip address add {where}",
            f"broadcast {a.broadcast}" if a.broadcast else "",
            f"label {quoted(a.label)}" if a.label and a.label != self.ifname else "",
            f"scope {_SCOPES.get(a.scope, a.scope)}" if a.scope else "",
            f"valid_lft {_lifetime(a.valid)} preferred_lft {_lifetime(a.preferred)}"
            if a.valid != FOREVER or a.preferred != FOREVER
            else "",
            *flags,
            f"dev {quoted(self.ifname)}",
        )

    def message(self, where: Where) -> nl.Message:
        a = self.address
        family = _FAMILIES[a.family]
        local = inet_pton(family, a.address)
        attributes = (
            nl.attribute(nl.IFA_LOCAL, local)
            + nl.attribute(nl.IFA_ADDRESS, inet_pton(family, a.peer) if a.peer else local)
            + (
                nl.attribute(nl.IFA_BROADCAST, inet_pton(family, a.broadcast))
                if a.broadcast
                else b""
            )
            + (nl.text(nl.IFA_LABEL, a.label) if a.label else b"")
            + (nl.u32(nl.IFA_FLAGS, a.flags) if a.flags else b"")
        )
        if a.valid != FOREVER or a.preferred != FOREVER:
            lifetimes = struct.pack("=IIII", a.preferred, a.valid, 0, 0)
            attributes += nl.attribute(nl.IFA_CACHEINFO, lifetimes)
        body = nl.address_body(family, a.prefix, a.flags, a.scope, where.ifindex, attributes)
        return nl.Message(nl.RTM_NEWADDR, _NEW, body)


@record
class SetNeighbour:
    """Make a permanent neighbour, or a proxy entry.

    `replace`, for the pod's traffic may be quicker: what it learned by itself meanwhile gives way.
    """

    ifname: str
    neighbour: Neighbour

    def command(self, netns: str) -> str:
        n = self.neighbour
        return words(
            f"{inside(netns)} ip neigh replace",
            f"{n.address} lladdr {n.mac} nud permanent" if n.mac else f"proxy {n.address}",
            *(word for bit, word in _NEIGHBOUR_FLAGS.items() if n.flags & bit),
            f"dev {quoted(self.ifname)}",
            f"protocol {n.protocol}" if n.protocol else "",
        )

    def message(self, where: Where) -> nl.Message:
        n = self.neighbour
        family = _FAMILIES[n.family]
        attributes = (
            nl.attribute(nl.NDA_DST, inet_pton(family, n.address))
            + (nl.attribute(nl.NDA_LLADDR, _mac(n.mac)) if n.mac else b"")
            + (nl.attribute(nl.NDA_PROTOCOL, bytes([n.protocol])) if n.protocol else b"")
        )
        state, proxy = (NUD_PERMANENT, 0) if n.mac else (0, NTF_PROXY)
        body = nl.neighbour_body(family, where.ifindex, state, n.flags | proxy, attributes)
        return nl.Message(nl.RTM_NEWNEIGH, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, body)


@record
class AddRoute:
    """Add one route through the pod's interface."""

    ifname: str
    route: Route

    def command(self, netns: str) -> str:
        r = self.route
        kind = "" if r.type == 1 else _ROUTE_TYPES.get(r.type, str(r.type))
        via = f"via {'inet6 ' if _has_foreign_gateway(r) else ''}{r.gateway}" if r.gateway else ""
        # iproute2 guesses a scope where none is said; the kernel keeps the one it was given.
        scope = f"scope {_SCOPES.get(r.scope, r.scope)}" if r.family == 4 else ""
        return words(
            f"{inside(netns)} {ip(r.family)} route add {kind}",
            r.dst,
            f"tos {r.tos:#x}" if r.tos else "",
            via,
            f"dev {quoted(self.ifname)}",
            f"table {r.table}" if r.table != 254 else "",
            f"proto {r.protocol}" if r.protocol != 3 else "",
            scope,
            f"metric {r.metric}" if r.metric else "",
            f"src {r.prefsrc}" if r.prefsrc else "",
            *_metrics(r.metrics),
            "onlink" if r.onlink else "",
        )

    def message(self, where: Where) -> nl.Message:
        return nl.Message(nl.RTM_NEWROUTE, _NEW, _route_body(self.route, where.ifindex))


@record
class DropRoute:
    """Take away a route that came with an address, and that had been taken away before."""

    ifname: str
    route: Route

    def command(self, netns: str) -> str:
        # Not `del`, which fails where there is none: an IPv6 one may come with the carrier only.
        return words(
            f"{inside(netns)} {ip(self.route.family)} route flush exact {self.route.dst}",
            f"dev {quoted(self.ifname)} table main proto kernel",
        )

    def message(self, where: Where) -> nl.Message:
        return nl.Message(nl.RTM_DELROUTE, 0, _route_body(self.route, where.ifindex))


def _has_foreign_gateway(route: Route) -> bool:
    return route.family == 4 and ":" in (route.gateway or "")


def _route_body(r: Route, ifindex: int) -> bytes:
    family = _FAMILIES[r.family]
    dst, _, prefix = r.dst.partition("/")
    attributes = nl.u32(nl.RTA_OIF, ifindex) + nl.u32(nl.RTA_TABLE, r.table)
    if int(prefix):
        attributes += nl.attribute(nl.RTA_DST, inet_pton(family, dst))
    if _has_foreign_gateway(r):
        via = struct.pack("=H", AF_INET6) + inet_pton(AF_INET6, r.gateway or "")
        attributes += nl.attribute(nl.RTA_VIA, via)
    elif r.gateway:
        attributes += nl.attribute(nl.RTA_GATEWAY, inet_pton(family, r.gateway))
    if r.metric:
        attributes += nl.u32(nl.RTA_PRIORITY, r.metric)
    if r.prefsrc:
        attributes += nl.attribute(nl.RTA_PREFSRC, inet_pton(family, r.prefsrc))
    if r.metrics:
        attributes += nl.attribute(nl.RTA_METRICS, b"".join(nl.u32(k, v) for k, v in r.metrics))
    flags = nl.RTNH_F_ONLINK if r.onlink else 0
    return nl.route_body(
        family, int(prefix), r.tos, r.table, r.protocol, r.scope, r.type, flags, attributes
    )


@record
class AddRule:
    """Add one policy rule to the pod's namespace."""

    rule: Rule

    @property
    def words(self) -> str:
        """The rule as `ip rule` has it, without priority and origin."""
        r = self.rule
        return words(
            "not" if r.invert else "",
            f"from {r.src or 'all'}",
            f"to {r.dst}" if r.dst else "",
            f"tos {r.tos:#x}" if r.tos else "",
            f"fwmark {r.fwmark:#x}/{r.fwmask:#x}" if r.fwmark or r.fwmask else "",
            f"iif {quoted(r.iif)}" if r.iif else "",
            f"oif {quoted(r.oif)}" if r.oif else "",
            f"uidrange {_range(r.uid_range)}" if r.uid_range else "",
            f"ipproto {r.ip_proto}" if r.ip_proto else "",
            f"sport {_range(r.sport)}" if r.sport else "",
            f"dport {_range(r.dport)}" if r.dport else "",
            RULE_ACTIONS[r.action],
            str(r.table) if r.action == FR_ACT_TO_TBL else "",
            f"suppress_prefixlength {r.suppress_prefixlength}"
            if r.suppress_prefixlength is not None
            else "",
        )

    def command(self, netns: str) -> str:
        r = self.rule
        return words(
            f"{inside(netns)} {ip(r.family)} rule add",
            self.words,
            f"table {r.table}" if r.action != FR_ACT_TO_TBL and r.table else "",
            f"priority {r.priority}",
            f"protocol {r.protocol}" if r.protocol else "",
        )

    def message(self, where: Where) -> nl.Message:
        r = self.rule
        family = _FAMILIES[r.family]
        attributes = nl.u32(nl.FRA_PRIORITY, r.priority) + nl.u32(nl.FRA_TABLE, r.table)
        to, to_length = (r.dst or "/0").split("/")
        source, source_length = (r.src or "/0").split("/")
        for kind, address in ((nl.FRA_DST, to), (nl.FRA_SRC, source)):
            attributes += nl.attribute(kind, inet_pton(family, address)) if address else b""
        for kind, name in ((nl.FRA_IIFNAME, r.iif), (nl.FRA_OIFNAME, r.oif)):
            attributes += nl.text(kind, name) if name else b""
        if r.fwmark or r.fwmask:
            attributes += nl.u32(nl.FRA_FWMARK, r.fwmark) + nl.u32(nl.FRA_FWMASK, r.fwmask)
        if r.suppress_prefixlength is not None:
            attributes += nl.u32(nl.FRA_SUPPRESS_PREFIXLEN, r.suppress_prefixlength)
        for kind, number in ((nl.FRA_IP_PROTO, r.ip_proto), (nl.FRA_PROTOCOL, r.protocol)):
            attributes += nl.attribute(kind, bytes([number])) if number else b""
        for kind, ports in ((nl.FRA_SPORT_RANGE, r.sport), (nl.FRA_DPORT_RANGE, r.dport)):
            attributes += nl.attribute(kind, struct.pack("=HH", *ports)) if ports else b""
        if r.uid_range:
            attributes += nl.attribute(nl.FRA_UID_RANGE, struct.pack("=II", *r.uid_range))
        flags = FIB_RULE_INVERT if r.invert else 0
        body = nl.rule_body(
            family, int(to_length), int(source_length), r.tos, r.table, r.action, flags, attributes
        )
        return nl.Message(nl.RTM_NEWRULE, _NEW, body)


def _range(ends: tuple[int, int]) -> str:
    return f"{ends[0]}-{ends[1]}"


def _lifetime(seconds: int) -> str:
    return "forever" if seconds == FOREVER else str(seconds)


def _metrics(metrics: tuple[tuple[int, int], ...]) -> list[str]:
    """RTAX_LOCK is a set of the others that path MTU discovery must not change."""
    locked = dict(metrics).get(_RTAX_LOCK, 0)
    return [
        f"{_METRICS.get(key, key)} {'lock ' if locked & 1 << key else ''}{value}"
        for key, value in metrics
        if key not in (_RTAX_LOCK, _RTAX_CC_ALGO)
    ]


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
