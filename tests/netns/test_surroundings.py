"""Policy rules, permanent neighbours, proxy entries, and routes that somebody took away.

`snapshot` records them, REPAIR brings them back, and leaves alone what is the pod's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import NotSupported, Rtnetlink
from tests.netns.rig import (
    GATEWAY4,
    GATEWAY6,
    Attachment,
    Json,
    Outcome,
    Pod,
    Rig,
    entry_of,
    options,
    slow_but,
    states,
)
from tests.netns.test_plan_commands import play

FAR = "02:00:00:00:00:77"
LOOKS = [
    "rule", "-6 rule", "-4 route show table all", "-6 route show table all",
    "neigh show nud permanent", "neigh show proxy",
]  # fmt: skip


def view(rig: Rig, pod: Pod) -> dict[str, list[str]]:
    """All of the namespace that this file is about; rules in their order."""
    rig.settle(pod)
    found = {words: rig.ip(f"-d {words}", pod).splitlines() for words in LOOKS}
    return {words: rows if "rule" in words else sorted(rows) for words, rows in found.items()}


def snapshot(rig: Rig, pod: Pod, status: int = 0) -> str:
    """The outcome of bringing a pod's record up to date."""
    words = ["-o", "json", "--checkpoint-dir", str(rig.checkpoints)]
    report = rig.cli("snapshot", *words).report(status)
    return str(entry_of(report, pod)["outcome"])


def repair_all(rig: Rig, status: int = 0) -> Json:
    return rig.plugin("REPAIR").report(status)


def found(rig: Rig, pod: Pod, status: int) -> Json:
    words = ["-o", "json", "--all", "--checkpoint-dir", str(rig.checkpoints)]
    return entry_of(rig.cli("status", *words).report(status), pod)


# --- chained plugins -----------------------------------------------------------------------------


def sbr(rig: Rig, verb: str, was: Attachment) -> Outcome:
    """The real plugin, later in the chain."""
    conf = {"cniVersion": "0.4.0", "name": "pods", "type": "sbr", "prevResult": was.result}
    return rig.plugin(verb, was.pod, conf, ifname=was.ifname, executable="/usr/lib/cni/sbr")


@pytest.mark.parametrize("ipv6", slow_but([False, True], False), ids=["ipv4", "dual"])
def test_source_based_routing_after_us_in_the_chain(rig: Rig, ipv6: bool) -> None:
    was = rig.attach("pod1", rig.conf(v6=ipv6, cniVersion="0.4.0"), ipv6=ipv6)
    sbr(rig, "ADD", was).ok()
    before = view(rig, was.pod)
    assert any("lookup 100" in row for row in before["rule"])
    # It moved the routes to a table of its own: that is no damage, and nothing to be undone.
    assert entry_of(repair_all(rig), was.pod)["actions"] == []
    assert view(rig, was.pod) == before
    assert snapshot(rig, was.pod) == "refreshed"
    rig.reload()
    repair_all(rig)
    assert view(rig, was.pod) == before
    sbr(rig, "CHECK", was).ok()
    assert rig.ping(was.pod, GATEWAY4, was.address)
    assert not ipv6 or rig.ping(was.pod, GATEWAY6, str(was.result["ips"][1]["address"])[:-3])
    assert entry_of(repair_all(rig), was.pod)["actions"] == []
    # The gateway has answered the ping: its MAC is noted, and that is all.
    assert [snapshot(rig, was.pod), snapshot(rig, was.pod)] == ["refreshed", "unchanged"]


