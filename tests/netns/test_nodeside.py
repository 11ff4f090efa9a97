"""What the node has of its own over its pods' masters comes back with them: here a shim, a macvlan
in the node's own namespace by which it talks to its pods.

VLANs, with what is on them, are for integration/: this kernel may not have any.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from cni_repair.network.model import NodeLinks
from tests.netns.rig import Attachment, Json, Rig, entry_of, options, states
from tests.netns.test_adopt import adopt, attach_bare
from tests.netns.test_repair import Monitor
from tests.netns.test_snapshot import snapshot

pytestmark = pytest.mark.slow  # `tests/run --fast` is to take two minutes

SHIM = "shim0"
SHIM_ADDRESS = "10.9.0.240"


def make_shim(rig: Rig, mode: str = "bridge", up: bool = True) -> None:
    """As an administrator does it who wants to reach the pods: a route to each by way of it."""
    rig.ip(f"link add {SHIM} link eth0 address 02:00:00:00:5e:01 mtu 1400 type macvlan mode {mode}")
    rig.ip(f"addr add {SHIM_ADDRESS}/32 dev {SHIM}")
    if up:
        rig.ip(f"link set {SHIM} up")
        rig.ip(f"route add 10.9.0.0/25 dev {SHIM} proto static metric 5")
        rig.ip(f"route add 198.51.100.0/24 via 10.9.0.1 dev {SHIM} onlink table 100 mtu 1300")


def shim(rig: Rig, name: str = SHIM) -> Json:
    """All of the shim that is to be as it was: not its index."""
    rig.settle(None)
    links = [one for one in rig.ip_json("addr show") if one["ifname"] == name]
    for link in links:
        del link["ifindex"]
    routes = rig.ip_json("route show table all") + rig.ip_json("-6 route show table all")
    own = [json.dumps(one, sort_keys=True) for one in routes if one.get("dev") == name]
    return {"link": links, "routes": sorted(own)}


def take_snapshot(rig: Rig, *pods: str) -> Json:
    return snapshot(rig, "-o", "json", *pods).report(0)


def notes(report: Json) -> str:
    return "; ".join(note for entry in report["attachments"] for note in entry["notes"])


def checkpoint_of(rig: Rig, was: Attachment) -> model.Checkpoint:
    path = rig.checkpoint(was.pod)
    return model.decode(path.read_bytes(), path.name)


def rewrite(rig: Rig, was: Attachment, **changes: Any) -> None:
    path = rig.checkpoint(was.pod)
    path.write_text(model.encode(replace(checkpoint_of(rig, was), **changes)))


@pytest.mark.parametrize("mode", ["bridge", "vepa", "private"])
def test_shim_comes_back_with_the_uplink(rig: Rig, mode: str) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(2)]
    make_shim(rig, mode)
    before = shim(rig)
    take_snapshot(rig)
    rig.reload()
    assert shim(rig)["link"] == []
    report = rig.plugin("REPAIR").report(0)
    assert "the node's shim0, a macvlan over eth0, is gone: made again" in notes(report)
    assert shim(rig) == before
    assert [rig.state(was.pod) for was in pods] == [was.state for was in pods]
    with ExitStack() as stack:
        monitor = Monitor(rig, None, stack, 0)
        again = rig.plugin("REPAIR").report(0)
        assert monitor.heard() == ""
    assert notes(again) == ""
    if mode == "bridge":
        rig.run("ping", "-q", "-c", "1", "-W", "5", "-I", SHIM_ADDRESS, pods[0].address)


def test_shim_with_ipv6(rig: Rig) -> None:
    rig.sysctl(None, "net/ipv6/conf/default/disable_ipv6", "0")
    rig.sysctl(None, "net/ipv6/conf/all/disable_ipv6", "0")
    rig.attach("pod1")
    make_shim(rig)
    for address in ("fd00:9::240/64", "fd00:9::241/64"):
        rig.ip(f"addr add {address} dev {SHIM} nodad")
    rig.ip(f"-6 route add fd00:99::/64 via fd00:9::1 dev {SHIM}")
    before = shim(rig)
    take_snapshot(rig)
    rig.reload()
    rig.plugin("REPAIR").report(0)
    assert shim(rig) == before


def test_shim_that_was_down_stays_down(rig: Rig) -> None:
    rig.attach("pod1")
    make_shim(rig, up=False)
    before = shim(rig)
    take_snapshot(rig)
    rig.reload()
    rig.plugin("REPAIR").report(0)
    assert shim(rig) == before
    assert notes(rig.plugin("REPAIR").report(0)) == ""


def test_add_remembers_none(rig: Rig) -> None:
    make_shim(rig)
    was = rig.attach("pod1")
    assert checkpoint_of(rig, was).node_links is None
    rig.reload()
    assert notes(rig.plugin("REPAIR").report(0)) == ""
    assert shim(rig)["link"] == []


def test_check_and_snapshot_write_what_is_new_alone(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    take_snapshot(rig)  # what changed by itself since ADD
    files = [rig.checkpoint(one.pod) for one in (was, other)]
    before = [path.read_bytes() for path in files]
    take_snapshot(rig)
    assert [path.read_bytes() for path in files] == before
    assert b"nodeLinks" not in b"".join(before)
    make_shim(rig)
    rig.plugin("CHECK", was.pod, {**rig.conf(), "prevResult": was.result}).ok()
    assert checkpoint_of(rig, was).node_links
    outcomes = [one["outcome"] for one in take_snapshot(rig)["attachments"]]
    assert outcomes == ["unchanged", "refreshed"]
    outcomes = [one["outcome"] for one in take_snapshot(rig)["attachments"]]
    assert outcomes == ["unchanged", "unchanged"]


def test_newest_record_of_the_node_counts(rig: Rig) -> None:
    """pod1's record still has the shim that is away by the time of pod2's."""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    make_shim(rig)
    take_snapshot(rig)
    rig.ip(f"link del {SHIM}")
    take_snapshot(rig, other.pod.id, "--accept")
    assert checkpoint_of(rig, was).node_links != checkpoint_of(rig, other).node_links
    rig.reload()
    # … whatever pod is meant
    rig.plugin("REPAIR", was.pod).ok()
    rig.plugin("REPAIR").report(0)
    assert shim(rig)["link"] == []


def test_record_of_another_boot_does_not_count(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    make_shim(rig)
    take_snapshot(rig)
    known = checkpoint_of(rig, other)
    assert known.netns is not None and known.node_links is not None
    later = replace(known.node_links, seen_at=known.node_links.seen_at + 1000, links=())
    rewrite(rig, other, node_links=later, netns=replace(known.netns, boot_id="another"))
    before = shim(rig)
    rig.reload()
    report = rig.plugin("REPAIR").report(0)
    assert states(report) == {was.pod.id: "healthy", other.pod.id: "stale"}
    assert shim(rig) == before


def test_record_that_cannot_be_read_stops_nothing(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    make_shim(rig)
    take_snapshot(rig)
    before = shim(rig)
    rig.checkpoint(other.pod).write_bytes(rig.checkpoint(other.pod).read_bytes()[:-9])
    rig.reload()
    report = rig.plugin("REPAIR").report(1)
    assert entry_of(report, was.pod)["state"] == "healthy"
    assert shim(rig) == before


def test_name_that_is_taken_is_left_alone_and_said(rig: Rig) -> None:
    was = rig.attach("pod1")
    make_shim(rig)
    take_snapshot(rig)
    rig.reload()
    rig.ip(f"link add {SHIM} type bridge")
    rig.ip(f"link set {SHIM} up")
    before = rig.ip(f"addr show dev {SHIM}")
    report = rig.plugin("REPAIR").report(0)
    assert rig.state(was.pod) == was.state
    assert "is a bridge link over nothing now: left alone" in notes(report)
    assert rig.ip(f"addr show dev {SHIM}") == before
    status = rig.cli("status", *options(rig)).out
    assert "left alone" in status
    assert SHIM_ADDRESS not in status


def test_what_cannot_be_given_back_is_said_and_stops_nothing(rig: Rig) -> None:
    was = rig.attach("pod1")
    make_shim(rig)
    rig.ip("addr add 192.0.2.1/32 dev lo")
    rig.ip(f"route add 203.0.113.0/24 dev {SHIM} src 192.0.2.1")
    take_snapshot(rig)
    rig.reload()
    rig.ip("addr del 192.0.2.1/32 dev lo")
    report = rig.plugin("REPAIR").report(0)
    assert rig.state(was.pod) == was.state
    assert f"not done: ip route add 203.0.113.0/24 dev {SHIM} scope link src 192.0.2.1: " in notes(
        report
    )
    rig.run("ping", "-q", "-c", "1", "-W", "5", "-I", SHIM_ADDRESS, was.address)
    # The shim is up now: what it lacks is said, and left to those who use it.
    status = rig.cli("status", *options(rig))
    assert status.status == 0
    assert "ip route add 203.0.113.0/24" in " ".join(status.out.split())
    assert notes(rig.plugin("REPAIR").report(0)) == ""


def test_shim_that_cannot_be_made_is_said_and_stops_nothing(rig: Rig) -> None:
    was = rig.attach("pod1", rig.conf(mtu=1400))
    make_shim(rig)
    rig.ip(f"link set {SHIM} mtu 1500")
    take_snapshot(rig)
    rig.reload(mtu=1450)
    report = rig.plugin("REPAIR").report(0)
    assert rig.state(was.pod) == was.state
    assert "ip link add link eth0 name shim0" in notes(report)
    assert "Invalid argument" in notes(report)


def test_repair_that_was_killed_is_finished(rig: Rig) -> None:
    was = rig.attach("pod1")
    make_shim(rig)
    before = shim(rig)
    take_snapshot(rig)
    rig.reload()
    rig.ip(f"link add {SHIM} link eth0 address 02:00:00:00:5e:01 mtu 1400 type macvlan mode bridge")
    report = rig.plugin("REPAIR").report(0)
    assert "is down: made again" in notes(report)
    assert shim(rig) == before
    assert rig.state(was.pod) == was.state


def test_shim_alone_is_made_while_all_pods_are_well(rig: Rig) -> None:
    rig.attach("pod1")
    make_shim(rig)
    before = shim(rig)
    take_snapshot(rig)
    rig.ip(f"link del {SHIM}")
    status = rig.cli("status", *options(rig))
    assert status.status == 0
    assert "shim0, a macvlan over eth0, is gone" in " ".join(status.out.split())
    repaired = rig.cli("repair", "--all", *options(rig))
    assert repaired.status == 0
    assert "made again" in " ".join(repaired.out.split())
    assert shim(rig) == before


def test_shim_over_a_link_that_is_not_its_own_any_more(rig: Rig) -> None:
    """eth0 is another kind of link now: nothing is made over it."""
    rig.attach("pod1")
    make_shim(rig)
    take_snapshot(rig)
    rig.uplink_down()
    rig.ip("link add eth0 type bridge")
    rig.plugin("REPAIR").report(1)
    assert shim(rig)["link"] == []


def test_plan_prints_what_a_repair_does(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(2)]
    make_shim(rig)
    before = shim(rig)
    take_snapshot(rig)
    rig.reload()
    planned = rig.cli("plan", *options(rig))
    assert sum(f"name {SHIM}" in line for line in planned.out.splitlines()) == 1
    rig.run("sh", "-eu", stdin=planned.out)
    assert shim(rig) == before
    assert [rig.state(was.pod) for was in pods] == [was.state for was in pods]
    # … and where the pods are well
    rig.ip(f"link del {SHIM}")
    planned = rig.cli("plan", *options(rig))
    assert planned.status == 0
    rig.run("sh", "-eu", stdin=planned.out)
    assert shim(rig) == before


def test_what_belongs_to_others_is_not_remembered(rig: Rig) -> None:
    """A lease, a routing daemon's route, a route over two links; a link on its way into a pod."""
    was = rig.attach("pod1")
    make_shim(rig)
    rig.ip(f"addr add 10.9.0.241/24 dev {SHIM} valid_lft 600 preferred_lft 300")
    rig.ip(f"route add 203.0.113.0/24 dev {SHIM} proto bird")
    rig.ip(f"route add 203.0.114.0/24 nexthop dev {SHIM} nexthop dev eth0")
    rig.ip("link add cnirep12345678 link eth0 type macvlan mode bridge")
    take_snapshot(rig)
    kept = checkpoint_of(rig, was).node_links
    assert isinstance(kept, NodeLinks)
    (one,) = kept.links
    assert [address.address for address in one.addresses] == [SHIM_ADDRESS]
    assert sorted(route.dst for route in one.routes) == ["10.9.0.0/25", "198.51.100.0/24"]


