"""A macvlan configuration whose type becomes cni-repair gives pods what they got before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_repair.base.errors import TRY_AGAIN
from tests.netns.rig import GATEWAY4, GATEWAY6, Json, Outcome, Pod, Rig, slow_but

pytestmark = pytest.mark.slow  # `tests/run --fast` is to take two minutes


def _told(outcome: Outcome, pod: Pod) -> str:
    """What a plugin printed, without what differs from pod to pod."""
    document = outcome.ok()
    text = outcome.out.strip().replace(pod.path, "PATH")
    for interface in document.get("interfaces", []):
        text = text.replace(interface["mac"], "MAC")
    return text


def _made(rig: Rig, pod: Pod) -> Json:
    """The interface, its routes and sysctls, without what differs from pod to pod."""
    state = rig.state(pod)
    (link,) = state["addr"]
    del link["ifindex"]
    mac = link["address"]
    local = [info["local"] for info in link["addr_info"] if info["local"].startswith("fe80")]
    text = json.dumps(state).replace(mac, "MAC")
    for address in local:
        text = text.replace(address, "LINK-LOCAL")
    made: Json = json.loads(text)
    return made


def assert_same(rig: Rig, bare: Json, ours: Json, ipv6: bool = False) -> None:
    """Attach a pod by the real plugin, then another by us; compare all that can be seen."""
    ipam = {**bare["ipam"], "dataDir": str(rig.base / "bare")} if "ipam" in bare else None
    bare = {**bare, **({"ipam": ipam} if ipam else {})}
    one, two = rig.pod("pod1", ipv6), rig.pod("pod2", ipv6)
    told = _told(rig.bare("ADD", one, bare), one)
    made = _made(rig, one)
    rig.bare("DEL", one, bare).ok()
    assert _told(rig.plugin("ADD", two, ours), two) == told
    assert _made(rig, two) == made
    assert rig.ip("rule", two) == rig.ip("rule", one)


@pytest.mark.parametrize(
    "version", slow_but(["0.3.0", "0.3.1", "0.4.0", "1.0.0"], "0.3.1", "1.0.0")
)
def test_every_version(rig: Rig, version: str) -> None:
    conf = rig.conf(cniVersion=version)
    assert_same(rig, conf, conf)


OLD_FORM = {"ip4": {"ip": "10.9.0.2/24", "gateway": GATEWAY4, "routes": [{"dst": "0.0.0.0/0"}]}}


@pytest.mark.parametrize("version", [None, "", "0.2.0"])
def test_configuration_of_before_0_3_0_through_all_verbs(rig: Rig, version: str | None) -> None:
    """libcni hands on older files as they are: without a version, or with an empty one."""
    conf = rig.conf(cniVersion=version, repairOnCheck=True)
    said = {"cniVersion": version or "0.1.0", **OLD_FORM, "dns": {}}
    was = rig.attach("pod1", conf)
    assert was.result == said
    rig.plugin("STATUS", None, conf).ok()
    rig.reload()
    with_result = {**conf, "prevResult": was.result}
    refusal = rig.bare("CHECK", was.pod, with_result).report(1)
    assert rig.plugin("CHECK", was.pod, with_result).report(1) == refusal  # there was no CHECK then
    assert "eth0" not in rig.links(was.pod), "CHECK must not repair what it does not check"
    assert rig.plugin("REPAIR", was.pod, conf).ok() == said
    assert rig.state(was.pod) == was.state
    assert rig.plugin("REPAIR", was.pod, " ").status == 1, "no record in the default directory"
    modern = rig.plugin("REPAIR", was.pod, rig.conf()).ok()
    assert modern["ips"] == [{"address": "10.9.0.2/24", "gateway": GATEWAY4}]
    assert rig.plugin("REPAIR", None, conf).ok()["cniVersion"] == said["cniVersion"]
    rig.uplink_down()
    rig.plugin("DEL", was.pod, conf).ok()
    assert (rig.leases(), rig.kept()) == ({}, [])


def test_gc_of_a_configuration_without_a_version(rig: Rig) -> None:
    conf = rig.conf(cniVersion=None)
    was = rig.attach("pod1", conf)
    rig.plugin("GC", None, {**conf, "cni.dev/valid-attachments": []}).ok()
    assert set(rig.links(was.pod)) == {"lo"}
    assert (rig.leases(), rig.kept()) == ({}, [])


def test_version_that_the_delegate_does_not_know(rig: Rig) -> None:
    conf = rig.conf(cniVersion="1.1.0")
    pod = rig.pod("pod1")
    bare = rig.bare("ADD", pod, conf).report(1)
    assert rig.plugin("ADD", pod, conf).report(1) == bare
    assert set(rig.links(pod)) == {"lo"}
    assert rig.leases() == {}
    assert rig.kept() == []


@pytest.mark.parametrize(
    "mode", slow_but(["bridge", "private", "vepa", "passthru"], "private", "passthru")
)
def test_every_mode(rig: Rig, mode: str) -> None:
    conf = rig.conf(mode=mode)
    assert_same(rig, conf, conf)


STATIC = {
    "type": "static",
    "addresses": [
        {"address": "10.9.0.77/24", "gateway": GATEWAY4},
        {"address": "198.51.100.7/31"},
    ],
    "routes": [
        {"dst": "0.0.0.0/0"},
        {"dst": "192.0.2.0/24", "gw": "10.9.0.9"},
        {"dst": "203.0.113.0/24", "gw": "10.9.0.9"},
    ],
    "dns": {"nameservers": ["10.9.0.53"], "search": ["example.org"]},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"mtu": 1400},
        {"ipam": STATIC},
        {"ipam": None},
        {"dns": {"nameservers": ["10.9.0.53"]}},
        {"unknownKey": {"a": [1, 2.5, None]}},
    ],
    ids=["mtu", "static", "no ipam", "dns", "unknown key"],
)
def test_options(rig: Rig, changes: dict[str, Any]) -> None:
    conf = rig.conf(**changes)
    assert_same(rig, conf, conf)


@pytest.mark.slow
def test_dual_stack(rig: Rig) -> None:
    conf = rig.conf(v6=True)
    assert_same(rig, conf, conf, ipv6=True)
    assert rig.ping(Pod("pod2"), GATEWAY6)


def test_no_master_is_the_default_route(rig: Rig) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    rig.ip("addr add 10.9.0.250/24 dev eth0")
    rig.ip("route add default via 10.9.0.1")
    # (Debian 13's build of the plugin finds no default route; we look for it ourselves.)
    assert_same(rig, rig.conf(), rig.conf(master=None))
    assert rig.ping(Pod("pod2"), GATEWAY4)


def test_no_master_and_no_default_route(rig: Rig) -> None:
    pod = rig.pod("pod1")
    conf = rig.conf(master=None)
    assert rig.bare("ADD", pod, conf).report(1)["code"] == 999
    # (The plugin's answer is no reason for a runtime to try again; the route may yet come.)
    assert rig.plugin("ADD", pod, conf).report(1)["code"] == TRY_AGAIN
    assert rig.kept() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "ours",
    [
        {"master": ["bond4", "eth0"]},
        {"master": ["eth0", "eth1"]},
        {"master": "bond4", "master2": "eth0"},
        {"delegate": "macvlan"},
        {"delegate": {"type": "macvlan", "mode": "private"}},
    ],
    ids=["second of the list", "first of the list", "master2", "delegate", "delegate object"],
)
def test_our_own_keys(rig: Rig, ours: dict[str, Any]) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    mode: dict[str, Any] = {"mode": "private"} if isinstance(ours.get("delegate"), dict) else {}
    assert_same(rig, rig.conf(**mode), rig.conf(**ours))
    assert rig.ping(Pod("pod2"), GATEWAY4)


def test_production_form_of_the_seed(rig: Rig) -> None:
    conf = rig.conf(master="bond4", master2="eth0", checkpointDir=None)
    assert_same(rig, rig.conf(), {**conf, "checkDir": str(rig.checkpoints)})
    assert rig.kept() == [rig.checkpoint(Pod("pod2")).name]


def test_no_master_of_the_list_exists(rig: Rig) -> None:
    pod = rig.pod("pod1")
    words = rig.plugin("ADD", pod, rig.conf(master=["bond4", "bond5"])).error(11)
    assert "bond4, bond5" in words
    assert rig.kept() == []


def test_delete_and_check_as_the_bare_plugin(rig: Rig) -> None:
    was = rig.attach("pod1")
    conf = {**rig.conf(), "prevResult": was.result}
    assert rig.plugin("CHECK", was.pod, conf) == rig.bare("CHECK", was.pod, conf)
    assert rig.plugin("DEL", was.pod, conf).out == ""
    assert set(rig.links(was.pod)) == {"lo"}
    assert rig.leases() == {}
    assert rig.kept() == []
    assert [name for name in (rig.base / "run").iterdir() if was.pod.id in str(name)] == []


def test_checkpoint_is_private_whatever_the_umask(rig: Rig) -> None:
    pod = rig.pod("pod1")
    rig.plugin("ADD", pod, patch="import os\nos.umask(0)").ok()
    assert rig.checkpoints.stat().st_mode & 0o7777 == 0o700
    assert rig.checkpoint(pod).stat().st_mode & 0o7777 == 0o600
    assert (rig.base / "run").stat().st_mode & 0o7777 == 0o700
    other = rig.pod("pod2")
    rig.plugin("ADD", other, patch="import os\nos.umask(0o777)").ok()
    assert rig.checkpoint(other).stat().st_mode & 0o7777 == 0o600