@pytest.mark.slow
def test_two_interfaces_with_source_based_routing(rig: Rig) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    first = rig.attach("pod1", rig.conf(cniVersion="0.4.0"))
    ipam = {**rig.conf()["ipam"], "ranges": [[{"subnet": "10.8.0.0/24"}]], "routes": []}
    conf = rig.conf(name="storage", master="eth1", ipam=ipam, cniVersion="0.4.0")
    second = rig.attach_pod(first.pod, conf, ifname="net1")
    sbr(rig, "ADD", second).ok()
    before = view(rig, first.pod)
    words = ["-o", "json", "--checkpoint-dir", str(rig.checkpoints)]
    report = rig.cli("snapshot", *words).report(0)
    assert [one["outcome"] for one in report["attachments"]] == ["refreshed"] * 2
    rig.reload("eth0")
    rig.reload("eth1", ip="10.8.0.1")
    assert rig.cli("repair", "--all", *options(rig)).status == 0
    assert view(rig, first.pod) == before
    assert rig.ping(first.pod, "10.8.0.1", second.address)


# --- lost ----------------------------------------------------------------------------------------

GIVEN = [
    "neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 nud permanent dev eth0",
    "neigh add 10.9.0.78 lladdr 02:00:00:00:00:78 nud permanent router dev eth0 protocol 5",
    "neigh add proxy 10.9.0.79 dev eth0",
    "rule add from 10.9.0.0/24 lookup 100 priority 100",
    "rule add iif eth0 to 192.0.2.0/24 fwmark 0x5/0xff lookup 1000 priority 50",
    "rule add not from 198.51.100.0/24 oif eth0 ipproto tcp dport 80 lookup 7 protocol 9",
    "rule add uidrange 5-6 sport 100-200 lookup 100 suppress_prefixlength 0 tos 0x10",
    "rule add from 10.9.0.0/16 unreachable priority 40000",
    "rule add from 10.9.0.0/16 to 203.0.113.0/24 blackhole table 9 priority 40000",
    "route add 203.0.113.0/24 via 10.9.0.1 table 100",
]
GIVEN_6 = [
    "neigh add fd00:9::77 lladdr 02:00:00:00:00:77 nud permanent router extern_learn dev eth0",
    "neigh add proxy fd00:9::79 dev eth0 router",
    "-6 rule add from fd00:9::/64 lookup 100 priority 100",
    "-6 rule add iif eth0 prohibit priority 100",
]


def give(rig: Rig, pod: Pod, commands: list[str]) -> dict[str, list[str]]:
    for command in commands:
        rig.ip(command, pod)
    return view(rig, pod)


def test_what_was_around_a_lost_interface_comes_back(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, GIVEN)
    assert rig.ping(was.pod, GATEWAY4)  # there are neighbours that the kernel learned, too
    assert snapshot(rig, was.pod) == "refreshed"
    rig.reload()
    lost = view(rig, was.pod)
    assert lost["neigh show nud permanent"] == lost["neigh show proxy"] == []
    assert sum("[detached]" in row for row in lost["rule"]) == 2
    actions = entry_of(repair_all(rig), was.pod)["actions"]
    assert view(rig, was.pod) == before
    assert not [action for action in actions if " rule " in action]  # they were still there
    assert entry_of(repair_all(rig), was.pod)["actions"] == []


@pytest.mark.slow
def test_what_was_around_an_ipv6_interface_comes_back(rig: Rig) -> None:
    was = rig.attach("pod1", rig.conf(v6=True), ipv6=True)
    before = give(rig, was.pod, GIVEN_6)
    assert snapshot(rig, was.pod) == "refreshed"
    rig.reload()
    rig.ip("-6 rule del priority 100", was.pod)
    rig.ip("-6 rule del priority 100", was.pod)
    repair_all(rig)
    assert view(rig, was.pod) == before


@pytest.mark.slow
def test_every_rule_can_be_given_back(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, GIVEN)
    snapshot(rig, was.pod)
    rig.reload()
    rules = [row for row in before["rule"] if not re.search("lookup (local|main|default)", row)]
    for row in rules:
        rig.ip(f"rule del priority {row.partition(':')[0]}", was.pod)
    entry = found(rig, was.pod, 1)
    assert sum(finding.startswith("rule ") for finding in entry["findings"]) == len(rules) == 6
    repair_all(rig)
    assert view(rig, was.pod) == before


