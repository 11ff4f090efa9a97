"""Links of the node by any name that the kernel knows them by: altnames, long ones, new ones."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest

from cni_repair.netlink.socket import Rtnetlink
from cni_repair.upgrade.link_monitor import LinkMonitor
from cni_repair.upgrade.uplinks import with_carrier
from tests.netns.rig import PLUGINS, Json, Pod, Rig, entry_of, master_of, states
from tests.netns.test_adopt import adopt, as_list, attach_bare, bare_conf, remember
from tests.netns.test_rollback import rewrite
from tests.netns.upgrading import RELOAD, events, plan, start
from tests.outputs import reason_of

pytestmark = pytest.mark.slow  # many, though each is short

NEW, LONG = "enp6s0f0np0", "enp6s0f0np0-which-is-longer-than-a-first-name-may-be"


def altname(rig: Rig, *names: str, link: str = "eth0", pod: Pod | None = None) -> None:
    for name in names:
        rig.ip(f"link property add dev {link} altname {name}", pod)


def rename(rig: Rig, old: str, new: str, *altnames: str) -> None:
    """As udev does it to a link that has just come."""
    rig.ip(f"link set {old} down")
    rig.ip(f"link set {old} name {new}")
    rig.ip(f"link set {new} up")
    altname(rig, *altnames, link=new)


def back_as(rig: Rig, new: str, *altnames: str) -> None:
    """The driver is reloaded, and eth0 comes back as `new`."""
    rig.reload()
    rename(rig, "eth0", new, *altnames)


def cli(rig: Rig, *words: str) -> Any:
    directory = ("--checkpoint-dir", str(rig.checkpoints))
    return rig.cli(*words, *directory, "-o", "json")


def parents(rig: Rig, pod: Pod) -> list[Json]:
    document: Json = json.loads(rig.checkpoint(pod).read_text())
    return list(document["parents"])


# --- configured -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "master",
    [NEW, LONG, ["bond4", NEW, "eth0"], ["bond4", LONG], ["eth0", NEW]],
    ids=["short", "long", "of a list", "long, of a list", "both"],
)
def test_master_by_altname(rig: Rig, master: Any) -> None:
    altname(rig, NEW, LONG)
    conf = rig.conf(master=master)
    rig.plugin("STATUS", None, conf).ok()
    was = rig.attach("pod1", conf)
    assert [(one["name"], one["altnames"]) for one in parents(rig, was.pod)] == [
        ("eth0", [NEW, LONG])
    ]
    rig.plugin("CHECK", was.pod, {**conf, "prevResult": was.result}).ok()
    rig.reload()
    assert rig.plugin("REPAIR", was.pod, conf).ok()["ips"] == was.result["ips"]
    assert rig.state(was.pod) == was.state
    rig.plugin("DEL", was.pod, conf).ok()
    assert (rig.kept(), rig.leases()) == ([], {})


def test_delegate_gets_the_first_name(rig: Rig) -> None:
    """The bare plugin takes an altname, but none that is longer than a first name may be."""
    altname(rig, NEW, LONG)
    bare, ours = rig.pod("pod1"), rig.pod("pod2")
    rig.bare("ADD", bare, rig.conf(master=NEW)).ok()
    assert rig.bare("ADD", rig.pod("pod3"), rig.conf(master=LONG)).status == 1
    got = rig.base / "got.json"
    rig.write_plugin("spy", f"#!/bin/sh\ntee {got} | {PLUGINS}/macvlan\n")
    rig.plugin("ADD", ours, rig.conf(master=LONG, delegate="spy")).ok()
    assert json.loads(got.read_text())["master"] == "eth0"
    assert master_of(rig, bare) == master_of(rig, ours) == "eth0"


@pytest.mark.parametrize("master", ["eth0:1", "enp6s0f0np0-and-more", LONG[:15], "eth0%d"])
def test_master_that_only_looks_like_a_name(rig: Rig, master: str) -> None:
    altname(rig, NEW, LONG)
    pod = rig.pod("pod1")
    conf = rig.conf(master=master)
    added = rig.plugin("ADD", pod, conf)
    asked = rig.plugin("STATUS", None, conf)
    codes = added.report(1)["code"], asked.report(1)["code"]
    assert codes == ((7, 7) if ":" in master else (11, 50))
    assert master in added.out
    assert (rig.kept(), rig.leases(), set(rig.links(pod))) == ([], {}, {"lo"})


# --- back under another name ----------------------------------------------------------------------


def test_recorded_name_is_an_altname_now(rig: Rig) -> None:
    """As a distribution does it: a predictable first name, the kernel's as an altname."""
    was = rig.attach("pod1")
    back_as(rig, NEW, "eth0")
    for command in ("status", "plan"):
        entry = entry_of(cli(rig, command, was.pod.id).report(1), was.pod)
        assert "does not exist" not in json.dumps(entry)
    assert entry["actions"][0].startswith(f"ip link add link {NEW} name eth0 ")
    report = rig.plugin("REPAIR").report(0)
    assert states(report) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state
    assert master_of(rig, was.pod) == NEW
    assert entry_of(rig.plugin("REPAIR").report(0), was.pod)["actions"] == []
    assert cli(rig, "verify").status == 0
    rig.plugin("CHECK", was.pod, rig.conf(prevResult=was.result)).ok()


