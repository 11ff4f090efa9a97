"""Operations as the commands that they equal: to be read, and pasted into a shell."""

from __future__ import annotations

import subprocess

import pytest

from cni_repair.base.frozen import replace
from cni_repair.network.model import IFF_NOARP, IFF_PROMISC, Hop, Neighbour, PodLink, Rule, Vlan
from cni_repair.network.operations.address import AddAddress, ChangeAddress, DropAddress, SetAddress
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.operations.link import (
    AddAltname,
    AddPodLink,
    SetAddrGenMode,
    SetLink,
    SetSysctl,
    SetUp,
)
from cni_repair.network.operations.neighbour import SetNeighbour
from cni_repair.network.operations.route import AddRoute, DropRoute
from cni_repair.network.operations.rule import AddRule
from cni_repair.uplink.operations import AddVlan, SetNodeLinkUp
from tests.unit.samples import (
    ADDRESS,
    ADDRESS_6,
    LINK,
    NEIGHBOUR,
    NETNS,
    PROXY,
    ROUTE,
    ROUTE_6,
    RULE,
)

# Names that the kernel and libcni allow. A pod with CAP_NET_ADMIN may label its addresses as it
# likes, and CHECK takes labels into the checkpoint; operators pipe `cni-repair plan` into a shell.
HOSTILE = "a;b$(c)'`d`"
SPEAK = 'ip() { printf "%s\\0" "$@"; }\nnsenter() { printf "%s\\0" "$@"; }\n'


def spoken(command: str, shell: str = "sh") -> list[str]:
    """The arguments with which a shell would start a command's program."""
    done = subprocess.run(
        [shell, "-c", SPEAK + command], capture_output=True, timeout=60, check=False
    )
    assert done.stderr == b""
    return done.stdout.decode().split("\0")


COMMANDS = {
    "vlan": AddVlan(HOSTILE, "eth0", Vlan(3), 0).describe(""),
    "vlan-master": AddVlan("eth0.3", HOSTILE, Vlan(3), 0).describe(""),
    "node-link-up": SetNodeLinkUp(HOSTILE).describe(""),
    "macvlan": AddPodLink(HOSTILE, "eth0.3", LINK).describe(NETNS),
    "macvlan-master": AddPodLink("eth0", HOSTILE, LINK).describe(NETNS),
    "macvlan-netns": AddPodLink("eth0", "eth0.3", LINK).describe(HOSTILE),
    "up": SetUp(HOSTILE).describe(NETNS),
    "sysctl": SetSysctl(HOSTILE, "ipv4/arp_notify", "1").describe(NETNS),
    "alias": SetLink("eth0", "alias", replace(LINK, alias=HOSTILE)).describe(NETNS),
    "flag": SetLink(HOSTILE, "promisc", LINK).describe(NETNS),
    "altname": AddAltname("eth0", HOSTILE).describe(NETNS),
    "altname-of": AddAltname(HOSTILE, "podnet0").describe(NETNS),
    "addrgenmode": SetAddrGenMode(HOSTILE, 0).describe(NETNS),
    "address-dropped": DropAddress(HOSTILE, ADDRESS).describe(NETNS),
    "address-set": SetAddress("eth0", replace(ADDRESS, label=HOSTILE)).describe(NETNS),
    "address-changed": ChangeAddress(HOSTILE, ADDRESS, ADDRESS_6).describe(NETNS),
    "congctl": AddRoute("eth0", replace(ROUTE, congctl=HOSTILE)).describe(NETNS),
    "hop": AddRoute("eth0", replace(ROUTE, hops=(Hop(HOSTILE),))).describe(NETNS),
    "address": AddAddress(HOSTILE, ADDRESS).describe(NETNS),
    "label": AddAddress("eth0", replace(ADDRESS, label=HOSTILE)).describe(NETNS),
    "route": AddRoute(HOSTILE, ROUTE).describe(NETNS),
    "route-dropped": DropRoute(HOSTILE, ROUTE).describe(NETNS),
    "rule-iif": AddRule(replace(RULE, iif=HOSTILE)).describe(NETNS),
    "rule-oif": AddRule(replace(RULE, oif=HOSTILE)).describe(NETNS),
    "neighbour": SetNeighbour(HOSTILE, NEIGHBOUR).describe(NETNS),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_hostile_name_stays_one_word_in_a_shell(command: str) -> None:
    assert any(HOSTILE in word for word in spoken(command))


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    "name",
    [
        "\x01'; reboot #",
        "\x01' $(reboot) `reboot` \\",
        '\x01"; reboot; "',
        "a\nreboot\n",
        "\n\n",
        "a  b ",
        "\x01%s\\c\\033 !!",
        "\x1b]0;title\x07\x9b31m\u202e",
        "\x7f7",
        "ü\x01é",
        "-x",
        "",
    ],
    ids=ascii,
)
def test_any_name_is_one_word_on_one_line_in_every_shell(name: str, shell: str) -> None:
    """dash, which is `sh` on Debian, knows no $'…'."""
    word = quoted(name)
    assert word.isprintable()
    assert spoken(f"ip {word} end", shell) == [name, "end", ""]


