"""Armed repairs: prepared while the master is away, fired once it is back, and each of the doubts
that leaves a pod to the ordinary way."""

from __future__ import annotations

import fcntl
import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni_repair.demo.lab import kernel_has_vlans
from cni_repair.repair.scheduler import usable_processors
from tests.netns.armedrig import TAKEN, arming, healed
from tests.netns.rig import (
    GATEWAY4,
    Attachment,
    Json,
    Pod,
    Rig,
    entry_of,
    eventually,
    options,
    states,
)
from tests.netns.watching import watching
from tests.processes import is_alive

pytestmark = pytest.mark.slow  # many, though each is short

Change = Callable[[Rig, Attachment], object]


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_all_are_as_they_were(rig: Rig, processes: int) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(1, 4)]
    rig.uplink_down()
    with arming(rig, processes) as armed:
        assert (armed.count, armed.refused) == (3, {})
        assert len(armed.workers()) == processes
        rig.uplink_up()
        document = armed.fire()
    assert armed.missed == {}
    for was in pods:
        assert rig.state(was.pod) == was.state
        actions = healed(document, was.pod)["actions"]
        assert actions[0].startswith("ip link add link eth0 name eth0")
        assert rig.ping(was.pod, GATEWAY4)
    again = rig.plugin("REPAIR").report(0)
    assert [entry["actions"] for entry in again["attachments"]] == [[], [], []]


def test_report_is_that_of_an_unarmed_repair(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    with arming(rig) as armed:
        rig.uplink_up()
        document = armed.fire()
    rig.reload()
    unarmed = rig.plugin("REPAIR").report(0)
    assert entry_of(document, was.pod) == entry_of(unarmed, was.pod)
    assert document["summary"] == unarmed["summary"]


def test_ipv6(rig: Rig) -> None:
    was = rig.attach("pod1", rig.conf(v6=True), ipv6=True)
    rig.uplink_down()
    with arming(rig) as armed:
        assert (armed.count, armed.refused) == (1, {})
        rig.uplink_up()
        entry = healed(armed.fire(), was.pod)
    assert armed.missed == {}
    assert any("address add" in action for action in entry["actions"])
    assert rig.state(was.pod) == was.state


def test_two_interfaces_over_two_uplinks(rig: Rig) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    pod = rig.pod("pod1")
    ranges = [[{"subnet": "10.8.0.0/24"}]]
    second = rig.conf(
        name="second", master="eth1", ipam={**rig.conf()["ipam"], "ranges": ranges, "routes": []}
    )
    both = rig.attach_pod(pod), rig.attach_pod(pod, second, "net1")
    for name in ("eth0", "eth1"):
        rig.uplink_down(name)
    with arming(rig) as armed:
        assert (armed.count, armed.refused) == (2, {})
        rig.uplink_up()
        rig.uplink_up("eth1", "10.8.0.1")
        armed.fire()
    assert armed.missed == {}
    for was in both:
        assert rig.state(pod, was.ifname) == was.state


# --- what changed between arming and firing -------------------------------------------------------


def fired_after(
    rig: Rig, was: Attachment, change: Change, mtu: int = 1500, uplink: Change | None = None
) -> tuple[Json, Json]:
    """What was not done, by reason, and what the repair said, of one of two pods."""
    other = rig.attach("other")
    rig.uplink_down()
    with arming(rig) as armed:
        assert armed.count == 2
        change(rig, was)
        if uplink:
            uplink(rig, was)
        else:
            rig.uplink_up(mtu=mtu)
        document = armed.fire()
    if entry_of(document, other.pod)["state"] == "healthy":
        assert rig.state(other.pod) == other.state
    document["attachments"].remove(entry_of(document, other.pod))
    return armed.missed, document


def nothing(rig: Rig, was: Attachment) -> None:
    pass


def write_record_anew(rig: Rig, was: Attachment) -> None:
    """The same text: what counts is who wrote it last."""
    record = rig.checkpoint(was.pod)
    other = record.with_name(".other")
    other.write_bytes(record.read_bytes())
    other.chmod(0o600)
    other.rename(record)


def touch_record(rig: Rig, was: Attachment) -> None:
    os.utime(rig.checkpoint(was.pod), ns=(0, 0))


def take_index(rig: Rig, was: Attachment) -> None:
    index = was.state["addr"][0]["ifindex"]
    rig.ip(f"link add taker index {index} type bridge", was.pod)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (write_record_anew, "its record was changed"),
        (touch_record, "its record was changed"),
    ],
)
def test_doubt_takes_the_ordinary_way(rig: Rig, change: Change, why: str) -> None:
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, change)
    assert missed == {why: 1}
    healed(document, was.pod)
    assert rig.state(was.pod) == was.state