def test_plan_is_one_that_ip_can_do(rig: Rig) -> None:
    was = rig.attach("pod1")
    back_as(rig, NEW, "eth0")
    actions = entry_of(cli(rig, "plan", was.pod.id).report(1), was.pod)["actions"]
    rig.run("sh", "-e", "-c", "\n".join(actions))
    assert rig.state(was.pod) == was.state


def test_record_says_both_names_and_is_found_by_each(rig: Rig) -> None:
    was = rig.attach("pod1")
    back_as(rig, NEW, "eth0")
    rig.plugin("REPAIR").report(0)
    assert cli(rig, "snapshot").status == 0
    assert [(one["name"], one["altnames"]) for one in parents(rig, was.pod)] == [(NEW, ["eth0"])]
    back_as(rig, "eth0")  # the older kernel's, without predictable names
    assert rig.plugin("REPAIR").report(0)["summary"]["healthy"] == 1
    assert rig.state(was.pod) == was.state
    assert cli(rig, "snapshot").status == 0
    (parent,) = parents(rig, was.pod)
    assert parent["name"] == "eth0" and "altnames" not in parent


def test_altname_stays_and_the_first_name_goes_to_another_link(rig: Rig) -> None:
    """Who names its master by an altname has the reason in this. (Of a card its MAC decides.)"""
    rig.ip("link property add dev eth0 altname storage0")
    was = rig.attach("pod1", rig.conf(master="storage0"))
    back_as(rig, "eth7", "storage0")
    rig.ip("link add eth0 type bridge")
    assert rig.plugin("REPAIR").report(0)["summary"]["healthy"] == 1
    assert rig.state(was.pod) == was.state
    assert master_of(rig, was.pod) == "eth7"


