"""What a pod that is root in its own namespace may do between its arming and the end of its firing:
it fails alone, and what comes of it is what an unarmed repair comes to."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

import pytest

from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.prepared import exchange, prepared
from tests.netns.armedrig import TAKEN, arming, healed
from tests.netns.rig import Attachment, Json, Rig, entry_of, options
from tests.netns.test_armed_index import assert_as_they_were, fired, told

pytestmark = pytest.mark.slow  # many, though each is short

NETLINK_ROUTE, NLMSG_ERROR = 0, 2
LO_UP = nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(1, 1, 1, b""))
NO_LINK = nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(4321, 1, 1, b""))
FLOODING = """
def flood(port):
    import socket
    assert port  # (0 is the kernel, and takes all)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as forger:
        try:
            while True:
                forger.sendto(bytes(36), socket.MSG_DONTWAIT, (port, 0))
        except BlockingIOError:
            return
"""


# --- messages to our socket -----------------------------------------------------------------------


def bound() -> tuple[socket.socket, int]:
    ours = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE)
    ours.bind((0, 0))
    return ours, ours.getsockname()[0]


@pytest.mark.parametrize("groups", [0, 1])
def test_forged_answers_are_not_heard(rig: Rig, groups: int) -> None:
    """They lie in the queue before the kernel's; the forger may have bound itself to groups."""
    was = rig.attach("pod1")

    def ask() -> tuple[dict[int, int], dict[int, int]]:
        ours, port = bound()
        with ours, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as forger:
            forger.bind((0, groups))

            def forge() -> None:
                for number in range(1, 4):
                    for code in (0, -errno.EPERM):
                        answer = struct.pack("=IHHIIi", 36, NLMSG_ERROR, 0, number, 0, code)
                        forger.sendto(answer.ljust(36, b"\0"), (port, 0))

            forge()
            first = exchange(ours, prepared([LO_UP, NO_LINK, LO_UP]), 3)
            forge()
            return first, exchange(ours, prepared([NO_LINK, LO_UP]), 2)

    assert rig.inside(was.pod, ask) == ({2: errno.ENODEV}, {1: errno.ENODEV})


def test_full_queue_is_no_answer(rig: Rig) -> None:
    """What the kernel could not tell is not taken for done, nor waited for."""
    was = rig.attach("pod1")
    scope: dict[str, Callable[[int], None]] = {}
    exec(FLOODING, scope)

    def ask() -> None:
        ours, port = bound()
        with ours:
            scope["flood"](port)
            exchange(ours, prepared([LO_UP]), 1)

    with pytest.raises(OSError, match="No buffer space") as caught:
        rig.inside(was.pod, ask)
    assert caught.value.errno == errno.ENOBUFS


def test_pod_that_fills_the_queue_of_our_socket(rig: Rig) -> None:
    """What became of it a look tells; it is announced, and told as repaired."""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    patch = f"""
{FLOODING}
from cni_repair.netlink import netns
from cni_repair.repair.armed import firing
send = firing._send_rest
def flooded(aim):
    if aim.pod.file.startswith("pod1"):
        with netns.entered(aim.netns, netns.open_own()):
            aim.sock.bind((0, 0))
            flood(aim.sock.getsockname()[0])
    send(aim)
firing._send_rest = flooded
"""
    rig.uplink_down()
    with arming(rig, patch=patch) as armed:
        rig.uplink_up()
        document = armed.fire()
    assert armed.missed == {}
    for one in (was, other):
        assert healed(document, one.pod)["actions"]
    assert_as_they_were(rig, was, other)


def test_process_that_fills_the_queue_of_the_nodes_socket(rig: Rig) -> None:
    """One with the node's network: what was made is found, by another socket."""
    were = [rig.attach(f"pod{number}") for number in range(3)]
    patch = f"""
{FLOODING}
from cni_repair.repair.armed.firing import Firing
create = Firing._create
def flooded(self, *what):
    if not self._rtnl.sock.getsockname()[0]:
        self._rtnl.sock.bind((0, 0))
    flood(self._rtnl.sock.getsockname()[0])
    create(self, *what)
Firing._create = flooded
"""
    rig.uplink_down()
    with arming(rig, patch=patch) as armed:
        rig.uplink_up()
        document = armed.fire()
    assert armed.missed == {}
    for was in were:
        actions = healed(document, was.pod)["actions"]
        assert [action.split()[:3] for action in actions].count(["ip", "link", "add"]) == 1
    assert_as_they_were(rig, *were)


# --- its link, as soon as it is there -------------------------------------------------------------

