"""`verify` on a real kernel: do gateways answer now, does somebody else have a pod's address."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys

import pytest

from cni_repair.network.observe import ifindex_of
from cni_repair.network.reachability.duplicates import PROBES
from cni_repair.network.reachability.gateways import Gateways
from tests.netns.onwire import arp_listener
from tests.netns.rig import (
    GATEWAY4,
    GATEWAY6,
    HANG_SECONDS,
    Attachment,
    Json,
    Pod,
    Rig,
    entry_of,
    eventually,
)
from tests.outputs import reason_of

pytestmark = pytest.mark.slow  # `tests/run --fast` is to take two minutes

NETLINK_ROUTE = 0


def verify(rig: Rig, status: int, *words: str, patch: str = "") -> Json:
    place = ("-o", "json", "--checkpoint-dir", str(rig.checkpoints))
    return rig.cli("verify", *place, *words, patch=patch).report(status)


def of(rig: Rig, was: Attachment, status: int, *words: str) -> Json:
    """What is said of one attachment."""
    return entry_of(verify(rig, status, *words), was.pod)


def verdicts(report: Json) -> dict[str, str]:
    return {entry["containerID"]: entry["verdict"] for entry in report["attachments"]}


def mac(rig: Rig, link: str, netns: Pod | str | None) -> str:
    return str(rig.links(netns)[link]["address"])


def neighbour(rig: Rig, pod: Pod, address: str) -> list[str]:
    """The state of an entry in the pod's table."""
    entries = rig.ip_json(f"neigh show {address} dev eth0", pod)
    return [state for entry in entries for state in entry["state"]]


def dual_stack(rig: Rig, name: str) -> Attachment:
    """A pod with both families, without the seconds that duplicate address detection takes."""
    pod = rig.pod(name, ipv6=True)
    for scope in ("all", "default"):
        rig.sysctl(pod, f"net/ipv6/conf/{scope}/accept_dad", "0")
    return rig.attach_pod(pod, rig.conf(v6=True))


def silence(rig: Rig) -> None:
    """The gateway's carrier stays, it answers no more."""
    rig.ip("link set tor0 arp off", "tor")


def other_host(rig: Rig, address: str) -> str:
    """A host on the wire that has this address; its MAC."""
    rig.ip("netns add other")
    rig.ip("link add name eth0 netns other link tor0 type macvlan mode bridge", "tor")
    rig.ip("link set eth0 up", "other")
    rig.ip(f"addr add {address} dev eth0" + (" nodad" if ":" in address else ""), "other")
    return mac(rig, "eth0", "other")


# Says again and again, to one pod, that an address is at a MAC.
_FORGER = """
import socket, struct, sys, time
mac, victim = (bytes.fromhex(word.replace(":", "")) for word in sys.argv[1:3])
arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + mac + socket.inet_aton(sys.argv[3]) + victim
forger = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
forger.bind(("eth0", 0))
while True:
    forger.send(victim + mac + b"\\x08\\x06" + arp + bytes(4))
    time.sleep(0.001)
"""


def in_conflict(rig: Rig, was: Attachment, *words: str) -> Json:
    """What is said of a pod once all who answer were heard: they do when there is time for it."""

    def look() -> Json | None:
        asked = ("verify", "-o", "json", "--checkpoint-dir", str(rig.checkpoints))
        entry = entry_of(json.loads(rig.cli(*asked).out), was.pod)
        return entry if all(word in reason_of(entry) for word in words) else None

    entry = eventually(look, " and ".join(words))
    assert entry is not None and entry["verdict"] == "conflict"
    return entry


def snapshot(rig: Rig, *words: str) -> int:
    return rig.cli("snapshot", *words, "--checkpoint-dir", str(rig.checkpoints)).status


# --- gateways ------------------------------------------------------------------------------------


def test_gateways_of_both_families_answer(rig: Rig) -> None:
    was = dual_stack(rig, "pod1")
    entry = of(rig, was, 0)
    assert (entry["state"], entry["verdict"]) == ("healthy", "healthy")
    assert entry["findings"] == []
    answers = {one["address"]: (one["state"], one["mac"]) for one in entry["gateways"]}
    gateway = mac(rig, "tor0", "tor")
    assert answers == {GATEWAY4: ("answered", gateway), GATEWAY6: ("answered", gateway)}
    assert all(0 <= one["milliseconds"] < 1000 * HANG_SECONDS for one in entry["gateways"])
    assert rig.state(was.pod) == was.state