def test_altname_of_a_link_of_another_kind_is_refused(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    rig.ip("link add br0 type bridge")
    altname(rig, "eth0", link="br0")
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    assert entry["error"]["code"] == 107
    assert "eth0 (another name of br0) is a bridge link now" in entry["error"]["msg"]
    assert set(rig.links(was.pod)) == {"lo"}


def test_record_of_an_older_version_knows_no_altnames(rig: Rig) -> None:
    altname(rig, NEW)
    was = rig.attach("pod1")

    def forget(document: Json) -> None:
        document["parents"][0].pop("altnames")

    rewrite(rig, was, forget)
    assert entry_of(cli(rig, "status").report(0), was.pod)["state"] == "healthy"
    assert cli(rig, "snapshot").status == 0
    assert parents(rig, was.pod)[0]["altnames"] == [NEW]


def test_moved_by_fallback_to_a_master_by_altname(rig: Rig) -> None:
    """Of the two names of the recorded master none is another one."""
    rig.uplink_up("eth1", ip="10.9.1.1")
    altname(rig, NEW)
    altname(rig, LONG, link="eth1")
    conf = rig.conf(master=["eth0", NEW, LONG], fallbackMaster=True, masterTimeout=0.2)
    was = rig.attach("pod1", conf)
    rig.uplink_down()
    finding = str(entry_of(cli(rig, "status").report(1), was.pod)["findings"])
    assert f"moves the pod to {LONG}'" in finding
    entry = entry_of(rig.plugin("REPAIR", None, conf).report(0), was.pod)
    assert entry["notes"] == ["moved to eth1: eth0 did not come back (fallbackMaster)"]
    assert master_of(rig, was.pod) == "eth1"
    # The configuration's first master is back: the pod is where its record says.
    rig.uplink_up("eth0")
    rig.plugin("CHECK", was.pod, {**conf, "prevResult": was.result}).ok()


def test_following_a_renamed_card_is_not_asked_for_an_altname(rig: Rig) -> None:
    """followRenamedMaster is for names that the record does not know."""
    was = rig.attach("pod1", rig.conf(followRenamedMaster=False))
    back_as(rig, NEW, "eth0")
    assert rig.plugin("REPAIR").report(0)["summary"]["healthy"] == 1
    assert rig.state(was.pod) == was.state


# --- elsewhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("master", [NEW, LONG], ids=["short", "long"])
def test_lost_pod_is_adopted_with_a_master_by_altname(rig: Rig, master: str) -> None:
    was = attach_bare(rig, "a1")
    remember(rig, was.pod, as_list(bare_conf(rig, master=master)), was.result)
    rig.reload()
    altname(rig, NEW, LONG)
    assert states(adopt(rig, "--write")) == {was.pod.id: "adopted"}
    assert [(one["name"], one["altnames"]) for one in parents(rig, was.pod)] == [
        ("eth0", [NEW, LONG])
    ]
    assert rig.plugin("REPAIR").report(0)["summary"]["healthy"] == 1


def test_lost_pod_over_a_long_altname_that_is_away(rig: Rig) -> None:
    """Nobody knows which link that was; a record cannot hold the name as a first one."""
    was = attach_bare(rig, "a1")
    remember(rig, was.pod, as_list(bare_conf(rig, master=LONG)), was.result)
    rig.reload()
    entry = entry_of(adopt(rig, "--write", status=1), was.pod)
    assert entry["state"] == "refused"
    assert LONG in reason_of(entry), entry


@pytest.mark.parametrize("name", [NEW, LONG], ids=["short", "long"])
def test_upgrade_waits_for_an_altname(rig: Rig, name: str) -> None:
    """The NIC has no altname before, and another first name afterwards."""
    altname(rig, NEW, LONG)
    was = rig.attach("pod1")
    again = f"{RELOAD}; ip link set eth0 down; ip link set eth0 name eth7; ip link set eth7 up"
    again += f"; ip link property add dev eth7 altname eth0 altname {name}"
    done = start(rig, plan(rig, again, masters={"names": [name]}, verify={"timeout": "10s"}))
    assert done.status == 0, done
    assert f"{name}: there, with carrier" in done.out
    assert rig.state(was.pod) == was.state
    assert master_of(rig, was.pod) == "eth7"
    assert [event["link"] for event in events(rig, "lost")] == ["eth0"]


def test_squatted_altname_in_a_pod_is_not_its_interface(rig: Rig) -> None:
    """The kernel finds the pod's own link by the name eth0: nothing is made, or taken away."""
    was = rig.attach("pod1")
    rig.reload()
    rig.ip("link add squat type bridge", was.pod)
    altname(rig, "eth0", link="squat", pod=was.pod)
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    assert entry["state"] == "foreign"
    rig.plugin("DEL", was.pod).ok()
    assert (rig.kept(), rig.leases()) == ([], {})


def removed(rig: Rig, pod: Pod, ifname: str) -> None:
    """As DEL takes an interface away, before it calls the plugin."""
    code = "import sys; from cni_repair.cni import interface; interface.remove(*sys.argv[1:])"
    rig.run(sys.executable, "-c", code, pod.path, ifname, env={"PYTHONPATH": os.getcwd()})


def test_del_does_not_take_the_link_that_has_the_name_for_another(rig: Rig) -> None:
    """As where net1 goes while the pod lives: it must not take the pod's eth0 with it."""
    was = rig.attach("pod1")
    rig.ip("link set eth0 down", was.pod)
    rig.ip("link set eth0 name net0", was.pod)
    altname(rig, "eth0", link="net0", pod=was.pod)
    removed(rig, was.pod, "eth0")
    assert "net0" in rig.links(was.pod)
    removed(rig, was.pod, "net0")
    assert "net0" not in rig.links(was.pod)


def test_del_of_a_link_with_all_the_names_that_it_can_have(rig: Rig) -> None:
    """Its message is longer than 64 KB then."""
    was = rig.attach("pod1")
    names = rig.base / "names"
    names.write_text("".join(f"link property add dev eth0 altname a{n:0126}\n" for n in range(495)))
    rig.ip(f"-batch {names}", was.pod)
    removed(rig, was.pod, "eth0")
    assert set(rig.links(was.pod)) == {"lo"}
    rig.plugin("DEL", was.pod).ok()


def test_link_monitor_knows_a_port_that_leaves_its_bridge(rig: Rig) -> None:
    """The kernel says so by an RTM_DELLINK with the port's name."""
    heard: list[str] = []
    rig.ip("link add br0 type bridge")
    rig.ip("link add port type veth peer name beyond")
    rig.ip("link set port up master br0")
    rig.ip("link set beyond up")

    def watch() -> None:
        with LinkMonitor({"port", "eth0"}, heard.append) as monitor:
            rig.ip("link set port nomaster")
            rig.uplink_down()
            while "eth0" not in heard:
                monitor.listen(10.0)

    rig.inside(None, watch)
    assert heard == ["eth0"]


def test_link_monitor_hears_of_every_name(rig: Rig) -> None:
    altname(rig, NEW)
    heard: list[str] = []

    def watch() -> None:
        with Rtnetlink() as rtnl:
            names = with_carrier(rtnl, {NEW, "no-such-link"})
        with LinkMonitor(names, heard.append) as monitor:
            rig.uplink_down()
            while not heard:
                monitor.listen(10.0)

    rig.inside(None, watch)
    assert heard == [NEW]
