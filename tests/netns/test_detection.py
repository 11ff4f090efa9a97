"""IPv6 duplicate address detection beside the traffic of restored addresses."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.kernel.address import link_local_of
from cni_repair.network.reachability.frames import unsolicited_na
from cni_repair.network.reachability.gateways import solicit_again
from tests.netns.armedrig import arming, healed
from tests.netns.onwire import MAC, SIX, another_host, static
from tests.netns.rig import (
    GATEWAY6,
    HANG_SECONDS,
    PATIENT,
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

pytestmark = pytest.mark.slow  # many, though each is short

# The addresses that are asked for, one line a round; and no answer is believed before the file `go`
# is there, and the wire was heard once more. The file `over` tells that all questions were sent.
HELD = """
import os
from cni_repair.network.reachability import holders
from cni_repair.repair import detection
class Held(holders.Asker):
    def __init__(self, rtnl, master, addresses, *more):
        super().__init__(rtnl, master, addresses, *more)
        with open({asked!r}, "a") as file:
            print(master.name, *sorted(addresses), file=file)
        self.may_end = False
    def advance(self):
        may_end = os.path.exists({go!r})
        super().advance()
        self.may_end = may_end
        if self._is_over:
            open({over!r}, "w").close()
    @property
    def is_decided(self):
        return self.may_end and super().is_decided
detection.Asker = Held
detection._MOST_SECONDS = 1000.0
"""

IMPATIENT = """
from cni_repair.repair import scheduler
scheduler.SETTLE_SECONDS = 0.5
"""


def held(rig: Rig, go: bool = False) -> str:
    if go:
        (rig.base / "go").touch()
    return HELD.format(**{name: str(rig.base / name) for name in ("asked", "go", "over")})


def asked(rig: Rig) -> list[set[str]]:
    """The addresses of each round, those of links left out."""
    path = rig.base / "asked"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [{one for one in line.split() if not one.startswith("fe80")} for line in lines]


@contextmanager
def asking(rig: Rig, patch: str = "", **environ: Any) -> Iterator[Any]:
    """REPAIR, from when it has asked; it waits for the file `go`."""
    launcher = rig.launcher(held(rig) + patch)
    call = rig.environ("REPAIR", None, **environ)
    with rig.started(launcher, stdin=json.dumps(rig.conf()), env=call) as process:
        eventually(lambda: asked(rig), "REPAIR to ask")
        yield process


def ended(rig: Rig, process: Any, status: int = 0) -> Json:
    (rig.base / "go").touch()
    out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == status, (out, err)
    document: Json = json.loads(out)
    return document


def attach(rig: Rig, name: str = "pod1", **changes: Any) -> Attachment:
    return rig.attach(name, rig.conf(v6=True, **changes), ipv6=True)


def six(was: Attachment) -> str:
    (found,) = [one["address"] for one in was.result["ips"] if ":" in one["address"]]
    return str(found).partition("/")[0]


def flags(rig: Rig, pod: Pod) -> dict[str, set[str]]:
    """What is odd about each IPv6 address of a pod's eth0."""
    (link,) = rig.ip_json("-6 addr show dev eth0", pod)
    odd = ("nodad", "tentative", "dadfailed")
    return {one["local"]: {*odd} & one.keys() for one in link["addr_info"]}