def test_old_reachable_entry_proves_nothing(rig: Rig) -> None:
    was = dual_stack(rig, "pod1")
    assert rig.ping(was.pod, GATEWAY4) and rig.ping(was.pod, GATEWAY6)
    silence(rig)
    rig.ip(f"addr del {GATEWAY6}/64 dev tor0", "tor")
    for gateway in (GATEWAY4, GATEWAY6):
        assert neighbour(rig, was.pod, gateway) == ["REACHABLE"]
    entry = of(rig, was, 1, "--timeout", "1")
    assert (entry["state"], entry["verdict"]) == ("healthy", "unreachable")
    assert [one["state"] for one in entry["gateways"]] == ["silent", "silent"]
    assert f"gateway {GATEWAY4} does not answer ARP" in reason_of(entry)
    assert f"gateway {GATEWAY6} does not answer neighbour solicitations" in reason_of(entry)


def test_stale_entry_is_asked_again(rig: Rig) -> None:
    was = rig.attach("pod1")
    gateway = mac(rig, "tor0", "tor")
    rig.ip(f"neigh replace {GATEWAY4} lladdr {gateway} nud stale dev eth0", was.pod)
    assert of(rig, was, 0)["verdict"] == "healthy"
    assert neighbour(rig, was.pod, GATEWAY4) == ["REACHABLE"]


def test_one_silent_gateway_of_two(rig: Rig) -> None:
    was = dual_stack(rig, "pod1")
    rig.ip(f"addr del {GATEWAY6}/64 dev tor0", "tor")
    entry = of(rig, was, 1, "--timeout", "1")
    assert entry["verdict"] == "unreachable"
    assert [one["state"] for one in entry["gateways"]] == ["answered", "silent"]
    assert GATEWAY4 not in reason_of(entry)


@pytest.mark.slow
def test_gateway_that_answers_late(rig: Rig) -> None:
    """After a driver's return the switch port may take a while to forward: longer than the three
    seconds after which the kernel gives up."""
    rig.attach("pod1")
    silence(rig)
    words = ["verify", "--timeout", "20", "--checkpoint-dir", str(rig.checkpoints)]
    with arp_listener(rig, "tor") as wire, rig.started(rig.launcher(), *words) as process:
        for _ in range(4):  # three are the kernel's own
            assert wire.recv(2048)[38:42] == socket.inet_aton(GATEWAY4)
        rig.ip("link set tor0 arp on", "tor")
        assert process.wait(HANG_SECONDS) == 0


@pytest.mark.slow
def test_answer_that_is_seen_late_counts(rig: Rig) -> None:
    """On a busy node all the time may be over before verify has its turn again."""
    was = rig.attach("pod1")
    patch = f"""
import itertools, subprocess, types
from cni_repair.node import asking
def until_it_has_answered(seconds):
    words = ["ip", "-n", "{was.pod.name}", "neigh", "show", "{GATEWAY4}"]
    while b"REACHABLE" not in subprocess.check_output(words):
        pass
clock = itertools.count(step=1000).__next__
asking.time = types.SimpleNamespace(monotonic=clock, sleep=until_it_has_answered)
"""
    assert entry_of(verify(rig, 0, patch=patch), was.pod)["verdict"] == "healthy"


@pytest.mark.slow
def test_gateway_with_a_new_mac(rig: Rig) -> None:
    """A router was replaced: the old MAC is silent, but who is asked by broadcast answers."""
    was = rig.attach("pod1")
    assert rig.ping(was.pod, GATEWAY4)
    rig.ip("link set tor0 address 02:00:00:00:77:77", "tor")
    entry = of(rig, was, 0)
    assert entry["verdict"] == "healthy"
    assert entry["gateways"][0]["mac"] == "02:00:00:00:77:77"
    assert rig.ping(was.pod, GATEWAY4)


def test_gateway_with_another_mac_than_a_snapshot_saw(rig: Rig) -> None:
    """Whoever answers while the gateway is away; an operator says if it is a new router."""
    was = rig.attach("pod1")
    assert rig.ping(was.pod, GATEWAY4)
    assert snapshot(rig) == 0
    before = mac(rig, "tor0", "tor")
    assert of(rig, was, 0)["verdict"] == "healthy"
    rig.ip("link set tor0 address 02:00:00:00:77:77", "tor")
    entry = of(rig, was, 1)
    assert (entry["verdict"], entry["gateways"][0]["state"]) == ("conflict", "doubtful")
    assert f"is answered for by 02:00:00:00:77:77, it was {before}" in reason_of(entry)
    assert snapshot(rig, "--check") == 0
    assert of(rig, was, 1)["verdict"] == "conflict"
    assert snapshot(rig) == 0
    assert of(rig, was, 0)["verdict"] == "healthy"


