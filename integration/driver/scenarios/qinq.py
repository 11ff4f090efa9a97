"""The pods are on a VLAN over a service provider's VLAN, with all that such links can have; the
node has addresses on them, and shims over them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from cni_repair.demo.network import GATEWAY, GATEWAY6
from integration.driver.checks import Checks, said
from integration.driver.node import FAR, LabError, LinkNews, Node, Outcome, poll_until
from integration.driver.scenarios.common import (
    ANSWER_SECONDS,
    Json,
    check_pings,
    check_repaired,
    check_same,
    repairing,
    without_eth0,
)

# 802.1ad VLAN 3 over the card (eth0.3), 802.1Q VLAN 5 over that (eth0.3.5): two tags a frame.
OUTER, INNER = "eth0.3", "eth0.3.5"
OUTER_MAC = "52:54:00:00:00:33"  # not the card's
SHIM, OUTER_SHIM = "shim0", "shim1"
LINKS = (OUTER, INNER, SHIM, OUTER_SHIM)
SHIM_ADDRESS, HOST_ADDRESS, HOST_GATEWAY = "10.9.0.240", "198.51.100.2", "198.51.100.1"
MAKE_OUTER = (
    f"link add link eth0 name {OUTER} address {OUTER_MAC} mtu 1490 type vlan protocol 802.1ad id 3"
    " gvrp on egress-qos-map 0:3 1:2 ingress-qos-map 5:1"
)
_CONF = {"master": [OUTER], "vlanId": 5}
_LOOK = "addr show\nroute show table all\n"


def qinq(node: Node, check: Checks) -> None:
    """REPAIR gives back both VLANs, what the node has on them, and its shims."""
    with far_end(node):
        node.up()
        make_outer(node)
        wire = node.attach(_CONF, _CONF)
        inner = node.link(INNER)
        check(
            "ADD with a VLAN as master and vlanId: eth0.3.5 over eth0.3, with its MTU and MAC",
            inner.get("link") == OUTER and (inner["mtu"], inner["address"]) == (1490, OUTER_MAC),
            inner,
        )
        links = remembered(node, check)
        pods = node.interfaces()
        check_reaches(check, node, "before")
        since = reload(node, check)
        planned = node.cli("plan")
        check(
            "plan: exit 1, and names all of the node's links",
            planned.returncode == 1 and all(name in planned.stdout for name in LINKS),
            said(planned),
        )
        check_repaired(check, node, node.cni("REPAIR", conf=node.netconf(**_CONF)))
        check_same_links(check, node, links)
        check_same(check, node, pods)
        check_pings(check, wire, pods, since)
        check_reaches(check, node, "after")
        check_silence(check, node)
        check.outage = wire.outage(since)


def qinq_in_part(node: Node, check: Checks) -> None:
    """REPAIR finds the card down, then what a killed REPAIR has left, then another's VLAN."""
    with far_end(node):
        node.up()
        make_outer(node)
        wire = node.attach(_CONF)
        links = remembered(node, check)
        pods = node.interfaces()

        since = node.unload()
        with repairing(node) as repair:
            node.load()
            with contextlib.suppress(LabError):
                poll_until(lambda: SHIM in node.links(), ANSWER_SECONDS, "the shim")
            was_down = "UP" not in node.link("eth0")["flags"] and SHIM in node.links()
            node.up()
            answer = repair.result()
        check("REPAIR made all links while eth0 was down", was_down, sorted(node.links()))
        check_repaired(check, node, answer)
        check_same_links(check, node, links)

        reload(node, check)
        near(node, MAKE_OUTER, f"addr add {HOST_ADDRESS}/24 dev {OUTER}")
        check_repaired(check, node, node.cni("REPAIR"))
        check_same_links(check, node, links)

        reload(node, check)
        near(node, MAKE_OUTER, f"link set {OUTER} up")
        answer = node.cni("REPAIR")
        check_repaired(check, node, answer)
        rest = (INNER, SHIM, OUTER_SHIM)
        theirs = links_once_as(node, {name: links[name] for name in rest})
        check(
            "eth0.3 was there, and up: it is left to those who made it",
            HOST_ADDRESS not in json.dumps(theirs[OUTER]),
            theirs[OUTER],
        )
        as_before = all(theirs[name] == links[name] for name in rest)
        check("the rest is as before", as_before, theirs)
        status = node.cli("status")
        check(
            "status: exit 0, and says what eth0.3 lacks, as commands",
            status.returncode == 0
            and f"ip address add {HOST_ADDRESS}/24 dev {OUTER}" in said(status),
            said(status),
        )
        check_same(check, node, pods)
        check.outage = wire.outage(since)


def remembered(node: Node, check: Checks) -> Json:
    """Give the node the rest of what it has, and have that recorded; the node's links."""
    finish_node(node)
    taken = node.cli("snapshot", "-o", "json")
    check("snapshot: exit 0", taken.returncode == 0, said(taken))
    # An address has no route of its own while duplicate detection looks at it.
    look = ["ip", "-6", "addr", "show", "tentative"]
    poll_until(lambda: not node.run(look).stdout, ANSWER_SECONDS, "the node's IPv6 addresses")
    return node_links(node)


def reload(node: Node, check: Checks) -> float:
    since = node.unload()
    gone = without_eth0(node)
    left = sorted(node.links() & {"eth0", *LINKS})
    lost = len(gone) == len(node.pods) and not left
    check("rmmod e1000e: both VLANs and both shims are gone with the pods' eth0", lost, left)
    node.load()
    node.up()
    return since


