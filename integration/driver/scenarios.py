"""What is done to a node full of pods, and what must hold afterwards.

Each scenario gets a node that has just booted: uplinks eth0 and eth1 (e1000e), no pods. The host
imports this file, too, for the names.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import math
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from integration.driver.checks import Checks
from integration.driver.guest import UPLINK_MACS
from integration.driver.node import (
    LabError,
    LinkNews,
    Moment,
    Netns,
    Node,
    Outcome,
    Wire,
    has_carrier,
    poll_until,
)

Json = dict[str, Any]

SCENARIOS: dict[str, Callable[[Node, Checks], None]] = {}

_SAME = {
    "ifindex": "ifindex",
    "MAC": "MAC",
    "addresses": "addresses",
    "routes": "routes",
    "rest": "MTU, mode and flags",
}
# Long enough that pings would have come back: carrier takes 1.2 s, duplicate detection 1-2 s.
_HOPELESS_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_NEXT_PING_SECONDS = 5.0
_START_SECONDS = 3.0  # what a command takes at most till it is at work
_PATIENCE_SECONDS = 10
_LATE_SECONDS = 20.0

_SANDBOX = "5eed" * 16

CHECKPOINTS = Path("/var/lib/cni-repair/checkpoints")
RUN_DIR = Path("/run/cni-repair")


def scenario(name: str) -> Callable[[Any], Any]:
    """Register a scenario under the name by which it is called on the command line."""

    def register(function: Any) -> Any:
        SCENARIOS[name] = function
        return function

    return register


# --- What several scenarios check ----------------------------------------------------------------


def states(outcome: Outcome) -> list[str]:
    """The state of each attachment in an answer of REPAIR or `-o json`."""
    return [one["state"] for one in outcome.document["attachments"]]


def by_pod(outcome: Outcome, pods: list[Netns]) -> list[Json]:
    """The attachments of an answer in the order of `pods`; they were made in any order."""
    found = {one["containerID"]: one for one in outcome.document["attachments"]}
    return [found[pod.name] for pod in pods]


def said(outcome: Outcome) -> str:
    """All that an answer says, in one line."""
    return " ".join((outcome.stdout + outcome.stderr).split())


def check_repaired(check: Checks, outcome: Outcome) -> None:
    check(
        "REPAIR: exit 0, every pod healthy",
        outcome.returncode == 0 and set(states(outcome)) == {"healthy"},
        said(outcome),
    )


def check_same(check: Checks, node: Node, before: Json) -> None:
    """Every pod's eth0 is what it was."""
    now = node.interfaces()
    for key, words in _SAME.items():
        changed = [
            f"{pod}: {was[key]} became {now[pod][key]}"
            for pod, was in before.items()
            if was[key] != now[pod][key] or not was[key]
        ]
        check(f"every pod's eth0 has the same {words} as before", not changed, "; ".join(changed))


def check_pings(check: Checks, wire: Wire, eth0s: Json, since: float) -> None:
    """The network works, and over VLAN 3."""
    now = time.monotonic()
    answered = wire.answered(now, _ANSWER_SECONDS)
    check("pings of every pod pass, IPv4 and IPv6", answered, wire.silent(now))
    # Some frames after the repair, and since the reload none without the tag.
    macs = [eth0["MAC"] for eth0 in eth0s.values()]
    with contextlib.suppress(LabError):  # a reply may have been one to an earlier frame
        poll_until(lambda: all(wire.vlans(mac, now) for mac in macs), _NEXT_PING_SECONDS, "frames")
    seen = [(wire.vlans(mac, now), wire.vlans(mac, since)) for mac in macs]
    tagged = all(set(late) == set(all_of_them) == {3} for late, all_of_them in seen)
    check("the pods' frames on the wire are tagged with VLAN 3, all of them", tagged, seen)


def check_pod_pings(check: Checks, wire: Wire, pod: Netns) -> None:
    """The network of one pod works."""
    now = time.monotonic()
    answered = wire.answered(now, _ANSWER_SECONDS, pod)
    check("pings of that pod pass, IPv4 and IPv6", answered, wire.silent(now))


def check_vlan(check: Checks, node: Node, name: str, below: str) -> None:
    link = node.link(name)
    check(f"{name} is VLAN 3 over {below}, and up", is_vlan(link, 3, below), link)


