"""REPAIR on a real kernel: lost and degraded interfaces come back as they were, and nothing else
is touched."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from tests.netns.rig import (
    GATEWAY4,
    GATEWAY6,
    HANG_SECONDS,
    UNUSUAL,
    Attachment,
    Json,
    Pod,
    Rig,
    entry_of,
    eventually,
    in_result,
    options,
    read_only,
    slow_but,
    states,
    without,
)


def lose(rig: Rig, pod: Pod, ifname: str = "eth0") -> None:
    """Take one pod's interface; the uplink stays."""
    rig.ip(f"link del {ifname}", pod)


def repair_all(rig: Rig, status: int = 0, conf: Json | None = None, **environ: str) -> Json:
    return rig.plugin("REPAIR", None, conf, **environ).report(status)


def assert_restored(rig: Rig, was: Attachment) -> None:
    assert rig.state(was.pod, was.ifname) == was.state


def rewrite(path: Path, change: Callable[[model.Checkpoint], model.Checkpoint]) -> None:
    """Change a checkpoint in a way that leaves it valid."""
    path.write_text(model.encode(change(model.decode(path.read_bytes(), path.name))))


# --- lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("netns", [None, ""], ids=["with CNI_NETNS", "without"])
def test_one_lost_pod_comes_back(rig: Rig, netns: str | None) -> None:
    was = rig.attach("pod1")
    connection = rig.connection(was.pod)
    connection.exchange("before the loss")
    rig.reload()
    assert "eth0" not in rig.links(was.pod)
    result = rig.plugin("REPAIR", was.pod, netns=netns).ok()
    assert result == was.result
    assert_restored(rig, was)
    connection.exchange("after the repair")
    assert rig.ping(was.pod, GATEWAY4)


def test_index_that_a_link_of_the_node_has(rig: Rig) -> None:
    was = rig.attach("pod1")
    index = was.state["addr"][0]["ifindex"]
    rig.uplink_down()
    rig.ip(f"link add other index {index} type bridge")
    rig.uplink_up()
    before = rig.node_links()
    rig.plugin("REPAIR", was.pod).ok()
    assert_restored(rig, was)
    assert rig.node_links() == before


SIZES = {"gso_max_size": 100_000, "gso_max_segs": 20, "gro_max_size": 200_000}
TWINS = {"gso_ipv4_max_size": 20_000, "gro_ipv4_max_size": 8000}  # since 6.3
QUEUES = {"num_tx_queues": 4, "num_rx_queues": 3}


def test_sizes_and_queues_of_the_link(rig: Rig) -> None:
    major, minor = os.uname().release.split(".")[:2]
    wanted = SIZES | (TWINS if (int(major), int(minor)) >= (6, 3) else {}) | QUEUES
    was = rig.attach("pod1")
    path = rig.checkpoint(was.pod)
    assert not any(word in path.read_text() for word in ("Size", "Queues"))  # they are as usual

    def given(checkpoint: model.Checkpoint) -> model.Checkpoint:
        attachment = checkpoint.attachment
        link = replace(attachment.link, **wanted)
        return replace(checkpoint, attachment=replace(attachment, link=link, settled=True))

    rewrite(path, given)
    there = entry_of(repair_all(rig, status=1), was.pod)
    assert len(there["actions"]) == len(wanted) - len(QUEUES)
    assert [one.partition(",")[0] for one in there["findings"]] == [
        "eth0 has num_tx_queues 1", "eth0 has num_rx_queues 1"
    ]  # fmt: skip
    assert all("only a new pod gets that back" in one for one in there["findings"])
    rig.reload()
    rig.plugin("REPAIR", was.pod).ok()
    (link,) = rig.ip_json("-d link show eth0", was.pod)
    told = {**SIZES, **QUEUES}
    assert {name: link[name] for name in told} == told
    assert entry_of(repair_all(rig), was.pod)["actions"] == []
    words = ["-o", "json", "--checkpoint-dir", str(rig.checkpoints)]
    assert rig.cli("snapshot", *words).status == 0
    kept = vars(model.decode(path.read_bytes(), path.name).attachment.link)
    assert {name: kept[name] for name in wanted} == wanted  # as the kernel shows them now


@pytest.mark.slow
def test_dual_stack_pod_and_its_open_connection(rig: Rig) -> None:
    conf = rig.conf(v6=True)
    was = rig.attach("pod1", conf, ipv6=True)
    connection = rig.connection(was.pod)
    connection.exchange("before the loss")
    rig.reload()
    assert rig.plugin("REPAIR", was.pod, conf).ok() == was.result
    assert rig.ip("addr show tentative scope global", was.pod) == ""  # at once
    assert_restored(rig, was)
    assert rig.ping(was.pod, GATEWAY4)
    assert rig.ping(was.pod, GATEWAY6)
    connection.exchange("after the repair")


@pytest.mark.slow
def test_ipv6_only_pod(rig: Rig) -> None:
    conf = rig.conf(v4=False, v6=True)
    was = rig.attach("pod1", conf, ipv6=True)
    rig.reload()
    rig.plugin("REPAIR", was.pod, conf).ok()
    assert_restored(rig, was)
    assert rig.ping(was.pod, GATEWAY6)