def test_index_that_is_taken(rig: Rig) -> None:
    """As an unarmed repair: made, with another index, and told."""
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, take_index)
    assert missed == {TAKEN: 1}
    entry = entry_of(document, was.pod)
    assert entry["state"] == "healthy" and "sockets bound" in entry["findings"][0]
    assert rig.links(was.pod)["eth0"]["address"] == was.state["addr"][0]["address"]


@pytest.mark.parametrize("names", ["name eth0", "name br0"])
def test_name_that_is_squatted(rig: Rig, names: str) -> None:
    """By a link, or by another name of one: it is not touched."""

    def squat(rig: Rig, was: Attachment) -> None:
        rig.ip(f"link add {names} type bridge", was.pod)
        if names != "name eth0":
            rig.ip("link property add dev br0 altname eth0", was.pod)

    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, squat)
    assert missed == {TAKEN: 1}
    entry = entry_of(document, was.pod)
    assert (entry["state"], entry["actions"]) == ("foreign", [])
    assert {link["linkinfo"]["info_kind"] for link in rig.ip_json("link show", was.pod)[1:]} == {
        "bridge"
    }


def test_deleted(rig: Rig) -> None:
    def delete(rig: Rig, was: Attachment) -> None:
        rig.plugin("DEL", was.pod).ok()

    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, delete)
    assert missed == {"its record is gone": 1}
    assert document["attachments"] == []
    assert "eth0" not in rig.links(was.pod)


def test_deleted_where_the_directory_cannot_be_written(rig: Rig) -> None:
    """DEL leaves its tombstone in the run directory."""

    def delete(rig: Rig, was: Attachment) -> None:
        tombstone = rig.base / "run" / f"{was.pod.id}@eth0.deleting"
        tombstone.write_bytes(rig.checkpoint(was.pod).read_bytes())

    was = rig.attach("pod1")
    missed, _ = fired_after(rig, was, delete)
    assert missed == {"it was deleted": 1}


def test_attached_anew(rig: Rig) -> None:
    """DEL, ADD and another address: armed was what is no more."""
    was = rig.attach("pod1")
    new: list[Attachment] = []

    def again(rig: Rig, was: Attachment) -> None:
        rig.plugin("DEL", was.pod).ok()
        rig.uplink_up()
        new.append(rig.attach_pod(was.pod))

    missed, document = fired_after(rig, was, again, uplink=nothing)
    assert missed == {"its record was changed": 1}
    assert entry_of(document, was.pod)["actions"] == []
    assert rig.state(was.pod) == new[0].state


def test_another_pod_has_its_place(rig: Rig) -> None:
    """DEL and ADD of the same container id, whose path leads to a new namespace."""
    was = rig.attach("pod1")
    new: list[Attachment] = []

    def again(rig: Rig, was: Attachment) -> None:
        rig.plugin("DEL", was.pod).ok()
        rig.drop_pod(was.pod)
        rig.uplink_up()
        new.append(rig.attach(was.pod.name))

    missed, document = fired_after(rig, was, again, uplink=nothing)
    assert missed == {"its record was changed": 1}
    assert entry_of(document, was.pod)["actions"] == []
    assert rig.state(was.pod) == new[0].state