def is_vlan(link: Json, number: int, below: str) -> bool:
    info = link.get("linkinfo", {})
    return bool(
        info.get("info_kind") == "vlan"
        and info["info_data"]["id"] == number
        and link["link"] == below
        and "UP" in link["flags"]
    )


def without_eth0(node: Node) -> list[str]:
    return [pod.name for pod in node.pods if not node.link("eth0", pod)]


def check_lost(check: Checks, what: str, node: Node) -> None:
    """The reload did its work: else all that follows would prove nothing."""
    gone = without_eth0(node)
    left = sorted(node.links() & {"eth0", "eth0.3", "bond4", "bond4.3"})
    lost = len(gone) == len(node.pods) and not left
    check(f"{what}: gone with every pod's eth0", lost, f"{left}, pods without eth0: {gone}")


# --- The scenarios -------------------------------------------------------------------------------


@scenario("control")
def control(node: Node, check: Checks) -> None:
    """Nobody repairs."""
    node.up()
    wire = node.attach()
    since = node.unload()
    node.load()
    node.up()
    check("no repair: pings of no pod pass", not any_answer(wire, since), wire.replies)
    gone = without_eth0(node)
    check("no repair: every pod stays without eth0", len(gone) == len(node.pods), gone)
    status = node.cli("status", "-o", "json")
    check(
        "status: every pod lost, exit 1",
        status.returncode == 1 and states(status) == ["lost"] * len(node.pods),
        said(status),
    )
    check.outage = wire.outage(since)


def any_answer(wire: Wire, since: float) -> bool:
    """Whether anybody gets through, of whom nobody should."""
    begin = max(since, time.monotonic())
    time.sleep(_HOPELESS_SECONDS)
    return wire.first_reply(begin) is not None


@scenario("eth0.3")
def eth0_vlan(node: Node, check: Checks) -> None:
    """The incident, and its repair."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    connection = node.connect(node.pods[0])
    connection.exchange("before the reload")
    since = node.unload()
    check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
    connection.send("while the driver was out")
    node.load()
    node.up()
    check_repaired(check, node.cni("REPAIR"))
    check_vlan(check, node, "eth0.3", "eth0")
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.succeeds(
        "a TCP connection bound to eth0 carries what was sent meanwhile",
        lambda: connection.answer("while the driver was out"),
    )
    check.succeeds("and what is sent now", lambda: connection.exchange("after"))
    again = node.cni("REPAIR")
    idle = [one["actions"] for one in again.document["attachments"]]
    check("REPAIR again: exit 0, nothing to do", again.returncode == 0 and not any(idle), idle)
    check.outage = wire.outage(since)


@scenario("early")
def before_carrier(node: Node, check: Checks) -> None:
    """REPAIR comes first, then the link, then carrier."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    check_lost(check, "rmmod e1000e: eth0 and eth0.3", node)
    with (
        Moment(lambda: has_carrier("eth0")) as carrier,
        Moment(partial(exists, "eth0"), node.pods[-1]) as made,
        node.meanwhile(lambda: node.cni("REPAIR")) as repair,
    ):
        node.load()
        # Only now does the distribution set the uplink up: which of them is quicker is no chance.
        with contextlib.suppress(LabError):
            poll_until(lambda: made.at is not None, _ANSWER_SECONDS, "the last pod's eth0")
        node.up()
        answer = repair.result()
    check(
        "REPAIR, called while eth0 was not there, made all links before there was carrier",
        bool(made.at and carrier.at and made.at < carrier.at),
        (made.at, carrier.at),
    )
    check_repaired(check, answer)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    first = wire.first_reply(carrier.at or since)
    took = first - carrier.at if first and carrier.at else math.inf
    check(f"from carrier to the first reply it took {took:.1f} s, less than 5", took < 5)
    check.outage = wire.outage(since)


def exists(name: str) -> bool:
    """Whether the calling thread's namespace has a link of that name."""
    return name in (found for _, found in socket.if_nameindex())


