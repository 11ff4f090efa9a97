"""Present, but one thing is wrong: it is named, planned as one operation, and repaired alone.

Every row of the table is a pod of its own; they share a node, and with it the few commands of ours
that look at all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.netns.podconfig import ALONE, DUAL, VETH, Configuration, View, differences
from tests.netns.rig import Json, Rig, slow_but
from tests.netns.test_everything import Batch, Case


@dataclass(frozen=True)
class Item:
    """One thing that an interface carries, and what becomes of it."""

    given: str  # commands before the record is made; "" for what ADD gave
    damage: str  # commands after it
    named: str  # what the finding says, among other words
    second: str = ALONE


SYSCTL = "/proc/sys/net"
SECRET = f"{SYSCTL}/ipv6/conf/eth0/stable_secret"
LINK = "ip link set dev eth0"
ITEMS = {
    # the link
    "alias": Item(f"{LINK} alias blue", f"{LINK} alias ''", "alias"),
    "alias-changed": Item(f"{LINK} alias blue", f"{LINK} alias red", "alias"),
    "altname": Item(
        "ip link property add dev eth0 altname web-$n",
        "ip link property del dev eth0 altname web-$n",
        "web-$n",
    ),
    "txqueuelen": Item(f"{LINK} txqueuelen 500", f"{LINK} txqueuelen 1000", "txqueuelen"),
    "mtu": Item("", f"{LINK} mtu 1300", "MTU"),
    "mtu-of-tuning": Item(f"{LINK} mtu 1400", f"{LINK} mtu 1500", "MTU"),
    "mac": Item("", f"{LINK} address 02:00:00:0a:$n:05", "MAC"),
    "mode": Item(f"{LINK} type macvlan mode private", f"{LINK} type macvlan mode bridge", "mode"),
    "bcqueuelen": Item(
        f"{LINK} type macvlan bcqueuelen 2000",
        f"{LINK} type macvlan bcqueuelen 1000",
        "bcqueuelen",
    ),
    "allmulticast": Item(f"{LINK} allmulticast on", f"{LINK} allmulticast off", "allmulti"),
    "promisc": Item(f"{LINK} promisc on", f"{LINK} promisc off", "promisc"),
    "group": Item(f"{LINK} group 5", f"{LINK} group 0", "group"),
    "gso_max_size": Item(f"{LINK} gso_max_size 9000", f"{LINK} gso_max_size 65536", "gso_max_size"),
    "gso_max_segs": Item(f"{LINK} gso_max_segs 20", f"{LINK} gso_max_segs 65535", "gso_max_segs"),
    "gro_max_size": Item(f"{LINK} gro_max_size 0", f"{LINK} gro_max_size 65536", "gro_max_size"),
    "arp": Item(f"{LINK} arp off", f"{LINK} arp on", "arp"),
    "multicast": Item(f"{LINK} multicast off", f"{LINK} multicast on", "multicast"),
    **{
        f"sysctl-{key}": Item(
            f"echo {value} > {SYSCTL}/{key.replace('/', '/conf/eth0/')}",
            f"echo {other} > {SYSCTL}/{key.replace('/', '/conf/eth0/')}",
            key.partition("/")[2],
        )
        for key, value, other in [
            ("ipv4/rp_filter", 2, 0),
            ("ipv4/arp_announce", 2, 0),
            ("ipv4/arp_ignore", 1, 2),
            ("ipv4/forwarding", 1, 0),
            ("ipv4/proxy_arp", 1, 0),
            ("ipv6/accept_ra", 0, 1),
            ("ipv6/addr_gen_mode", 1, 0),
            ("ipv6/keep_addr_on_down", 1, 0),
            ("ipv6/forwarding", 1, 0),
            ("ipv6/proxy_ndp", 1, 0),
        ]
    },
    "sysctl-ipv6/stable_secret": Item(
        f"echo 2001:db8::1 > {SECRET}", f"echo 2001:db8::2 > {SECRET}", "stable_secret"
    ),
    # addresses
    "address": Item(
        "ip addr add 10.77.$n.1/24 dev eth0", "ip addr del 10.77.$n.1/24 dev eth0", "10.77.$n.1"
    ),
    "address-of-add": Item("", "ip addr del $v4/24 dev eth0", "$v4"),
    "address-secondary": Item(
        "ip addr add 10.9.0.$low/24 dev eth0", "ip addr del 10.9.0.$low/24 dev eth0", "10.9.0.$low"
    ),
    "address-broadcast": Item(
        "ip addr add 10.77.$n.1/24 broadcast 10.77.$n.99 dev eth0",
        "ip addr del 10.77.$n.1/24 dev eth0 && ip addr add 10.77.$n.1/24 broadcast + dev eth0",
        "10.77.$n.1",
    ),
    "address-label": Item(
        "ip addr add 10.77.$n.1/24 label eth0:web dev eth0",
        "ip addr del 10.77.$n.1/24 dev eth0 && ip addr add 10.77.$n.1/24 dev eth0",
        "10.77.$n.1",
    ),
    "address-scope": Item(
        "ip addr add 10.77.$n.1/24 scope link dev eth0",
        "ip addr del 10.77.$n.1/24 dev eth0 && ip addr add 10.77.$n.1/24 dev eth0",
        "10.77.$n.1",
    ),
    "address-noprefixroute": Item(
        "ip addr add 10.77.$n.1/24 noprefixroute dev eth0",
        "ip addr del 10.77.$n.1/24 dev eth0 && ip addr add 10.77.$n.1/24 dev eth0",
        "10.77.$n.1",
    ),
    "address-metric": Item(
        "ip addr add 10.77.$n.1/24 metric 50 dev eth0",
        "ip addr change 10.77.$n.1/24 metric 60 dev eth0",
        "10.77.$n.1",
    ),
    "address-peer": Item(
        "ip addr add 10.77.$n.1 peer 10.77.$n.2/32 dev eth0",
        "ip addr del 10.77.$n.1 peer 10.77.$n.2/32 dev eth0",
        "10.77.$n.1",
    ),
    "address-lifetime": Item(
        "ip addr add 10.77.$n.1/24 dev eth0",
        "ip addr change 10.77.$n.1/24 dev eth0 valid_lft 600 preferred_lft 300",
        "10.77.$n.1",
    ),
    "address-6": Item(
        "ip addr add fd77::$x/64 nodad dev eth0", "ip addr del fd77::$x/64 dev eth0", "fd77::$x"
    ),
    "address-6-of-add": Item("", "ip addr del $v6/64 dev eth0", "$v6"),
    "address-6-home": Item(
        "ip addr add fd77::$x/64 nodad home dev eth0",
        "ip addr change fd77::$x/64 nodad dev eth0",
        "fd77::$x",
    ),
    "address-6-noprefixroute": Item(
        "ip addr add fd77::$x/64 nodad noprefixroute dev eth0",
        "ip addr change fd77::$x/64 nodad dev eth0",
        "fd77::$x",
    ),
    "address-6-metric": Item(
        "ip addr add fd77::$x/64 nodad metric 50 dev eth0",
        "ip addr change fd77::$x/64 nodad metric 60 dev eth0",
        "fd77::$x",
    ),
    "address-6-peer": Item(
        "ip addr add fd77::$x peer fd77::9:$x/128 nodad dev eth0",
        "ip addr del fd77::$x peer fd77::9:$x/128 dev eth0",
        "fd77::$x",
    ),
    "link-local": Item("", "ip -6 addr flush dev eth0 scope link", "fe80::"),
    "link-local-of-its-own": Item(
        "ip addr add fe80::$x:7/64 nodad dev eth0", "ip addr del fe80::$x:7/64 dev eth0", "fe80::"
    ),
    # routes
    "route": Item(
        "ip route add 192.0.2.0/24 via 10.9.0.1", "ip route del 192.0.2.0/24", "192.0.2.0/24"
    ),
    "route-default": Item("", "ip route del default", "0.0.0.0/0"),
    "route-prefix": Item("", "ip route del 10.9.0.0/24 dev eth0", "10.9.0.0/24"),
    "route-table": Item(
        "ip route add default via 10.9.0.1 table 100 metric 7 proto static",
        "ip route del default table 100",
        "0.0.0.0/0",
    ),
    **{
        f"route-{name}": Item(
            f"ip route add 192.0.2.0/24 {given}",
            f"ip route change 192.0.2.0/24 {then}",
            "192.0.2.0",
        )
        for name, given, then in [
            ("gateway", "via 10.9.0.1", "via 10.9.0.99"),
            ("mtu", "via 10.9.0.1 mtu 1300", "via 10.9.0.1 mtu 1200"),
            ("mtu-lock", "via 10.9.0.1 mtu lock 1300", "via 10.9.0.1 mtu 1300"),
            ("congctl", "via 10.9.0.1 congctl reno", "via 10.9.0.1"),
            ("source", "via 10.9.0.1 src $v4", "via 10.9.0.1"),
            ("scope", "dev eth0 scope host", "dev eth0 scope link"),
            ("onlink", "via 203.0.113.1 dev eth0 onlink", "via 10.9.0.1"),
            ("realm", "via 10.9.0.1 realm 5", "via 10.9.0.1"),
            ("protocol", "via 10.9.0.1 proto static", "via 10.9.0.1 proto 99"),
            ("via-ipv6", "via inet6 fe80::1 dev eth0", "via inet6 fe80::2 dev eth0"),
        ]
    },
    "route-type": Item(
        "ip route add local 192.0.2.7/32 dev eth0 table 100",
        "ip route change unicast 192.0.2.7/32 dev eth0 table 100",
        "192.0.2.7/32",
    ),
    "route-tos": Item(
        "ip route add 192.0.2.0/24 tos 0x10 via 10.9.0.1",
        "ip route del 192.0.2.0/24 tos 0x10",
        "192.0.2.0/24",
    ),
    "multipath": Item(
        "ip route add 192.0.2.0/24 nexthop via 10.9.0.1 weight 3 nexthop via 10.9.0.99",
        "ip route del 192.0.2.0/24",
        "192.0.2.0/24",
    ),
    "multipath-weight": Item(
        "ip route add 192.0.2.0/24 nexthop via 10.9.0.1 weight 3 nexthop via 10.9.0.99",
        "ip route change 192.0.2.0/24 nexthop via 10.9.0.1 nexthop via 10.9.0.99",
        "192.0.2.0/24",
    ),
    "multipath-second-interface": Item(
        "ip route add 192.0.2.0/24 nexthop via 10.9.0.1 nexthop via 10.8.0.1",
        "ip route del 192.0.2.0/24",
        "192.0.2.0/24",
        VETH,
    ),
    "route-6": Item(
        "ip route add 2001:db8:1::/48 via fd00:9::1",
        "ip -6 route del 2001:db8:1::/48",
        "2001:db8:1::/48",
    ),
    "route-6-default": Item("", "ip -6 route del default", "::/0"),
    **{
        f"route-6-{name}": Item(
            f"ip route add 2001:db8:1::/48 {given}",
            f"ip route change 2001:db8:1::/48 {then}",
            "2001:db8:1::/48",
        )
        for name, given, then in [
            ("gateway", "via fd00:9::1", "via fd00:9::2"),
            ("mtu", "via fd00:9::1 mtu 1300", "via fd00:9::1 mtu 1290"),
            ("source", "via fd00:9::1 src $v6", "via fd00:9::1"),
            ("preference", "via fd00:9::1 pref high", "via fd00:9::1 pref low"),
        ]
    },
    "multipath-6": Item(
        "ip route add 2001:db8:1::/48 nexthop via fe80::1 dev eth0 nexthop via fe80::2 dev eth0",
        "ip -6 route del 2001:db8:1::/48 via fe80::2 dev eth0",
        "2001:db8:1::/48",
    ),
    # rules and neighbours
    "rule": Item(
        "ip rule add from $v4 lookup 100 priority 1000",
        "ip rule del priority 1000",
        "rule from $v4",
    ),
    "rule-6": Item(
        "ip -6 rule add iif eth0 to 2001:db8::/32 lookup 100 priority 1000",
        "ip -6 rule del priority 1000",
        "rule",
    ),
    "neighbour": Item(
        "ip neigh add 10.9.0.240 lladdr 02:00:00:00:00:77 nud permanent dev eth0",
        "ip neigh del 10.9.0.240 dev eth0",
        "10.9.0.240",
    ),
    "neighbour-changed": Item(
        "ip neigh add 10.9.0.240 lladdr 02:00:00:00:00:77 nud permanent dev eth0",
        "ip neigh replace 10.9.0.240 lladdr 02:00:00:00:00:78 nud permanent dev eth0",
        "10.9.0.240",
    ),
    "neighbour-6": Item(
        "ip neigh add fd00:9::77 lladdr 02:00:00:00:00:77 nud permanent router dev eth0",
        "ip neigh del fd00:9::77 dev eth0",
        "fd00:9::77",
    ),
    "proxy": Item(
        "ip neigh add proxy 10.9.0.241 dev eth0",
        "ip neigh del proxy 10.9.0.241 dev eth0",
        "10.9.0.241",
    ),
    "proxy-6": Item(
        "ip neigh add proxy fd00:9::78 dev eth0",
        "ip neigh del proxy fd00:9::78 dev eth0",
        "fd00:9::78",
    ),
}
# What every one of these pods has of its own beside, since the record was made.
EXTRA = (
    "ip link property add dev eth0 altname extra-$n",
    "ip addr add 10.88.$n.1/24 dev eth0",
    "ip addr add fd88::$x/64 nodad dev eth0",
    "ip route add 198.51.100.0/24 via 10.9.0.1",
    "ip route add 198.51.100.0/24 via 10.9.0.1 metric 7 table 55",
    "ip route add 2001:db8:55::/48 via fe80::1 dev eth0",
    "ip rule add from 198.51.100.0/24 lookup 55 priority 777",
    "ip neigh add 10.9.0.249 lladdr 02:00:00:00:00:79 nud permanent dev eth0",
    "ip neigh add proxy fd00:9::210 dev eth0",
)


@dataclass
class Story:
    """What became of one item's pod."""

    case: Case
    before: View = field(default_factory=dict)
    status: Json = field(default_factory=dict)
    plan: Json = field(default_factory=dict)
    repair: Json = field(default_factory=dict)
    after: list[str] = field(default_factory=list)  # what is not as it was before the damage

    def words(self, form: str) -> str:
        return Configuration(commands=(form,)).script(self.case.n, *self.case.addresses)[0]


