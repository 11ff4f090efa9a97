"""Somebody else has what REPAIR needs: a name, an address."""

from __future__ import annotations

import binascii

from integration.driver.checks import Checks, said, states
from integration.driver.node import LinkNews, Netns, Node
from integration.driver.scenarios.common import (
    Json,
    by_pod,
    check_pings,
    check_repaired,
    check_same,
    check_vlan,
    error_of,
    errors,
    repairing,
    without_eth0,
)

OWN = {"eth0", "eth0.3"}  # a link that is made over eth0.3 is news of that


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
    with repairing(node) as repair:
        node.ip("link add link late0 name eth0.3 type vlan id 3")
        theirs = node.link("eth0.3")["ifindex"]
        node.ip("link set late0 name eth0")
        node.up()
        answer = repair.result()
    check_repaired(check, node, answer)
    masters = [node.link("eth0", pod).get("link_index") for pod in node.pods]
    adopted = masters == [theirs] * len(node.pods)
    check("eth0.3 appeared while REPAIR was running: adopted, all pods are on it", adopted, masters)
    check_vlan(check, node, "eth0.3", "eth0")


def old_kernel(node: Node, check: Checks) -> None:
    """Before 6.15, a link is made in its place only where the node has none of its index."""
    node.up()
    wire = node.attach()
    before = node.interfaces()
    indices = {int(node.link("eth0", pod)["ifindex"]) for pod in node.pods}
    since = node.unload()
    node.load()
    node.up()
    node.ip("link add link eth0 name eth0.3 type vlan id 3")
    node.up("eth0.3")
    thief, taken, squatted = node.pods
    made = node.run(f"ip link add link eth0.3 name eth0 netns {thief.name} type macvlan".split())
    check(
        "this kernel refuses an eth0 without an index in a pod's namespace: File exists",
        made.returncode != 0 and "File exists" in made.stderr,
        said(made),
    )
    with LinkNews() as news:
        answer = node.cni("REPAIR")
    check_repaired(check, node, answer)
    check("with free indices: no link is made in the node", news.names <= OWN, news.names)
    check_same(check, node, before)
    for pod in node.pods:
        node.ip(f"-n {pod.name} link delete eth0")
    for index in indices:
        node.ip(f"link add taken{index} index {index} type dummy")
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
    check_repaired(check, node, answer)
    ways = {temporary_name(pod) for pod in node.pods}
    check("with indices taken: by temporary links, one a pod", ways <= news.names, news.names)
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


SCENARIOS = {"clash": clash, "old-kernel": old_kernel}
