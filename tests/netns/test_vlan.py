"""VLAN masters on a kernel without 8021q: clear words, nothing left behind.

What a kernel with VLANs does is shown by integration/, on a real driver.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from cni_repair.network.model import HostLink, Vlan
from tests.netns.rig import Rig, entry_of


@pytest.fixture(autouse=True)
def without_vlans(rig: Rig) -> None:
    if rig.run("ip", "link", "add", "link", "eth0", "name", "probe", "type", "vlan", "id", "2",
               check=False).status == 0:  # fmt: skip
        rig.ip("link del probe")
        pytest.skip("this kernel has 8021q")


@pytest.mark.parametrize(
    "keys",
    [
        {"vlanId": 3},
        {"vlanID": 3, "master": "bond4", "master2": "eth0"},
        {"vlanId": 3, "master": None},
    ],
    ids=["vlanId", "the seed's form", "default route"],
)
def test_add_names_what_the_kernel_lacks(rig: Rig, keys: dict[str, Any]) -> None:
    rig.ip("addr add 10.9.0.250/24 dev eth0")
    rig.ip("route add default via 10.9.0.1")
    before = rig.node_links()
    pod = rig.pod("pod1")
    conf = rig.conf(**keys)
    words = rig.plugin("ADD", pod, conf).error(107)
    assert "8021q" in words
    assert "eth0.3" in words
    assert rig.kept() == []
    assert rig.leases() == {}
    assert set(rig.links(pod)) == {"lo"}
    assert rig.node_links() == before
    rig.plugin("DEL", pod, conf).ok()


def test_add_refuses_the_name_of_another_link(rig: Rig) -> None:
    rig.ip("link add eth0.3 type bridge")
    before = rig.node_links()
    pod = rig.pod("pod1")
    words = rig.plugin("ADD", pod, rig.conf(vlanId=3)).error(107)
    assert "eth0.3" in words
    assert "bridge" in words
    assert rig.node_links() == before
    assert rig.kept() == []


def test_add_without_the_master(rig: Rig) -> None:
    pod = rig.pod("pod1")
    assert "bond4" in rig.plugin("ADD", pod, rig.conf(vlanId=3, master="bond4")).error(11)
    assert rig.kept() == []


def test_repair_names_what_the_kernel_lacks(rig: Rig) -> None:
    """A checkpoint of a kernel that had VLANs."""
    was, good = rig.attach("pod1"), rig.attach("pod2")
    path = rig.checkpoint(was.pod)
    known = model.decode(path.read_bytes(), path.name)
    (uplink,) = known.attachment.parents
    vlan = HostLink("eth0.3", 99, "vlan", uplink.mac, 1500, 1, uplink.ifindex, vlan=Vlan(3))
    attachment = replace(known.attachment, parents=(vlan, uplink))
    path.write_text(model.encode(replace(known, attachment=attachment)))
    rig.reload()
    report = rig.plugin("REPAIR").report(1)
    entry = entry_of(report, was.pod)
    assert entry["state"] == "lost"
    assert entry["error"]["code"] == 107
    assert "8021q" in json.dumps(entry["error"])
    assert rig.state(good.pod) == good.state
    assert set(rig.links(was.pod)) == {"lo"}


# --- STATUS asks what ADD would meet --------------------------------------------------------------


def test_status_and_add_refuse_the_name_of_another_link(rig: Rig) -> None:
    rig.ip("link add eth0.3 type bridge")
    pod, conf = rig.pod("pod1"), rig.conf(vlanId=3)
    assert "it is a bridge link, not VLAN 3" in rig.plugin("STATUS", None, conf).error(50)
    assert "it is a bridge link, not VLAN 3" in rig.plugin("ADD", pod, conf).error(107)


def test_status_of_a_master_that_has_just_gone(rig: Rig) -> None:
    patch = "from cni_repair.cni import master\nmaster.uplink = lambda conf: 'gone0'"
    refused = rig.plugin("STATUS", None, rig.conf(vlanId=3), patch=patch).error(50)
    assert "master gone0 does not exist" in refused


def test_vlan_is_named_after_the_first_name(rig: Rig) -> None:
    """Only that has to leave room for the id: an altname need not."""
    rig.ip("link property add dev eth0 altname enp65s0f0np0-storage")
    pod, conf = rig.pod("pod1"), rig.conf(master="enp65s0f0np0-storage", vlanId=4000)
    rig.plugin("STATUS", None, conf).ok()
    assert "eth0.4000" in rig.plugin("ADD", pod, conf).error(107)


def test_name_of_the_vlan_must_fit(rig: Rig) -> None:
    rig.ip("link set eth0 down")
    rig.ip("link set eth0 name enp65s0f0np0")
    rig.ip("link set enp65s0f0np0 up")
    rig.ip("link property add dev enp65s0f0np0 altname eth0")
    for master in ("enp65s0f0np0", "eth0"):
        pod, conf = rig.pod(f"pod-{master}"), rig.conf(master=master, vlanId=4000)
        assert "under a shorter one" in rig.plugin("STATUS", None, conf).error(50)
        assert "enp65s0f0np0.4000 is too long" in rig.plugin("ADD", pod, conf).error(107)
        assert (rig.kept(), rig.leases()) == ([], {})


def test_lost_vlan_below_an_altname(rig: Rig) -> None:
    """A record of eth0.3 over eth0, which is the altname of a predictable name now."""
    was = rig.attach("pod1")
    path = rig.checkpoint(was.pod)
    known = model.decode(path.read_bytes(), path.name)
    (uplink,) = known.attachment.parents
    vlan = HostLink("eth0.3", 99, "vlan", uplink.mac, 1500, 1, uplink.ifindex, vlan=Vlan(3))
    vlan = replace(vlan, altnames=("storage",))
    attachment = replace(known.attachment, parents=(vlan, uplink))
    path.write_text(model.encode(replace(known, attachment=attachment)))
    rig.reload()
    rig.ip("link set eth0 down")
    rig.ip("link set eth0 name enp6s0f0np0")
    rig.ip("link property add dev enp6s0f0np0 altname eth0")
    rig.ip("link set enp6s0f0np0 up")
    report = rig.cli("plan", was.pod.id, "--checkpoint-dir", str(rig.checkpoints), "-o", "json")
    actions = entry_of(report.report(1), was.pod)["actions"]
    assert actions[:3] == [
        "ip link add link enp6s0f0np0 name eth0.3 type vlan id 3",
        "ip link property add dev eth0.3 altname storage",
        "ip link set dev eth0.3 up",
    ]
    assert "(eth0.3)" in entry_of(rig.plugin("REPAIR").report(1), was.pod)["error"]["msg"]