@pytest.mark.parametrize("label", ["eth0:a  b", " eth0", "eth0 "])
def test_blanks_of_a_name_stay_as_they_are(label: str) -> None:
    command = AddAddress("eth0", replace(ADDRESS, label=label)).describe("")
    assert label in spoken(command)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RULE, "from 10.161.75.155/32 lookup 100 priority 32765"),
        (Rule(6, 5, src="fd00::/64", table=1000), "from fd00::/64 lookup 1000 priority 5"),
        (
            Rule(4, 0, dst="10.0.0.0/8", iif="lo", oif="eth0", tos=0x10, table=7, invert=True),
            "not from all to 10.0.0.0/8 tos 0x10 iif lo oif eth0 lookup 7 priority 0",
        ),
        (
            Rule(4, 9, fwmark=1, fwmask=0xFF, ip_proto=6, sport=(80, 80), dport=(1, 99), table=7),
            "from all fwmark 0x1/0xff ipproto 6 sport 80-80 dport 1-99 lookup 7 priority 9",
        ),
        (
            Rule(4, 9, uid_range=(5, 6), table=254, suppress_prefixlength=0, protocol=3),
            "from all uidrange 5-6 lookup 254 suppress_prefixlength 0 priority 9 protocol 3",
        ),
        (Rule(4, 9, src="10.0.0.0/8", action=6), "from 10.0.0.0/8 blackhole priority 9"),
        (
            Rule(4, 9, src="10.0.0.0/8", action=8, table=254),
            "from 10.0.0.0/8 prohibit table 254 priority 9",
        ),
    ],
    ids=["sbr", "ipv6", "selectors", "ports", "uids", "blackhole", "prohibit"],
)
def test_rule_as_a_command(rule: Rule, words: str) -> None:
    ip = "ip -6" if rule.family == 6 else "ip"
    assert AddRule(rule).describe("/n") == f"nsenter --net=/n {ip} rule add {words}"


@pytest.mark.parametrize(
    ("neighbour", "words"),
    [
        (NEIGHBOUR, f"{NEIGHBOUR.address} lladdr {NEIGHBOUR.mac} nud permanent dev eth0"),
        (PROXY, "proxy fd00::9 dev eth0"),
        (
            Neighbour(6, "fd00::1", "52:54:00:00:00:fe", 0x90, 4),
            "fd00::1 lladdr 52:54:00:00:00:fe nud permanent extern_learn router dev eth0"
            " protocol 4",
        ),
    ],
    ids=["permanent", "proxy", "flags"],
)
def test_neighbour_as_a_command(neighbour: Neighbour, words: str) -> None:
    command = SetNeighbour("eth0", neighbour).describe("/n")
    assert command == f"nsenter --net=/n ip neigh replace {words}"


def test_command_is_one_line() -> None:
    command = AddAddress("eth0", replace(ADDRESS, label="a\nreboot")).describe(NETNS)
    assert len(command.splitlines()) == 1