def test_as_before(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    entry = entry_of(rig.plugin("REPAIR", patch=held(rig, go=True)).report(0), was.pod)
    assert (entry["state"], entry["findings"], entry["notes"]) == ("healthy", [], [])
    assert asked(rig) == [{"eth0", six(was)}]
    assert rig.state(was.pod) == was.state


def test_traffic_passes_while_it_is_asked(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    with asking(rig) as process:
        assert rig.ping(was.pod, GATEWAY6)
        link_local = next(one for one in flags(rig, was.pod) if one.startswith("fe80"))
        assert flags(rig, was.pod) == {six(was): {"nodad"}, link_local: {"nodad"}}
        assert process.poll() is None
        of_tor = link_local_of(rig.links("tor")["tor0"]["address"])
        assert rig.ping(was.pod, of_tor)  # from the link-local address
        assert states(ended(rig, process)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def test_a_look_meanwhile_is_not_alarmed(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    with asking(rig) as process:
        entry = entry_of(rig.cli("status", "-o", "json", *options(rig)).report(0), was.pod)
        assert (entry["state"], entry["findings"]) == ("healthy", [])
        (note,) = entry["notes"]
        assert note.startswith("not verified yet that nobody else has")
        ended(rig, process)
    entry = entry_of(rig.cli("status", "-o", "json", *options(rig)).report(0), was.pod)
    assert entry["notes"] == []


@pytest.mark.parametrize("settled", [False, True])
def test_killed_meanwhile(rig: Rig, settled: bool) -> None:
    was = attach(rig)
    if settled:
        rig.cli("snapshot", *options(rig))
    rig.reload()
    with asking(rig) as process:
        process.kill()
        process.wait()
    assert flags(rig, was.pod)[six(was)] == {"nodad"}
    # Nobody takes it for somebody's will.
    rig.plugin("CHECK", was.pod, {**rig.conf(v6=True), "prevResult": was.result}).ok()
    rig.cli("snapshot", *options(rig))
    entry = entry_of(rig.plugin("REPAIR", patch=held(rig, go=True)).report(0), was.pod)
    assert entry["state"] == "healthy"
    assert asked(rig) == 2 * [{"eth0", six(was)}]
    assert rig.state(was.pod) == was.state
    again = entry_of(rig.plugin("REPAIR", patch=held(rig)).report(0), was.pod)
    assert (again["actions"], again["notes"]) == ([], [])
    assert len(asked(rig)) == 2


def add_anew(rig: Rig, was: Attachment, probes: int) -> None:
    """Have the recorded address deleted and added, as the pod may; the kernel asks so often, once a
    second, before anybody may use it."""
    rig.sysctl(was.pod, "net/ipv6/conf/eth0/dad_transmits", str(probes))
    for what in ("del", "add"):
        rig.ip(f"addr {what} {six(was)}/64 dev eth0", was.pod)
    assert flags(rig, was.pod)[six(was)] == {"tentative"}


@pytest.mark.parametrize("settled", [False, True])
def test_tentative_address_is_not_healthy(rig: Rig, settled: bool) -> None:
    """Nobody can use it, whoever added it: somebody in the pod, or a repair that was killed."""
    was = attach(rig)
    if settled:
        rig.cli("snapshot", *options(rig))
    add_anew(rig, was, 1000)
    finding = f"address {six(was)} is tentative: duplicate address detection has not ended"
    for command in ("status", "plan"):
        entry = entry_of(rig.cli(command, "-o", "json", *options(rig)).report(1), was.pod)
        assert (entry["state"], entry["findings"]) == ("degraded", [finding])
    conf = {**rig.conf(v6=True), "prevResult": was.result}
    assert finding in rig.plugin("CHECK", was.pod, conf).error(101)
    for _ in range(2):  # which waits for it
        entry = entry_of(rig.plugin("REPAIR", patch=IMPATIENT).report(1), was.pod)
        assert (entry["state"], entry["findings"]) == ("degraded", [finding])
        assert entry["actions"] == []


def test_tentative_address_is_waited_for(rig: Rig) -> None:
    was = attach(rig)
    add_anew(rig, was, 2)
    entry = entry_of(rig.plugin("REPAIR", patch=PATIENT).report(0), was.pod)
    assert (entry["state"], entry["findings"], entry["actions"]) == ("healthy", [], [])
    assert flags(rig, was.pod)[six(was)] == set()


def test_tentative_address_of_the_pods_own_is_its_own_affair(rig: Rig) -> None:
    was = attach(rig)
    rig.sysctl(was.pod, "net/ipv6/conf/eth0/dad_transmits", "1000")
    rig.ip("addr add fd00:77::1/64 dev eth0", was.pod)
    entry = entry_of(rig.plugin("REPAIR", patch=IMPATIENT).report(0), was.pod)
    assert (entry["state"], entry["findings"]) == ("healthy", [])


def test_another_host_answers(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    other = another_host(rig, six(was))
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    assert entry["state"] == "degraded"
    assert entry["findings"] == [f"address {six(was)} is in use by another host (dadfailed)"]
    claimed, remedy = sorted(entry["notes"])
    assert claimed == f"address {six(was)} was claimed by {MAC} when it was restored"
    assert flags(rig, was.pod)[six(was)] == {"tentative", "dadfailed"}
    entry = entry_of(rig.cli("status", "-o", "json", *options(rig)).report(1), was.pod)
    assert entry["findings"] == [f"address {six(was)} is in use by another host (dadfailed)"]
    assert entry["notes"] == [remedy]

    # It has given it up: the kernel does not ask again by itself. The remedy has it ask.
    rig.ip(f"addr del {six(was)}/64 dev hostx", other)
    assert entry_of(rig.plugin("REPAIR").report(1), was.pod)["actions"] == []
    command, repair = remedy.partition("): ")[2].split("; ")
    rig.run("sh", "-euc", command)
    assert rig.cli(*repair.split()[1:], *options(rig)).status == 0
    assert rig.state(was.pod) == was.state


def test_another_host_asks_for_it_at_the_same_time(rig: Rig) -> None:
    """It hears of us, and does not use the address; so the kernel gives it back to the pod."""
    was = attach(rig)
    rig.reload()
    with asking(rig) as process:
        # (Our own questions would keep it from asking.)
        eventually((rig.base / "over").exists, "all questions to be sent")
        host = another_host(rig, six(was), how="")
        eventually(lambda: "dadfailed" in rig.ip("addr", host), "the host's detection")
        entry = entry_of(ended(rig, process), was.pod)
    assert entry["state"] == "healthy"
    assert entry["notes"] == [f"address {six(was)} was claimed by {MAC} when it was restored"]
    assert rig.state(was.pod) == was.state


def lost_and_taken(rig: Rig) -> tuple[Attachment, Attachment]:
    """A lost pod, and another of the node that took its address, as its record knows."""
    was = rig.attach("pod1", static(rig, SIX), ipv6=True)
    other = rig.attach("pod2", static(rig, "fd00:9::51"), ipv6=True)
    rig.ip("link del eth0", was.pod)
    rig.ip(f"addr add {SIX}/64 dev eth0 nodad", other.pod)
    rig.cli("snapshot", other.pod.id, *options(rig))
    return was, other


def test_another_pod_of_the_node_has_it(rig: Rig) -> None:
    """It does not hear its master's question: its record names it, and it has the address."""
    was, other = lost_and_taken(rig)
    report = rig.plugin("REPAIR").report(1)
    assert states(report) == {was.pod.id: "degraded", other.pod.id: "healthy"}
    entry = entry_of(report, was.pod)
    mac = rig.links(other.pod)["eth0"]["address"]
    claimed = f"address {SIX} was claimed by {mac} (shop/pod2 eth0 on this node)"
    assert f"{claimed} when it was restored" in entry["notes"]
    assert flags(rig, was.pod)[SIX] == {"tentative", "dadfailed"}


def test_a_record_alone_holds_nothing(rig: Rig) -> None:
    """Another pod's record has the address, but the pod has not."""
    was, other = lost_and_taken(rig)
    rig.ip(f"addr del {SIX}/64 dev eth0", other.pod)
    report = rig.plugin("REPAIR", was.pod, static(rig, SIX)).ok()
    assert report["ips"] == was.result["ips"]
    assert rig.state(was.pod) == was.state


def test_a_router_answers_for_it(rig: Rig) -> None:
    """As ndppd does, and proxy_ndp: the kernel's own detection does not pass there either."""
    was = attach(rig)
    rig.reload()
    rig.sysctl("tor", "net/ipv6/conf/tor0/forwarding", "1")
    rig.sysctl("tor", "net/ipv6/conf/tor0/proxy_ndp", "1")
    rig.sysctl("tor", "net/ipv6/neigh/tor0/proxy_delay", "0")
    rig.ip(f"-6 neigh add proxy {six(was)} dev tor0", "tor")
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    mac = rig.links("tor")["tor0"]["address"]
    assert entry["findings"] == [f"address {six(was)} is in use by another host (dadfailed)"]
    assert f"address {six(was)} was claimed by {mac} when it was restored" in entry["notes"]


def test_what_the_wire_gives_back_is_no_others_claim(rig: Rig) -> None:
    """A switch that reflects (VEPA), or a loop: the pod's own answer, and our own question."""
    was = attach(rig)
    rig.reload()
    mac = str(was.state["addr"][0]["address"])

    def reflect() -> None:
        kind = socket.AF_PACKET, socket.SOCK_RAW
        with socket.socket(*kind, socket.htons(0x86DD)) as wire:
            wire.bind(("tor0", 0x86DD))
            wire.send(unsolicited_na(bytes.fromhex(mac.replace(":", "")), six(was)))
            wire.settimeout(HANG_SECONDS)
            while True:
                frame = wire.recv(2048)
                is_question = frame[54] == 135 and frame[22:38] == bytes(16)
                if is_question and frame[62:78] == socket.inet_pton(socket.AF_INET6, six(was)):
                    wire.send(frame)
                    return

    with asking(rig) as process:
        rig.inside("tor", reflect)
        entry = entry_of(ended(rig, process), was.pod)
    assert (entry["state"], entry["notes"]) == ("healthy", [])


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("how", ["configuration", "option"])
def test_left_to_the_kernel(rig: Rig, how: str, prepared: bool) -> None:
    was = attach(rig, **({"ipv6Detection": "kernel"} if how == "configuration" else {}))
    if prepared:
        rig.cli("snapshot", *options(rig))  # which writes the index
    rig.reload()
    if how == "configuration":
        report = rig.plugin("REPAIR", patch=held(rig)).report(0)
    else:
        words = ("repair", "--all", "--ipv6-detection", "kernel", "-o", "json", *options(rig))
        report = rig.cli(*words, patch=held(rig)).report(0)
    assert "nodad" not in " ".join(entry_of(report, was.pod)["actions"])
    assert asked(rig) == []
    assert rig.state(was.pod) == was.state


def test_interrupted_and_then_left_to_the_kernel(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    with asking(rig) as process:
        process.kill()
        process.wait()
    words = ("repair", "--all", "--ipv6-detection", "kernel", "-o", "json", *options(rig))
    assert states(rig.cli(*words, patch=held(rig)).report(0)) == {was.pod.id: "healthy"}
    assert len(asked(rig)) == 1
    assert rig.state(was.pod) == was.state


def test_recorded_without_detection(rig: Rig) -> None:
    was = attach(rig)
    rig.ip("addr add fd00:9::77/64 dev eth0 nodad", was.pod)
    rig.cli("snapshot", *options(rig))
    before = rig.state(was.pod)
    rig.reload()
    rig.plugin("REPAIR", patch=held(rig, go=True)).report(0)
    assert asked(rig) == [{"eth0", six(was)}]
    assert flags(rig, was.pod)["fd00:9::77"] == {"nodad"}
    assert rig.state(was.pod) == before


@pytest.mark.parametrize(
    ("key", "value"), [("accept_dad", "0"), ("dad_transmits", "0"), ("accept_dad", "2")]
)
@pytest.mark.parametrize("scope", ["default", "eth0"])
def test_as_the_pod_has_it(rig: Rig, key: str, value: str, scope: str) -> None:
    """Who is not asked by the kernel is not asked by us."""
    pod = rig.pod("pod1", ipv6=True)
    if scope == "default":
        rig.sysctl(pod, f"net/ipv6/conf/default/{key}", value)
    was = rig.attach_pod(pod, rig.conf(v6=True))
    if scope == "eth0":
        rig.sysctl(pod, f"net/ipv6/conf/eth0/{key}", value)
        rig.cli("snapshot", *options(rig))
    before = rig.state(pod)
    rig.reload()
    rig.plugin("REPAIR", patch=held(rig, go=True)).report(0)
    assert asked(rig) == ([{"eth0", six(was)}] if value == "2" else [])
    assert rig.state(pod) == before


@pytest.mark.parametrize(
    ("key", "value"), [("addr_gen_mode", "1"), ("addr_gen_mode", "3"), ("disable_ipv6", "1")]
)
def test_link_local_address_that_the_kernel_makes_in_another_way(
    rig: Rig, key: str, value: str
) -> None:
    """It is its own affair: what a new link of the namespace gets."""
    pod = rig.pod("pod1", ipv6=True)
    rig.sysctl(pod, f"net/ipv6/conf/default/{key}", value)
    was = rig.attach_pod(pod, rig.conf(v6=True))
    rig.reload()
    rig.plugin("REPAIR", patch=held(rig, go=True)).report(0)
    assert asked(rig) == [{"eth0", six(was)}]
    rig.settle(pod)
    after, before = flags(rig, pod), rig.sysctls(pod)
    assert {one for one in after if not one.startswith("fe80")} == {six(was)}
    assert len(after) == (1 if value == "1" and key == "addr_gen_mode" else 2)
    assert before["ipv6/addr_gen_mode"] == (value if key == "addr_gen_mode" else "0")


def test_several_addresses_over_two_masters(rig: Rig) -> None:
    rig.uplink_up("eth1", ip="10.9.1.1")
    one = attach(rig)
    rig.ip("addr add fd00:9:0:1::7/64 dev eth0", one.pod)
    rig.ip("addr add fd00:9::8/64 dev eth0", one.pod)
    rig.settle(one.pod)
    two = rig.attach("pod2", static(rig, SIX, master="eth1"), ipv6=True)
    rig.cli("snapshot", *options(rig))
    before = [rig.state(was.pod) for was in (one, two)]
    rig.uplink_down("eth1")
    rig.reload()
    rig.uplink_up("eth1", ip="10.9.1.1")
    report = rig.plugin("REPAIR", patch=held(rig, go=True)).report(0)
    assert states(report) == {one.pod.id: "healthy", two.pod.id: "healthy"}
    of_one = {"eth0", six(one), "fd00:9:0:1::7", "fd00:9::8"}
    assert sorted(asked(rig), key=len) == [{"eth1", SIX}, of_one]
    assert [rig.state(was.pod) for was in (one, two)] == before


def test_many_at_once(rig: Rig) -> None:
    """All are asked for in one round, whichever process repaired them."""
    made = [rig.pod(f"pod{number}", ipv6=True) for number in range(40)]
    rig.launcher()  # before several want to write it
    with ThreadPoolExecutor(10) as threads:  # each ADD waits for the kernel's detection
        pods = list(threads.map(lambda pod: rig.attach_pod(pod, rig.conf(v6=True)), made))
    duplicate = pods[7]
    rig.reload()
    another_host(rig, six(duplicate))
    report = rig.plugin("REPAIR", patch=held(rig, go=True)).report(1)
    wrong = {pod for pod, state in states(report).items() if state != "healthy"}
    assert wrong == {duplicate.pod.id}
    assert asked(rig) == [{"eth0", *map(six, pods)}]
    healthy = [was for was in pods if was is not duplicate]
    assert [was.pod.name for was in healthy if rig.state(was.pod) != was.state] == []


def test_carrier_comes_later(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    rig.ip("link set tor0 down", "tor")
    eventually(lambda: "NO-CARRIER" in rig.links()["eth0"]["flags"], "the loss of carrier")
    call = rig.environ("REPAIR", None)
    launcher = rig.launcher(PATIENT + held(rig))
    with rig.started(launcher, stdin=json.dumps(rig.conf()), env=call) as process:
        eventually(lambda: six(was) in rig.ip("addr", was.pod), "the pod's address")
        assert asked(rig) == []
        rig.ip("link set tor0 up", "tor")
        rig.ip(f"addr add {GATEWAY6}/64 dev tor0 nodad", "tor")  # which went with the carrier
        eventually(lambda: asked(rig), "REPAIR to ask")
        assert rig.ping(was.pod, GATEWAY6)
        ended(rig, process)
    assert rig.state(was.pod) == was.state


def test_deleted_meanwhile(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    with asking(rig) as process:
        rig.plugin("DEL", was.pod, rig.conf(v6=True)).ok()
        assert ended(rig, process)["attachments"] == []
    assert rig.kept() == []


def test_what_was_freed_is_left_to_the_kernel(rig: Rig) -> None:
    was = attach(rig)
    rig.reload()
    rig.bare("DEL", was.pod, rig.conf(v6=True)).ok()
    words = ("repair", "--all", "--force", "-o", "json", *options(rig))
    report = rig.cli(*words, patch=held(rig)).report(0)
    assert "nodad" not in " ".join(entry_of(report, was.pod)["actions"])
    assert asked(rig) == []


def test_armed(rig: Rig) -> None:
    pods = [attach(rig, "pod1"), attach(rig, "pod2")]
    rig.uplink_down()
    with arming(rig) as armed:
        assert (armed.count, armed.refused) == (2, {})
        rig.uplink_up()
        document = armed.fire()
    assert armed.missed == {}
    for was in pods:
        assert f"{six(was)}/64 nodad" in " ".join(healed(document, was.pod)["actions"])
        assert rig.state(was.pod) == was.state


def test_watched(rig: Rig) -> None:
    """Healed by nobody's call, and what a repair left that was killed is put right."""
    was = attach(rig)
    with watching(rig, patch=held(rig)) as watch:
        watch.until_healthy(1)
        rig.reload()
        eventually(lambda: asked(rig), "the watcher to ask")
        assert flags(rig, was.pod)[six(was)] == {"nodad"}
        watch.end(signal.SIGKILL)
    with watching(rig) as watch:
        eventually(lambda: flags(rig, was.pod)[six(was)] == set(), "the watcher to verify it")
        watch.until_healthy(1)
        assert watch.status()["heals"]["total"] == 0  # it was not lost
    assert rig.state(was.pod) == was.state


def test_watched_and_left_to_the_kernel(rig: Rig) -> None:
    was = attach(rig)
    with watching(rig, patch=held(rig), ipv6Detection="kernel") as watch:
        watch.until_healthy(1)
        rig.uplink_down()
        watch.until_lost(1)
        rig.uplink_up()
        watch.until_healthy(1)
    assert asked(rig) == []
    assert rig.state(was.pod) == was.state


def test_neighbour_whose_answer_came_too_early_is_asked_again(rig: Rig) -> None:
    """As a sender has it that was quicker than the kernel's own work for the new address."""
    pod = rig.pod("pod1", ipv6=True)
    rig.attach_pod(pod, rig.conf(v6=True))
    rig.sysctl(pod, "net/ipv6/neigh/eth0/retrans_time_ms", "3600000")
    rig.ip(f"addr del {GATEWAY6}/64 dev tor0", "tor")  # so that nobody answers

    def asking_once() -> socket.socket:
        asking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        asking.sendto(b"?", (GATEWAY6, 9))
        return asking

    def state() -> str:
        entries = rig.ip_json(f"-6 neigh show {GATEWAY6} dev eth0", pod)
        return " ".join(str(word) for one in entries for word in one["state"])

    def solicit() -> None:
        with Rtnetlink() as rtnl:
            solicit_again(rtnl, rig.links(pod)["eth0"]["ifindex"])

    with rig.inside(pod, asking_once):
        eventually(lambda: state() == "INCOMPLETE", "the pod to ask its gateway")
        rig.ip(f"addr add {GATEWAY6}/64 dev tor0 nodad", "tor")
        assert state() == "INCOMPLETE"
        rig.inside(pod, solicit)
        eventually(lambda: state() == "REACHABLE", "the gateway's answer")