@pytest.mark.slow
def test_ipv4_only_pod_gets_its_link_local_address_too(rig: Rig) -> None:
    was = rig.attach("pod1", ipv6=True)
    rig.reload()
    rig.plugin("REPAIR", was.pod).ok()
    assert rig.ping(was.pod, GATEWAY4)
    assert_restored(rig, was)


@pytest.mark.parametrize(
    "changes",
    slow_but(
        [
            {"mode": "private"},
            {"mode": "vepa"},
            {"mode": "passthru"},
            {"mtu": 1400},
            {"mode": "bridge", "mtu": 1280},
        ],
        {"mode": "passthru"},
        {"mode": "bridge", "mtu": 1280},
    ),
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
def test_modes_and_mtu(rig: Rig, changes: dict[str, Any]) -> None:
    conf = rig.conf(**changes)
    was = rig.attach("pod1", conf)
    rig.reload()
    rig.plugin("REPAIR", was.pod, conf).ok()
    assert_restored(rig, was)


def test_pod_without_names(rig: Rig) -> None:
    """Other runtimes than kubelet's give no K8S_* arguments."""
    pod = rig.pod("pod1")
    rig.plugin("ADD", pod, CNI_ARGS="").ok()
    was = rig.state(pod)
    rig.reload()
    report = repair_all(rig)
    assert entry_of(report, pod)["pod"] == ""
    assert rig.state(pod) == was


def test_two_interfaces_over_two_masters(rig: Rig) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    first = rig.attach("pod1")
    ipam = {
        **rig.conf()["ipam"],
        "ranges": [[{"subnet": "10.8.0.0/24"}]],
        "routes": [{"dst": "192.0.2.0/24", "gw": "10.8.0.1"}],
    }
    conf = rig.conf(name="storage", master="eth1", ipam=ipam)
    second = rig.attach_pod(first.pod, conf, ifname="net1")
    rig.reload("eth0")
    rig.reload("eth1", ip="10.8.0.1")
    report = rig.cli("repair", "--all", "-o", "json", *options(rig)).report(0)
    assert [entry["ifname"] for entry in report["attachments"]] == ["eth0", "net1"]
    assert_restored(rig, first)
    assert_restored(rig, second)


def test_of_one_network_only(rig: Rig) -> None:
    mine = rig.attach("pod1")
    other = rig.attach("pod2", rig.conf(name="others", ipam=rig.conf()["ipam"]))
    rig.reload()
    assert states(repair_all(rig)) == {mine.pod.id: "healthy"}
    assert_restored(rig, mine)
    assert "eth0" not in rig.links(other.pod)


def test_default_directories_and_empty_stdin(rig: Rig) -> None:
    conf = rig.conf(checkpointDir=None, runDir=None)
    one, two = rig.attach("pod1", conf), rig.attach("pod2", {**conf, "name": "others"})
    rig.reload()
    report = rig.plugin("REPAIR", None, " ").report(0)
    assert report["summary"]["healthy"] == 2
    assert_restored(rig, one)
    assert_restored(rig, two)


def test_what_later_came_to_the_interface(rig: Rig) -> None:
    """After a CHECK the checkpoint knows what was added since ADD."""
    pod = rig.attach("pod1").pod
    for command in UNUSUAL:
        rig.ip(command, pod)
    rig.plugin("CHECK", pod, {**rig.conf(), "prevResult": rig.checkpoint_result(pod)}).ok()
    was = rig.state(pod)
    rig.reload()
    rig.plugin("REPAIR", pod).ok()
    assert rig.state(pod) == was


@pytest.mark.slow
def test_addresses_come_back_in_their_order(rig: Rig) -> None:
    """The kernel lists IPv4 addresses in the order of their coming, IPv6 ones the other way round;
    the first one is what it prefers as a source."""
    pod = rig.attach("pod1", ipv6=True).pod
    for number in (7, 8, 9):
        rig.ip(f"addr add 198.51.100.{number}/24 dev eth0", pod)
        rig.ip(f"addr add fd00:77::{number}/64 nodad dev eth0", pod)
    rig.plugin("CHECK", pod, {**rig.conf(), "prevResult": rig.checkpoint_result(pod)}).ok()
    was = rig.state(pod)
    rig.reload()
    rig.plugin("REPAIR", pod).ok()
    assert rig.state(pod)["addr"] == was["addr"]


# --- many, and twice -----------------------------------------------------------------------------


class Monitor:
    """`ip monitor all` of one namespace."""

    def __init__(self, rig: Rig, netns: Pod | None, stack: ExitStack, number: int) -> None:
        self._rig = rig
        self._netns = netns
        self._count = 0
        self._file = rig.base / f"monitor-{number}"
        self._file.touch()
        where = f"-n {netns.name} " if netns else ""
        stack.enter_context(
            rig.started("sh", "-c", f"exec ip {where}monitor all >{self._file} 2>&1")
        )
        eventually(lambda: self._marker("0a"), "ip monitor to listen", pause=0.1)

    def _marker(self, kind: str) -> bool:
        """Provoke one event of our own; whether one of its kind has been heard by now."""
        self._count += 1
        mac = f"02:00:00:00:{kind}:{self._count:02x}"
        self._rig.ip(f"neigh replace 192.0.2.77 lladdr {mac} dev lo nud permanent", self._netns)
        return f"02:00:00:00:{kind}" in self._file.read_text()

    def heard(self) -> str:
        """All that was heard since it began to listen."""
        eventually(lambda: self._marker("0b"), "ip monitor to answer", pause=0.1)
        lines = self._file.read_text().splitlines()
        return "\n".join(line for line in lines if "02:00:00:00:0" not in line)


@pytest.mark.slow
def test_twelve_lost_pods_in_one_go_and_silence_the_second_time(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(12)]
    rig.reload()
    report = repair_all(rig)
    assert report["summary"] == report["summary"] | {"attachments": 12, "healthy": 12, "failed": 0}
    for was in pods:
        assert_restored(rig, was)
    with ExitStack() as stack:
        places = [None, *(was.pod for was in pods)]
        monitors = [Monitor(rig, place, stack, number) for number, place in enumerate(places)]
        again = repair_all(rig)
        assert {monitor.heard() for monitor in monitors} == {""}
    assert all(entry["actions"] == [] for entry in again["attachments"])


def sent(rig: Rig, pod: Pod) -> set[str]:
    """The kinds of rtnetlink messages that one REPAIR sends, and packets of any sort."""
    trace = rig.base / "trace"
    done = rig.run(
        "strace", "-f", "-o", str(trace), "-e", "trace=sendto,sendmsg,sendmmsg",
        "-e", "abbrev=none", rig.launcher(),
        stdin=json.dumps(rig.conf()),
        env=rig.environ("REPAIR", pod),
    )  # fmt: skip
    done.ok()
    text = trace.read_text()
    packets = re.findall(r"sendto\(\d+, \"", text)
    kinds = {_kind_of(word) for word in re.findall(r"nlmsg_type=(\w+)", text)}
    return {*kinds, *(["packet"] if packets else [])}


def _kind_of(word: str) -> str:
    """strace cannot tell what sort of netlink a pod's socket speaks, and gives a number then."""
    names = {16: "RTM_NEWLINK", 18: "RTM_GETLINK", 20: "RTM_NEWADDR", 22: "RTM_GETADDR"}
    names |= {24: "RTM_NEWROUTE", 26: "RTM_GETROUTE", 90: "RTM_GETNSID"}
    return names.get(int(word, 16), word) if word.startswith("0x") else word


@pytest.mark.slow
def test_second_repair_sends_questions_only(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    first = sent(rig, was.pod)
    assert {"RTM_NEWLINK", "RTM_NEWADDR", "RTM_NEWROUTE"} <= first
    second = sent(rig, was.pod)
    assert {kind for kind in second if not kind.startswith("RTM_GET")} == set()
    assert "RTM_GETLINK" in second


@pytest.mark.slow
def test_two_at_once_end_as_if_one_had_waited(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(6)]
    for _ in range(3):
        rig.reload()
        stdin, environ = json.dumps(rig.conf()), rig.environ("REPAIR", None)
        with (
            rig.started(rig.launcher(), stdin=stdin, env=environ) as one,
            rig.started(rig.launcher(), stdin=stdin, env=environ) as two,
        ):
            for process in (one, two):
                out, err = process.communicate(timeout=HANG_SECONDS)
                assert process.returncode == 0, (out, err)
                assert json.loads(out)["summary"]["healthy"] == 6
        for was in pods:
            assert_restored(rig, was)


@pytest.mark.slow
def test_against_del_nothing_is_left(rig: Rig) -> None:
    chance = random.Random(2)
    pod = rig.pod("pod1")
    conf = json.dumps(rig.conf())
    for _ in range(20):
        rig.attach_pod(pod)
        lose(rig, pod)
        order = ["REPAIR", "DEL"]
        chance.shuffle(order)
        with ExitStack() as stack:
            processes = {}
            for verb in order:
                environ = rig.environ(verb, pod)
                processes[verb] = stack.enter_context(
                    rig.started(rig.launcher(), stdin=conf, env=environ)
                )
                time.sleep(chance.uniform(0, 0.06))  # the offset is what is tested
            said = {
                verb: process.communicate(timeout=HANG_SECONDS)
                for verb, process in processes.items()
            }
        assert processes["DEL"].returncode == 0, said
        assert "eth0" not in rig.links(pod), said
        assert rig.leases() == {}, said
        assert rig.kept() == [], said


# --- degraded ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        (["link set eth0 down"], ["up", "route add"]),
        (["addr del {address}/24 dev eth0"], ["address add", "route add"]),
        (
            ["addr add 198.51.100.7/24 dev eth0", "addr del {address}/24 dev eth0"],
            ["address add"],
        ),
        (["route del default"], ["route add"]),
        (
            ["addr flush dev eth0", "link set eth0 down"],
            ["up", "address add", "route add"],
        ),
    ],
    ids=["down", "last address and route", "address", "route", "all"],
)
def test_degraded_gets_back_what_is_missing(rig: Rig, damage: list[str], mended: list[str]) -> None:
    was = rig.attach("pod1")
    for command in damage:
        rig.ip(command.format(address=was.address), was.pod)
    actions = entry_of(repair_all(rig), was.pod)["actions"]
    rig.ip("addr del 198.51.100.7/24 dev eth0", was.pod, check=False)
    assert_restored(rig, was)
    assert rig.ping(was.pod, GATEWAY4)
    done = [action for action in actions if " sysctl " not in action]
    assert len(done) == len(mended)
    assert all(word in action for word, action in zip(mended, done)), actions