FULL = replace(
    LINK, alias="shop/cart-0", group=7, bcqueuelen=5000, device_flags=IFF_PROMISC | IFF_NOARP
)
IPVLAN = replace(LINK, kind="ipvlan", mode="l3s", flags=2)


@pytest.mark.parametrize(
    ("what", "link", "words"),
    [
        ("mac", FULL, f"address {LINK.mac}"),
        ("mtu", FULL, "mtu 1500"),
        ("txqueuelen", FULL, "txqueuelen 1000"),
        ("group", FULL, "group 7"),
        ("alias", FULL, "alias shop/cart-0"),
        ("mode", FULL, "type macvlan mode bridge"),
        ("mode", replace(FULL, mode="passthru", flags=1), "type macvlan mode passthru nopromisc"),
        ("mode", IPVLAN, "type ipvlan mode l3s vepa"),
        ("bcqueuelen", FULL, "type macvlan bcqueuelen 5000"),
        ("bcqueuelen", replace(FULL, bcqueuelen=1000), "type macvlan bcqueuelen 1000"),
        ("promisc", FULL, "promisc on"),
        ("promisc", LINK, "promisc off"),
        ("allmulticast", FULL, "allmulticast off"),
        ("arp", FULL, "arp off"),
        ("arp", LINK, "arp on"),
        ("multicast", FULL, "multicast off"),
        ("dynamic", FULL, "dynamic off"),
    ],
)
def test_attribute_of_a_link_as_a_command(what: str, link: PodLink, words: str) -> None:
    command = SetLink("eth0", what, link).describe("/n")
    assert command == f"nsenter --net=/n ip link set dev eth0 {words}"


ROUTES: dict[str, tuple[AddRoute, str]] = {
    "several-ways": (
        AddRoute("eth0", replace(ROUTE, gateway=None, scope=0, hops=(
            Hop("eth0", "10.0.0.1", 3), Hop("net1", "fd00::1", onlink=True, realm=0x10002),
        ))),
        "ip route add 0.0.0.0/0 scope global nexthop via 10.0.0.1 dev eth0 weight 3"
        " nexthop via inet6 fd00::1 dev net1 weight 1 realms 1/2 onlink",
    ),
    "shared": (
        AddRoute("eth0", replace(ROUTE_6, shared=True), "append"),
        "ip -6 route append ::/0 via fd00::1 dev eth0 metric 1024",
    ),
    "weighed": (
        AddRoute("eth0", replace(ROUTE_6, shared=True, weight=5, onlink=True), "append"),
        "ip -6 route append ::/0 metric 1024 nexthop via fd00::1 dev eth0 weight 5 onlink",
    ),
    "everything": (
        AddRoute("eth0", replace(
            ROUTE_6, src="fd00::/64", pref=1, congctl="bbr", expires=60, metrics=((2, 1400),),
        ), "replace"),
        "ip -6 route replace ::/0 from fd00::/64 via fd00::1 dev eth0 metric 1024 expires 60"
        " pref high mtu 1400 congctl bbr",
    ),
    "realm": (
        AddRoute("eth0", replace(ROUTE, realm=7)),
        "ip route add 0.0.0.0/0 via 10.161.72.1 dev eth0 scope global realms 7",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("step", "words"), ROUTES.values(), ids=ROUTES.keys())
def test_route_as_a_command(step: AddRoute, words: str) -> None:
    assert step.describe("/n") == f"nsenter --net=/n {words}"


def test_address_that_goes_for_a_moment_as_commands() -> None:
    changed = replace(ADDRESS, broadcast=None)
    inside = "nsenter --net=/n ip address"
    assert ChangeAddress("eth0", ADDRESS, changed).describe("/n") == (
        f"{inside} del 10.161.75.155/22 dev eth0; "
        f"{inside} add 10.161.75.155/22 broadcast 10.161.75.255 dev eth0"
    )
    assert ChangeAddress("eth0", replace(ADDRESS, metric=7), ADDRESS).describe("/n") == (
        f"{inside} replace 10.161.75.155/22 broadcast 10.161.75.255 metric 7 dev eth0"
    )