@pytest.mark.parametrize("gateway_is", ["there", "away"])
def test_pod_that_answers_for_the_gateway(rig: Rig, gateway_is: str) -> None:
    was, liar = dual_stack(rig, "pod1"), dual_stack(rig, "pod2")
    for address in (f"{GATEWAY4}/32", f"{GATEWAY6}/128 nodad"):
        rig.ip(f"addr add {address} dev eth0", liar.pod)
    if gateway_is == "away":
        rig.ip("addr flush dev tor0", "tor")
    by = f"{mac(rig, 'eth0', liar.pod)} (shop/pod2 on this node)"
    answers = "has 2 answers" if gateway_is == "there" else "is answered for by"
    entry = in_conflict(
        rig, was, *(f"gateway {gateway} {answers}" for gateway in (GATEWAY4, GATEWAY6)), by
    )
    assert [one["state"] for one in entry["gateways"]] == ["doubtful", "doubtful"]
    assert entry["conflicts"] == []


def test_answer_from_a_mac_that_no_pod_has(rig: Rig) -> None:
    """A packet socket writes any sender into its frames."""
    was, liar = rig.attach("pod1"), rig.attach("pod2")
    assert rig.ping(was.pod, GATEWAY4)
    assert snapshot(rig) == 0
    victim, made_up = mac(rig, "eth0", was.pod), "02:66:66:66:66:66"
    rig.ip("addr flush dev tor0", "tor")
    with rig.started_in(liar.pod, sys.executable, "-c", _FORGER, made_up, victim, GATEWAY4):
        in_conflict(rig, was, f"is answered for by {made_up}, it was")


@pytest.mark.slow
def test_link_local_gateway_and_ipv4_via_ipv6(rig: Rig) -> None:
    was = dual_stack(rig, "pod1")
    rig.ip("addr add fe80::99/64 dev tor0 nodad", "tor")
    rig.ip("addr add fe80::98/64 dev tor0 nodad", "tor")
    rig.ip("route add 192.0.2.0/24 via inet6 fe80::98 dev eth0", was.pod)
    rig.ip("-6 route add 2001:db8::/32 via fe80::99 dev eth0", was.pod)
    prev = {**rig.conf(v6=True), "prevResult": rig.checkpoint_result(was.pod)}
    rig.plugin("CHECK", was.pod, prev).ok()
    entry = of(rig, was, 0)
    states = {one["address"]: one["state"] for one in entry["gateways"]}
    assert states == dict.fromkeys([GATEWAY4, GATEWAY6, "fe80::98", "fe80::99"], "answered")
    rig.ip("addr del fe80::98/64 dev tor0", "tor")
    rig.ip("addr del fe80::99/64 dev tor0", "tor")
    entry = of(rig, was, 1, "--timeout", "1")
    assert "gateway fe80::98 does not answer" in reason_of(entry)
    assert "gateway fe80::99 does not answer" in reason_of(entry)


def test_pod_without_gateway(rig: Rig) -> None:
    ipam = {**rig.conf()["ipam"], "routes": []}
    was = rig.attach("pod1", rig.conf(ipam=ipam))
    entry = of(rig, was, 0)
    assert entry["verdict"] == "configured-not-verified"
    assert reason_of(entry) == "no gateway to ask"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nud permanent", "nud noarp", "nud reachable extern_learn"])
def test_entry_that_somebody_else_keeps(rig: Rig, kind: str) -> None:
    was = rig.attach("pod1")
    rig.ip(f"neigh replace {GATEWAY4} lladdr 02:00:00:00:66:66 {kind} dev eth0", was.pod)
    before = rig.ip("neigh show", was.pod)
    entry = of(rig, was, 0)
    assert entry["verdict"] == "configured-not-verified"
    assert entry["gateways"] == [
        {
            "address": GATEWAY4,
            "state": "permanent",
            "mac": "02:00:00:00:66:66",
            "milliseconds": None,
        }
    ]
    assert rig.ip("neigh show", was.pod) == before


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["link set tor0 down", "link set eth0 down"])
def test_without_carrier(rig: Rig, cut: str) -> None:
    """At the far end, or by the master's own doing."""
    was = rig.attach("pod1")
    rig.ip(cut, "tor" if "tor0" in cut else None)
    eventually(lambda: rig.links(was.pod)["eth0"]["operstate"] != "UP", "the carrier to go")
    entry = of(rig, was, 1)
    assert (entry["state"], entry["verdict"]) == ("degraded", "unreachable")
    assert "eth0 has no carrier" in reason_of(entry)
    assert entry["gateways"] == []


