"""`snapshot`: records are brought up to date, and what could not be restored is named."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.netns.rig import Attachment, Json, Outcome, Rig
from tests.outputs import reason_of


def snapshot(rig: Rig, *words: str) -> Outcome:
    return rig.cli("snapshot", "--checkpoint-dir", rig.conf()["checkpointDir"], *words)


def report(rig: Rig, status: int, *words: str) -> Json:
    return snapshot(rig, "-o", "json", *words).report(status)


def record_of(found: Json, was: Attachment) -> Json:
    (entry,) = [one for one in found["attachments"] if one["containerID"] == was.pod.id]
    return dict(entry)


def coverage(found: Json) -> tuple[int, int]:
    """How many interfaces of living pods there are, and how many could be restored."""
    return found["summary"]["interfaces"], found["summary"]["restorable"]


def checkpoint(rig: Rig, was: Attachment) -> Path:
    directory = Path(rig.outside(rig.conf()["checkpointDir"]))
    return directory / f"{was.pod.id}@{was.ifname}.json"


def test_what_came_later_is_recorded_and_restored(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("addr add 10.77.0.1/24 dev eth0", was.pod)
    rig.ip("link set eth0 mtu 1400", was.pod)
    rig.ip("route add 192.0.2.0/24 via 10.9.0.1 mtu 1300", was.pod)
    rig.sysctl(was.pod, "net/ipv4/conf/eth0/rp_filter", "2")
    later = rig.state(was.pod)
    assert record_of(report(rig, 0), was)["outcome"] == "refreshed"
    assert record_of(report(rig, 0), was)["outcome"] == "unchanged"
    rig.reload()
    rig.plugin("REPAIR", None).report(0)
    assert rig.state(was.pod) == later
    assert rig.sysctl(was.pod, "net/ipv4/conf/eth0/rp_filter") == "2"


def test_check_writes_nothing(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("addr add 10.77.0.1/24 dev eth0", was.pod)
    before = checkpoint(rig, was).read_bytes()
    assert coverage(report(rig, 0, "--check")) == (1, 1)
    assert checkpoint(rig, was).read_bytes() == before


@pytest.mark.parametrize(
    "damage", ["link del eth0", "addr flush dev eth0 scope global", "link set eth0 down"]
)
def test_good_record_survives_a_damaged_interface(rig: Rig, damage: str) -> None:
    was = rig.attach("pod1")
    before = checkpoint(rig, was).read_bytes()
    rig.ip(damage, was.pod)
    found = record_of(report(rig, 0), was)
    assert (found["outcome"], found["restorable"]) == ("kept", True)
    assert reason_of(found)
    assert checkpoint(rig, was).read_bytes() == before
    rig.plugin("REPAIR", None).report(0)
    assert rig.state(was.pod) == was.state


def test_what_cannot_be_restored_is_named(rig: Rig) -> None:
    good = rig.attach("good")
    squatted = rig.attach("squatted")
    torn = rig.attach("torn")
    gone = rig.attach("gone")
    rig.ip("link del eth0", squatted.pod)
    rig.ip("link add eth0 type bridge", squatted.pod)
    rig.drop_pod(gone.pod)
    path = checkpoint(rig, torn)
    path.write_bytes(path.read_bytes()[:-20])
    found = report(rig, 1)
    assert record_of(found, good)["restorable"]
    assert record_of(found, squatted)["state"] == "foreign"
    assert record_of(found, torn)["state"] == "unreadable"
    assert record_of(found, gone)["state"] == "stale"
    # The torn one's interface is counted once, and the pod that is gone for nothing.
    assert found["unmanaged"] == []
    assert coverage(found) == (3, 1)


def test_pods_without_a_record_are_found(rig: Rig) -> None:
    """By any name, or by a process alone; other kinds of links and other nodes' pods are not."""
    rig.attach("ours")
    for name in ("bare", "veth", "own"):
        rig.pod(name)
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip("link set eth0x netns bare name net1")
    rig.ip("link add vethx type veth peer name eth0 netns veth")
    rig.ip("link add dummyish type bridge", "own")
    rig.ip("link add link dummyish name eth0 type macvlan", "own")
    with rig.started("unshare", "--net", "cat"):
        found = report(rig, 1)
    (bare,) = found["unmanaged"]
    assert (bare["netns"], bare["ifname"], bare["master"], bare["kind"], bare["state"]) == (
        "/run/netns/bare", "net1", "eth0", "macvlan", "attached",
    )  # fmt: skip
    assert coverage(found) == (2, 1)
    text = snapshot(rig, "--check")
    assert "/run/netns/bare net1 (macvlan over eth0)" in text.out
    assert text.out.splitlines()[-1] == "coverage: 1 of 2 interfaces could be restored"


