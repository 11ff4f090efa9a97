"""Without a `master`: the default route's device, beside the bare macvlan plugin; and what must not
depend on it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.netns.rig import Json, Pod, Rig

pytestmark = pytest.mark.slow  # many, though each is short

# How the node reaches the world, and over which link the pods are then; where the bare plugin
# fails, it is said.
BARE_FAILS = True
ROUTES: dict[str, tuple[list[str], str, bool]] = {
    "IPv4": (["route add default via 10.9.0.1"], "eth0", False),
    "IPv6 alone": (["-6 route add default via fd00:9::1"], "eth0", False),
    "IPv6, link-local gateway": (["-6 route add default via fe80::1 dev eth1"], "eth1", False),
    "IPv4 before IPv6": (
        ["-6 route add default via fd00:9::1", "route add default via 10.8.0.1 metric 9999"],
        "eth1", False,
    ),
    "no gateway": (["route add default dev eth1"], "eth1", False),
    "lowest metric, added last": (
        ["route add default via 10.9.0.1 metric 100", "route add default via 10.8.0.1 metric 50"],
        "eth1", False,
    ),
    "lowest metric, added first": (
        ["route add default via 10.9.0.1 metric 50", "route add default via 10.8.0.1 metric 100"],
        "eth0", False,
    ),
    "lowest metric of IPv6": (
        ["-6 route add default via fd00:9::1 metric 700",
         "-6 route add default via fd00:8::1 metric 600"],
        "eth1", False,
    ),
    "IPv4 gateway of IPv6's kind": (
        ["route add default via inet6 fd00:8::1 dev eth1"], "eth1", False,
    ),
    "with a TOS": (
        ["route add default via 10.9.0.1 tos 0x10", "route add default via 10.8.0.1 metric 10"],
        "eth0", False,
    ),
    "by an altname": (
        ["link property add dev eth1 altname enp7s0", "route add default dev enp7s0"],
        "eth1", False,
    ),
    "another table beside": (
        ["route add default via 10.8.0.1 table 100", "route add default via 10.9.0.1 metric 9"],
        "eth0", False,
    ),
    "multipath": (
        ["route add default nexthop via 10.8.0.1 nexthop via 10.9.0.1"], "eth1", BARE_FAILS,
    ),
    "multipath of IPv6": (
        ["-6 route add default nexthop via fd00:8::1 nexthop via fd00:9::1"], "eth1", BARE_FAILS,
    ),
    "multipath, the first hop is down": (
        ["route add default nexthop via 10.8.0.1 nexthop via 10.9.0.1", "link set eth1 down"],
        "eth0", BARE_FAILS,
    ),
    "unreachable before a good one": (
        ["route add unreachable default", "route add default via 10.8.0.1 metric 100"],
        "eth1", BARE_FAILS,
    ),
    "blackhole before IPv6's": (
        ["route add blackhole default", "-6 route add default via fd00:9::1"], "eth0", BARE_FAILS,
    ),
}  # fmt: skip
NONE_USABLE: dict[str, list[str]] = {
    "none": [],
    "another table": ["route add default via 10.8.0.1 table 100"],
    "blackhole": ["route add blackhole default"],
    "unreachable of IPv6": ["-6 route add unreachable default"],
    "two halves": ["route add 0.0.0.0/1 via 10.9.0.1", "route add 128.0.0.0/1 via 10.9.0.1"],
}


@pytest.fixture(autouse=True)
def two_links(rig: Rig) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    for scope in ("all", "default", "eth0", "eth1"):
        rig.sysctl(None, f"net/ipv6/conf/{scope}/disable_ipv6", "0")
    for number, link in (("9", "eth0"), ("8", "eth1")):
        rig.ip(f"addr add 10.{number}.0.250/24 dev {link}")
        rig.ip(f"addr add fd00:{number}::250/64 dev {link} nodad")


def routed(rig: Rig, words: list[str]) -> None:
    for line in words:
        rig.ip(line)


def over(rig: Rig, pod: Pod) -> str:
    """The name of the link that a pod's eth0 stands on; empty where it has none."""
    link = rig.links(pod).get("eth0", {})
    names = (name for name, one in rig.links().items() if one["ifindex"] == link.get("link_index"))
    return next(names, "")


@pytest.mark.parametrize(("words", "link", "bare_fails"), ROUTES.values(), ids=list(ROUTES))
def test_device_is_found(rig: Rig, words: list[str], link: str, bare_fails: bool) -> None:
    routed(rig, words)
    bare, ours = rig.pod("pod1"), rig.pod("pod2")
    rig.bare("ADD", bare, rig.conf(master=None, ipam={}))
    assert over(rig, bare) == ("" if bare_fails else link)
    conf = rig.conf(master=None)
    rig.plugin("STATUS", None, conf).ok()
    result = rig.plugin("ADD", ours, conf).ok()
    assert over(rig, ours) == link
    rig.plugin("CHECK", ours, {**conf, "prevResult": result}).ok()
    rig.plugin("DEL", ours, conf).ok()
    assert (rig.kept(), rig.leases()) == ([], {})