def test_adopted_pods_bring_their_nodes_shim(rig: Rig) -> None:
    was = attach_bare(rig, "pod1")
    make_shim(rig)
    before = shim(rig)
    adopt(rig, "--write")
    rig.reload()
    rig.plugin("REPAIR").report(0)
    assert rig.state(was.pod) == was.state
    assert shim(rig) == before


def test_more_than_can_be_remembered_is_said_and_nothing_older_stands_for_it(rig: Rig) -> None:
    was = rig.attach("pod1")
    make_shim(rig)
    take_snapshot(rig)
    lines = [f"route add 198.18.{one // 200}.{one % 200} dev {SHIM}" for one in range(600)]
    rig.run("ip", "-batch", "-", stdin="\n".join(lines))
    told = snapshot(rig)
    assert told.status == 0
    assert "not remembered" in told.out
    assert "more than 512 addresses and routes of the node over eth0" in told.out
    rig.reload()
    assert notes(rig.plugin("REPAIR").report(0)) == ""
    assert rig.state(was.pod) == was.state
    assert shim(rig)["link"] == []


def test_link_in_a_mode_that_no_plugin_makes_is_not_remembered(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip(f"link add {SHIM} link eth0 type macvlan mode source")
    take_snapshot(rig)
    assert checkpoint_of(rig, was).node_links is None


def test_shim_that_went_with_the_uplink_is_not_forgotten_before_the_repair(rig: Rig) -> None:
    """A pod may be attached, and checked by its runtime, between loss and repair."""
    rig.attach("pod1")
    make_shim(rig)
    take_snapshot(rig)
    before = shim(rig)
    rig.reload()
    late = rig.attach("pod3")
    check = {**rig.conf(), "prevResult": late.result}
    assert rig.plugin("CHECK", late.pod, check).status == 0
    rig.plugin("REPAIR").report(0)
    assert shim(rig) == before


def test_shim_with_an_address_of_the_whole_length(rig: Rig) -> None:
    """The usual kind: it is remembered, and nothing is missing of it."""
    rig.attach("pod1")
    make_shim(rig)
    rig.ip(f"addr add 10.9.0.250/32 dev {SHIM}")
    take_snapshot(rig)
    words = ["-o", "json", "--all", "--checkpoint-dir", str(rig.checkpoints)]
    (entry,) = rig.cli("status", *words).report(0)["attachments"]
    assert entry["notes"] == []
    before = shim(rig)
    rig.reload()
    rig.plugin("REPAIR").report(0)
    assert shim(rig) == before