def test_namespace_of_the_same_inode(rig: Rig) -> None:
    """Inodes are used again. (Here what was armed is told that it has the new one's.)"""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    rig.uplink_down()
    patch = """
import os
from cni_repair.repair.armed import firing
opened = firing.open_identified_to_enter
def of_any_inode(identity, own_id):
    return opened(replace(identity, ino=os.stat(identity.path).st_ino), own_id)
firing.open_identified_to_enter = of_any_inode
"""
    with arming(rig, patch=patch) as armed:
        rig.drop_pod(was.pod)
        rig.ip(f"netns add {was.pod.name}")
        rig.uplink_up()
        document = armed.fire()
    assert ["namespace inode was reused" in reason for reason in armed.missed] == [True]
    assert states(document) == {was.pod.id: "stale", other.pod.id: "healthy"}
    assert "eth0" not in rig.links(was.pod)


@pytest.mark.parametrize("doubtful", ["eth0", "net1"])
def test_two_interfaces_of_which_one_is_doubtful(rig: Rig, doubtful: str) -> None:
    """After one that was not done none is fired: of default routes the first counts."""
    pod, other = rig.pod("pod1"), rig.attach("other")
    ipam = {**rig.conf()["ipam"], "ranges": [[{"subnet": "10.8.0.0/24"}]], "routes": []}
    both = rig.attach_pod(pod), rig.attach_pod(pod, rig.conf(name="second", ipam=ipam), "net1")
    rig.uplink_down()
    with arming(rig) as armed:
        assert armed.count == 3
        os.utime(rig.checkpoint(pod, doubtful), ns=(0, 0))
        rig.uplink_up()
        document = armed.fire()
    after = {"another interface of its pod was not done": 1} if doubtful == "eth0" else {}
    assert armed.missed == {"its record was changed": 1, **after}
    assert {entry["state"] for entry in document["attachments"]} == {"healthy"}
    for was in both:
        assert rig.state(pod, was.ifname) == was.state
    assert rig.state(other.pod) == other.state


def test_namespace_that_is_gone(rig: Rig) -> None:
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, lambda rig, was: rig.drop_pod(was.pod))
    assert ["is gone" in reason for reason in missed] == [True]
    assert states(document) == {was.pod.id: "stale"}


def test_namespace_of_another_pod_by_now(rig: Rig) -> None:
    """The name leads to a new namespace, which may have got the old one's inode: nothing is made in
    it."""

    def exchange(rig: Rig, was: Attachment) -> None:
        rig.drop_pod(was.pod)
        rig.ip(f"netns add {was.pod.name}")

    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, exchange)
    words = "the pod was attached in net:|namespace inode was reused"
    assert [bool(re.search(words, reason)) for reason in missed] == [True]
    assert states(document) == {was.pod.id: "stale"}
    assert "eth0" not in rig.links(was.pod)


def lease_of(rig: Rig, was: Attachment) -> Path:
    return rig.base / "ipam" / "pods" / was.address


def test_lease_that_is_given_away(rig: Rig) -> None:
    def give(rig: Rig, was: Attachment) -> None:
        lease_of(rig, was).write_text("another\neth0", encoding="ascii")

    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, give)
    assert missed == {"its lease was changed": 1}
    assert states(document) == {was.pod.id: "released"}
    assert "eth0" not in rig.links(was.pod)


def test_lease_that_is_freed(rig: Rig) -> None:
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, lambda rig, was: lease_of(rig, was).unlink())
    assert missed == {"its lease is gone": 1}
    assert states(document) == {was.pod.id: "released"}
    assert "eth0" not in rig.links(was.pod)


def test_master_of_a_smaller_mtu(rig: Rig) -> None:
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, nothing, mtu=1400)
    assert missed == {"its link was refused: Invalid argument": 2}
    entry = entry_of(document, was.pod)
    assert entry["error"]["code"] == 104
    assert "eth0" not in rig.links(was.pod)