@pytest.fixture(scope="module")
def stories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Story]]:
    """All the items of the tests that were selected, on one node."""
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    asked = {spec.params.get("name") for spec in specs if spec is not None}
    names = [name for name in ITEMS if name in asked]
    with Rig(tmp_path_factory.mktemp("present")) as rig:
        batch = Batch(rig, detect_duplicates=False, both_uplinks=False)
        yield dict(zip(names, told(batch, [ITEMS[name] for name in names])))


def told(batch: Batch, items: list[Item]) -> list[Story]:
    batch.attach([Configuration(DUAL, item.second, _one(item.given)) for item in items])
    for case in batch.cases:
        batch.apply(case)
        assert not case.refused
    batch.settle()
    batch.snapshot()
    for case in batch.cases:
        assert not case.problems
        batch.inside(case, lines_of(case, EXTRA))
    found = [Story(case, batch.view(case)) for case in batch.cases]
    for case, item in zip(batch.cases, items):
        batch.inside(case, lines_of(case, [item.damage]))
        # Some damage takes more along: a new MAC the neighbours, an address its secondary ones.
        batch.inside(case, lines_of(case, [f"{one} 2>/dev/null || true" for one in EXTRA]))
    by_pod = {story.case.pod.id: story for story in found}
    for case, entry in batch.entries(batch.told("status", "--all")):
        by_pod[case.pod.id].status = entry
    for case, entry in batch.entries(batch.told("plan")):
        by_pod[case.pod.id].plan = entry
    for case, entry in batch.entries(batch.told("repair", "--all")):
        by_pod[case.pod.id].repair = entry
    batch.settle()
    for story in found:
        # What is given back comes after (IPv6 addresses: before) what the pod got meanwhile.
        story.after = differences(unordered(story.before), unordered(batch.view(story.case)))
    return found


def _one(command: str) -> tuple[str, ...]:
    return (command,) if command else ()


def lines_of(case: Case, commands: Sequence[str]) -> str:
    script = Configuration(commands=tuple(commands)).script(case.n, *case.addresses)
    return "\n".join(["set -e", *script])


def unordered(view: View) -> View:
    rows = {words: [sorted_lists(row) for row in found] for words, found in view.items()}
    return {words: sorted(found, key=str) for words, found in rows.items()}


def sorted_lists(row: Json) -> Json:
    return {key: sorted(one) if isinstance(one, list) else one for key, one in row.items()}


@pytest.mark.parametrize(
    "name", slow_but(ITEMS, "alias", "address", "route-mtu", "rule", "proxy-6")
)
def test_one_thing_alone_is_named_planned_and_repaired(
    stories: dict[str, Story], name: str
) -> None:
    story = stories[name]
    assert story.status["state"] == "degraded"
    (finding,) = story.status["findings"]
    assert story.words(ITEMS[name].named) in finding
    (action,) = story.plan["actions"]
    assert story.repair["actions"] == [action]
    assert (story.repair["state"], story.after) == ("healthy", [])
