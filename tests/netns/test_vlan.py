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