@scenario("bond-kept")
def bond_kept(node: Node, check: Checks) -> None:
    """The bond outlives its slaves, and so does all that stands on it."""
    node.make_bond()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    check(
        "rmmod e1000e: bond4, bond4.3 and every pod's eth0 stay, LOWERLAYERDOWN",
        {"bond4", "bond4.3"} <= node.links()
        and {node.link("eth0", pod)["operstate"] for pod in node.pods} == {"LOWERLAYERDOWN"},
        node.links(),
    )
    status = node.cli("status", "-o", "json")
    found = [" ".join(one.get("findings", [])) for one in status.document["attachments"]]
    check(
        "status: every pod degraded for want of carrier, master bond4.3 named, exit 1",
        status.returncode == 1
        and set(states(status)) == {"degraded"}
        and all("no carrier" in text and "bond4.3" in text for text in found),
        said(status),
    )
    node.load()
    # Time to start: REPAIR is to find the bond without carrier, then to wait for it.
    with node.meanwhile(lambda: node.cni("REPAIR")) as repair:
        time.sleep(_START_SECONDS)
        enslaved = time.monotonic()
        node.enslave()
        answer = repair.result()
    check_repaired(check, answer)
    actions = [one["actions"] for one in answer.document["attachments"]]
    check("REPAIR changed nothing that was right", not any(actions), actions)
    check_same(check, node, before)
    check_vlan(check, node, "bond4.3", "bond4")
    check_pings(check, wire, before, since)
    missing = announceable(before) - wire.announced(enslaved)
    check(
        "REPAIR announced every pod by gratuitous ARP once there was carrier", not missing, missing
    )
    check.outage = wire.outage(since)


def announceable(eth0s: Json) -> set[tuple[str, str]]:
    """(MAC, IPv4 address) of every pod."""
    return {
        (eth0["MAC"], address["local"])
        for eth0 in eth0s.values()
        for address in eth0["addresses"]
        if address["family"] == "inet"
    }


@scenario("bond-new")
def bond_made_anew(node: Node, check: Checks) -> None:
    """The distribution's network service removes the bond and makes another: the seed's case."""
    node.make_bond()
    wire = node.attach()
    before = node.interfaces()
    connection = node.connect(node.pods[0])
    connection.exchange("before the reload")
    since = lose_bond(node)
    check_lost(check, "rmmod e1000e, bond4 deleted: bond4 and bond4.3", node)
    connection.send("while the bond was gone")
    node.load()
    node.make_bond()
    check_repaired(check, node.cni("REPAIR"))
    check_vlan(check, node, "bond4.3", "bond4")
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.succeeds(
        "a TCP connection bound to eth0 carries what was sent meanwhile",
        lambda: connection.answer("while the bond was gone"),
    )
    check.outage = wire.outage(since)
    lose_bond(node)
    node.load()
    node.up()
    refused = node.cli("repair", "--all", "--wait", "1", "-o", "json")
    check(
        "bond4 does not come back, eth0 does: REPAIR refuses, and names bond4",
        refused.returncode == 1
        and set(states(refused)) == {"lost"}
        and all("bond4" in error["msg"] for error in errors(refused)),
        said(refused),
    )
    moved = node.links() & {"eth0.3", "bond4.3"}
    check("no pod was moved to eth0", not moved and len(without_eth0(node)) == 3, moved)
    check_fallback(check, node, wire)


def check_fallback(check: Checks, node: Node, wire: Wire) -> None:
    """The seed's checkpoints name no master: the configuration's first that exists is used."""
    pod = node.pods[0]
    make_seed_checkpoint(pod)
    answer = node.cni("REPAIR", pod, container_id=_SANDBOX)
    check("a checkpoint that names no master: REPAIR exit 0", answer.returncode == 0, said(answer))
    check_vlan(check, node, "eth0.3", "eth0")
    check_pod_pings(check, wire, pod)


def make_seed_checkpoint(pod: Netns) -> None:
    """Have the seed's own record of a pod instead of ours."""
    ours = CHECKPOINTS / f"{pod.name}@eth0.json"
    result = json.loads(ours.read_text())["result"]
    seeds = {"netns": pod.path, "podname": pod.name, "sandbox": _SANDBOX, "ifname": "eth0"}
    (CHECKPOINTS / _SANDBOX[:12]).write_text(json.dumps({**seeds, "result": result}))
    ours.unlink()


def lose_bond(node: Node) -> float:
    since = node.unload()
    node.ip("link delete bond4")
    return since


def errors(outcome: Outcome) -> list[Json]:
    """The error of each attachment in an answer."""
    return [error_of(one) for one in outcome.document["attachments"]]


def error_of(attachment: Json) -> Json:
    """Its error; an empty one where there is none."""
    error: Json = attachment.get("error", {"code": 0, "msg": "", "details": ""})
    return error


