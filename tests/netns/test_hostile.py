"""What a pod may do with CAP_NET_ADMIN in its own namespace, and what must not come of it.

Each of these once stopped the repair of every other pod, or worse.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink
from integration.trust.lied_to import cases
from integration.trust.lied_to.liar import Liar
from tests.netns.onwire import arp_listener
from tests.netns.rig import HANG_SECONDS, eventually, states
from tests.netns.upgrading import RELOAD, attached, plan, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.netns.rig import Pod, Rig

NETLINK_ROUTE = 0
NLMSG_ERROR, NLMSG_DONE = 2, 3


def liar(rig: Rig, pod: Pod) -> Liar:
    """The pod as the proof `lied to` has it, whose cases these are, too."""
    return Liar(rig.lab, pod)


def repaired(rig: Rig, status: int = 0, **changes: object) -> dict[str, str]:
    """The states after a REPAIR of all pods."""
    report = rig.plugin("REPAIR", None, {**rig.conf(), **changes}).report(status)
    return states(report)


def test_address_whose_peer_is_zero(rig: Rig) -> None:
    """The kernel leaves IFA_ADDRESS out of it."""
    hostile, other = rig.attach("pod1"), rig.attach("pod2")
    cases.address_whose_peer_is_zero(liar(rig, hostile.pod))
    rig.ip("route del default", other.pod)
    assert repaired(rig) == {hostile.pod.id: "healthy", other.pod.id: "healthy"}
    assert rig.state(other.pod) == other.state


def test_forged_netlink_answers_are_not_heard(rig: Rig) -> None:
    """Who has CAP_NET_ADMIN in a namespace may write to any netlink socket of it, ours included.

    The forged ones lie in the queue before the kernel's: an acknowledgement for more requests than
    there are, and an end of the dump before its first entry.
    """
    was = rig.attach("pod1")

    def ask() -> tuple[list[Ack], list[bytes]]:
        links = nl.Message(rt.RTM_GETLINK, 0, nl.link_body(0, 0, 0, b""))
        with Rtnetlink() as ours:
            ours.dump(links, 100)  # it has its port from its first request on
            port = ours.sock.getsockname()[0]
            assert port
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as forger:
                forger.bind((0, 0))
                for sequence in range(2, 10):
                    refused = struct.pack("=IHHIIi", 36, NLMSG_ERROR, 0, sequence, 0, -errno.EPERM)
                    forger.sendto(refused.ljust(36, b"\0"), (port, 0))
                    forger.sendto(
                        struct.pack("=IHHIIi", 20, NLMSG_DONE, 2, sequence, 0, 0), (port, 0)
                    )
            up = nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(1, 1, 1, b""))
            return ours.send([up]), ours.dump(links, 100)

    acknowledged, links = rig.inside(was.pod, ask)
    assert acknowledged == [Ack(0, "")]
    assert len(links) == 2


def test_only_recorded_addresses_are_announced(rig: Rig) -> None:
    """A pod that gave itself its gateway's address must not have us tell the network so."""
    was = rig.attach("pod1")
    cases.takes_the_gateways_address(liar(rig, was.pod))
    rig.ip("route del default", was.pod)

    announced = set()
    with arp_listener(rig, "tor") as listener:
        listener.settimeout(0.3)
        assert repaired(rig) == {was.pod.id: "healthy"}

        def heard() -> bool:
            """(And what comes in the next moment.)"""
            try:
                while True:
                    announced.add(socket.inet_ntoa(listener.recv(2048)[28:32]))
            except TimeoutError:
                return was.address in announced

        eventually(heard, "the announcement")
    assert "10.9.0.1" not in announced


@pytest.mark.slow
def test_missing_master_delays_no_pod_over_another(rig: Rig) -> None:
    rig.uplink_up("eth1", ip="10.9.1.1")
    first = rig.attach("pod1")
    second = rig.attach("pod2", rig.conf(master="eth1"))
    rig.uplink_down("eth0")
    rig.reload("eth1", ip="10.9.1.1")
    command = rig.launcher()
    environ = {**rig.environ("REPAIR", None), "PATH": os.environ["PATH"]}
    conf = rig.conf(masterTimeout=2 * HANG_SECONDS)
    with rig.started(command, env=environ, stdin=json.dumps(conf)) as process:
        eventually(lambda: "eth0" in rig.links(second.pod), "its own master's return to do")
        assert process.poll() is None, "it still waits for the other master"
        rig.uplink_up("eth0")
        process.wait(HANG_SECONDS)
    assert rig.state(first.pod) == first.state
    assert rig.state(second.pod) == second.state