@contextlib.contextmanager
def far_end(node: Node) -> Iterator[None]:
    """Context: the gateway is behind both tags, and the node's own neighbour behind the first."""
    far(
        node,
        f"addr del {GATEWAY}/24 dev wire.3",
        f"addr del {GATEWAY6}/64 dev wire.3",
        "link add link wire name s3 type vlan protocol 802.1ad id 3",
        "link add link s3 name s3.5 type vlan id 5",
        "link set s3 up",
        "link set s3.5 up",
        f"addr add {HOST_GATEWAY}/24 dev s3",
        *gateways("s3.5"),
    )
    try:
        yield
    finally:
        far(node, "link del s3", *gateways("wire.3"))


def gateways(name: str) -> list[str]:
    return [f"addr add {GATEWAY}/24 dev {name}", f"addr add {GATEWAY6}/64 dev {name} nodad"]


def far(node: Node, *lines: str) -> None:
    node.run(["ip", "-n", FAR.name, "-batch", "-"], stdin="\n".join(lines) + "\n", check=True)


def near(node: Node, *lines: str) -> None:
    node.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n", check=True)


def make_outer(node: Node) -> None:
    """As the distribution's network service does it once, and nobody after a reload."""
    near(
        node,
        MAKE_OUTER,
        f"addr add {HOST_ADDRESS}/24 dev {OUTER}",
        f"addr add fd00:98::2/64 dev {OUTER} nodad",
        f"addr add fd00:98::3/64 dev {OUTER} nodad",
        f"link set {OUTER} up",
        f"route add 203.0.113.0/24 via {HOST_GATEWAY} dev {OUTER} table 100 metric 7 mtu 1300",
        f"route add fd00:99::/64 via fd00:98::1 dev {OUTER}",
    )


def finish_node(node: Node) -> None:
    """What came after the pods: an MTU and maps on their VLAN, shims to reach them."""
    near(
        node,
        f"link set {INNER} mtu 1400",
        f"link set {INNER} type vlan reorder_hdr off egress-qos-map 0:4 ingress-qos-map 6:2",
        f"link add {SHIM} link {INNER} type macvlan mode bridge",
        f"addr add {SHIM_ADDRESS}/32 dev {SHIM}",
        f"link set {SHIM} up",
        f"route add 10.9.0.0/25 dev {SHIM}",
        f"link add {OUTER_SHIM} link {OUTER} mtu 1300 type macvlan mode private",
        f"addr add 198.51.100.3/24 dev {OUTER_SHIM} noprefixroute",
    )


def node_links(node: Node) -> Json:
    """The node's own links with their addresses and routes, without indices."""
    shown = node.run(["ip", "-d", "-j", "-batch", "-"], stdin=_LOOK, check=True).stdout
    addresses, routes = (json.loads(line) for line in shown.splitlines())
    found: Json = {}
    for link in addresses:
        if link["ifname"] in LINKS:
            for address in link["addr_info"]:
                address.pop("tentative", None)  # detection takes its time, and ends well
            found[link.pop("ifname")] = {key: link[key] for key in link.keys() - {"ifindex"}}
    through = [route for route in routes if route.get("dev") in LINKS]
    return {**found, "routes": sorted(through, key=json.dumps)}


def links_once_as(node: Node, before: Json) -> Json:
    """The node's links, once they are as before, or ANSWER_SECONDS later: their carrier, and the
    routes that come with it, take a while."""
    now: Json = {}

    def same() -> bool:
        now.clear()
        now.update(node_links(node))
        return before.items() <= now.items()

    with contextlib.suppress(LabError):
        poll_until(same, ANSWER_SECONDS, "the node's links")
    return now


def check_same_links(check: Checks, node: Node, before: Json) -> None:
    now = links_once_as(node, before)
    words = {
        OUTER: "eth0.3 is as before: 802.1ad, GVRP, maps, its own MTU and MAC, addresses",
        INNER: "eth0.3.5 is as before: reorder_hdr off, maps, MTU",
        SHIM: "the shim over eth0.3.5 is as before: mode, MAC, MTU, address, up",
        OUTER_SHIM: "the shim over eth0.3 is as before: another mode, its own MTU, down",
        "routes": "the node's routes through them are as before, in every table",
    }
    for key, what in words.items():
        detail = f"{before.get(key)} became {now.get(key)}"
        check(what, bool(before.get(key)) and now.get(key) == before[key], detail)


def check_reaches(check: Checks, node: Node, when: str) -> None:
    # Not a pod: what macvlan passes on by itself has no use for the header that is not reordered.
    ways = {OUTER: (HOST_GATEWAY, HOST_ADDRESS), SHIM: (GATEWAY, SHIM_ADDRESS)}
    for name, (to, source) in ways.items():
        answer = ping(node, to, source)
        check(f"{when}: the node reaches its neighbours by way of {name}", answer.returncode == 0,
              said(answer))  # fmt: skip


def ping(node: Node, to: str, source: str) -> Outcome:
    seconds = str(int(ANSWER_SECONDS))
    return node.run(["ping", "-q", "-n", "-c", "1", "-w", seconds, "-I", source, to])


def check_silence(check: Checks, node: Node) -> None:
    """What is there is not touched, nor spoken of."""
    with LinkNews() as news:
        again = node.cni("REPAIR", conf=node.netconf(**_CONF))
    told = [(one["actions"], one["notes"]) for one in again.document["attachments"]]
    quiet = again.returncode == 0 and not any(part for one in told for part in one)
    changed = news.names & {"eth0", *LINKS}
    check("REPAIR again: exit 0, nothing to do, no link changed", quiet and not changed,
          (told, changed))  # fmt: skip


SCENARIOS = {"qinq": qinq, "qinq-in-part": qinq_in_part}
