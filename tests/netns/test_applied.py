"""What the kernel's acknowledgements prove of a plan that was applied."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from cni_repair.netlink.netns import entered, open_netns
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.apply import Applied, NamespacePair, Passage, apply_to_pod
from cni_repair.network.model import Address, PodLink, Route
from cni_repair.network.observe import ifindex_of
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.base import Operation, Target
from cni_repair.network.operations.link import AddPodLink, SetSysctl, SetUp
from cni_repair.network.operations.route import AddRoute
from tests.netns.rig import Rig

LINK = PodLink(77, "02:00:00:00:00:77", 1500, "macvlan", "bridge", 0, 0)
ADDRESS = Address(4, "10.9.0.77", 24)
PASSAGE = Passage("cnireptest", lambda is_there: None)
ROUTE = Route(4, "0.0.0.0/0", gateway="10.9.0.1")
MADE: tuple[Operation, ...] = (
    AddPodLink("eth0", "eth0", LINK),
    SetSysctl("eth0", "ipv4/arp_notify", "1"),
    SetUp("eth0"),
    AddAddress("eth0", ADDRESS),
    AddRoute("eth0", ROUTE),
)


def applied(rig: Rig, operations: Sequence[Operation], before: str = "") -> Applied:
    pod = rig.pod("pod1")
    if before:
        rig.ip(before, pod)
    node, netns = (open_netns(rig.lab.ground.netns(one)) for one in (rig.lab.node, pod))
    try:
        with rig.lab.inside(rig.lab.node), Rtnetlink() as of_node:
            master = ifindex_of(of_node, "eth0")
            with entered(netns, node), Rtnetlink() as of_pod:
                sides = NamespacePair(of_pod, netns, pod.path, of_node, node)
                return apply_to_pod(sides, operations, Target(0, master, netns), PASSAGE)
    finally:
        os.close(netns)
        os.close(node)


def test_all_acknowledged(rig: Rig) -> None:
    assert applied(rig, MADE) == Applied((), is_proved=True)


def test_not_what_was_there_already(rig: Rig) -> None:
    """Tolerated, but by whom it was made is not known."""
    assert applied(rig, [*MADE, MADE[-2]]) == Applied((), is_proved=False)


def test_not_what_failed(rig: Rig) -> None:
    unreachable = AddRoute("eth0", Route(4, "192.0.2.0/24", gateway="198.51.100.1"))
    made = applied(rig, [*MADE, unreachable])
    assert not made.is_proved
    assert os.strerror(errno.ENETUNREACH) in made.failures[0]


def test_not_without_its_index(rig: Rig) -> None:
    made = applied(rig, [AddPodLink("eth0", "eth0", PodLink(**{**vars(LINK), "ifindex": 0}))])
    assert made == Applied((), is_proved=False)


def test_a_squatter_is_not_touched(rig: Rig) -> None:
    made = applied(rig, MADE, before="link add eth0 type veth peer name other")
    assert not made.is_proved
    assert os.strerror(errno.EEXIST) in made.failures[0]
    (squatter,) = rig.lab.ip_json(rig.lab.pods[0], "addr", "show", "dev", "eth0")
    assert (squatter["operstate"], squatter["addr_info"]) == ("DOWN", [])