@pytest.mark.slow
def test_pod_with_more_gateways_than_are_asked(rig: Rig) -> None:
    """A pod may add routes as it likes, and CHECK records them; the kernel's neighbour table is
    shared by the whole node."""
    was = rig.attach("pod1")
    for number in range(20):
        rig.ip(f"route add 192.0.2.{number} via 10.9.0.{200 + number} dev eth0", was.pod)
    prev = {**rig.conf(), "prevResult": rig.checkpoint_result(was.pod)}
    rig.plugin("CHECK", was.pod, prev).ok()
    entry = of(rig, was, 1, "--timeout", "1")
    assert len(entry["gateways"]) == 16
    assert entry["gateways"][0]["state"] == "answered"  # of the default route
    assert "21 gateways: only 16 were asked" in reason_of(entry)
    assert len(rig.ip_json("neigh show dev eth0", was.pod)) <= 16


# --- who is not asked ----------------------------------------------------------------------------


def test_lost_and_stale_pods_keep_their_states(rig: Rig) -> None:
    lost, stale, healthy = (rig.attach(f"pod{number}") for number in (1, 2, 3))
    rig.ip("link del eth0", lost.pod)
    rig.drop_pod(stale.pod)
    report = verify(rig, 1)
    assert verdicts(report) == {
        lost.pod.id: "lost",
        stale.pod.id: "stale",
        healthy.pod.id: "healthy",
    }
    assert report["summary"]["failed"] == 1
    assert "eth0 is gone" in reason_of(entry_of(report, lost.pod))