@pytest.mark.slow
def test_printed_commands_give_the_same(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, [*GIVEN, "route del 10.9.0.0/24 dev eth0"])
    snapshot(rig, was.pod)
    rig.reload()
    for row in before["rule"]:
        if not re.search("lookup (local|main|default)", row):
            rig.ip(f"rule del priority {row.partition(':')[0]}", was.pod)
    play(rig)
    assert view(rig, was.pod) == before


@pytest.mark.slow
def test_printed_commands_give_the_same_with_ipv6(rig: Rig) -> None:
    was = rig.attach("pod1", rig.conf(v6=True), ipv6=True)
    taken = ["-6 route del fe80::/64 dev eth0", "-6 route del fd00:9::/64 dev eth0"]
    before = give(rig, was.pod, [*GIVEN_6, *taken])
    snapshot(rig, was.pod)
    rig.reload()
    rig.ip("-6 rule del priority 100", was.pod)
    rig.ip("-6 rule del priority 100", was.pod)
    play(rig)
    assert view(rig, was.pod) == before


def test_check_of_a_chain_without_source_based_routing_learns_them_too(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, GIVEN)
    rig.plugin("CHECK", was.pod, {**rig.conf(), "prevResult": was.result}).ok()
    rig.reload()
    repair_all(rig)
    assert view(rig, was.pod) == before


def test_gateway_that_was_reachable_by_a_route_since_taken_away(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, ["route del 10.9.0.0/24 dev eth0"])
    snapshot(rig, was.pod)
    rig.reload()
    repair_all(rig)
    assert view(rig, was.pod) == before
    assert rig.ping(was.pod, "10.9.0.1")


@pytest.mark.slow
def test_route_that_comes_with_the_carrier_only(rig: Rig) -> None:
    """fe80::/64: what is not there cannot be taken away, and that is no failure."""
    was = rig.attach("pod1", rig.conf(v6=True), ipv6=True)
    before = give(rig, was.pod, ["-6 route del fe80::/64 dev eth0"])
    snapshot(rig, was.pod)
    rig.uplink_down()
    rig.ip("link add eth0 mtu 1500 type veth peer name tor0 netns tor")
    patch = "from cni_repair.repair import scheduler\nscheduler.SETTLE_SECONDS = 0.2"
    entry = entry_of(rig.plugin("REPAIR", patch=patch).report(1), was.pod)
    assert "carrier" in str(entry["findings"])
    assert "error" not in entry
    assert before != view(rig, was.pod)


def test_route_of_the_kernel_that_somebody_replaced(rig: Rig) -> None:
    was = rig.attach("pod1")
    own = "10.9.0.0/24 dev eth0 scope link proto static mtu 1300"
    before = give(rig, was.pod, ["route del 10.9.0.0/24", f"route add {own}"])
    snapshot(rig, was.pod)
    rig.reload()
    repair_all(rig)
    assert view(rig, was.pod) == before
    # A repair that ended between the address and the route leaves the kernel's own in its place.
    rig.ip(f"route del {own}", was.pod)
    rig.ip(f"route add 10.9.0.0/24 dev eth0 proto kernel scope link src {was.address}", was.pod)
    assert len(entry_of(repair_all(rig), was.pod)["actions"]) == 2
    assert view(rig, was.pod) == before


def test_prefix_route_that_somebody_gave_back_stays(rig: Rig) -> None:
    was = rig.attach("pod1")
    give(rig, was.pod, ["route del 10.9.0.0/24 dev eth0"])
    snapshot(rig, was.pod)
    own = f"route add 10.9.0.0/24 dev eth0 proto kernel scope link src {was.address}"
    given = give(rig, was.pod, [own])
    assert entry_of(repair_all(rig), was.pod)["actions"] == []
    assert view(rig, was.pod) == given