@scenario("clash")
def clash(node: Node, check: Checks) -> None:
    """Somebody else has the VLAN device's name."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    node.load()
    node.up()
    node.up("eth1")
    other_id = "link add link eth0 name eth0.3 type vlan id 4"
    check_refused(check, node, "has id 4", other_id, "VLAN id 4", "not 3")
    other_parent = "link add link eth1 name eth0.3 type vlan id 3"
    check_refused(check, node, "is over eth1", other_parent, "eth1", "eth0")
    check_refused(check, node, "is no VLAN", "link add eth0.3 type dummy", "dummy", "VLAN 3")
    check_race(check, node)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def check_refused(check: Checks, node: Node, what: str, make: str, *facts: str) -> None:
    """REPAIR refuses a link that `make` makes, and names the facts of both sides."""
    node.ip(make)
    stranger = node.link("eth0.3")
    links = node.links()
    refused = node.cni("REPAIR")
    named = all(all(fact in error["msg"] for fact in facts) for error in errors(refused))
    check(
        f"eth0.3 {what}: REPAIR exit 1, pods lost, both facts named ({' / '.join(facts)})",
        refused.returncode == 1 and set(states(refused)) == {"lost"} and named,
        said(refused),
    )
    untouched = steady(node.link("eth0.3")) == steady(stranger)
    check(
        f"eth0.3 {what}: nothing was made, nor changed",
        untouched and node.links() == links and len(without_eth0(node)) == len(node.pods),
        f"{links} became {node.links()}",
    )
    node.ip("link delete eth0.3")


def steady(link: Json) -> Json:
    """A link without what changes by itself."""
    return {key: link.get(key) for key in ("ifindex", "address", "mtu", "link", "linkinfo")}


def check_race(check: Checks, node: Node) -> None:
    """As systemd-networkd may do it: eth0.3 comes up while REPAIR waits for eth0.

    The VLAN is made before its parent gets the name eth0, so that nobody else can make it.
    """
    node.ip("link set eth0 down")
    node.ip("link set eth0 name late0")
    with node.meanwhile(lambda: node.cni("REPAIR")) as repair:
        poll_until(lambda: any(RUN_DIR.glob("*")), _ANSWER_SECONDS, "REPAIR to begin")
        node.ip("link add link late0 name eth0.3 type vlan id 3")
        theirs = node.link("eth0.3")["ifindex"]
        node.ip("link set late0 name eth0")
        node.up()
        answer = repair.result()
    check_repaired(check, answer)
    masters = [node.link("eth0", pod).get("link_index") for pod in node.pods]
    adopted = masters == [theirs] * len(node.pods)
    check("eth0.3 appeared while REPAIR was running: adopted, all pods are on it", adopted, masters)
    check_vlan(check, node, "eth0.3", "eth0")


@scenario("old-kernel")
def old_kernel(node: Node, check: Checks) -> None:
    """Before 6.15, nobody can make an eth0 in a namespace while the node has one."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    node.load()
    node.up()
    node.ip("link add link eth0 name eth0.3 type vlan id 3")
    node.up("eth0.3")
    thief, taken, squatted = node.pods
    made = node.run(f"ip link add link eth0.3 name eth0 netns {thief.name} type macvlan".split())
    check(
        "this kernel refuses an eth0 made in a pod's namespace: File exists",
        made.returncode != 0 and "File exists" in made.stderr,
        said(made),
    )
    # 1. Another interface has the first pod's MAC
    mac = before[thief.name]["MAC"]
    node.ip(f"link add link eth0.3 name same address {mac} type macvlan mode bridge")
    node.up("same")
    # 2. The second pod's temporary name is taken by somebody else's link
    temporary = temporary_name(taken)
    node.ip(f"link add {temporary} type dummy")
    # 3. The third pod has got an eth0 of its own
    node.ip(f"-n {squatted.name} link add eth0 type dummy")
    links = node.links()
    refused = node.cni("REPAIR")
    no_mac, no_name, foreign = by_pod(refused, node.pods)
    check("three pods, three troubles: REPAIR exit 1", refused.returncode == 1, said(refused))
    check(
        "MAC taken on the master: that is said, and no half-made eth0 is left",
        "same MAC" in error_of(no_mac)["details"] and not node.link("eth0", thief),
        no_mac,
    )
    check(
        "name of the temporary link taken: an error, and theirs stays",
        error_of(no_name)["code"] != 0 and kind(node.link(temporary)) == "dummy",
        no_name,
    )
    own = node.link("eth0", squatted)
    check(
        "eth0 is the pod's own: foreign, and not touched",
        foreign["state"] == "foreign" and kind(own) == "dummy",
        foreign,
    )
    check("after these failures: no temporary link", node.links() == links, node.links() ^ links)
    node.ip("link delete same")
    node.ip(f"link delete {temporary}")
    node.ip(f"-n {squatted.name} link delete eth0")
    # 4. A REPAIR that was killed has left its temporary link
    node.ip(f"link add link eth0.3 name {temporary} type macvlan")
    with LinkNews() as news:
        answer = node.cni("REPAIR")
    check_repaired(check, answer)
    ways = {temporary_name(pod) for pod in node.pods}
    check("by way of a temporary link for every pod", ways <= news.names, news.names)
    left = [name for name in node.links() if is_temporary(name)]
    check("which is gone, as is the one that a killed REPAIR had left", not left, left)
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def temporary_name(pod: Netns) -> str:
    """As cni-repair derives it from the attachment."""
    return f"cnirep{binascii.crc32(f'{pod.name}@eth0'.encode()):08x}"