@pytest.mark.parametrize("words", NONE_USABLE.values(), ids=list(NONE_USABLE))
@pytest.mark.parametrize("keys", [{}, {"vlanId": 3}, {"master": []}], ids=str)
def test_no_device_is_found(rig: Rig, words: list[str], keys: Json) -> None:
    routed(rig, words)
    bare, ours = rig.pod("pod1"), rig.pod("pod2")
    assert rig.bare("ADD", bare, rig.conf(master=None)).status == 1
    conf = rig.conf(**{"master": None, **keys})
    assert "default route" in rig.plugin("STATUS", None, conf).error(50)
    assert rig.plugin("ADD", ours, conf).status == 1
    assert (rig.kept(), rig.leases(), set(rig.links(ours))) == ([], {}, {"lo"})


def test_status_tells_that_pods_are_there_already(rig: Rig) -> None:
    routed(rig, ROUTES["IPv4"][0])
    conf = rig.conf(master=None, statusGrace=0)
    rig.plugin("ADD", rig.pod("pod1"), conf).ok()
    rig.ip("route del default")
    assert "default route" in rig.plugin("STATUS", None, conf).error(51)


def test_ipvlan_in_a_chain_chooses_itself(rig: Rig) -> None:
    """It takes the interface that the plugin before it has made."""
    routed(rig, ROUTES["IPv4"][0])
    pod = rig.pod("pod1")
    before: Json = {"cniVersion": "1.0.0", "interfaces": [{"name": "chained0"}], "ips": []}
    conf = rig.conf(master=None, mode=None, prevResult=before)
    bare = rig.bare("ADD", pod, conf, "ipvlan").report(1)
    assert "chained0" in bare["msg"]
    assert rig.plugin("ADD", pod, {**conf, "delegate": "ipvlan"}).report(1) == bare


# --- what must not depend on it -------------------------------------------------------------------

# What somebody may have made of a pod's configuration by the time of its DEL.
EDITED: dict[str, Json] = {
    "no master": {"master": None},
    "empty master": {"master": ""},
    "no master, a VLAN": {"master": None, "vlanId": 3},
    "master that does not exist": {"master": "bond4"},
    "long name that does not exist": {"master": "x" * 100},
    "VLAN of one that does not exist": {"master": "bond4", "vlanId": 3},
    "VLAN of too long a name": {"master": "enp65s0f0np0", "vlanId": 4000},
    "master of another type": {"master": 5},
    "VLAN that is none": {"vlanId": 5000},
    "a word for a number": {"masterTimeout": "10s"},
    "a word for a truth": {"repairOnCheck": "yes"},
    "fallback without another": {"fallbackMaster": True},
    "another case": {"master": None, "Master": "eth0"},
    "the delegate's, in another case": {"delegate": {"Mode": "bridge"}},
}


@pytest.mark.parametrize("gone", [False, True], ids=["namespace", "no namespace"])
@pytest.mark.parametrize("edit", EDITED.values(), ids=list(EDITED))
def test_del_frees_the_address(rig: Rig, edit: dict[str, Any], gone: bool) -> None:
    """With no default route, and the link of the pods gone, too."""
    was = rig.attach("pod1")
    rig.uplink_down()
    if gone:
        rig.drop_pod(was.pod)
    rig.plugin("DEL", was.pod, rig.conf(**edit)).ok()
    assert (rig.kept(), rig.leases()) == ([], {})
    rig.plugin("DEL", was.pod, rig.conf(**edit)).ok()


@pytest.mark.parametrize("edit", EDITED.values(), ids=list(EDITED))
def test_gc_frees_the_address(rig: Rig, edit: dict[str, Any]) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    rig.drop_pod(was.pod)
    rig.uplink_down()
    valid = [{"containerID": other.pod.id, "ifname": "eth0"}]
    rig.plugin("GC", None, {**rig.conf(**edit), "cni.dev/valid-attachments": valid}).ok()
    assert rig.kept() == [rig.checkpoint(other.pod).name]
    assert rig.leases() == {other.address: other.pod.id}


@pytest.mark.parametrize("edit", EDITED.values(), ids=list(EDITED))
def test_check_compares_with_the_record(rig: Rig, edit: dict[str, Any]) -> None:
    was = rig.attach("pod1")
    conf = rig.conf(**edit, prevResult=was.result)
    rig.plugin("CHECK", was.pod, conf).ok()
    rig.ip("link set eth0 mtu 1300", was.pod)
    assert "MTU 1300" in rig.plugin("CHECK", was.pod, conf).error(101)


def test_check_beside_another_default_route(rig: Rig) -> None:
    """The pod stays where it was attached, wherever new ones go."""
    routed(rig, ROUTES["IPv4"][0])
    conf = rig.conf(master=None)
    pod = rig.pod("pod1")
    result = rig.plugin("ADD", pod, conf).ok()
    rig.ip("route replace default via 10.8.0.1")
    rig.plugin("CHECK", pod, {**conf, "prevResult": result}).ok()
