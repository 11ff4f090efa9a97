"""The steps of a repair for the routes through a pod's interface."""

from __future__ import annotations

import errno

from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.route import HOP, RTAX_CC_ALGO, TABLE, encode, hops_of, is_foreign
from cni_repair.network.model import Hop, Route
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.iproute2 import inside, ip, quoted, said, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Target

# As `ip route` calls them. Append: beside what else is in its place (the other next hops). Prepend:
# likewise, but before it, so that it is the one that counts (of IPv4).
_HOW = {
    "add": rt.NLM_F_CREATE | rt.NLM_F_EXCL,
    "replace": rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
    "append": rt.NLM_F_CREATE | rt.NLM_F_APPEND,
    "prepend": rt.NLM_F_CREATE,
}

# include/uapi/linux/rtnetlink.h, as iproute2 writes them
_METRICS = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss",
    9: "reordering", 10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min",
    14: "initrwnd", 15: "quickack", 17: "fastopen_no_cookie",
}  # fmt: skip
_RTAX_LOCK, _RTAX_FEATURES, _RTAX_RTO_MIN = 1, 12, 13
_FEATURE_ECN = 1


@frozen
class AddRoute(Operation):
    """Add one route through the interface.

    `how`: add, append (beside others of its place: the other next hops), prepend (before the
    kernel's own) or replace (it is there, but with another gateway, MTU …). `beside`: where another
    link's route has its place, append.
    """

    ifname: str
    route: Route
    how: str = "add"
    beside: bool = False

    @property
    def tolerated(self) -> frozenset[int]:
        if self.route.family == 6 and self.route.prefsrc:
            # ip6_route_info_create() refuses a source that duplicate detection still looks at.
            return frozenset({errno.EEXIST, errno.EINVAL})
        return frozenset({errno.EEXIST})

    @property
    def is_proved(self) -> bool:
        return self.route.family == 4 and not self.route.hops

    @property
    def otherwise(self) -> AddRoute | None:
        return AddRoute(self.ifname, self.route, "append") if self.beside else None

    @property
    def words(self) -> str:
        """The route as `ip route` has it."""
        route = self.route
        several = hops_of(route, self.ifname)
        own = {
            "gateway": "" if several else _way_words(route, self.ifname),
            "scope": TABLE.said("scope", route.scope) if route.family == 4 else "",
        }
        if several:
            own["hops"] = " ".join(_hop_words(hop, route.family) for hop in several)
        if route.hops:
            own["realm"] = ""  # each has its own
        if route.metrics:
            own["metrics"] = " ".join(_metrics(route.metrics))
        if route.congctl:
            own["congctl"] = f"congctl {_lock(RTAX_CC_ALGO, route.metrics)}{quoted(route.congctl)}"
        return words(*said(TABLE, route, own))

    def describe(self, netns: str) -> str:
        return f"{inside(netns)}{ip(self.route.family)} route {self.how} {self.words}"

    def requests(self, target: Target) -> list[nl.Message]:
        body = encode(self.route, self.ifname, target.ifindex, target.links)
        return [nl.Message(rt.RTM_NEWROUTE, _HOW[self.how], body)]


@frozen
class DropRoute(Operation):
    """Take away a route that came with an address, and that had been taken away before."""

    ifname: str
    route: Route

    tolerated = frozenset({errno.ESRCH, errno.EADDRNOTAVAIL})
    comes_alone = True  # gateways are reachable by it until the others are there

    def describe(self, netns: str) -> str:
        # Not `del`, which fails where there is none: an IPv6 one may come with the carrier only.
        return words(
            f"{inside(netns)}{ip(self.route.family)} route flush exact {self.route.dst}",
            f"dev {quoted(self.ifname)} table main proto kernel",
        )

    def requests(self, target: Target) -> list[nl.Message]:
        body = encode(self.route, self.ifname, target.ifindex)
        return [nl.Message(rt.RTM_DELROUTE, 0, body)]


def _way_words(route: Route, ifname: str) -> str:
    return words(
        _via_words(route.gateway, route.family),
        f"dev {quoted(ifname)}",
        "onlink" if route.onlink else "",
    )


def _via_words(gateway: str | None, family: int) -> str:
    if gateway is None:
        return ""
    return f"via {'inet6 ' if is_foreign(gateway, family) else ''}{gateway}"


def _hop_words(hop: Hop, family: int) -> str:
    own = {
        "gateway": _via_words(hop.gateway, family),
        "ifname": f"dev {quoted(hop.ifname)}",
        "weight": f"weight {hop.weight}",
    }
    return words("nexthop", *said(HOP, hop, own))


def _lock(key: int, metrics: tuple[tuple[int, int], ...]) -> str:
    """`ip route` locks rto_min by itself, and has no word for it."""
    locked = dict(metrics).get(_RTAX_LOCK, 0) & 1 << key
    return "lock " if locked and key != _RTAX_RTO_MIN else ""


def _metric(key: int, value: int) -> str:
    if key == _RTAX_RTO_MIN:
        return f"{value}ms"
    return "ecn" if key == _RTAX_FEATURES and value == _FEATURE_ECN else str(value)


def _metrics(metrics: tuple[tuple[int, int], ...]) -> list[str]:
    """RTAX_LOCK is a set of the others that path MTU discovery must not change."""
    return [
        f"{_METRICS.get(key, key)} {_lock(key, metrics)}{_metric(key, value)}"
        for key, value in metrics
        if key != _RTAX_LOCK
    ]
