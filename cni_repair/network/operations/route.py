"""The steps of a repair that give a pod's interface its routes.

Operations are frozen values without I/O: see :mod:`~cni_repair.network.operations.link`.
"""

from __future__ import annotations

import struct

from cni_repair.base.frozen import frozen
from cni_repair.base.lightsocket import AF_INET6, inet_pton
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.model import Hop, Route
from cni_repair.network.operations.iproute2 import SCOPES, inside, ip, quoted, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.link import Target

# As `ip route` calls them. Append: beside what else is in its place (the other next hops).
_HOW = {
    "add": rt.NLM_F_CREATE | rt.NLM_F_EXCL,
    "replace": rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
    "append": rt.NLM_F_CREATE | rt.NLM_F_APPEND,
}

# include/uapi/linux/rtnetlink.h, as iproute2 writes them
_ROUTE_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole",
    7: "unreachable", 8: "prohibit", 9: "throw", 10: "nat",
}  # fmt: skip
_METRICS = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
    9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
    14: "initrwnd", 15: "quickack", 17: "fastopen_no_cookie",
}  # fmt: skip
_RTAX_LOCK, _RTAX_FEATURES, _RTAX_RTO_MIN, _RTAX_CC_ALGO = 1, 12, 13, 16
_FEATURE_ECN = 1
_PREFERENCES = {1: "high", 3: "low"}  # RFC 4191


@frozen
class AddRoute:
    """Add one route through the pod's interface.

    `how`: add, append (beside others of its place: the other next hops) or replace (it is there,
    but with another gateway, MTU …). `beside`: where another link's route has its place, append.
    """

    ifname: str
    route: Route
    how: str = "add"
    beside: bool = False

    @property
    def otherwise(self) -> AddRoute | None:
        """What to do where its place is taken (EEXIST)."""
        return AddRoute(self.ifname, self.route, "append") if self.beside else None

    @property
    def words(self) -> str:
        """The route as `ip route` has it."""
        r = self.route
        return words(
            "" if r.type == 1 else _ROUTE_TYPES.get(r.type, str(r.type)),
            r.dst,
            f"from {r.src}" if r.src else "",
            f"tos {r.tos:#x}" if r.tos else "",
            "" if r.hops or r.weight > 1 else self._single(),
            f"table {r.table}" if r.table != 254 else "",
            f"proto {r.protocol}" if r.protocol != 3 else "",
            # iproute2 guesses a scope where none is said; the kernel keeps the one it was given.
            f"scope {SCOPES.get(r.scope, r.scope)}" if r.family == 4 else "",
            f"metric {r.metric}" if r.metric else "",
            f"src {r.prefsrc}" if r.prefsrc else "",
            f"realms {_realms(r.realm)}" if r.realm and not r.hops else "",
            f"expires {r.expires}" if r.expires else "",
            f"pref {_PREFERENCES.get(r.pref, r.pref)}" if r.pref else "",
            *_metrics(r.metrics),
            f"congctl {_lock(_RTAX_CC_ALGO, dict(r.metrics))}{quoted(r.congctl)}"
            if r.congctl
            else "",
            *(_hop_words(hop, r.family) for hop in self._hops()),
        )

    def command(self, netns: str) -> str:
        return f"{inside(netns)} {ip(self.route.family)} route {self.how} {self.words}"

    def message(self, where: Target) -> nl.Message:
        r = self.route
        if not (r.hops or r.weight > 1):
            return nl.Message(
                rt.RTM_NEWROUTE,
                _HOW[self.how],
                _route_body(r, where.ifindex),
            )
        links = {**dict(where.links), self.ifname: where.ifindex}
        hops = b"".join(_hop_entry(hop, r.family, links) for hop in self._hops())
        body = _route_body(r, 0, nl.attribute(rt.RTA_MULTIPATH, hops))
        return nl.Message(rt.RTM_NEWROUTE, _HOW[self.how], body)

    def _single(self) -> str:
        r = self.route
        return words(
            _via_words(r.gateway, r.family),
            f"dev {quoted(self.ifname)}",
            "onlink" if r.onlink else "",
        )

    def _hops(self) -> tuple[Hop, ...]:
        """The next hops where the route has to be written as several: a weight needs that, too."""
        r = self.route
        if r.hops or r.weight == 1:
            return r.hops
        return (Hop(self.ifname, r.gateway, r.weight, r.onlink),)


@frozen
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

    def message(self, where: Target) -> nl.Message:
        return nl.Message(rt.RTM_DELROUTE, 0, _route_body(self.route, where.ifindex))