def test_master_of_a_larger_mtu(rig: Rig) -> None:
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, nothing, mtu=9000)
    assert missed == {}
    healed(document, was.pod)
    assert rig.state(was.pod) == was.state


def test_master_that_is_another_card(rig: Rig) -> None:
    """A link of the recorded name, but of another kind: nothing is put on it."""
    was = rig.attach("pod1")
    missed, document = fired_after(
        rig, was, nothing, uplink=lambda rig, _: rig.ip("link add eth0 type bridge")
    )
    assert missed == {}
    assert entry_of(document, was.pod)["error"]["code"] == 107
    assert "eth0" not in rig.links(was.pod)


@pytest.mark.skipif(not kernel_has_vlans(), reason="the kernel has no 8021q")
def test_master_of_another_vlan_id(rig: Rig) -> None:
    was = rig.attach("pod1", rig.conf(vlanId=3))

    def another(rig: Rig, _: Attachment) -> None:
        rig.uplink_up()
        rig.ip("link add link eth0 name eth0.3 type vlan id 4")

    _, document = fired_after(rig, was, nothing, uplink=another)
    assert entry_of(document, was.pod)["error"]["code"] == 107
    assert "eth0" not in rig.links(was.pod)


def test_master_that_is_not_back(rig: Rig) -> None:
    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, nothing, uplink=nothing)
    assert missed == {}
    assert entry_of(document, was.pod)["error"]["code"] == 11


def test_mac_that_is_in_use(rig: Rig) -> None:
    """The way up is refused: the link goes again, and the reason is that of an unarmed repair."""

    def use(rig: Rig, was: Attachment) -> None:
        rig.uplink_up()
        mac = was.state["addr"][0]["address"]
        rig.ip(f"link add link eth0 name thief address {mac} type macvlan mode bridge")
        rig.ip("link set thief up")

    was = rig.attach("pod1")
    missed, document = fired_after(rig, was, nothing, uplink=use)
    assert ["Address already in use" in reason for reason in missed] == [True]
    assert "same MAC" in entry_of(document, was.pod)["error"]["details"]
    assert "eth0" not in rig.links(was.pod)


@pytest.mark.parametrize("settled", [False, True])
def test_place_of_a_route_that_is_taken(rig: Rig, settled: bool) -> None:
    """It comes to what an unarmed repair comes to: where the route is to be put beside the other,
    all is made from the beginning."""

    def take(rig: Rig, was: Attachment) -> None:
        rig.ip("link add mine up type bridge", was.pod)
        rig.ip("addr add 10.7.0.2/24 dev mine", was.pod)
        rig.ip("route add default via 10.7.0.1", was.pod)

    was = rig.attach("pod1")
    if settled:
        rig.cli("snapshot", *options(rig))
    missed, document = fired_after(rig, was, take)
    assert ["File exists" in reason for reason in missed] == [True] * settled
    armed = rig.state(was.pod)
    rig.reload()
    unarmed = entry_of(rig.plugin("REPAIR").report(0 if settled else 1), was.pod)
    fired = entry_of(document, was.pod)
    assert [fired[key] for key in ("state", "findings")] == [
        unarmed[key] for key in ("state", "findings")
    ]
    assert rig.state(was.pod) == armed