def is_temporary(name: str) -> bool:
    return name.startswith("cnirep")


def kind(link: Json) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


@scenario("late")
def late(node: Node, check: Checks) -> None:
    """The NIC comes back after REPAIR's deadline."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    since = node.unload()
    answer = node.cni("REPAIR", conf=node.netconf(masterTimeout=_PATIENCE_SECONDS))
    codes = [error["code"] for error in errors(answer)]
    check(
        f"no eth0: REPAIR waits for its {_PATIENCE_SECONDS} s, exit 1, code 11 for every pod",
        answer.returncode == 1
        and codes == [11] * len(node.pods)
        and answer.seconds >= _PATIENCE_SECONDS,
        said(answer),
    )
    one = node.cni("REPAIR", node.pods[0], conf=node.netconf(masterTimeout=1))
    error = one.document
    check(
        "REPAIR of one attachment: exit 1, code 11",
        one.returncode == 1 and error.get("code") == 11,
        said(one),
    )
    time.sleep(max(0.0, since + _LATE_SECONDS - time.monotonic()))
    node.load()
    node.up()
    check_repaired(check, node.cni("REPAIR"))
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


@scenario("renamed")
def renamed(node: Node, check: Checks) -> None:
    """The NIC comes back under another name: one pod's configuration allows to follow it."""
    node.up()
    wire = node.attach({}, {"followRenamedMaster": True})
    before = node.interfaces()
    strict, follower = node.pods
    since = node.unload()
    node.load()
    rename(node, eth0="swap", eth1="eth0", swap="eth1")
    swapped = node.cni("REPAIR", conf=node.netconf(masterTimeout=1))
    check(
        "eth0 is another card now: REPAIR exit 1, both permanent MACs named, nothing made",
        swapped.returncode == 1
        and all(mac in error["msg"] for error in errors(swapped) for mac in UPLINK_MACS)
        and len(without_eth0(node)) == 2
        and not node.link("eth0.3"),
        said(swapped),
    )
    rename(node, eth0="spare", eth1="ens9")
    node.up("ens9")
    answer = node.cni("REPAIR", conf=node.netconf(masterTimeout=1))
    refused, followed = by_pod(answer, node.pods)
    why = error_of(refused)["msg"]
    check(
        "eth0 is called ens9 now: the pod that may not follow is refused, both names named, exit 1",
        answer.returncode == 1 and refused["state"] == "lost" and "eth0" in why and "ens9" in why,
        said(answer),
    )
    check("nothing was made in it", without_eth0(node) == [strict.name], without_eth0(node))
    check("followRenamedMaster: healthy", followed["state"] == "healthy", said(answer))
    check_vlan(check, node, "eth0.3", "ens9")
    check_pod_pings(check, wire, follower)
    node.ip("link set ens9 down")
    rename(node, ens9="eth0")
    node.up()
    check_repaired(check, node.cni("REPAIR"))
    check_same(check, node, before)
    check_pings(check, wire, before, since)
    check.outage = wire.outage(since)


def rename(node: Node, **names: str) -> None:
    """Rename links, one after the other: old name = new name."""
    for old, new in names.items():
        node.ip(f"link set {old} name {new}")
