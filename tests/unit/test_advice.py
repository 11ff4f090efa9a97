"""What to do about a link of the node, where no test machine has such a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_repair.base.frozen import replace
from cni_repair.cli import advice
from cni_repair.network.model import IFF_UP, HostLink
from cni_repair.node.masters import DOWN, NO_CARRIER, Trouble
from cni_repair.uplink.plan import MISSING, REFUSED, RENAMED, renamed

PCI = "0000:06:00.0"
CARD = HostLink("eth0", 2, "", "02:00:00:00:00:01", 1500, bus_address=PCI)
BARE = HostLink("eth0", 0, "", "", 0)  # as the predecessor's records have it
BOND = HostLink("bond4", 4, "bond", "02:00:00:00:00:01", 1500)
UP = replace(CARD, name="eth1", flags=IFF_UP)
REPAIR = "cni-repair repair --all"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's PCI devices: a directory of the test's own."""
    monkeypatch.setattr(advice, "_PCI_DEVICES", str(tmp_path))
    return tmp_path


def test_driver_of_the_recorded_card(bus: Path) -> None:
    (bus / PCI).mkdir()
    assert advice.of_master(Trouble(CARD, MISSING, pods=3), REPAIR) == [
        f"the node's eth0 (PCI {PCI}) is missing; 3 pod interfaces on it",
        "  next: load its NIC driver:",
        f"        modprobe $(cat {bus}/{PCI}/modalias)",
        f"        then {REPAIR}",
    ]


def test_card_that_is_not_there(bus: Path) -> None:
    lines = advice.of_master(Trouble(CARD, MISSING, pods=1), REPAIR)
    assert lines[0] == f"the node's eth0 (PCI {PCI}) is missing; 1 pod interface on it"
    assert "the card itself is not there (lspci)" in lines[1]
    assert "/sys/bus/pci/rescan" in lines[2]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Trouble(BARE, MISSING, pods=1), "load its NIC driver (modprobe NAME; lspci -k names it)"),
        (Trouble(BOND, MISSING, pods=1), "have the node's network service make it again (bond)"),
        (Trouble(BOND, DOWN, pods=1), "ip link set dev bond4 up"),
        (Trouble(CARD, NO_CARRIER, pods=1), "ethtool eth0"),
        (Trouble(BOND, NO_CARRIER, pods=1), "no NIC is in that bond"),
        (Trouble(BOND, NO_CARRIER, pods=1, legs=(CARD, UP)), "ip link set dev eth0 up"),
        (Trouble(BOND, NO_CARRIER, pods=1, legs=(UP,)), "cables and switch ports of what is in bo"),
        (Trouble(CARD, REFUSED, ("rename that link",), 1), "rename that link"),
        (Trouble(CARD, MISSING, ("ip link set dev eth0 mtu 9000",), 1), "mtu 9000"),
    ],
    ids=[
        "name-only", "bond", "down", "no-carrier", "bond-empty", "bond-leg-down", "bond-no-carrier",
        "refused", "mtu",
    ],
)  # fmt: skip
def test_each_trouble_has_an_action(trouble: Trouble, said: str) -> None:
    lines = advice.of_master(trouble, REPAIR)
    assert said in lines[1]
    assert lines[-1] == f"        then {REPAIR}"
    assert max(map(len, lines)) <= 80


def test_commands_of_a_remedy_stand_alone_to_be_pasted() -> None:
    """With a comma behind it, `ip` would refuse each."""
    remedy = renamed(CARD, replace(CARD, name="ens9")).remedy
    for trouble in (Trouble(CARD, RENAMED, remedy, 1), Trouble(CARD, DOWN, pods=1)):
        lines = advice.of_master(trouble, REPAIR)
        commands = [line.removeprefix("  next:").strip() for line in lines if "ip link" in line]
        assert commands == [*(trouble.remedy or ["ip link set dev eth0 up"])]