def test_lock_that_is_held(rig: Rig) -> None:
    """Nobody waits for it but the pod itself."""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    rig.uplink_down()
    with arming(rig) as armed, ThreadPoolExecutor(1) as thread:
        with open(rig.base / "run" / f"{was.pod.id}@eth0.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rig.uplink_up()
            answer = thread.submit(armed.fire)
            eventually(lambda: "eth0" in rig.links(other.pod))
            assert "eth0" not in rig.links(was.pod)
        document = answer.result()
    assert ["at work on" in reason for reason in armed.missed] == [True]
    for one in (was, other):
        healed(document, one.pod)
        assert rig.state(one.pod) == one.state


# --- what is not armed ----------------------------------------------------------------------------


def not_armed(rig: Rig) -> Json:
    """Why, and that the ordinary way is taken."""
    rig.uplink_down()
    with arming(rig) as armed:
        assert armed.count == 0
        rig.uplink_up()
        document = armed.fire()
    assert {entry["state"] for entry in document["attachments"]} == {"healthy"}
    return armed.refused


def test_sysctl_that_takes_a_file(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.sysctl(was.pod, "net/ipv4/conf/eth0/rp_filter", "2")
    rig.cli("snapshot", *options(rig))
    assert not_armed(rig) == {"sysctl ipv4/rp_filter cannot be set by a message": 1}
    assert rig.sysctl(was.pod, "net/ipv4/conf/eth0/rp_filter") == "2"


def test_addresses_that_must_be_asked_for(rig: Rig) -> None:
    ipam = {"type": "static", "addresses": [{"address": "10.9.0.77/24", "gateway": GATEWAY4}]}
    rig.attach("pod1", rig.conf(ipam=ipam))
    assert not_armed(rig) == {"who else has its addresses can only be asked on the wire": 1}


@pytest.mark.parametrize(
    ("changes", "why"), [({"mode": "passthru"}, "it shares its master's MAC (passthru)")]
)
def test_kinds_that_depend_on_the_master(rig: Rig, changes: Json, why: str) -> None:
    rig.attach("pod1", rig.conf(**changes))
    assert not_armed(rig) == {why: 1}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "ip addr add 10.20.0.1/24 valid_lft 86400 preferred_lft 43200 dev eth0",
            "an address or route of it has a lifetime",
        ),
        (
            "ip link add d0 up type veth peer d1 && ip link set d1 up"
            " && ip addr add 10.8.0.2/24 dev d0 && ip route add 192.0.2.1/32"
            " nexthop via 10.9.0.1 dev eth0 nexthop via 10.8.0.1 dev d0",
            "a route of it goes through another link of the pod, too",
        ),
        (
            "ip neigh replace 10.9.0.1 lladdr 02:00:00:00:00:80 nud permanent dev eth0",
            "something that is there is to be replaced",
        ),
        (
            "for n in $(seq 60); do ip addr add 10.20.0.$n/32 dev eth0; done",
            "it takes more messages than one send",
        ),
        (
            "ip link set eth0 arp off"
            " && ip neigh add 10.9.0.9 lladdr 02:00:00:00:00:77 nud permanent dev eth0",
            "its neighbours are lost on the way",
        ),
    ],
    ids=["lifetime", "another link", "replaced", "many messages", "neighbours"],
)
def test_what_takes_more_than_prepared_messages(rig: Rig, script: str, why: str) -> None:
    was = rig.attach("pod1")
    rig.run("nsenter", f"--net={was.pod.path}", "sh", "-c", script)
    rig.cli("snapshot", *options(rig))
    before = rig.state(was.pod)
    assert not_armed(rig) == {why: 1}
    if "lft" not in script:  # (which runs down)
        assert rig.state(was.pod) == before


def test_record_that_is_another_by_the_time_of_arming(rig: Rig) -> None:
    """What was read is not what there is: an armed repair of it would carry the new one's mark."""
    rig.attach("pod1")
    rig.uplink_down()
    patch = """
from cni_repair.repair.armed.arming import Arming
add = Arming.add
def changed(self, entry):
    add(self, replace(entry, raw=entry.raw + b" "))
Arming.add = changed
"""
    with arming(rig, patch=patch) as armed:
        assert (armed.count, armed.refused) == (0, {"its record was changed": 1})


def test_pod_of_which_one_interface_is_not_armed(rig: Rig) -> None:
    pod = rig.pod("pod1")
    rig.attach_pod(pod)
    rig.attach_pod(pod, ifname="net1")
    rig.sysctl(pod, "net/ipv4/conf/net1/rp_filter", "2")
    rig.cli("snapshot", *options(rig))
    refused = not_armed(rig)
    assert refused == {
        "sysctl ipv4/rp_filter cannot be set by a message": 1,
        "another interface of its pod is not armed": 1,
    }