# --- one by one ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("rule del priority 100", "rule from 10.9.0.0/24 lookup 100 is missing"),
        ("neigh del 10.9.0.77 dev eth0", "permanent neighbour 10.9.0.77 is missing"),
        ("neigh del proxy 10.9.0.79 dev eth0", "proxy entry 10.9.0.79 is missing"),
    ],
    ids=["rule", "neighbour", "proxy"],
)
def test_missing_alone_is_named_and_given_back(rig: Rig, damage: str, finding: str) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, GIVEN)
    snapshot(rig, was.pod)
    rig.ip(damage, was.pod)
    entry = found(rig, was.pod, 1)
    assert (entry["state"], entry["findings"]) == ("degraded", [finding])
    assert len(entry["actions"]) == 1
    assert entry_of(repair_all(rig), was.pod)["actions"] == entry["actions"]
    assert view(rig, was.pod) == before


def test_what_the_pod_has_of_its_own_stays(rig: Rig) -> None:
    was = rig.attach("pod1")
    give(rig, was.pod, GIVEN)
    snapshot(rig, was.pod)
    more = [
        "rule add from 172.16.0.1 lookup 55 priority 100",
        "rule add from 10.9.0.0/24 lookup 55",
        "neigh add 10.9.0.99 lladdr 02:00:00:00:00:99 nud permanent dev eth0",
        "neigh add proxy 10.9.0.98 dev eth0",
        "neigh replace 10.9.0.77 lladdr 02:00:00:00:00:02 nud permanent dev lo",
    ]
    extended = give(rig, was.pod, more)
    assert found(rig, was.pod, 0)["state"] == "healthy"
    assert entry_of(repair_all(rig), was.pod)["actions"] == []
    rig.ip("neigh del 10.9.0.77 dev eth0", was.pod)
    repair_all(rig)
    assert view(rig, was.pod) == extended