def test_daemon_of_a_delegate_does_not_keep_the_lock(rig: Rig) -> None:
    pid = rig.base / "daemon"
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] && {{ setsid sleep 600 >/dev/null 2>&1 & echo $! >{pid}; }}
        exec /usr/lib/cni/macvlan
        """,
    )
    was = rig.attach("pod1")
    try:
        rig.reload()
        # Both fail where somebody has the lock for longer than they wait for it.
        assert repaired(rig) == {was.pod.id: "healthy"}
        rig.plugin("DEL", was.pod).ok()
    finally:
        os.kill(int(pid.read_text()), 9)


def test_label_that_is_no_text_does_not_spoil_the_checkpoint(rig: Rig) -> None:
    """CHECK takes what later plugins added into the checkpoint: only what can be read back."""
    was = rig.attach("pod1")
    before = rig.checkpoint(was.pod).read_bytes()

    cases.label_that_is_no_text(liar(rig, was.pod))
    rig.plugin("CHECK", was.pod, {**rig.conf(), "prevResult": was.result}).ok()
    assert rig.checkpoint(was.pod).read_bytes() == before


@pytest.mark.slow
def test_flood_of_rules_keeps_no_pod_from_its_link(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("rule add from 10.9.0.0/24 lookup 100", was.pod)
    where = ["--checkpoint-dir", str(rig.checkpoints)]
    assert rig.cli("snapshot", *where).status == 0
    cases.flood_of_rules(liar(rig, was.pod))
    rig.reload()
    (entry,) = rig.plugin("REPAIR").report(1)["attachments"]
    assert (entry["state"], len(entry["actions"])) == ("degraded", 5)
    assert entry["findings"] == ["its rules: more than 4096 rules: too many to mirror"]
    assert rig.state(was.pod) == was.state


@pytest.mark.slow
def test_routes_of_hundreds_of_hops_are_too_many_soon(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("link add d0 type veth peer name d1", was.pod)
    rig.ip("link set d0 up", was.pod)
    hops = " ".join(f"nexthop via 10.9.0.{2 + n % 250} dev eth0" for n in range(90))
    routes = "".join(f"route add 11.0.{n >> 8}.{n & 255}/32 {hops}\n" for n in range(900))
    rig.run("ip", "-n", was.pod.name, "-batch", "-", stdin=routes)
    where = ["--checkpoint-dir", str(rig.checkpoints)]
    told = rig.cli("snapshot", *where)
    assert "routes of more than 1048576 bytes: too many to mirror" in told.out
    assert "coverage: 1 of 1" in told.out  # by its older record
    rig.reload()
    assert rig.plugin("REPAIR").report(0)["summary"]["healthy"] == 1


def test_alias_that_is_no_text_does_not_spoil_the_checkpoint(rig: Rig) -> None:
    was = rig.attach("pod1")
    script = "ip link set dev eth0 alias \"$(printf 'a\\377b')\""
    rig.run("nsenter", f"--net={was.pod.path}", "sh", "-c", script)
    where = ["--checkpoint-dir", str(rig.checkpoints)]
    assert rig.cli("snapshot", *where).status == 0
    liar(rig, was.pod).alias("a\n\x1b[31m  b")

    def alias() -> str:
        return rig.ip("link show dev eth0", was.pod).partition("alias ")[2]

    before = alias()
    assert rig.cli("snapshot", *where).status == 0
    rig.reload()
    plan = rig.cli("plan", "--all", *where)
    assert plan.status == 1
    assert "ip link set dev eth0 alias \"$(printf %b 'a\\0012\\0033[31m  b')\"" in plan.out
    assert "\x1b" not in plan.out
    rig.plugin("REPAIR").report(0)
    assert alias() == before != ""


@pytest.mark.slow
@pytest.mark.parametrize("lie", [cases.label_that_is_no_text, cases.flood_of_rules])
def test_pod_that_no_record_can_hold_keeps_no_upgrade_from_its_node(
    rig: Rig, lie: Callable[[Liar], None]
) -> None:
    """Its older record stays."""
    hostile, other = attached(rig, 2)
    lie(liar(rig, hostile.pod))
    done = start(rig, plan(rig, RELOAD))
    assert "driver     exit status 0" in done.out or "driver     ok" in done.out, done
    assert rig.state(other.pod) == other.state
    assert rig.state(hostile.pod) == hostile.state
