"""What `cni-repair plan` prints is what a repair does: a shell brings the pods back with it."""

from __future__ import annotations

import json

import pytest

from tests.netns.rig import UNUSUAL, Json, Pod, Rig, entry_of, options, slow_but, states


def play(rig: Rig) -> str:
    """Run the printed commands in a shell on the node; the script."""
    planned = rig.cli("plan", *options(rig))
    assert planned.status == 1
    rig.run("sh", "-eu", stdin=planned.out)
    return planned.out


def found(rig: Rig, status: int = 0) -> Json:
    return rig.cli("status", "-o", "json", *options(rig)).report(status)


def test_lost_pods(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}", rig.conf(mtu=1400, mode="private")) for number in range(3)]
    rig.reload()
    play(rig)
    assert set(states(found(rig)).values()) == {"healthy"}
    for was in pods:
        assert rig.state(was.pod) == was.state


@pytest.mark.parametrize(
    "damage",
    slow_but(
        ["link set eth0 down", "addr flush dev eth0", "route del default"], "addr flush dev eth0"
    ),
    ids=["down", "addresses", "route"],
)
def test_degraded_pod(rig: Rig, damage: str) -> None:
    was = rig.attach("pod1")
    rig.ip(damage, was.pod)
    assert states(found(rig, 1)) == {was.pod.id: "degraded"}
    play(rig)
    assert states(found(rig)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def test_unusual_addresses_and_routes(rig: Rig) -> None:
    pod = rig.attach("pod1").pod
    for command in UNUSUAL:
        rig.ip(command, pod)
    rig.plugin("CHECK", pod, {**rig.conf(), "prevResult": rig.checkpoint_result(pod)}).ok()
    was = rig.state(pod)
    rig.reload()
    play(rig)
    assert states(found(rig)) == {pod.id: "healthy"}
    assert rig.state(pod) == was


@pytest.mark.slow
def test_dual_stack_pod(rig: Rig) -> None:
    conf = rig.conf(v6=True)
    was = rig.attach("pod1", conf, ipv6=True)
    rig.ip("-6 addr add fd00:77::1/64 nodad dev eth0", was.pod)
    rig.ip("-6 route add fd00:99::/64 via fd00:77::2 dev eth0 metric 5 mtu 1300", was.pod)
    rig.plugin("CHECK", was.pod, {**conf, "prevResult": was.result}).ok()
    state = rig.state(was.pod)
    rig.reload()
    play(rig)
    rig.settle(was.pod)
    assert states(found(rig)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == state


def test_path_with_blanks_and_quotes(rig: Rig) -> None:
    pod = rig.pod("pod1")
    directory = rig.base / "it's $HOME; a pod"
    directory.mkdir()
    path = directory / "net"
    path.touch()
    rig.run("mount", "--bind", pod.path, str(path))
    rig.plugin("ADD", pod, netns=str(path)).ok()
    was = rig.state(pod)
    rig.reload()
    play(rig)
    assert states(found(rig)) == {pod.id: "healthy"}
    assert rig.state(pod) == was


def test_every_way_to_ask_gives_the_same_commands(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    script = rig.cli("plan", *options(rig))
    assert rig.cli("repair", "--all", "--dry-run", *options(rig)) == script
    (entry,) = rig.cli("plan", "-o", "json", *options(rig)).report(1)["attachments"]
    commands = [line for line in script.out.splitlines() if not line.startswith("#")]
    assert entry["actions"] == commands
    assert set(rig.links(was.pod)) == {"lo"}  # asking changes nothing
    done = entry_of(rig.plugin("REPAIR").report(0), was.pod)
    assert done["actions"] == commands


def test_nothing_to_do(rig: Rig) -> None:
    rig.attach("pod1")
    outcome = rig.cli("plan", *options(rig))
    assert outcome.status == 0
    assert all(line.startswith("#") for line in outcome.out.splitlines())


def test_foreign_and_stale_pods_get_no_commands(rig: Rig) -> None:
    foreign, stale = rig.attach("pod1"), rig.attach("pod2")
    rig.reload()
    rig.ip("link add eth0 type bridge", foreign.pod)
    rig.drop_pod(stale.pod)
    report = json.loads(rig.cli("plan", "-o", "json", *options(rig)).out)
    assert states(report) == {foreign.pod.id: "foreign", stale.pod.id: "stale"}
    assert all(entry["actions"] == [] for entry in report["attachments"])
    before = rig.ip("-d link", foreign.pod)
    play(rig)
    assert rig.ip("-d link", foreign.pod) == before


def test_one_pod_by_its_names(rig: Rig) -> None:
    one, two = rig.attach("pod1"), rig.attach("pod2")
    rig.reload()
    for name in (one.pod.id, one.pod.id[:6], "shop/pod1"):
        report = json.loads(rig.cli("plan", name, "-o", "json", *options(rig)).out)
        assert states(report) == {one.pod.id: "lost"}
    assert rig.cli("repair", "shop/pod1", *options(rig)).status == 0
    assert states(found(rig, 1)) == {one.pod.id: "healthy", two.pod.id: "lost"}
    assert "ambiguous" in rig.cli("plan", "pod", *options(rig)).err
    assert rig.cli("repair", Pod("pod9").id, *options(rig)).status == 2