def test_neighbour_that_the_traffic_was_quicker_to_learn(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip(f"neigh replace {GATEWAY4} lladdr {FAR} nud permanent dev eth0", was.pod)
    before = view(rig, was.pod)
    snapshot(rig, was.pod)
    rig.ip(f"neigh del {GATEWAY4} dev eth0", was.pod)
    assert rig.ping(was.pod, GATEWAY4)
    assert FAR not in rig.ip("neigh", was.pod)
    assert found(rig, was.pod, 1)["findings"] == [f"permanent neighbour {GATEWAY4} is missing"]
    repair_all(rig)
    assert view(rig, was.pod) == before


def test_link_set_down_loses_neighbours_and_gets_its_prefix_route_again(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, [*GIVEN, "route del 10.9.0.0/24 dev eth0"])
    snapshot(rig, was.pod)
    rig.ip("link set eth0 down", was.pod)
    repair_all(rig)
    assert view(rig, was.pod) == before


def test_removed_for_good_is_forgotten_after_a_new_record(rig: Rig) -> None:
    """Only a healthy interface is recorded: what is missing has to be given back, or accepted by
    the repair that does so, first."""
    was = rig.attach("pod1")
    give(rig, was.pod, GIVEN)
    snapshot(rig, was.pod)
    rig.ip("rule del priority 100", was.pod)
    assert snapshot(rig, was.pod) == "kept"


def two_networks(rig: Rig, ipv6: bool = False) -> Attachment:
    """A pod with eth0 and net1, over two uplinks."""
    rig.uplink_up("eth1", "10.8.0.1")
    was = rig.attach("pod1", rig.conf(v6=ipv6), ipv6=ipv6)
    ipam = {**rig.conf()["ipam"], "ranges": [[{"subnet": "10.8.0.0/24"}]], "routes": []}
    rig.attach_pod(was.pod, rig.conf(name="b", master="eth1", ipam=ipam), ifname="net1")
    return was


def snapshot_and_repair_all(rig: Rig, reload: Callable[[], object]) -> Json:
    where = ["--checkpoint-dir", str(rig.checkpoints)]
    assert rig.cli("snapshot", *where).status == 0
    reload()
    words = ["-o", "json", "--all", *where, "--run-dir", str(rig.base / "run")]
    rig.cli("repair", *words).report(0)
    return rig.cli("repair", *words).report(0)


@pytest.mark.parametrize("lost", slow_but([["eth0"], ["eth1"], ["eth0", "eth1"]], ["eth0", "eth1"]))
def test_multipath_route_over_two_networks(rig: Rig, lost: list[str]) -> None:
    """An IPv4 one goes as a whole, and can come back only when both links are there."""
    was = two_networks(rig)
    hops = "nexthop via 10.9.0.1 dev eth0 weight 2 nexthop via 10.8.0.1 dev net1 weight 3"
    rig.ip(f"route add 203.0.113.0/24 mtu 1400 {hops}", was.pod)
    before = view(rig, was.pod)

    def reload() -> None:
        for uplink in lost:
            rig.reload(uplink, **({"ip": "10.8.0.1"} if uplink == "eth1" else {}))

    again = snapshot_and_repair_all(rig, reload)
    assert view(rig, was.pod) == before
    assert [one["actions"] for one in again["attachments"]] == [[], []]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lost", "order"), [(["eth0"], ["net1", "eth0"]), (["eth0", "eth1"], ["eth0", "net1"])]
)
@pytest.mark.parametrize("how", ["append", "prepend"])
def test_default_routes_of_two_networks(
    rig: Rig, how: str, lost: list[str], order: list[str]
) -> None:
    """The limit that the manual names: both come back, in an order of their own."""
    was = two_networks(rig)
    rig.ip(f"route {how} default via 10.8.0.1 dev net1", was.pod)

    def reload() -> None:
        for uplink in lost:
            rig.reload(uplink, **({"ip": "10.8.0.1"} if uplink == "eth1" else {}))

    again = snapshot_and_repair_all(rig, reload)
    assert [one["dev"] for one in rig.ip_json("route show default", was.pod)] == order
    assert [one["actions"] for one in again["attachments"]] == [[], []]


@pytest.mark.slow
def test_ipv6_multipath_route_over_two_networks(rig: Rig) -> None:
    """The next hop of one link goes with it; the other's stays."""
    was = two_networks(rig, ipv6=True)
    rig.ip("addr add fd00:8::5/64 dev net1 nodad", was.pod)
    hops = "nexthop via fd00:9::1 dev eth0 weight 2 nexthop via fd00:8::1 dev net1"
    rig.ip(f"-6 route add fd07::/64 {hops}", was.pod)

    def nexthops() -> list[str]:
        rows = rig.ip("-6 route show fd07::/64", was.pod).splitlines()
        return sorted(row.strip() for row in rows if "nexthop" in row)

    before = nexthops()
    assert len(before) == 2
    again = snapshot_and_repair_all(rig, rig.reload)
    assert nexthops() == before
    assert [one["actions"] for one in again["attachments"]] == [[], []]


# --- cost, and hostile pods ----------------------------------------------------------------------


def questions(rig: Rig, verb: str, pod: Pod) -> set[int]:
    """The types of rtnetlink messages that one run sends in the pod's namespace or the node's."""
    trace = rig.base / "trace"
    rig.run(
        "strace", "-f", "-o", str(trace), "-e", "trace=sendto", "-e", "abbrev=none",
        "-e", "raw=none", "-X", "raw", rig.launcher(),
        stdin=json.dumps(rig.conf()), env=rig.environ(verb, pod),
    )  # fmt: skip
    return {int(word, 0) for word in re.findall(r"nlmsg_type=(\w+)", trace.read_text())}