RENAME = ("link set eth0 down", "link set eth0 name mine")
DELETE = ("link del eth0",)
MOVE = ("link set eth0 netns child",)
REPLACE = ("link del eth0", "link add eth0 index {index} type veth peer far", "link set far up")
REPLACE_LO = ("link set eth0 down", "link set eth0 name mine", "link add eth0 up type bridge")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (RENAME, "renamed"),
        (DELETE, "healthy"),
        (MOVE, "healthy"),
        (REPLACE, None),
        (REPLACE_LO, None),
    ],
    ids=["renamed", "deleted", "moved", "replaced", "squatted"],
)
def test_link_that_its_pod_takes_away(rig: Rig, words: tuple[str, ...], state: str | None) -> None:
    """Between the message that makes it and those that set it up. (What a pod has us say of itself,
    state None, is its own affair.)"""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    rig.pod("child")
    index = was.state["addr"][0]["ifindex"]
    commands = [["ip", "-n", was.pod.name, *one.format(index=index).split()] for one in words]
    patch = f"""
from cni_repair.repair.armed import firing
import subprocess
send = firing._send_rest
def meddled(aim):
    if aim.pod.file.startswith("pod1"):
        for command in {commands!r}:
            subprocess.run(command, check=True)
    send(aim)
firing._send_rest = meddled
from cni_repair.repair import scheduler
scheduler.SETTLE_SECONDS = 0.5
"""
    rig.uplink_down()
    node = rig.node_links()
    with arming(rig, patch=patch) as armed:
        rig.uplink_up()
        document = armed.fire()
    assert sum(armed.missed.values()) <= 1
    healed(document, other.pod)
    assert_as_they_were(rig, other)
    assert {name for name, *_ in rig.node_links()} == {name for name, *_ in node} | {"eth0"}
    if state:
        assert entry_of(document, was.pod)["state"] == state


# --- what it changes before -----------------------------------------------------------------------

CHANGES = {
    "sysctls of new links": "cd /proc/sys/net/ipv4; for f in conf/all conf/default; do"
    " echo 1 > $f/rp_filter; echo 2 > $f/arp_ignore; done; echo 1 > ip_forward",
    "no IPv6": "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6;"
    " echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    "address on another link": "ip addr add $address/24 dev lo",
    "routes": "ip link add d0 up type bridge; ip addr add 10.9.0.9/24 dev d0;"
    " ip route add default via 10.9.0.1 dev d0",
    "rules": "for n in $(seq 100); do echo rule add from 10.9.$n.0/24 lookup 7; done | ip -batch -;"
    " ip rule add to 10.9.0.0/24 prohibit priority 5",
    "another name": "ip link add d0 type bridge; ip link property add dev d0 altname eth0",
    "index and name": "ip link add eth0 index $index up type bridge",
}


@pytest.mark.parametrize("script", CHANGES.values(), ids=CHANGES)
def test_what_its_pod_changes_before(rig: Rig, script: str) -> None:
    """It ends as an unarmed repair does."""
    was = rig.attach("pod1", rig.conf(v6=True), ipv6=True)
    other = rig.attach("pod2")
    index = was.state["addr"][0]["ifindex"]
    script = f"address={was.address}; index={index}; {script}"
    rig.uplink_down()
    with arming(rig) as armed:
        assert armed.count == 2
        rig.run("nsenter", f"--net={was.pod.path}", "sh", "-c", script)
        rig.uplink_up()
        document = armed.fire()
    healed(document, other.pod)
    assert_as_they_were(rig, other)
    after = comparable(rig, was)
    rig.reload()
    told_armed = entry_of(document, was.pod)
    status = 0 if told_armed["state"] == "healthy" else 1
    unarmed = entry_of(rig.plugin("REPAIR").report(status), was.pod)
    assert [told_armed.get(key) for key in ("state", "findings", "error")] == [
        unarmed.get(key) for key in ("state", "findings", "error")
    ]
    assert comparable(rig, was) == after


def comparable(rig: Rig, was: Attachment) -> Json:
    """What is not its interface changes by itself (a bridge's MAC)."""
    state = rig.state(was.pod)
    kinds = [link["linkinfo"]["info_kind"] for link in state["addr"]]
    return state if kinds == ["macvlan"] else {"kinds": kinds}


# --- what it does to the others' repair -----------------------------------------------------------


def test_first_pods_that_squat_keep_no_other_from_being_fired(rig: Rig) -> None:
    """They are looked at to see whether interfaces were lost at all."""
    squatters = [rig.attach(f"pod{number}") for number in range(3)]
    others = [rig.attach(f"other{number}") for number in range(4)]
    rig.cli("snapshot", *options(rig))
    rig.reload()
    for was in squatters:
        rig.ip(f"link add mine index {was.state['addr'][0]['ifindex']} type bridge", was.pod)
    rig.plugin("REPAIR", patch=told(rig))
    assert fired(rig) == (7, 7, {TAKEN: 3})
    assert_as_they_were(rig, *others)


def test_routes_of_hundreds_of_hops_do_not_make_the_index_long(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    hops = " ".join(f"nexthop via 10.9.0.{2 + n} dev eth0" for n in range(90))
    routes = "".join(f"route add 11.0.0.{n}/32 {hops}\n" for n in range(40))
    rig.run("ip", "-n", was.pod.name, "-batch", "-", stdin=routes)
    rig.cli("snapshot", *options(rig))
    (index,) = (rig.base / "run").glob("armed-*")
    assert index.stat().st_size < 1 << 14
    before = rig.state(was.pod)
    rig.reload()
    rig.plugin("REPAIR", patch=told(rig)).report(0)
    assert fired(rig) == (1, 1, {})
    assert rig.state(was.pod) == before
    assert_as_they_were(rig, other)
