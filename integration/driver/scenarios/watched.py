"""Nobody calls anything: `cni-repair watch` runs as a service of systemd's, and heals by itself."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from integration.driver.checks import Checks
from integration.driver.node import LabError, Moment, Netns, Node, Wire, poll_until
from integration.driver.scenarios.common import check_lost, check_pings, check_same, check_vlan
from integration.driver.scenarios.containerd import check_kept, facts, make_pods
from integration.driver.scenarios.upgrade import (
    PINGS_TO_RESTORED,
    carrier_returned,
    check_carry_on,
    connected,
    distribution,
)
from integration.driver.watcher import WATCH, WATCH_SECONDS, Watcher, watching

_PODS = 8
_RELOADS = 10
_FLAPS = 4
# What a distribution's network service does when it is restarted.
_REMAKE_BOND = """
set -e
/run/busybox rmmod e1000e
ip link delete bond4
/run/busybox modprobe e1000e
until [ -e /sys/class/net/eth1 ]; do sleep 0.1; done
ip link add bond4 type bond mode active-backup miimon 100 num_grat_arp 0 num_unsol_na 0
for nic in eth0 eth1; do
    ip link set "$nic" down
    ip link set "$nic" master bond4
done
ip link set bond4 up
"""


def watched(node: Node, check: Checks) -> None:
    """The driver is unloaded and loaded under eight pods on VLAN 3."""
    node.up()
    wire = node.attach(*[{}] * _PODS)
    before = node.interfaces()
    connections = connected(node)
    with watching(node, _PODS) as watcher, distribution(node):
        with Moment(carrier_returned()) as carrier:
            since = node.unload()
            check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
            node.load()
            check_healed(check, watcher, _PODS)
        check_vlan(check, node, "eth0.3", "eth0")
        check_same(check, node, before)
        check_pings(check, wire, before, since)
        check_carry_on(check, connections)
        check_restored(check, wire, carrier.at or since)
        check_told(check, watcher, _PODS)
    check.outage = wire.outage(since)


def watched_bond(node: Node, check: Checks) -> None:
    """A script re-creates the bond, and the driver below it, as a network service does."""
    node.make_bond()
    wire = node.attach(*[{}] * _PODS)
    before = node.interfaces()
    connections = connected(node)
    with watching(node, _PODS) as watcher, Moment(carrier_returned("bond4")) as carrier:
        since = time.monotonic()
        node.run(["/bin/sh", "-c", _REMAKE_BOND], check=True)
        check_healed(check, watcher, _PODS)
        check_vlan(check, node, "bond4.3", "bond4")
        check_same(check, node, before)
        check_pings(check, wire, before, since)
        check_carry_on(check, connections)
        check_restored(check, wire, carrier.at or since)
    check.outage = wire.outage(since)


def watched_containerd(node: Node, check: Checks) -> None:
    """The pods are containerd's, which is told nothing; they were made after the watcher began."""
    node.up()
    with watching(node, 0) as watcher, distribution(node):
        cri = node.containerd()
        pods = make_pods(node, cri)
        wire = node.watch(list(pods.values()))
        watcher.wait_for(healthy=len(pods))
        before, eth0s = facts(cri), node.interfaces()
        with Moment(carrier_returned()) as carrier:
            since = node.unload()
            check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
            node.load()
            check_healed(check, watcher, len(pods))
        check_same(check, node, eth0s)
        check_kept(check, before, facts(cri))
        check_pings(check, wire, eth0s, since)
        check_restored(check, wire, carrier.at or since)
        check.outage = wire.outage(since)
        first, *_ = pods
        check.succeeds("StopPodSandbox: no error", lambda: cri.stop_sandbox(first))
        check_namespaces_end(check, watcher, pods[first])


