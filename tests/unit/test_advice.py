"""What to do about a link of the node, where no test machine has such a link."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_repair.cli import advice
from cni_repair.network.model import HostLink
from cni_repair.node.masters import DOWN, NO_CARRIER, Trouble
from cni_repair.uplink.plan import MISSING, REFUSED

PCI = "0000:06:00.0"
CARD = HostLink("eth0", 2, "", "02:00:00:00:00:01", 1500, bus_address=PCI)
BARE = HostLink("eth0", 0, "", "", 0)  # as the predecessor's records have it
BOND = HostLink("bond4", 4, "bond", "02:00:00:00:00:01", 1500)
REPAIR = "cni-repair repair --all"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's PCI devices: a directory of the test's own."""
    monkeypatch.setattr(advice, "_PCI_DEVICES", str(tmp_path))
    return tmp_path


def test_driver_of_the_recorded_card(bus: Path) -> None:
    (bus / PCI).mkdir()
    assert advice.of_master(Trouble(CARD, MISSING, "", 3), REPAIR) == [
        f"the node's eth0 (PCI {PCI}) is missing; 3 pod interfaces on it",
        "  next: load its NIC driver:",
        f"        modprobe $(cat {bus}/{PCI}/modalias)",
        f"        then {REPAIR}",
    ]


def test_card_that_is_not_there(bus: Path) -> None:
    lines = advice.of_master(Trouble(CARD, MISSING, "", 1), REPAIR)
    assert lines[0] == f"the node's eth0 (PCI {PCI}) is missing; 1 pod interface on it"
    assert "the card itself is not there (lspci)" in lines[1]
    assert "/sys/bus/pci/rescan" in lines[2]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (Trouble(BARE, MISSING, "", 1), "load its NIC driver (modprobe NAME; lspci -k names it)"),
        (Trouble(BOND, MISSING, "", 1), "have the node's network service make it again (bond)"),
        (Trouble(BOND, DOWN, "", 1), "ip link set dev bond4 up"),
        (Trouble(CARD, NO_CARRIER, "", 1), "ethtool eth0"),
        (Trouble(CARD, REFUSED, "eth0 is another card", 1), "do what the reason says"),
        (Trouble(CARD, MISSING, "eth0 has MTU 1500", 1), "do what the reason says"),
    ],
    ids=["name-only", "bond", "down", "no-carrier", "refused", "mtu"],
)
def test_each_trouble_has_an_action(trouble: Trouble, said: str) -> None:
    lines = advice.of_master(trouble, REPAIR)
    assert said in lines[1]
    assert lines[-1] == f"        then {REPAIR}"
    assert max(map(len, lines)) <= 80