def test_degraded_pod_is_not_asked(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("route del default", was.pod)
    entry = of(rig, was, 1)
    assert (entry["state"], entry["verdict"]) == ("degraded", "degraded")
    assert entry["gateways"] == []
    assert neighbour(rig, was.pod, GATEWAY4) == []


def test_pod_with_an_eth0_of_its_own(rig: Rig) -> None:
    hostile, other = rig.attach("pod1"), rig.attach("pod2")
    for command in [
        "link del eth0",
        "link add up0 type veth peer name up1",
        "link add link up0 name eth0 type macvlan mode bridge",
        "link set eth0 up",
    ]:
        rig.ip(command, hostile.pod)
    assert verdicts(verify(rig, 1)) == {hostile.pod.id: "foreign", other.pod.id: "healthy"}


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--duplicates",)], ids=["", "duplicates"])
def test_link_that_goes_meanwhile(rig: Rig, words: tuple[str, ...]) -> None:
    hostile, other = rig.attach("pod1"), rig.attach("pod2")
    patch = f"""
import subprocess
from cni_repair.node import asking
listen = asking._listen
def after_the_link_went(*given):
    subprocess.run(["ip", "-n", "{hostile.pod.name}", "link", "del", "eth0"], check=True)
    listen(*given)
asking._listen = after_the_link_went
"""
    report = verify(rig, 1, *words, patch=patch)
    assert verdicts(report)[other.pod.id] == "healthy"
    entry = entry_of(report, hostile.pod)
    assert entry["verdict"] == "configured-not-verified"
    assert "has gone since it was checked" in reason_of(entry)
    assert entry["error"]["code"]
    assert report["summary"]["failed"] == 1


def test_flooded_socket_stops_nobody_else(rig: Rig) -> None:
    """The pod may fill our socket's queue, so that the kernel's answers find no room."""
    was = rig.attach("pod1")
    index = was.state["addr"][0]["ifindex"]

    def flooded() -> Gateways:
        gateways = Gateways(index, [GATEWAY4])
        ifindex_of(gateways._rtnl, "eth0")  # it has its port from its first request on
        port = gateways._rtnl.sock.getsockname()[0]
        assert port
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as forger:
            forger.setblocking(False)
            forger.bind((0, 0))
            with pytest.raises(BlockingIOError):
                while True:
                    forger.sendto(struct.pack("=IHHII", 16, 3, 0, 1, 0), (port, 0))
        return gateways

    with rig.inside(was.pod, flooded) as gateways:
        with pytest.raises(OSError) as caught:
            gateways.advance()
        assert caught.value.errno == errno.ENOBUFS


# --- duplicates ----------------------------------------------------------------------------------


def test_address_that_another_host_has(rig: Rig) -> None:
    was = rig.attach("pod1")
    holder = other_host(rig, f"{was.address}/24")
    assert of(rig, was, 0)["verdict"] == "healthy"  # not asked for
    entry = of(rig, was, 1, "--duplicates")
    assert (entry["state"], entry["verdict"]) == ("healthy", "conflict")
    assert entry["conflicts"] == [{"address": was.address, "mac": holder, "pod": ""}]
    assert f"{holder} has address {was.address}, too" in reason_of(entry)


@pytest.mark.slow
def test_address_that_a_pod_beside_it_has(rig: Rig) -> None:
    was, sibling = dual_stack(rig, "pod1"), dual_stack(rig, "pod2")
    holder = mac(rig, "eth0", sibling.pod)
    address6 = rig.checkpoint_result(was.pod)["ips"][1]["address"].partition("/")[0]
    rig.ip(f"addr add {was.address}/24 dev eth0", sibling.pod)
    rig.ip(f"addr add {address6}/64 dev eth0 nodad", sibling.pod)
    report = verify(rig, 1, "--duplicates")
    assert entry_of(report, was.pod)["conflicts"] == [
        {"address": was.address, "mac": holder, "pod": "shop/pod2"},
        {"address": address6, "mac": holder, "pod": "shop/pod2"},
    ]
    assert verdicts(report)[sibling.pod.id] == "healthy"


@pytest.mark.slow
def test_probes_do_not_find_the_pods_themselves(rig: Rig) -> None:
    """Nor the pod's other interface on the same wire, through which the kernel answers for all of
    the pod's addresses."""
    was = dual_stack(rig, "pod1")
    ipam = {**rig.conf()["ipam"], "routes": []}
    rig.attach_pod(was.pod, rig.conf(name="second", ipam=ipam), ifname="net1")
    rig.attach("pod2")
    report = verify(rig, 0, "--duplicates")
    assert report["summary"]["healthy"] == 2
    assert report["summary"]["configuredNotVerified"] == 1


@pytest.mark.slow
def test_probe_tells_nobody_a_wrong_address(rig: Rig) -> None:
    """An ARP request with the pod's address as its sender would claim it from its holder."""
    was = rig.attach("pod1")
    other_host(rig, f"{was.address}/24")

    with arp_listener(rig, "other") as listener:
        of(rig, was, 1, "--duplicates")
        senders: list[bytes] = []
        while len(senders) < PROBES:
            frame = listener.recv(2048)
            if frame[38:42] == socket.inet_aton(was.address):
                senders.append(frame[28:32])
    assert set(senders) == {bytes(4)}


@pytest.mark.slow
def test_ipv6_address_that_failed_its_detection(rig: Rig) -> None:
    """CHECK knows of it from the kernel, which does not tell who has the address."""
    was, sibling = dual_stack(rig, "pod1"), dual_stack(rig, "pod2")
    address = rig.checkpoint_result(was.pod)["ips"][1]["address"]
    rig.ip(f"addr add {address} dev eth0 nodad", sibling.pod)
    rig.sysctl(was.pod, "net/ipv6/conf/all/accept_dad", "1")
    rig.ip(f"addr del {address} dev eth0", was.pod)
    rig.ip(f"addr add {address} dev eth0", was.pod)
    eventually(lambda: "dadfailed" in rig.ip("addr show dev eth0", was.pod), "the detection")
    entry = of(rig, was, 1)
    assert (entry["state"], entry["verdict"]) == ("degraded", "conflict")
    plain, holder = address.partition("/")[0], mac(rig, "eth0", sibling.pod)
    assert entry["conflicts"] == [{"address": plain, "mac": holder, "pod": "shop/pod2"}]
    assert "(dadfailed)" in reason_of(entry)
    rig.ip("link set eth0 down", sibling.pod)
    entry = of(rig, was, 1, was.pod.id)
    assert entry["verdict"] == "conflict"
    assert entry["conflicts"] == [{"address": plain, "mac": "", "pod": ""}]


# --- many ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_pods_wait_side_by_side(rig: Rig) -> None:
    """With fewer descriptors than they need by default."""
    for number in range(40):
        rig.attach(f"pod{number}")
    words = ["verify", "--checkpoint-dir", str(rig.checkpoints), "--duplicates"]
    summarise = ["sh", "-c", 'ulimit -S -n 48; exec "$@"', "sh", rig.launcher(), *words]
    environ = {"PATH": os.environ["PATH"]}
    assert rig.run(*summarise, env=environ).out == "40 attachments: 40 healthy\n"
    silence(rig)
    # One after the other they would take 80 s, longer than `run` waits.
    said = rig.run(*summarise, "--timeout", "2", env=environ, check=False)
    assert said.status == 1
    assert "40 attachments: 40 unreachable\n" in said.out
    assert f"    all 40: gateway {GATEWAY4} does not answer ARP\n" in said.out
