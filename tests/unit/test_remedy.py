"""What is said of what no repair may do in a pod."""

from __future__ import annotations

import pytest

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.model import Address
from cni_repair.network.planning.remedy import for_dadfailed, for_stranger
from tests.unit.samples import LINK, live

NETNS = "/run/netns/cni-1"
INSIDE = f"nsenter --net={NETNS} "
OWN = replace(live(), link=replace(LINK, kind="bridge"), master_netnsid=None)


@pytest.mark.parametrize(
    ("stranger", "commands"),
    [
        (OWN, f"if nothing needs it, remove it: {INSIDE}ip link del dev eth0"),
        (
            replace(OWN, name="br0"),
            "if nothing needs it by that name, take that name away:"
            f" {INSIDE}ip link property del dev br0 altname eth0",
        ),
        (  # a NIC that was moved into the pod: no command deletes it
            replace(OWN, link=replace(LINK, kind="")),
            f"if nothing needs it, rename it: {INSIDE}ip link set dev eth0 down;"
            f" {INSIDE}ip link set dev eth0 name NAME",
        ),
        (  # no pod can make that
            replace(OWN, link=LINK, master=7, master_netnsid=0),
            f"unless it is the pod's network by now, remove it: {INSIDE}ip link del dev eth0",
        ),
        (
            replace(OWN, name="a;b"),
            "if nothing needs it by that name, take that name away:"
            f" {INSIDE}ip link property del dev 'a;b' altname eth0",
        ),
    ],
    ids=("its own", "altname", "hardware", "the node's", "quoted"),
)
def test_makes_way(stranger: LiveLink, commands: str) -> None:
    assert for_stranger("eth0", stranger, NETNS) == f"look inside: {INSIDE}ip -d link; {commands}"


def test_has_the_kernel_ask_again() -> None:
    assert for_dadfailed(OWN, Address(6, "fd00::2", 64), NETNS) == (
        "once nobody else has fd00::2 (cni-repair verify --duplicates):"
        f" {INSIDE}ip -6 addr del fd00::2/64 dev eth0; cni-repair repair --all"
    )