def watched_again(node: Node, check: Checks) -> None:
    """Whatever comes, in a row: and every pod is healthy in the end."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    connection = node.connect(node.pods[0])
    connection.exchange("before the reloads")
    pods = len(node.pods)
    calm = {"first": "1s", "most": "2s"}  # else the last of ten in a row waits for minutes
    with watching(node, pods, backOff=calm) as watcher, distribution(node):
        since = time.monotonic()
        check.succeeds(f"{_RELOADS} reloads in a row", lambda: reload_again(node, watcher, pods))
        check_same(check, node, before)
        check.succeeds("a flapping NIC: healed", lambda: flap(node, watcher, pods))
        check_same(check, node, before)
        check_churn(check, node, watcher, pods)
        check_same(check, node, before)
        check_killed(check, node, watcher, pods)
        check_same(check, node, before)
        check_pings(check, wire, before, since)
        check.succeeds(
            "a TCP connection bound to eth0 carries on", lambda: connection.exchange("after")
        )
    check.outage = wire.outage(since)


# --- what happens ---------------------------------------------------------------------------------


def reload_again(node: Node, watcher: Watcher, pods: int) -> None:
    for _ in range(_RELOADS):
        node.unload()
        watcher.wait_for(lost=pods)
        node.load()
        watcher.wait_for(healthy=pods)


def flap(node: Node, watcher: Watcher, pods: int) -> None:
    """It comes, and goes before anybody can have done much; and carrier comes and goes."""
    for _ in range(_FLAPS):
        node.unload()
        node.load()
    for _ in range(_FLAPS):
        node.ip("link set eth0 down")
    node.unload()
    watcher.wait_for(lost=pods)
    node.load()
    watcher.wait_for(healthy=pods)


def check_churn(check: Checks, node: Node, watcher: Watcher, pods: int) -> None:
    """ADD and DEL run all the time; an ADD that finds no master is tried again, as runtimes do."""
    pod = Netns(f"{node.pods[0].name}-more")
    node.add_netns(pod)
    with repeated(lambda: add_and_delete(node, pod)) as trouble:
        for _ in range(2):
            node.unload()
            node.load()
    check("a reload while ADD and DEL run: no DEL fails", not trouble, trouble)
    check.succeeds("every pod is healed", lambda: watcher.wait_for(healthy=pods))
    left = [path.name for path in Path("/var/lib/cni-repair/checkpoints").glob(f"*{pod.name}*")]
    check("and nothing is left of the one that came and went", not left, left)


def add_and_delete(node: Node, pod: Netns) -> str:
    """One round; what went wrong with its DEL."""
    node.cni("ADD", pod)
    done = node.cni("DEL", pod)
    return "" if done.returncode == 0 else done.stdout


@contextlib.contextmanager
def repeated(work: Callable[[], str]) -> Iterator[list[str]]:
    """Context: work is done again and again, once at least; yields what went wrong."""
    done, trouble = threading.Event(), list[str]()

    def again() -> None:
        while True:
            if said := work():
                trouble.append(said)
            if done.is_set():
                return

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield trouble
    finally:
        done.set()
        thread.join()


def check_killed(check: Checks, node: Node, watcher: Watcher, pods: int) -> None:
    """Killed while its pods are lost: systemd starts another, which heals them."""
    node.unload()
    watcher.wait_for(lost=pods)
    killed = watcher.kill()
    node.load()
    # Its own status is of the one that was killed until the next one has looked.
    check.succeeds(
        "kill -9 while eth0 is gone: systemd starts it again, and every pod is healed",
        lambda: poll_until(
            lambda: watcher.status.get("pid") not in (None, killed) and watcher.sees(healthy=pods),
            WATCH_SECONDS,
            f"{watcher.status}",
        ),
    )
    restarts = node.systemctl("show", "--property=NRestarts", "--value", WATCH).stdout.strip()
    check("it was restarted once, no more", restarts == "1", restarts)


# --- what must hold -----------------------------------------------------------------------------


def check_healed(check: Checks, watcher: Watcher, pods: int) -> None:
    check.succeeds(
        f"nobody has called anything: {pods} of {pods} pods are healthy",
        lambda: watcher.wait_for_heals(pods),
    )


def check_restored(check: Checks, wire: Wire, carrier: float) -> None:
    """From the uplink's carrier to each pod's first answer: what the outage is longer than the
    NIC's own."""
    took = {
        target: min(one.at for one in got if one.at > carrier) - carrier
        for target, got in wire.replies.items()
    }
    words = []
    for family in (4, 6):
        each = sorted(seconds for target, seconds in took.items() if target.family == family)
        words.append(f"IPv{family} {each[0]:.2f}-{each[-1]:.2f} s")
    # In pings, not in seconds: on a slow machine both take longer.
    pings = wire.sent_between(carrier, carrier + max(took.values()))
    check(
        f"from carrier to each pod's first reply: {', '.join(words)}; less than 300 pings",
        pings < PINGS_TO_RESTORED,
        took,
    )


def check_told(check: Checks, watcher: Watcher, pods: int) -> None:
    """In the journal, a line each, with how long it was."""
    # A look may see a pod well before its heal has said so.
    with contextlib.suppress(LabError):
        poll_until(lambda: len(watcher.events("healed")) >= pods, WATCH_SECONDS, "all to be told")
    lost, healed = watcher.events("lost"), watcher.events("healed")
    right = all(
        int(one["OUTAGE_MS"]) > 0 and one["POD"].startswith("shop/") and one["IFNAME"] == "eth0"
        for one in healed
    )
    check(
        "the journal tells of each pod: lost, healed, and for how long it was out",
        len(lost) == len(healed) == pods and right,
        [one["MESSAGE"] for one in (*lost, *healed)],
    )


def check_namespaces_end(check: Checks, watcher: Watcher, pod: Netns) -> None:
    """The watcher keeps no namespace of a pod that is gone: its interface would go on answering."""
    mounts = Path(f"/proc/{watcher.pid}/mountinfo").read_text()
    target = str(Path(pod.path).resolve())
    check("the stopped pod's namespace is not mounted in the watcher", target not in mounts, mounts)


SCENARIOS = {
    "watched": watched,
    "watched-bond": watched_bond,
    "watched-containerd": watched_containerd,
}
# A dozen reloads take minutes. tests/install/test_watch_service has the same without e1000e.
LONG = {"watched-again": watched_again}