def test_what_the_pod_added_stays(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("addr add 198.51.100.7/24 dev eth0", was.pod)
    rig.ip("route add 192.0.2.0/24 via 198.51.100.1", was.pod)
    rig.sysctl(was.pod, "net/ipv4/conf/eth0/arp_notify", "0")
    more = rig.state(was.pod)
    rig.ip("route del default", was.pod)
    rig.ip(f"addr del {was.address}/24 dev eth0", was.pod)
    assert len(entry_of(repair_all(rig), was.pod)["actions"]) == 2
    now = rig.state(was.pod)

    def key(info: Json) -> str:
        return str(info["local"])

    for state in (more, now):  # the order of addresses is that of their coming
        state["addr"][0]["addr_info"].sort(key=key)
    assert now == more


def test_half_made_link_is_finished(rig: Rig) -> None:
    """A REPAIR that was killed between create and up."""
    was = rig.attach("pod1")
    rig.ip("link set eth0 down", was.pod)
    rig.ip("addr flush dev eth0", was.pod)
    for key in ("arp_notify", "rp_filter"):
        default = rig.sysctl(was.pod, f"net/ipv4/conf/default/{key}")
        rig.sysctl(was.pod, f"net/ipv4/conf/eth0/{key}", default)
    repair_all(rig)
    assert_restored(rig, was)


def test_killed_in_the_middle_the_next_one_finishes(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()
    die = """
import os
from cni_repair.network import apply
apply._PodWork.add = lambda *a: os.kill(os.getpid(), 9)
"""
    assert rig.plugin("REPAIR", was.pod, patch=die).status == -9
    assert rig.links(was.pod)["eth0"]["operstate"] == "DOWN"
    rig.plugin("REPAIR", was.pod).ok()
    assert_restored(rig, was)


def test_ifindex_taken_in_the_pod(rig: Rig) -> None:
    was = rig.attach("pod1")
    index = was.state["addr"][0]["ifindex"]
    rig.reload()
    rig.ip(f"link add br9 index {index} type bridge", was.pod)
    found = rig.cli("status", "-o", "json", "--checkpoint-dir", str(rig.checkpoints)).report(1)
    assert "br9" in str(entry_of(found, was.pod)["findings"])
    repair_all(rig)
    now = rig.state(was.pod)
    assert now["addr"][0].pop("ifindex") != was.state["addr"][0].pop("ifindex")
    assert now == was.state
    assert rig.links(was.pod)["br9"]["ifindex"] == index
    assert entry_of(repair_all(rig), was.pod)["actions"] == []


# --- not ours ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "commands",
    [
        ["link add eth0 index {index} type bridge"],
        ["link add eth0 index {index} type veth peer name far"],
        [
            "link add own type veth peer name far",
            "link add link own name eth0 index {index} address {mac} type macvlan mode bridge",
            "link set eth0 up",
            "addr add {address}/24 dev eth0",
        ],
        ["link add br0 type bridge", "link property add dev br0 altname eth0"],
    ],
    ids=["bridge", "veth", "macvlan over the pod's own", "altname"],
)
def test_foreign_is_never_touched(rig: Rig, commands: list[str]) -> None:
    was, good = rig.attach("pod1"), rig.attach("pod2")
    rig.reload()
    link = was.state["addr"][0]
    for command in commands:
        words = command.format(index=link["ifindex"], mac=link["address"], address=was.address)
        rig.ip(words, was.pod)
    rig.settle(was.pod)
    squatted = rig.ip("-d addr show", was.pod)
    report = repair_all(rig, status=1)
    assert states(report) == {was.pod.id: "foreign", good.pod.id: "healthy"}
    rig.plugin("REPAIR", was.pod).error(102)
    assert rig.ip("-d addr show", was.pod) == squatted
    assert_restored(rig, good)


def test_macvlan_over_another_link_of_the_node_is_foreign(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_up("eth1", "10.8.0.1")
    rig.reload()
    # (By two steps: before Linux 6.15 the node's own eth0 is in the way of one.)
    rig.ip("link add link eth1 name other type macvlan mode bridge")
    rig.ip(f"link set other netns {was.pod.name} name eth0")
    rig.settle(was.pod)
    squatted = rig.ip("-d addr show", was.pod)
    assert states(repair_all(rig, status=1)) == {was.pod.id: "foreign"}
    assert rig.ip("-d addr show", was.pod) == squatted


# --- stale ---------------------------------------------------------------------------------------


def test_netns_gone(rig: Rig) -> None:
    gone, good = rig.attach("pod1"), rig.attach("pod2")
    rig.reload()
    rig.drop_pod(gone.pod)
    assert states(repair_all(rig, status=0)) == {gone.pod.id: "stale", good.pod.id: "healthy"}
    rig.plugin("REPAIR", gone.pod).error(103)
    assert_restored(rig, good)


@pytest.mark.parametrize("inode_recurs", [False, True])
def test_netns_name_used_again(rig: Rig, inode_recurs: bool) -> None:
    was = rig.attach("pod1")
    rig.reload()
    rig.drop_pod(was.pod)
    other = rig.pod("pod1")
    if inode_recurs:
        status = os.stat(rig.outside(other.path))

        def recur(one: model.Checkpoint) -> model.Checkpoint:
            assert one.netns is not None
            assert one.netns.cookie is not None
            netns = replace(one.netns, dev=status.st_dev, ino=status.st_ino)
            return replace(one, netns=netns)

        rewrite(rig.checkpoint(was.pod), recur)
    assert states(repair_all(rig, status=0)) == {was.pod.id: "stale"}
    words = rig.plugin("REPAIR", was.pod).error(103)
    assert ("cookie" in words) == inode_recurs
    assert set(rig.links(other)) == {"lo"}


def test_after_a_reboot_nothing_is_made(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload()

    def reboot(one: model.Checkpoint) -> model.Checkpoint:
        assert one.netns is not None
        return replace(one, netns=replace(one.netns, boot_id="not this one"))

    rewrite(rig.checkpoint(was.pod), reboot)
    assert states(repair_all(rig, status=0)) == {was.pod.id: "stale"}
    assert "reboot" in rig.plugin("REPAIR", was.pod).error(103)
    assert set(rig.links(was.pod)) == {"lo"}


@pytest.mark.parametrize(
    "where", slow_but(["another pod", "the node", "no namespace", "missing"], "another pod")
)
def test_other_netns_than_the_identified_is_refused(rig: Rig, where: str) -> None:
    was = rig.attach("pod1")
    other = rig.pod("pod2")
    rig.reload()
    (rig.base / "file").touch()
    path = {
        "another pod": other.path,
        "the node": "/proc/self/ns/net",
        "no namespace": str(rig.base / "file"),
        "missing": "/nowhere",
    }[where]
    node = rig.node_links()
    rig.plugin("REPAIR", was.pod, netns=path).error(103)
    assert set(rig.links(was.pod)) == set(rig.links(other)) == {"lo"}
    assert rig.node_links() == node


def test_pid_used_again(rig: Rig) -> None:
    """/proc/PID/ns/net of a dead pod leads to another pod, or to the node's own namespace."""
    pod = rig.pod("pod1")
    with rig.started_in(pod, "sleep", "600") as process:
        path = f"/proc/{process.pid}/ns/net"
        rig.plugin("ADD", pod, netns=path).ok()
        was = rig.state(pod)
        rig.reload()
        assert states(repair_all(rig)) == {pod.id: "healthy"}
        assert rig.state(pod) == was
        rig.reload()

        def older(one: model.Checkpoint) -> model.Checkpoint:
            assert one.netns is not None
            assert one.netns.pid_start is not None
            return replace(one, netns=replace(one.netns, pid_start=one.netns.pid_start - 1))

        rewrite(rig.checkpoint(pod), older)
        assert states(repair_all(rig, status=0)) == {pod.id: "stale"}
        assert set(rig.links(pod)) == {"lo"}
        # The caller knows where the pod lives now, and it is the same namespace.
        rig.plugin("REPAIR", pod, netns=pod.path).ok()
        assert rig.state(pod) == was


# --- the disk ------------------------------------------------------------------------------------


def full(rig: Rig) -> None:
    path = rig.checkpoints
    kept = {file.name: file.read_bytes() for file in path.iterdir()}
    rig.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(path))
    outside = Path(rig.outside(str(path)))
    for name, data in kept.items():
        (outside / name).write_bytes(data)
        (outside / name).chmod(0o600)
    done = rig.run("dd", "if=/dev/zero", f"of={path}/.ballast", "bs=4096", check=False)
    assert "No space left" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [read_only, full])
def test_works_without_a_writable_disk(rig: Rig, spoil: Callable[[Rig], None]) -> None:
    was = rig.attach("pod1")
    spoil(rig)
    rig.reload()
    repair_all(rig)
    assert_restored(rig, was)
    lose(rig, was.pod)
    rig.plugin("REPAIR", was.pod).ok()
    assert_restored(rig, was)


@pytest.mark.parametrize("spoil", [read_only, full])
def test_add_refuses_before_it_changes_anything(rig: Rig, spoil: Callable[[Rig], None]) -> None:
    was = rig.attach("pod1")
    spoil(rig)
    rig.write_plugin("macvlan", f"#!/bin/sh\ntouch {rig.base}/called\nexit 1\n")
    pod = rig.pod("pod2")
    leases = rig.leases()
    assert str(rig.checkpoints) in rig.plugin("ADD", pod).error(5)
    assert not (rig.base / "called").exists()
    assert set(rig.links(pod)) == {"lo"}
    assert rig.leases() == leases
    kept = os.listdir(rig.outside(str(rig.checkpoints)))
    assert sorted(set(kept) - {".ballast"}) == [rig.checkpoint(was.pod).name]


@pytest.mark.parametrize("more_than_recorded", [False, True])
def test_check_of_a_healthy_pod_needs_no_writable_disk(rig: Rig, more_than_recorded: bool) -> None:
    was = rig.attach("pod1")
    read_only(rig)
    if more_than_recorded:
        rig.ip("route add 203.0.113.0/24 via 10.9.0.1", was.pod)
    rig.plugin("CHECK", was.pod, {**rig.conf(), "prevResult": was.result}).ok()


# --- checkpoints that cannot be used -------------------------------------------------------------


class Spoilt:
    """A good attachment beside one whose checkpoint gets spoilt."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.good = rig.attach("pod1")
        self.bad = rig.attach("pod2")
        self.path = rig.checkpoint(self.bad.pod)
        self.whole = self.path.read_bytes()


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoilt]:
    with Rig(tmp_path_factory.mktemp("spoilt")) as rig:
        yield Spoilt(rig)


def _symlink(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _newer(path: Path) -> None:
    path.write_text(path.read_text().replace('"schemaVersion":1', '"schemaVersion":2', 1))


SPOILS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: os.truncate(path, path.stat().st_size // 2),
    "NUL": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "not UTF-8": lambda path: path.write_bytes(path.read_bytes().replace(b"shop", b"sh\xffp")),
    "no object": lambda path: path.write_bytes(b"[1, 2]"),
    "no JSON": lambda path: path.write_bytes(b"{'a': 1}"),
    "100,000 brackets": lambda path: path.write_bytes(b"[" * 100_000),
    "100,000 braces": lambda path: path.write_bytes(b'{"a":' * 100_000),
    "8 MB": lambda path: path.write_bytes(b'{"a":"' + b"x" * (8 << 20) + b'"}'),
    "another's": lambda path: os.chown(path, 12345, 12345),
    "writable by all": lambda path: path.chmod(0o666),
    "symlink": _symlink,
    "newer": _newer,
    "bit flip": lambda path: path.write_bytes(path.read_bytes().replace(b"10.9.0.3", b"10.9.0.7")),
    "folded key": lambda path: path.write_bytes(
        path.read_bytes().replace(b'{"schemaVersion"', b'{"SchemaVersion":1,"schemaVersion"', 1)
    ),
    "directory": _directory,
    "FIFO": _fifo,
    "another's document": lambda path: path.write_bytes(
        next(p for p in path.parent.glob("pod1*")).read_bytes()
    ),
}


@pytest.mark.parametrize(
    "kind", slow_but(SPOILS, "empty", "torn", "100,000 brackets", "symlink", "newer")
)
def test_unusable_checkpoint_is_named_and_the_rest_repaired(spoilt: Spoilt, kind: str) -> None:
    rig, path = spoilt.rig, spoilt.path
    try:
        SPOILS[kind](path)
        lose(rig, spoilt.good.pod)
        lose(rig, spoilt.bad.pod)
        report = repair_all(rig, status=1)
        assert states(report) == {
            spoilt.bad.pod.id: "unreadable",
            spoilt.good.pod.id: "healthy",
        }
        error = entry_of(report, spoilt.bad.pod)["error"]
        assert path.name in error["details"]
        assert kind != "newer" or "newer than this cni-repair" in error["details"]
        assert_restored(rig, spoilt.good)
        assert "eth0" not in rig.links(spoilt.bad.pod)
        assert path.name in rig.plugin("REPAIR", spoilt.bad.pod).error(105)
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(spoilt.whole)
        path.chmod(0o600)
    repair_all(rig)
    assert_restored(rig, spoilt.bad)


# --- hostile and unlucky pods --------------------------------------------------------------------


@pytest.mark.slow
def test_pod_with_ten_thousand_routes_fails_alone(rig: Rig) -> None:
    hostile, good = rig.attach("pod1"), rig.attach("pod2")
    batch = "".join(f"route add 100.{i >> 8}.{i & 255}.0/24 dev eth0\n" for i in range(10_000))
    rig.run("ip", "-n", hostile.pod.name, "-batch", "-", stdin=batch)
    rig.ip("link del eth0", good.pod)
    report = repair_all(rig, status=1)
    assert entry_of(report, hostile.pod)["state"] == "degraded"
    assert "4096" in entry_of(report, hostile.pod)["error"]["msg"]
    assert entry_of(report, good.pod)["state"] == "healthy"
    assert_restored(rig, good)


def test_mac_taken_meanwhile(rig: Rig) -> None:
    was, good = rig.attach("pod1"), rig.attach("pod2")
    rig.reload()
    mac = was.state["addr"][0]["address"]
    rig.ip(f"link add thief link eth0 address {mac} type macvlan mode bridge")
    rig.ip("link set thief up")
    report = repair_all(rig, status=1)
    assert states(report) == {was.pod.id: "lost", good.pod.id: "healthy"}
    assert "MAC" in entry_of(report, was.pod)["error"]["details"]
    assert set(rig.links(was.pod)) == {"lo"}
    assert_restored(rig, good)
    rig.ip("link del thief")
    repair_all(rig)
    assert_restored(rig, was)


def test_interface_that_the_pod_renamed(rig: Rig) -> None:
    """The pod's own doing, told and left alone (test_renamed has more)."""
    was, good = rig.attach("pod1"), rig.attach("pod2")
    rig.ip("link set eth0 down", was.pod)
    rig.ip("link set eth0 name mine", was.pod)
    rig.ip("link set mine up", was.pod)
    lose(rig, good.pod)
    rig.settle(was.pod)
    before = rig.ip("-d addr show", was.pod)
    assert states(repair_all(rig)) == {was.pod.id: "renamed", good.pod.id: "healthy"}
    assert rig.ip("-d addr show", was.pod) == before
    assert_restored(rig, good)


def test_pod_that_somebody_works_on_holds_up_no_other(rig: Rig) -> None:
    was, good = rig.attach("pod1"), rig.attach("pod2")
    rig.reload()
    patch = "from cni_repair.repair import scheduler\nscheduler._LOCK_SECONDS = 0.3"
    with (rig.base / "run" / f"{was.pod.id}@eth0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = rig.plugin("REPAIR", patch=patch).report(1)
    assert entry_of(report, was.pod)["error"]["code"] == 11
    assert_restored(rig, good)
    repair_all(rig)
    assert_restored(rig, was)


@pytest.mark.slow
def test_ipv6_address_taken_meanwhile(rig: Rig) -> None:
    conf = rig.conf(v6=True)
    was = rig.attach("pod1", conf, ipv6=True)
    taken = str(was.result["ips"][1]["address"]).partition("/")[0]
    rig.reload()
    rig.ip(f"addr add {taken}/64 dev tor0 nodad", "tor")
    entry = entry_of(repair_all(rig, 1, conf), was.pod)
    assert entry["state"] == "degraded"
    assert taken in str(entry["findings"])
    assert "dadfailed" in str(entry["findings"])
    assert rig.ping(was.pod, GATEWAY4)


def test_smaller_mtu_of_the_new_master(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.reload(mtu=1400)
    report = repair_all(rig, status=1)
    entry = entry_of(report, was.pod)
    assert entry["state"] == "lost"
    assert "ip link set dev eth0 mtu 1500, then cni-repair repair again" in str(entry["findings"])
    assert set(rig.links(was.pod)) == {"lo"}
    rig.ip("link set eth0 mtu 1500")
    repair_all(rig)
    assert_restored(rig, was)


def test_smaller_mtu_of_the_new_master_of_a_settled_record(rig: Rig) -> None:
    """Smaller packets meanwhile, not none; and the reason says what to do."""
    was = rig.attach("pod1")
    assert rig.cli("snapshot", "--checkpoint-dir", str(rig.checkpoints)).status == 0
    rig.reload(mtu=1400)
    entry = entry_of(repair_all(rig, status=1), was.pod)
    assert entry["state"] == "degraded"
    assert entry["findings"] == [
        "eth0 has MTU 1400, it had 1500: its master eth0 has 1400: ip link set dev eth0 mtu 1500,"
        " then cni-repair repair again"
    ]
    assert rig.ping(was.pod, "10.9.0.1")
    rig.ip("link set eth0 mtu 1500")
    assert len(entry_of(repair_all(rig), was.pod)["actions"]) == 1
    assert_restored(rig, was)


@pytest.mark.slow
@pytest.mark.parametrize("one", [True, False], ids=["one", "all"])
def test_master_that_does_not_come(rig: Rig, one: bool) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    conf = rig.conf(masterTimeout=0.3)
    started = time.monotonic()
    if one:
        words = rig.plugin("REPAIR", was.pod, conf).error(11)
    else:
        entry = entry_of(repair_all(rig, 1, conf), was.pod)
        assert entry["state"] == "lost"
        assert entry["error"]["code"] == 11
        words = entry["error"]["msg"]
    assert time.monotonic() - started > 0.3
    assert "eth0" in words
    assert set(rig.links(was.pod)) == {"lo"}


def test_master_that_comes_late(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    stdin = json.dumps(rig.conf(masterTimeout=2 * HANG_SECONDS))
    with rig.started(rig.launcher(), stdin=stdin, env=rig.environ("REPAIR", was.pod)) as process:
        eventually((rig.base / "run" / "parents.lock").exists, "REPAIR to look for the master")
        assert process.poll() is None
        rig.uplink_up()
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, (out, err)
    assert_restored(rig, was)


def test_master_of_another_kind_is_refused(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    rig.ip("link add eth0 type bridge")
    rig.ip("link set eth0 up")
    entry = entry_of(repair_all(rig, 1), was.pod)
    assert entry["error"]["code"] == 107
    assert "bridge" in entry["error"]["msg"]
    assert set(rig.links(was.pod)) == {"lo"}


def test_master_down_is_reported_and_the_pod_configured(rig: Rig) -> None:
    """Address, up and route succeed over a master that is down: all is there when it comes up."""
    was = rig.attach("pod1")
    rig.uplink_down()
    rig.ip("link add eth0 mtu 1500 type veth peer name tor0 netns tor")
    patch = "from cni_repair.repair import scheduler\nscheduler.SETTLE_SECONDS = 0.2"
    report = rig.plugin("REPAIR", None, patch=patch).report(1)
    entry = entry_of(report, was.pod)
    assert entry["state"] == "degraded"
    assert "carrier" in str(entry["findings"])
    rig.ip("addr add 10.9.0.1/24 dev tor0", "tor")
    rig.ip("link set tor0 up", "tor")
    rig.ip("link set eth0 up")
    repair_all(rig)
    assert_restored(rig, was)


# --- the seed's checkpoints ----------------------------------------------------------------------


def as_seed(rig: Rig, was: Attachment, netns: str, directory: Path | None = None) -> None:
    """Replace our checkpoint by one as the seed's plugin wrote it."""
    directory = directory or rig.checkpoints
    (directory / rig.checkpoint(was.pod).name).unlink()
    path = directory / was.pod.id[:12]
    result = without(was.result, ["cniVersion"])
    result["interfaces"][0]["sandbox"] = netns
    result["ips"] = [{"version": "4", **address} for address in result["ips"]]
    document = {
        "netns": netns,
        "podname": was.pod.name,
        "sandbox": was.pod.id,
        "ifname": "eth0",
        "result": result,
    }
    path.write_text(json.dumps(document))
    path.chmod(0o644)  # the seed's plugin took the umask's word


def seed_conf(rig: Rig) -> Json:
    """The production configuration, but for vlanID: this kernel has no 8021q."""
    conf = rig.conf(master="bond4", master2="eth0", checkpointDir=None)
    return {**conf, "checkDir": str(rig.checkpoints)}


def test_seed_checkpoint_with_the_netns_given(rig: Rig) -> None:
    was = rig.attach("pod1", seed_conf(rig))
    as_seed(rig, was, "/proc/111576/ns/net")
    rig.reload()
    result = rig.plugin("REPAIR", was.pod, seed_conf(rig)).ok()
    assert result["cniVersion"] == "1.0.0"
    assert result["ips"] == [without(entry, ["version"]) for entry in was.result["ips"]]
    assert in_result(rig.state(was.pod)) == in_result(was.state)
    assert rig.ping(was.pod, GATEWAY4)
    assert rig.plugin("REPAIR", was.pod, seed_conf(rig)).ok() == result


@pytest.mark.slow
def test_seed_checkpoint_with_several_addresses_of_each_family(rig: Rig) -> None:
    addresses = ["10.9.0.7/24", "10.9.0.8/24", "fd00:9::7/64", "fd00:9::8/64"]
    ipam = {
        "type": "static",
        "addresses": [{"address": address} for address in addresses],
        "routes": [{"dst": "0.0.0.0/0", "gw": GATEWAY4}, {"dst": "::/0", "gw": GATEWAY6}],
    }
    conf = {**seed_conf(rig), "ipam": ipam}
    was = rig.attach("pod1", conf, ipv6=True)
    as_seed(rig, was, "/proc/111576/ns/net")
    rig.reload()
    rig.plugin("REPAIR", was.pod, conf).ok()
    assert in_result(rig.state(was.pod)) == in_result(was.state)


def test_seed_checkpoint_whose_process_is_of_the_sandbox(rig: Rig) -> None:
    was = rig.attach("pod1", seed_conf(rig))
    with rig.started_in(was.pod, "sleep", "600") as process:
        cgroup = rig.base / "cgroup"
        as_seed(rig, was, f"/proc/{process.pid}/ns/net")
        rig.reload()
        cgroup.write_text("0::/kubepods/pod1234/0123456789ab\n")
        rig.run("mount", "--bind", str(cgroup), f"/proc/{process.pid}/cgroup")
        assert states(repair_all(rig, 0, seed_conf(rig))) == {was.pod.id: "stale"}
        assert set(rig.links(was.pod)) == {"lo"}
        cgroup.write_text(f"0::/kubepods/pod1234/{was.pod.id}\n")
        assert states(repair_all(rig, 0, seed_conf(rig))) == {was.pod.id: "healthy"}
        rig.run("umount", f"/proc/{process.pid}/cgroup")
    assert in_result(rig.state(was.pod)) == in_result(was.state)


def test_seed_checkpoint_of_the_node_itself_is_stale(rig: Rig) -> None:
    was = rig.attach("pod1", seed_conf(rig))
    as_seed(rig, was, "/proc/self/ns/net")
    rig.reload()
    node = rig.node_links()
    assert states(repair_all(rig, 0, seed_conf(rig))) == {was.pod.id: "stale"}
    rig.plugin("REPAIR", was.pod, seed_conf(rig), netns="/proc/self/ns/net").error(103)
    assert rig.node_links() == node


def test_seed_checkpoint_without_a_configuration(rig: Rig) -> None:
    conf = {**seed_conf(rig), "checkDir": "/var/lib/cni-repair/checkpoints"}
    del conf["runDir"]
    was = rig.attach("pod1", conf)
    directory = Path(rig.outside("/var/lib/cni-repair/checkpoints"))
    as_seed(rig, was, was.pod.path, directory)
    rig.reload()
    report = rig.plugin("REPAIR", None, " ").report(1)
    (entry,) = report["attachments"]
    assert "stdin" in entry["error"]["details"]
    assert "--conf" in rig.plugin("REPAIR", was.pod, " ").error(105)
    assert set(rig.links(was.pod)) == {"lo"}
    rig.plugin("REPAIR", was.pod, conf).ok()
    assert in_result(rig.state(was.pod)) == in_result(was.state)