def test_pod_that_only_a_process_keeps_is_found(rig: Rig) -> None:
    pod = rig.pod("bare")
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip("link set eth0x netns bare name eth0")
    with rig.started_in(pod, "sleep", "600") as process:
        rig.drop_pod(pod)
        (found,) = report(rig, 1)["unmanaged"]
        assert found["netns"] == f"/proc/{process.pid}/ns/net"


def test_node_without_checkpoints(rig: Rig) -> None:
    assert coverage(report(rig, 0)) == (0, 0)
    rig.pod("bare")
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip("link set eth0x netns bare name eth0")
    assert coverage(report(rig, 1)) == (1, 0)


def test_disk_that_cannot_be_written_to(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("addr add 10.77.0.1/24 dev eth0", was.pod)
    before = checkpoint(rig, was).read_bytes()
    directory = rig.conf()["checkpointDir"]
    rig.run("mount", "--bind", directory, directory)
    rig.run("mount", "-o", "remount,bind,ro", directory)
    found = record_of(report(rig, 1), was)
    rig.run("umount", directory)
    assert (found["outcome"], found["restorable"]) == ("kept", True)
    assert "Read-only" in reason_of(found)
    assert checkpoint(rig, was).read_bytes() == before


def test_refused_master_counts_as_not_restorable(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    rig.ip("link add eth0 type bridge")
    found = record_of(report(rig, 1), was)
    assert not found["restorable"]
    assert "bridge" in reason_of(found)


def test_selection_is_about_the_selected_only(rig: Rig) -> None:
    one = rig.attach("one")
    rig.attach("two")
    rig.pod("bare")
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip("link set eth0x netns bare name eth0")
    found = report(rig, 0, one.pod.id)
    assert coverage(found) == (1, 1)
    assert json.loads(checkpoint(rig, one).read_text())["containerId"] == one.pod.id


def test_accepting_a_default_route_that_was_moved_away(rig: Rig) -> None:
    """As Multus does it where another of the pod's networks has the default route."""
    was = rig.attach("pod1")
    rig.ip("link add net1 type bridge", was.pod)
    rig.ip("addr add 10.77.0.2/24 dev net1", was.pod)
    rig.ip("link set net1 up", was.pod)
    rig.ip("route del default", was.pod)
    rig.ip("route add default via 10.77.0.1", was.pod)
    assert record_of(report(rig, 0), was)["outcome"] == "kept"
    (hint,) = [line for line in snapshot(rig).out.splitlines() if "--accept" in line]
    _, command, words = hint.partition("cni-repair ")
    assert command, hint
    # As copied: it names this pod, and the directory.
    found = rig.cli(*shlex.split(words), "-o", "json").report(0)
    assert record_of(found, was)["outcome"] == "refreshed"
    assert record_of(report(rig, 0), was)["state"] == "healthy"
    now = rig.state(was.pod)
    rig.reload()
    rig.plugin("REPAIR", None).report(0)
    assert rig.state(was.pod) == now


def test_accepting_what_was_changed(rig: Rig) -> None:
    was = rig.attach("pod1")
    assert snapshot(rig).status == 0
    rig.ip("link set eth0 mtu 1400", was.pod)
    hint = "record kept: where what is missing or changed is meant to stay so, cni-repair snapshot"
    assert hint in snapshot(rig).out
    assert record_of(report(rig, 0, "--accept", was.pod.id), was)["outcome"] == "refreshed"
    now = rig.state(was.pod)
    rig.reload()
    rig.plugin("REPAIR", None).report(0)
    assert rig.state(was.pod) == now != was.state


@pytest.mark.parametrize("damage", ["link del eth0", "link set eth0 down"])
def test_accepting_does_not_take_a_damaged_interface_for_will(rig: Rig, damage: str) -> None:
    was = rig.attach("pod1")
    before = checkpoint(rig, was).read_bytes()
    rig.ip(damage, was.pod)
    assert record_of(report(rig, 0, "--accept", was.pod.id), was)["outcome"] == "kept"
    assert checkpoint(rig, was).read_bytes() == before


def test_accepting_needs_names(rig: Rig) -> None:
    rig.attach("pod1")
    assert snapshot(rig, "--accept").status == 2
    assert snapshot(rig, "--accept", "--check", "shop/pod1").status == 2