def test_healthy_pod_is_not_armed_and_not_touched(rig: Rig) -> None:
    was = rig.attach("pod1")
    before = rig.node_links()
    with arming(rig) as armed:
        assert (armed.count, armed.refused) == (0, {})
        document = armed.fire()
    assert entry_of(document, was.pod)["actions"] == []
    assert (rig.state(was.pod), rig.node_links()) == (was.state, before)


# --- the processes --------------------------------------------------------------------------------


def test_worker_that_dies_is_no_loss(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(1, 4)]
    rig.uplink_down()
    with arming(rig, 2) as armed:
        os.kill(armed.workers()[0], signal.SIGKILL)
        rig.uplink_up()
        document = armed.fire()
    for was in pods:
        healed(document, was.pod)
        assert rig.state(was.pod) == was.state


def test_workers_end_with_whoever_armed(rig: Rig) -> None:
    rig.attach("pod1")
    rig.uplink_down()
    with pytest.raises(Killed), arming(rig, 2) as armed:
        workers = armed.workers()
        os.kill(armed.pid, signal.SIGKILL)
        raise Killed
    assert len(workers) == 2
    eventually(lambda: not any(map(is_alive, workers)), "the workers to end")


class Killed(Exception):
    pass


def witness(rig: Rig, pod: Pod) -> None:
    """A link of the node's that goes with the pod's namespace, and lives as long as that."""
    rig.ip(f"link add witness type veth peer name inside netns {pod.name}")


def until_it_is_gone(rig: Rig) -> None:
    eventually(lambda: "witness" not in rig.links(), "the pod's namespace to end")


@pytest.mark.parametrize("kill", [False, True], ids=["", "a worker was killed"])
def test_pod_that_dies_while_it_is_armed_is_gone(rig: Rig, kill: bool) -> None:
    """Whatever held its namespace would keep its interface alive, and answering."""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    rig.uplink_down()
    with arming(rig, 2) as armed:
        witness(rig, was.pod)
        if kill:
            os.kill(armed.workers()[0], signal.SIGKILL)
        rig.drop_pod(was.pod)
        until_it_is_gone(rig)
        assert [*map(is_alive, armed.workers())].count(True) == 2 - kill
        witness(rig, other.pod)
        rig.uplink_up()
        document = armed.fire()
        assert states(document) == {was.pod.id: "stale", other.pod.id: "healthy"}
        rig.drop_pod(other.pod)  # while all that fired are still there
        until_it_is_gone(rig)


def test_pod_that_dies_while_watch_has_armed_it_is_gone(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    with watching(rig) as watch:
        watch.until_healthy(2)
        rig.uplink_down()
        watch.until_armed(2)
        witness(rig, was.pod)
        rig.drop_pod(was.pod)
        until_it_is_gone(rig)
        witness(rig, other.pod)
        rig.uplink_up()
        watch.until(lambda status: status["attachments"].get("healthy") == 1, "the other to heal")
        rig.drop_pod(other.pod)
        until_it_is_gone(rig)


def test_nothing_of_a_pod_is_held(rig: Rig) -> None:
    """Neither a namespace nor a socket in it: its interface would live on, and answer."""
    was = rig.attach("pod1")
    namespace = os.stat(rig.outside(was.pod.path))
    rig.uplink_down()
    with arming(rig, usable_processors()) as armed:
        for pid in (armed.pid, *armed.workers()):
            held = [os.stat(f"/proc/{pid}/ns/net")]
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                held.append(os.stat(descriptor))
            assert not any(os.path.samestat(one, namespace) for one in held)
        # A socket of the pod's would be in its table, and no other is.
        sockets = rig.inside(was.pod, lambda: Path("/proc/thread-self/net/netlink").read_text())
        assert [line for line in sockets.splitlines()[1:] if line.split()[2] != "0"] == []