def _realms(realm: int) -> str:
    """The source's realm is the upper half (RTA_FLOW)."""
    return f"{realm >> 16}/{realm & 0xFFFF}" if realm >> 16 else str(realm)


def _via_words(gateway: str | None, family: int) -> str:
    if gateway is None:
        return ""
    return f"via {'inet6 ' if _is_foreign(gateway, family) else ''}{gateway}"


def _hop_words(hop: Hop, family: int) -> str:
    return words(
        "nexthop",
        _via_words(hop.gateway, family),
        f"dev {quoted(hop.ifname)}",
        f"weight {hop.weight}",
        f"realms {_realms(hop.realm)}" if hop.realm else "",
        "onlink" if hop.onlink else "",
    )


def _hop_entry(hop: Hop, family: int, links: dict[str, int]) -> bytes:
    attributes = _gateway_attribute(hop.gateway, family)
    attributes += nl.u32(rt.RTA_FLOW, hop.realm) if hop.realm else b""
    flags = rt.RTNH_F_ONLINK if hop.onlink else 0
    return nl.nexthop(flags, hop.weight, links[hop.ifname], attributes)


def _is_foreign(gateway: str, family: int) -> bool:
    return family == 4 and ":" in gateway


def _gateway_attribute(gateway: str | None, family: int) -> bytes:
    if gateway is None:
        return b""
    if _is_foreign(gateway, family):
        via = struct.pack("=H", AF_INET6) + inet_pton(AF_INET6, gateway)
        return nl.attribute(rt.RTA_VIA, via)
    return nl.attribute(rt.RTA_GATEWAY, inet_pton(nl.NUMBERS[family], gateway))


def _route_body(r: Route, ifindex: int, hops: bytes = b"") -> bytes:
    """`ifindex`: of the link, where it is not said in `hops`."""
    family = nl.NUMBERS[r.family]
    dst, length = _prefix(r.dst)
    src, source_length = _prefix(r.src) if r.src else ("", 0)
    attributes = hops or nl.u32(rt.RTA_OIF, ifindex) + _gateway_attribute(r.gateway, r.family)
    attributes += nl.u32(rt.RTA_TABLE, r.table)
    if length:
        attributes += nl.attribute(rt.RTA_DST, inet_pton(family, dst))
    if source_length:
        attributes += nl.attribute(rt.RTA_SRC, inet_pton(family, src))
    if r.metric:
        attributes += nl.u32(rt.RTA_PRIORITY, r.metric)
    if r.prefsrc:
        attributes += nl.attribute(rt.RTA_PREFSRC, inet_pton(family, r.prefsrc))
    if r.realm and not r.hops:
        attributes += nl.u32(rt.RTA_FLOW, r.realm)
    if r.expires:
        attributes += nl.u32(rt.RTA_EXPIRES, r.expires)
    if r.pref:
        attributes += nl.attribute(rt.RTA_PREF, bytes([r.pref]))
    metrics = b"".join(nl.u32(key, value) for key, value in r.metrics)
    metrics += nl.text(_RTAX_CC_ALGO, r.congctl) if r.congctl else b""
    if metrics:
        attributes += nl.attribute(rt.RTA_METRICS, metrics)
    flags = rt.RTNH_F_ONLINK if r.onlink and not hops else 0
    return nl.route_body(
        family, length, r.tos, r.table, r.protocol, r.scope, r.type, flags, attributes,
        source_length,
    )  # fmt: skip


def _prefix(text: str) -> tuple[str, int]:
    address, _, length = text.partition("/")
    return address, int(length)


def _lock(key: int, metrics: dict[int, int]) -> str:
    """`ip route` locks rto_min by itself, and has no word for it."""
    locked = metrics.get(_RTAX_LOCK, 0) & 1 << key
    return "lock " if locked and key != _RTAX_RTO_MIN else ""


def _metric(key: int, value: int) -> str:
    if key == _RTAX_RTO_MIN:
        return f"{value}ms"
    return "ecn" if key == _RTAX_FEATURES and value == _FEATURE_ECN else str(value)


def _metrics(metrics: tuple[tuple[int, int], ...]) -> list[str]:
    """RTAX_LOCK is a set of the others that path MTU discovery must not change."""
    return [
        f"{_METRICS.get(key, key)} {_lock(key, dict(metrics))}{_metric(key, value)}"
        for key, value in metrics
        if key != _RTAX_LOCK
    ]