@pytest.mark.slow
def test_only_what_is_recorded_is_asked_for(rig: Rig) -> None:
    pod = rig.pod("pod1")
    more = {rt.RTM_GETRULE, rt.RTM_GETNEIGH}
    asked = questions(rig, "ADD", pod)
    assert rt.RTM_GETROUTE in asked
    assert not more & asked
    asked = questions(rig, "REPAIR", pod)
    assert rt.RTM_GETROUTE in asked
    assert not more & asked
    give(rig, pod, GIVEN)
    snapshot(rig, pod)
    assert more <= questions(rig, "REPAIR", pod)


def batch(rig: Rig, pod: Pod, lines: list[str]) -> None:
    rig.run("ip", "-n", pod.name, "-batch", "-", stdin="\n".join(lines) + "\n")


def many_rules(rig: Rig, pod: Pod) -> None:
    batch(rig, pod, [f"rule add to 100.{i >> 8}.{i & 255}.0/24 lookup 5" for i in range(5000)])


def many_neighbours(rig: Rig, pod: Pod) -> None:
    form = f"neigh add 100.64.{{}}.{{}} lladdr {FAR} nud permanent dev eth0"
    batch(rig, pod, [form.format(i >> 8, i & 255) for i in range(5000)])


@pytest.mark.slow
@pytest.mark.parametrize("flood", [many_rules, many_neighbours])
def test_pod_with_too_much_of_it_fails_alone(rig: Rig, flood: Callable[[Rig, Pod], None]) -> None:
    hostile, plain, good = (rig.attach(f"pod{number}") for number in (1, 2, 3))
    for was in (hostile, good):
        give(rig, was.pod, GIVEN)
        snapshot(rig, was.pod)
    before = view(rig, good.pod)
    flood(rig, hostile.pod)
    flood(rig, plain.pod)
    rig.ip("link del eth0", good.pod)
    rig.ip("route del default", plain.pod)
    report = repair_all(rig, status=1)
    assert states(report) == {
        hostile.pod.id: "degraded",
        plain.pod.id: "healthy",  # nothing of that kind is recorded of it: nobody looks
        good.pod.id: "healthy",
    }
    assert "more than 4096" in json.dumps(entry_of(report, hostile.pod))
    assert view(rig, good.pod) == before
    kept = rig.checkpoint(plain.pod).read_bytes()
    assert snapshot(rig, plain.pod) == "kept"
    assert rig.checkpoint(plain.pod).read_bytes() == kept


def test_neighbours_of_a_foreign_link_are_not_read(rig: Rig) -> None:
    was = rig.attach("pod1")
    give(rig, was.pod, GIVEN)
    snapshot(rig, was.pod)
    rig.ip("link del eth0", was.pod)
    rig.ip("link add eth0 type bridge", was.pod)
    rig.ip("link set eth0 up", was.pod)
    many_neighbours(rig, was.pod)
    before = view(rig, was.pod)
    entry = entry_of(repair_all(rig, status=1), was.pod)
    assert (entry["state"], entry["actions"]) == ("foreign", [])
    assert view(rig, was.pod) == before


def test_rule_that_a_record_cannot_hold_is_left_out_whole(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = give(rig, was.pod, ["rule add iif eth0 goto 32766", "rule add iif eth0 l3mdev"])
    snapshot(rig, was.pod)
    assert '"rules"' not in rig.checkpoint(was.pod).read_text()
    rig.reload()
    repair_all(rig)
    assert view(rig, was.pod) == before


def test_kernel_without_what_is_asked_for(rig: Rig) -> None:
    """As RTM_GETRULE on one without CONFIG_IP_MULTIPLE_TABLES: nobody answers type 54 anywhere."""

    def ask() -> None:
        with Rtnetlink() as rtnl, pytest.raises(NotSupported):
            rtnl.dump(nl.Message(54, 0, bytes(4)), 10, "what there is not")

    rig.inside(rig.pod("pod1"), ask)
