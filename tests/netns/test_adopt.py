"""`cni-repair adopt`: pods that the real plugins attached, and what runtimes remember of them."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pytest

from cni_repair.base.procfs import start_of
from tests.netns.rig import (
    GATEWAY4,
    GATEWAY6,
    PLUGINS,
    ROOT,
    Attachment,
    Json,
    Outcome,
    Pod,
    Rig,
    eventually,
    in_result,
    options,
    states,
    without,
)
from tests.outputs import reason_of

pytestmark = [
    pytest.mark.slow,  # `tests/run --fast` is to take two minutes
    pytest.mark.usefixtures("runtime"),
]

LIBCNI = "/var/lib/cni"
DOCKERSHIM = "/var/lib/cni/cache"
MULTUS = "/var/lib/cni/multus"


def adopt(rig: Rig, *words: str, status: int = 0) -> Json:
    """What `adopt -o json` prints."""
    return command(rig, "-o", "json", *words).report(status)


def command(rig: Rig, *words: str, patch: str = "") -> Outcome:
    return rig.cli("adopt", *options(rig), *words, patch=patch)


def entry_of(report: Json, pod: Pod, ifname: str = "eth0") -> Json:
    (entry,) = [
        one
        for one in report["attachments"]
        if (one["containerID"], one["ifname"]) == (pod.id, ifname)
    ]
    return dict(entry)


# --- what runtimes write --------------------------------------------------------------------------


def cache_file(rig: Rig, pod: Pod, network: str, ifname: str, directory: str = LIBCNI) -> Path:
    return Path(rig.outside(f"{directory}/results/{network}-{pod.id}-{ifname}"))


def put(path: Path, text: str) -> Path:
    """As os.MkdirAll(…, 0700) and os.WriteFile(…, 0600) of libcni's cacheAdd."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def go_bytes(document: Any) -> str:
    """A []byte, as encoding/json has it."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def remember(
    rig: Rig,
    pod: Pod,
    conf: Json,
    result: Json | None,
    *,
    ifname: str = "eth0",
    netns: str | None = None,
    directory: str = LIBCNI,
) -> Path:
    """The cache entry of libcni's AddNetworkList, fields in its order (api.go, cachedInfo); `netns`
    empty: as an older libcni writes it, such as containerd 1.6's."""
    args = [
        ["IgnoreUnknown", "1"],
        ["K8S_POD_NAMESPACE", "shop"],
        ["K8S_POD_NAME", pod.name],
        ["K8S_POD_INFRA_CONTAINER_ID", pod.id],
        ["K8S_POD_UID", "6c1c0f4e-3d1b-4a6c-9d52-5c1f0a4e7b11"],
    ]
    document = {
        "kind": "cniCacheV1",
        "containerId": pod.id,
        "config": go_bytes(conf),
        "ifName": ifname,
        "networkName": conf["name"],
        **({"netns": pod.path if netns is None else netns} if netns != "" else {}),
        "cniArgs": args,
        "capabilityArgs": {"portMappings": [], "dns": {}},
        **({"result": result} if result is not None else {}),
    }
    return put(cache_file(rig, pod, conf["name"], ifname, directory), json.dumps(document))


def as_list(plugin: Json, *chained: Json) -> Json:
    """A plugin's configuration as ConfListFromConf makes a list of it."""
    shared = ("cniVersion", "name")
    return {
        **{key: plugin[key] for key in shared},
        "plugins": [without(plugin, shared), *chained],
    }


def bare_conf(rig: Rig, kind: str = "macvlan", **changes: Any) -> Json:
    """A configuration without anything of ours."""
    return rig.conf(type=kind, checkpointDir=None, runDir=None, masterTimeout=None, **changes)


def attach_bare(
    rig: Rig, name: str, conf: Json | None = None, kind: str = "macvlan", ipv6: bool = False
) -> Attachment:
    """A pod as the real plugin attaches it for a runtime, its cache entry included."""
    conf = conf or bare_conf(rig, kind)
    pod = rig.pod(name, ipv6)
    result = rig.bare("ADD", pod, conf, kind).ok()
    remember(rig, pod, as_list(conf), result)
    return Attachment(pod, result, rig.state(pod))


def detach_bare(rig: Rig, was: Attachment) -> None:
    """As a runtime takes a pod away: the plugin's DEL, then the entry, then the namespace."""
    rig.bare("DEL", was.pod, bare_conf(rig)).ok()
    cache_file(rig, was.pod, "pods", "eth0").unlink()
    rig.drop_pod(was.pod)


def bridge_conf(rig: Rig) -> Json:
    conf = bare_conf(rig, "bridge", master=None, bridge="cni0", name="bridged")
    return {**conf, "ipam": ipam(rig, "10.44.0.0/24")}


def ipam(rig: Rig, subnet: str) -> Json:
    return {
        "type": "host-local",
        "dataDir": str(rig.base / "ipam"),
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }


def assert_repaired(rig: Rig, was: Attachment) -> None:
    """After the loss of the uplink: everything is as it was, and the gateway answers."""
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert rig.state(was.pod) == was.state
    assert rig.ping(was.pod, GATEWAY4)


# --- pods of the bare plugin ----------------------------------------------------------------------


def test_what_is_being_deleted_on_a_read_only_disk_is_skipped(rig: Rig) -> None:
    """Its record is there, but has its tombstone in the run directory."""
    was = rig.attach("pod1")
    remember(rig, was.pod, as_list(rig.conf()), was.result)
    path = str(rig.checkpoints)
    rig.run("mount", "--bind", path, path)
    rig.run("mount", "-o", "remount,ro,bind", path)
    rig.plugin("DEL", was.pod).ok()
    entry = entry_of(adopt(rig), was.pod)
    assert (entry["state"], reason_of(entry)) == ("skipped", "it is being deleted")


def test_an_interface_that_its_pod_renamed_is_not_taken_for_a_lost_one(rig: Rig) -> None:
    """By its record a repair would make a second one, with the same address."""
    was = attach_bare(rig, "a1")
    for words in ("set eth0 down", "set eth0 name net0", "set net0 address 02:00:00:00:00:77"):
        rig.ip(f"link {words}", was.pod)
    rig.ip("link set net0 up", was.pod)
    report = adopt(rig, "--write", status=1)
    entry = entry_of(report, was.pod)
    assert entry["state"] == "refused"
    assert "there is no eth0, but net0 over eth0" in reason_of(entry)
    assert states(rig.plugin("REPAIR").report(0)) == {}
    assert set(rig.links(was.pod)) == {"lo", "net0"}


def test_pods_of_the_bare_macvlan_plugin(rig: Rig) -> None:
    one, two = attach_bare(rig, "a1"), attach_bare(rig, "b2")
    told = command(rig)
    assert told.status == 0, told
    lines = told.out.splitlines()
    assert lines[0].split() == ["STATE", "POD", "CONTAINER", "IFNAME", "MASTER", "ADDRESSES"]
    assert lines[1].split() == [
        "adoptable",
        "shop/a1",
        one.pod.id[:12],
        "eth0",
        "eth0",
        one.address,
    ]
    assert lines[-2] == "2 attachments: 2 adoptable"
    assert lines[-1].startswith("dry run: nothing was written; cni-repair adopt --write")
    assert rig.kept() == []
    assert not rig.checkpoints.exists()

    assert "lost:" not in command(rig, "--write").out
    rig.run("rm", "-r", str(rig.checkpoints))
    report = adopt(rig, "--write")
    assert states(report) == {one.pod.id: "adopted", two.pod.id: "adopted"}
    assert report["written"] is True
    assert all(entry["notKnown"] == [] for entry in report["attachments"])
    assert [rig.state(was.pod) for was in (one, two)] == [one.state, two.state]

    connection = rig.connection(one.pod)
    connection.exchange("before")
    rig.reload()
    assert_repaired(rig, one)
    assert_repaired(rig, two)
    connection.exchange("after")


def test_an_entry_without_the_netns_beside_the_result(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns="")
    entry = entry_of(adopt(rig, "--write"), was.pod)
    assert (entry["state"], entry["netns"]) == ("adopted", was.pod.path)
    rig.reload()
    assert_repaired(rig, was)


def test_an_entry_that_says_no_netns_at_all(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    interfaces = [without(one, ["sandbox"]) for one in was.result["interfaces"]]
    result = {**was.result, "interfaces": interfaces}
    remember(rig, was.pod, as_list(bare_conf(rig)), result, netns="")
    assert "does not name its netns" in refused(rig, was.pod)


def test_adopted_is_what_add_would_have_written(rig: Rig) -> None:
    """The same record, but for what tells whose it is."""
    ours = rig.attach("a1")
    bare = attach_bare(rig, "b2")
    adopt(rig, "--write")
    one, two = (json.loads(rig.checkpoint(was.pod).read_text()) for was in (ours, bare))
    assert two.pop("settled") is True  # all plugins had done their work by then
    assert two.keys() == one.keys()
    theirs = ["ifindex", "mac"]
    assert without(two["link"], theirs) == without(one["link"], theirs)
    assert two["parents"] == one["parents"]
    assert two["routes"] == one["routes"]
    assert (two["network"], two["delegate"]) == (one["network"], one["delegate"])
    assert two["result"] == bare.result
    assert two["netconf"]["type"] == "macvlan"
    assert two["netns"]["cookie"] != one["netns"]["cookie"]
    assert two["pod"] == {
        "namespace": "shop", "name": "b2", "uid": "6c1c0f4e-3d1b-4a6c-9d52-5c1f0a4e7b11",
    }  # fmt: skip
    written = cache_file(rig, bare.pod, "pods", "eth0").stat().st_mtime_ns // 1_000_000
    assert two["attachedAt"] == written
    assert rig.cli("validate", str(rig.checkpoint(bare.pod))).status == 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_mode_and_mtu_are_the_kernels(rig: Rig, mode: str) -> None:
    """Whatever the configuration says: it may have been changed since."""
    was = attach_bare(rig, "a1", bare_conf(rig, mode=mode, mtu=1400))
    remember(rig, was.pod, as_list(bare_conf(rig, mode="bridge", master="eth7")), was.result)
    adopt(rig, "--write")
    link = json.loads(rig.checkpoint(was.pod).read_text())["link"]
    assert (link["mode"], link["mtu"]) == (mode, 1400)
    rig.reload()
    assert_repaired(rig, was)


@pytest.mark.slow
def test_dual_stack(rig: Rig) -> None:
    was = attach_bare(rig, "a1", bare_conf(rig, v6=True), ipv6=True)
    states(adopt(rig, "--write"))
    rig.reload()
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert rig.state(was.pod)["routes"] == was.state["routes"]
    assert rig.ping(was.pod, GATEWAY6)


def test_a_second_time_there_is_nothing_to_do(rig: Rig) -> None:
    one = attach_bare(rig, "a1")
    ours = rig.attach("b2")
    remember(rig, ours.pod, as_list(rig.conf()), ours.result)
    adopt(rig, "--write")
    before = {path: path.read_bytes() for path in rig.checkpoints.iterdir()}
    again = adopt(rig, "--write")
    assert states(again) == {one.pod.id: "recorded", ours.pod.id: "recorded"}
    assert {path: path.read_bytes() for path in rig.checkpoints.iterdir()} == before


@pytest.mark.slow
def test_it_sends_questions_only(rig: Rig) -> None:
    attach_bare(rig, "a1")
    trace = rig.base / "trace"
    rig.run(
        "strace", "-f", "-o", str(trace), "-e", "trace=sendto,sendmsg,sendmmsg",
        "-e", "abbrev=none", rig.launcher(), "adopt", "--write", *options(rig),
    )  # fmt: skip
    kinds = set(re.findall(r"nlmsg_type=(\w+)", trace.read_text()))
    gets = {"RTM_GETLINK": 18, "RTM_GETADDR": 22, "RTM_GETROUTE": 26, "RTM_GETNSID": 90}
    gets |= {"RTM_GETNEIGH": 30, "RTM_GETRULE": 34}
    # strace cannot tell what sort of netlink a pod's socket speaks, and gives a number then.
    assert kinds - {*gets, *(f"{number:#x}" for number in gets.values())} == set()
    assert "RTM_GETLINK" in kinds


def test_secrets_stay_where_they_are(rig: Rig) -> None:
    conf = bare_conf(rig, ipam={**ipam(rig, "10.9.0.0/24"), "token": "hunter2"})
    was = attach_bare(rig, "a1", conf)
    adopt(rig, "--write")
    text = rig.checkpoint(was.pod).read_text()
    assert "hunter2" not in text
    assert json.loads(text)["netconf"]["ipam"]["token"] == "[redacted]"


def test_one_plugin_of_a_chain(rig: Rig) -> None:
    """What later plugins changed is in the live interface, and so in the record."""
    conf = bare_conf(rig)
    tuning = {"type": "tuning", "sysctl": {}, "mac": "02:00:00:00:77:01"}
    pod = rig.pod("a1")
    first = rig.bare("ADD", pod, conf).ok()
    prev = {**tuning, "cniVersion": "1.0.0", "name": "pods", "prevResult": first}
    result = rig.bare("ADD", pod, prev, "tuning").ok()
    remember(rig, pod, as_list(conf, tuning), result)
    was = Attachment(pod, result, rig.state(pod))
    adopt(rig, "--write")
    document = json.loads(rig.checkpoint(pod).read_text())
    assert document["link"]["mac"] == "02:00:00:00:77:01"
    assert (document["delegate"], document["netconf"]["type"]) == ("macvlan", "macvlan")
    rig.reload()
    assert_repaired(rig, was)


def test_del_by_us_frees_the_address_and_forgets(rig: Rig) -> None:
    """The operator changed the configuration's type, and the pod is deleted."""
    was = attach_bare(rig, "a1")
    adopt(rig, "--write")
    assert rig.leases() == {was.address: was.pod.id}
    rig.plugin("DEL", was.pod).ok()
    assert (rig.leases(), rig.kept()) == ({}, [])
    assert set(rig.links(was.pod)) == {"lo"}


def test_a_checkpoint_of_ours_that_was_lost_is_made_again(rig: Rig) -> None:
    was = rig.attach("a1")
    remember(rig, was.pod, as_list(rig.conf()), was.result)
    rig.checkpoint(was.pod).unlink()
    adopt(rig, "--write")
    document = json.loads(rig.checkpoint(was.pod).read_text())
    assert (document["delegate"], document["netconf"]["type"]) == ("macvlan", "cni-repair")
    rig.reload()
    assert_repaired(rig, was)


def test_a_checkpoint_that_lives_elsewhere(rig: Rig) -> None:
    elsewhere = str(rig.base / "elsewhere")
    was = rig.attach("a1", rig.conf(checkpointDir=elsewhere))
    remember(rig, was.pod, as_list(rig.conf(checkpointDir=elsewhere)), was.result)
    entry = entry_of(adopt(rig, "--write"), was.pod)
    assert entry["state"] == "skipped"
    assert f"--checkpoint-dir {elsewhere}" in reason_of(entry)
    assert rig.kept() == []


# --- what is skipped ------------------------------------------------------------------------------


def test_bridge_and_ptp_are_left_alone_and_named(rig: Rig) -> None:
    macvlan = attach_bare(rig, "a1")
    bridged = attach_bare(rig, "b2", bridge_conf(rig), "bridge")
    conf = {**bare_conf(rig, "ptp", master=None, name="routed"), "ipam": ipam(rig, "10.45.0.0/24")}
    routed = attach_bare(rig, "c3", conf, "ptp")
    report = adopt(rig, "--write")
    assert states(report) == {
        macvlan.pod.id: "adopted", bridged.pod.id: "skipped", routed.pod.id: "skipped",
    }  # fmt: skip
    assert reason_of(entry_of(report, bridged.pod)) == "eth0 is a veth link, made by plugin bridge"
    assert reason_of(entry_of(report, routed.pod)) == "eth0 is a veth link, made by plugin ptp"
    told = command(rig).out
    assert "shop/b2" in told and "made by plugin bridge" in told
    assert rig.kept() == [rig.checkpoint(macvlan.pod).name]


def test_a_bridge_pod_that_lost_its_interface(rig: Rig) -> None:
    was = attach_bare(rig, "b2", bridge_conf(rig), "bridge")
    rig.ip("link del eth0", was.pod)
    entry = entry_of(adopt(rig, "--write"), was.pod)
    assert (entry["state"], reason_of(entry)) == (
        "skipped", "eth0 is gone, and plugin bridge made it",
    )  # fmt: skip


def test_a_pod_that_is_gone(rig: Rig) -> None:
    """libcni's cache outlives pods (DelNetworkList keeps it below CNI 0.4.0)."""
    was = attach_bare(rig, "a1")
    rig.bare("DEL", was.pod, bare_conf(rig)).ok()
    rig.drop_pod(was.pod)
    assert states(adopt(rig, "--write")) == {was.pod.id: "gone"}
    told = command(rig)
    assert (told.status, told.out.splitlines()[-2]) == (0, "1 attachment: 1 gone")
    assert rig.kept() == []


def test_a_bind_mount_that_was_taken_away(rig: Rig) -> None:
    """The runtime's file stays when its namespace was unmounted by somebody else."""
    was = attach_bare(rig, "a1")
    rig.run("umount", was.pod.path)
    assert states(adopt(rig, "--write")) == {was.pod.id: "gone"}
    rig.run("rm", was.pod.path)


def test_a_bind_mount_that_only_the_runtime_has(rig: Rig) -> None:
    """Its mount namespace is another: the pod lives, and is not said to be gone."""
    was = attach_bare(rig, "a1")
    private = ("unshare", "--mount", "--propagation", "private")
    ready = rig.base / "ready"
    with rig.started(*private, "sh", "-c", f"touch {ready}; exec sleep 600") as runtime:
        eventually(ready.exists)
        rig.run("umount", was.pod.path)
        assert states(adopt(rig)) == {was.pod.id: "gone"}  # a mount alone keeps no pod alive
        netns = f"/proc/{runtime.pid}/root{was.pod.path}"
        with rig.started_in(netns, "sleep", "600"):
            reason = refused(rig, was.pod)
            assert f"mounted at {was.pod.path} for PID {runtime.pid}, not here" in reason
            assert f"nsenter --mount --target {runtime.pid} cni-repair adopt" in reason
    rig.run("rm", was.pod.path)


def test_the_loopback_network_is_none_of_ours(rig: Rig) -> None:
    pod = rig.pod("a1")
    remember(rig, pod, {"name": "cni-loopback", "plugins": []}, {}, ifname="lo")
    assert adopt(rig)["attachments"] == []


def test_nothing_at_all(rig: Rig) -> None:
    told = command(rig)
    assert told.status == 0
    assert told.out.startswith("no attachments in /var/lib/cni/results, ")


# --- what is refused ------------------------------------------------------------------------------


def refused(rig: Rig, pod: Pod) -> str:
    """The reason; nothing may have been written."""
    entry = entry_of(adopt(rig, "--write", status=1), pod)
    assert entry["state"] == "refused", entry
    assert not rig.checkpoint(pod).exists()
    return reason_of(entry)


def test_other_addresses_than_remembered(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip(f"addr del {was.address}/24 dev eth0", was.pod)
    rig.ip("addr add 10.9.0.99/24 dev eth0", was.pod)
    reason = refused(rig, was.pod)
    assert "10.9.0.99/24" in reason and f"{was.address}/24" in reason


def test_another_mac_where_there_is_no_address_to_compare(rig: Rig) -> None:
    conf = bare_conf(rig, ipam=None)
    was = attach_bare(rig, "a1", conf)
    assert states(adopt(rig)) == {was.pod.id: "adoptable"}
    rig.ip("link set eth0 address 02:00:00:00:00:99", was.pod)
    reason = refused(rig, was.pod)
    assert "02:00:00:00:00:99" in reason and was.result["interfaces"][0]["mac"] in reason


def test_more_addresses_and_routes_than_remembered_are_recorded(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip("addr add 198.51.100.7/24 dev eth0", was.pod)
    rig.ip("route add 192.0.2.0/24 via 10.9.0.9 dev eth0 table 100", was.pod)
    was = Attachment(was.pod, was.result, rig.state(was.pod))
    adopt(rig, "--write")
    rig.reload()
    assert_repaired(rig, was)


def test_rules_and_neighbours_are_recorded(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip(f"rule add from {was.address} table 100 priority 1000", was.pod)
    rig.ip("neigh add 10.9.0.77 lladdr 02:00:00:00:77:77 dev eth0 nud permanent", was.pod)
    adopt(rig, "--write")
    document = json.loads(rig.checkpoint(was.pod).read_text())
    assert [rule["priority"] for rule in document["rules"]] == [1000]
    assert [neighbour["address"] for neighbour in document["neighbours"]] == ["10.9.0.77"]


def test_a_route_that_is_not_there_any_more_is_said(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip("route del default", was.pod)
    entry = entry_of(adopt(rig, "--write"), was.pod)
    assert entry["state"] == "adopted"
    assert entry["notKnown"] == [
        f"route 0.0.0.0/0 via {GATEWAY4} of its Result is gone: not recorded"
    ]


def test_an_interface_that_is_down(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip("link set eth0 down", was.pod)
    assert "eth0 is down" in refused(rig, was.pod)


def test_the_nodes_own_namespace(rig: Rig) -> None:
    pod = rig.pod("a1")
    rig.run("touch", "/run/netns/node")
    rig.run("mount", "--bind", "/proc/self/ns/net", "/run/netns/node")
    for path in ("/proc/self/ns/net", "/run/netns/node"):
        remember(rig, pod, as_list(bare_conf(rig)), {}, netns=path)
        assert refused(rig, pod) == f"{path} is the node's own network namespace"
    rig.run("umount", "/run/netns/node")


def test_a_macvlan_that_the_pod_made_itself(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip("link del eth0", was.pod)
    rig.ip("link add under type veth peer name over", was.pod)
    rig.ip("link add link under name eth0 type macvlan mode bridge", was.pod)
    rig.ip("link set eth0 up", was.pod)
    assert "over a link of the pod itself" in refused(rig, was.pod)


def test_a_macvlan_over_a_link_of_a_third_namespace(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.ip("link del eth0", was.pod)
    rig.ip("link add link tor0 name eth0 netns a1 type macvlan mode bridge", "tor")
    rig.ip("link set eth0 up", was.pod)
    assert "over no link of the node" in refused(rig, was.pod)


def test_add_refuses_such_a_macvlan_too(rig: Rig) -> None:
    """It looks at what its delegate made in the same way."""
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] || exec {PLUGINS}/macvlan
        inside() {{ nsenter --net="$CNI_NETNS" ip link "$@"; }}
        inside add under type veth peer name over
        inside add link under name eth0 type macvlan mode bridge
        echo '{{"cniVersion": "1.0.0"}}'
        """,
    )
    words = rig.plugin("ADD", rig.pod("a1")).error(7)
    assert "macvlan and ipvlan interfaces over links of the node only" in words
    assert rig.kept() == []


def test_two_containers_that_claim_one_interface(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    other = Pod("b2")
    remember(rig, other, as_list(bare_conf(rig)), was.result, netns=was.pod.path)
    report = adopt(rig, "--write", status=1)
    assert states(report) == {was.pod.id: "refused", other.id: "refused"}
    assert other.id in reason_of(entry_of(report, was.pod))
    assert rig.kept() == []


def test_an_interface_that_is_recorded_as_anothers(rig: Rig) -> None:
    was = rig.attach("a1")
    other = Pod("b2")
    remember(rig, other, as_list(bare_conf(rig)), was.result, netns=was.pod.path)
    assert was.pod.id in refused(rig, other)


def test_an_add_that_has_not_ended(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.checkpoints.mkdir(mode=0o700)
    put(rig.checkpoints / f"{was.pod.id}@eth0.intent", "{}").parent.chmod(0o700)
    assert "an ADD of it has not ended" in refused(rig, was.pod)


def test_a_pod_that_is_being_deleted(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    rig.checkpoints.mkdir(mode=0o700)
    put(rig.checkpoints / f"{was.pod.id}@eth0.deleting", "{}")
    assert states(adopt(rig, "--write")) == {was.pod.id: "skipped"}


def test_a_damaged_checkpoint_is_not_replaced(rig: Rig) -> None:
    was = rig.attach("a1")
    remember(rig, was.pod, as_list(rig.conf()), was.result)
    rig.checkpoint(was.pod).write_text("{torn")
    entry = entry_of(adopt(rig, "--write", status=1), was.pod)
    assert entry["state"] == "refused"
    assert str(rig.checkpoint(was.pod)) in reason_of(entry)
    assert rig.checkpoint(was.pod).read_text() == "{torn"


def test_a_macvlan_that_nobody_remembers(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    cache_file(rig, was.pod, "pods", "eth0").unlink()
    report = adopt(rig, "--write", status=1)
    assert report["attachments"] == []
    (found,) = report["unmanaged"]
    assert (found["netns"], found["ifname"], found["master"]) == (was.pod.path, "eth0", "eth0")
    assert (found["kind"], found["state"]) == ("macvlan", "attached")
    assert f"unmanaged: {was.pod.path} eth0" in command(rig).out


# --- namespaces named by a process ----------------------------------------------------------------


@contextmanager
def says_cgroup(rig: Rig, task: str, cgroup: str) -> Iterator[None]:
    """`cgroup` is what the kernel says of the process or thread at /proc/…"""
    file = rig.base / f"cgroup-{task.rpartition('/')[2]}"
    file.write_text(cgroup)
    rig.run("mount", "--bind", str(file), f"{task}/cgroup")
    try:
        yield
    finally:
        rig.run("umount", f"{task}/cgroup")


@contextmanager
def process_of(rig: Rig, pod: Pod, cgroup: str) -> Iterator[int]:
    """A process in the pod's namespace."""
    with (
        rig.started_in(pod, "sleep", "600") as process,
        says_cgroup(rig, f"/proc/{process.pid}", cgroup),
    ):
        yield process.pid


THREAD = """
import os, sys, threading, time
from cni_repair.netlink.netns import CLONE_NEWNET, setns_function
def inside():
    setns_function()(os.open(sys.argv[1], os.O_RDONLY), CLONE_NEWNET)
    print(threading.get_native_id(), flush=True)
    time.sleep(600)
threading.Thread(target=inside).start()
"""


@contextmanager
def thread_of(rig: Rig, pod: Pod, cgroup: str) -> Iterator[str]:
    """A thread in the pod's namespace, of a process that is in the node's: /proc/PID/task/TID."""
    words = (sys.executable, "-c", THREAD, pod.path)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with rig.started(*words, env=env) as process:
        assert process.stdout is not None and process.stderr is not None
        told = process.stdout.readline()
        assert told, process.stderr.read()
        task = f"/proc/{process.pid}/task/{int(told)}"
        with says_cgroup(rig, task, cgroup):
            yield task


@dataclass(frozen=True)
class Runtime:
    """How a runtime names a pod to CNI, and where its processes are."""

    cgroup: str  # $id: the container's, as the runtime has it
    prefix: str = ""  # of the id that CNI is told
    directory: str = LIBCNI

    def pod(self, name: str) -> Pod:
        return NamedPod(name, self.prefix)


@dataclass(frozen=True)
class NamedPod(Pod):
    """A pod whose id for CNI has something before it."""

    prefix: str = ""

    @property
    def id(self) -> str:
        return self.prefix + super().id


RUNTIMES = {
    "dockershim": Runtime("0::/kubepods/pod1234/$id\n", directory=DOCKERSHIM),
    "containerd": Runtime("0::/kubepods.slice/kubepods-pod1234.slice/cri-containerd-$id.scope\n"),
    "cri-o": Runtime("0::/kubepods.slice/kubepods-pod1234.slice/crio-$id.scope\n"),
    "docker": Runtime("0::/system.slice/docker-$id.scope\n"),
    "podman": Runtime("0::/machine.slice/libpod-$id.scope/container\n"),
    "nerdctl": Runtime("0::/system.slice/nerdctl-$id.scope\n", "default-"),
    "nerdctl-with-cgroupfs": Runtime("0::/k8s.io/$id\n", "k8s.io-"),
    "cgroup-v1": Runtime("2:pids:/docker/$id\n1:name=systemd:/docker/$id\n0::/\n"),
}


def attached_by(rig: Rig, runtime: Runtime, pod: Pod, path: str) -> Attachment:
    conf = bare_conf(rig)
    result = rig.bare("ADD", pod, conf, CNI_CONTAINERID=pod.id).ok()
    remember(rig, pod, as_list(conf), result, netns=path, directory=runtime.directory)
    return Attachment(pod, result, rig.state(pod))


@pytest.mark.parametrize("named", RUNTIMES)
def test_a_process_of_the_sandbox(rig: Rig, named: str) -> None:
    """The namespace is a process's, by its PID; its cgroup names the container."""
    runtime = RUNTIMES[named]
    rig.pod("a1")
    pod = runtime.pod("a1")
    with process_of(rig, pod, Template(runtime.cgroup).substitute(id=Pod("a1").id)) as pid:
        path = f"/proc/{pid}/ns/net"
        was = attached_by(rig, runtime, pod, path)
        assert states(adopt(rig, "--write")) == {pod.id: "adopted"}
        netns = json.loads(rig.checkpoint(pod).read_text())["netns"]
        assert (netns["path"], netns["pid"]) == (path, pid)
        rig.reload()
        assert_repaired(rig, was)


@pytest.mark.parametrize("named", ["nerdctl", "docker"])
def test_a_process_of_the_sandbox_that_has_lost_its_interface(rig: Rig, named: str) -> None:
    runtime = RUNTIMES[named]
    rig.pod("a1")
    pod = runtime.pod("a1")
    with process_of(rig, pod, Template(runtime.cgroup).substitute(id=Pod("a1").id)) as pid:
        was = attached_by(rig, runtime, pod, f"/proc/{pid}/ns/net")
        rig.reload()
        assert states(adopt(rig, "--write")) == {pod.id: "adopted"}
        rig.plugin("REPAIR", None, rig.conf()).ok()
        assert in_result(rig.state(pod)) == in_result(was.state)


def test_nerdctls_ids_are_told_and_taken_as_it_shows_them(rig: Rig) -> None:
    """Of default-a10123… the first twelve characters would be of one node's pods all alike."""
    rig.pod("a1")
    pod = NamedPod("a1", "default-")
    attached_by(rig, RUNTIMES["nerdctl"], pod, "/run/netns/a1")
    short = Pod("a1").id[:12]
    assert short in command(rig, "--write").out.split()
    for given in (short, "default-a1", pod.id):
        words = ("status", given, "-o", "json", "--checkpoint-dir", str(rig.checkpoints))
        assert states(rig.cli(*words).report(0)) == {pod.id: "healthy"}


def test_a_thread_of_the_sandbox(rig: Rig) -> None:
    pod = rig.pod("a1")
    with thread_of(rig, pod, f"0::/docker/{pod.id}\n") as task:
        was = attached_by(rig, RUNTIMES["docker"], pod, f"{task}/ns/net")
        assert states(adopt(rig, "--write")) == {pod.id: "adopted"}
        netns = json.loads(rig.checkpoint(pod).read_text())["netns"]
        thread = int(task.rpartition("/")[2])
        assert (netns["path"], netns["pid"]) == (f"{task}/ns/net", thread)
        assert netns["pidStart"] == start_of(thread)
        rig.reload()
        assert_repaired(rig, was)


WAYS = {
    "task": "/proc/$pid/task/$pid/ns/net",
    "fd": "/proc/$pid/fd/7",
    "another-mount-of-proc": "/run/hostproc/$pid/ns/net",
    "link-to-fd": "/run/netns/link",
}


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_to_a_process(rig: Rig, way: str) -> None:
    """Each leads to a process whose cgroup decides; none is a mount that a runtime has made."""
    was = attach_bare(rig, "a1")
    rig.run("mkdir", "/run/hostproc")
    rig.run("mount", "--bind", "/proc", "/run/hostproc")
    script = f"exec 7<{was.pod.path} && exec sleep 600"
    with rig.started_in(was.pod, "sh", "-c", script) as holder, ExitStack() as mounts:
        pid = holder.pid
        rig.run("ln", "-s", f"/proc/{pid}/fd/7", "/run/netns/link")
        netns = Template(WAYS[way]).substitute(pid=pid)
        eventually(lambda: rig.run("test", "-e", netns, check=False).status == 0)
        for task in (f"/proc/{pid}", f"/proc/{pid}/task/{pid}", f"/run/hostproc/{pid}"):
            mounts.enter_context(says_cgroup(rig, task, f"0::/docker/{Pod('b2').id}\n"))
        remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns=netns)
        aged(rig, was.pod, by=60)
        assert f"names container {Pod('b2').id[:12]}" in refused(rig, was.pod)
    rig.run("umount", "/run/hostproc")


def aged(rig: Rig, pod: Pod, by: float) -> None:
    """As if the entry had been written so many seconds later."""
    then = time.time() + by
    os.utime(cache_file(rig, pod, "pods", "eth0"), (then, then))


@pytest.mark.parametrize("by", ["itself", "a link"])
def test_a_pid_that_is_used_again(rig: Rig, by: str) -> None:
    """Another container's. Younger than the entry, it is another process for certain; else it is
    refused; never is anything said to be removed: the pod may live."""
    was = attach_bare(rig, "a1")
    other = Pod("b2").id
    with process_of(rig, was.pod, f"0::/kubepods/pod1234/{other}\n") as pid:
        path = f"/proc/{pid}/ns/net"
        if by == "a link":
            rig.run("ln", "-s", path, "/run/netns/link")
        netns = "/run/netns/link" if by == "a link" else path
        remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns=netns)
        aged(rig, was.pod, by=60)
        reason = refused(rig, was.pod)
        assert f"the cgroup of /proc/{pid} does not name container {was.pod.id}" in reason
        assert f"it names container {other[:12]}" in reason
        assert "nothing has to be removed" in reason
        aged(rig, was.pod, by=-60)
        entry = entry_of(adopt(rig), was.pod)
        assert entry["state"] == "gone"
        assert reason_of(entry).startswith(f"the process at /proc/{pid} has ended: another one")


NO_CONTAINER = "0::/system.slice/something.service\n"


def test_a_cgroup_that_names_no_container(rig: Rig) -> None:
    """The process is older than the entry, and the interface is the remembered one by its MAC."""
    was = attach_bare(rig, "a1")
    with process_of(rig, was.pod, NO_CONTAINER) as pid:
        remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns=f"/proc/{pid}/ns/net")
        aged(rig, was.pod, by=60)
        assert states(adopt(rig, "--write")) == {was.pod.id: "adopted"}


@pytest.mark.parametrize("how", ["another-mac", "lost"])
def test_a_cgroup_that_names_no_container_and_nothing_else_tells(rig: Rig, how: str) -> None:
    was = attach_bare(rig, "a1")
    with process_of(rig, was.pod, NO_CONTAINER) as pid:
        remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns=f"/proc/{pid}/ns/net")
        aged(rig, was.pod, by=60)
        lost = how == "lost"
        rig.ip("link del eth0" if lost else "link set eth0 address 02:00:00:00:00:99", was.pod)
        reason = refused(rig, was.pod)
        assert "it cannot be told whose namespace this is" in reason
        assert "it names no container" in reason


def test_a_cgroup_that_names_no_container_and_a_younger_process(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    with process_of(rig, was.pod, NO_CONTAINER) as pid:
        remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns=f"/proc/{pid}/ns/net")
        aged(rig, was.pod, by=-60)
        assert states(adopt(rig)) == {was.pod.id: "gone"}


@pytest.mark.parametrize("pid", ["2", "4194304"], ids=["another-process", "none"])
def test_pids_in_a_container_that_sees_its_own_alone(rig: Rig, pid: str) -> None:
    """There a PID is another process, or none: that does not mean that the pod is gone."""
    was = attach_bare(rig, "a1")
    path = f"/proc/{pid}/ns/net"
    remember(rig, was.pod, as_list(bare_conf(rig)), was.result, netns=path)
    aged(rig, was.pod, by=-60)
    inode = "stat -Lc %i"
    script = f"""
    nsenter --net={was.pod.path} sleep 600 &
    until [ "$({inode} /proc/2/ns/net)" = "$({inode} {was.pod.path})" ]; do :; done
    exec {rig.launcher()} adopt -o json --checkpoint-dir {rig.checkpoints}
    """
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script)
    entry = entry_of(rig.run(*inside, check=False).report(1), was.pod)
    assert entry["state"] == "refused"
    assert "the node's processes are not to be seen from here" in reason_of(entry)


def test_a_thread_that_has_ended(rig: Rig) -> None:
    """Its process goes on: it is the thread's id that was remembered."""
    pod = rig.pod("a1")
    with rig.started("sleep", "600") as process:
        path = f"/proc/{process.pid}/task/4194304/ns/net"  # above any that is given out
        attached_by(rig, RUNTIMES["docker"], pod, path)
        assert entry_of(adopt(rig, status=1), pod)["state"] == "gone"


@pytest.mark.parametrize(
    "path",
    [
        "/run/netns/a1",
        "/var/run/netns/a1",
        "/var/run/docker/netns/0123456789ab",
        "/run/user/0/netns/netns-a1",
    ],
)
def test_a_mount_of_the_runtimes(rig: Rig, path: str) -> None:
    """One that was made for one sandbox needs no other proof; the id may have any form."""
    rig.pod("a1")
    pod = NamedPod("a1", "any.form-of_id-")
    if not path.endswith("run/netns/a1"):
        rig.run("mkdir", "-p", os.path.dirname(path))
        rig.run("touch", path)
        rig.run("mount", "--bind", "/run/netns/a1", path)
    was = attached_by(rig, RUNTIMES["docker"], pod, path)
    assert states(adopt(rig, "--write")) == {pod.id: "adopted"}
    rig.reload()
    assert_repaired(rig, was)
    if not path.endswith("run/netns/a1"):
        rig.run("umount", path)


# --- after the loss -------------------------------------------------------------------------------


def test_pods_whose_interface_is_lost_already(rig: Rig) -> None:
    one, two = attach_bare(rig, "a1"), attach_bare(rig, "b2", bare_conf(rig, mode="private"))
    rig.uplink_down()
    told = command(rig, "--write")
    assert told.status == 0, told
    assert told.out.splitlines()[-2] == "2 attachments: 2 adopted"
    assert told.out.splitlines()[-1].startswith("lost: cni-repair repair --all --checkpoint-dir")
    assert "all 2 adopted: not known: eth0 is gone: its ifindex (sockets bound to" in told.out
    assert rig.plugin("REPAIR", None, rig.conf()).report(1)["summary"]["lost"] == 2
    rig.uplink_up()
    rig.plugin("REPAIR", None, rig.conf()).ok()
    for was in (one, two):
        assert in_result(rig.state(was.pod)) == in_result(was.state)
        assert rig.ping(was.pod, GATEWAY4)


def test_lost_while_the_master_is_back(rig: Rig) -> None:
    """Then it is known: the record says which card it is, as at an ADD."""
    was = attach_bare(rig, "a1")
    rig.reload()
    entry = entry_of(adopt(rig, "--write"), was.pod)
    assert entry["notKnown"] == [
        "eth0 is gone: its ifindex (sockets bound to eth0 will not recover)",
        "its MTU (it gets its master's)",
        "its sysctls, and what was changed after ADD",
    ]
    (parent,) = json.loads(rig.checkpoint(was.pod).read_text())["parents"]
    assert (parent["name"], parent["kind"]) == ("eth0", "veth")
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert in_result(rig.state(was.pod)) == in_result(was.state)


TWO_GATEWAYS = [{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": "10.9.0.2"}]
NO_GATEWAY = [{"dst": "0.0.0.0/0", "gw": "0.0.0.0"}]
STATIC = {"type": "static", "addresses": [{"address": "10.9.0.77/24", "gateway": GATEWAY4}]}


@pytest.mark.parametrize("kind", ["static", "host-local"])
@pytest.mark.parametrize("routes", [TWO_GATEWAYS, NO_GATEWAY], ids=["two-gateways", "no-gateway"])
def test_lost_with_routes_that_an_ipam_plugin_told(rig: Rig, kind: str, routes: list[Json]) -> None:
    """(Any Result: test_results.py.)"""
    told = STATIC if kind == "static" else ipam(rig, "10.9.0.0/24")
    was = attach_bare(rig, "a1", bare_conf(rig, ipam={**told, "routes": routes}))
    before = rig.ip("route", was.pod)
    assert before.count("default") == len(routes)
    rig.reload()
    adopt(rig, "--write")
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert rig.ip("route", was.pod) == before
    again = rig.plugin("REPAIR", None, rig.conf()).ok()
    assert again["attachments"][0]["state"] == "healthy"


A8, B8 = {"address": "10.8.0.5/24", "gateway": "10.8.0.1"}, {"address": "10.7.0.5/24"}
A6 = {"address": "fd00:8::5/64", "gateway": "fd00:8::1"}
BEHIND = {"dst": "192.0.2.0/24", "gw": "10.8.0.9"}


def chained_with_sbr(rig: Rig, pod: Pod, **told: Any) -> None:
    """net1 over eth1, with the Result of the real sbr plugin, as Multus leaves it."""
    rig.uplink_up("eth1", "10.8.0.1")
    conf = bare_conf(rig, master="eth1", name="second", ipam={"type": "static", **told})
    made = rig.bare("ADD", pod, conf, CNI_IFNAME="net1").ok()
    sbr = {"type": "sbr", "cniVersion": "1.0.0", "name": "second", "prevResult": made}
    result = rig.bare("ADD", pod, sbr, "sbr", CNI_IFNAME="net1").ok()
    remember(rig, pod, as_list(conf, {"type": "sbr"}), result, ifname="net1")


def repaired(rig: Rig) -> Outcome:
    return rig.cli("repair", "--all", *options(rig))


@pytest.mark.parametrize(
    "told",
    [
        {"addresses": [A8], "routes": [{"dst": "0.0.0.0/0"}]},
        {"addresses": [A8], "routes": [BEHIND]},
        {"addresses": [B8]},
        {"addresses": [A8, B8], "routes": [BEHIND]},
        {"addresses": [A8, {"address": "10.8.0.6/24", "gateway": "10.8.0.2"}]},
        {"addresses": [A6], "routes": [{"dst": "::/0"}]},
        {"addresses": [A8, A6], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
    ],
    ids=["default", "route", "no gateway", "two", "two of a network", "IPv6", "dual stack"],
)
def test_lost_behind_sbr_comes_back_in_its_tables(rig: Rig, told: Json) -> None:
    """Not in the main table, beside the pod's own default route, which may be net1's then."""
    was = attach_bare(rig, "a1", ipv6=A6 in told["addresses"])
    chained_with_sbr(rig, was.pod, **told)
    rig.settle(was.pod)

    def state() -> tuple[list[str], list[str], str]:
        routes = [rig.ip(f"-{family} route show table all", was.pod) for family in (4, 6)]
        # (sbr takes away the kernel's route for link-local addresses, too.)
        lines = [line for text in routes for line in text.splitlines() if "fe80" not in line]
        return (
            sorted(lines),
            rig.ip("-6 route show default", was.pod).split(),
            rig.ip("rule", was.pod),
        )

    before = state()
    assert "table 100" in str(before)
    for link in ("eth0", "eth1"):
        rig.uplink_down(link)
    rig.uplink_up()
    rig.uplink_up("eth1", "10.8.0.1")
    adopt(rig, "--write")
    assert repaired(rig).status == 0
    rig.settle(was.pod)
    assert state() == before


def test_lost_behind_sbr_whose_rules_are_gone(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    chained_with_sbr(rig, was.pod, addresses=[A8], routes=[{"dst": "0.0.0.0/0"}])
    rig.reload()
    rig.reload("eth1")
    rig.ip("rule del from 10.8.0.5", was.pod)
    entry = entry_of(adopt(rig, "--write"), was.pod, "net1")
    assert "its routes: sbr moved them to tables, and no rule tells which" in entry["notKnown"]
    assert repaired(rig).status == 0
    assert rig.ip("route show default", was.pod).startswith("default via 10.9.0.1 dev eth0")


@pytest.mark.parametrize("version", ["", "0.2.0"])
def test_lost_with_a_mac_that_the_runtime_asked_for(rig: Rig, version: str) -> None:
    """As Multus does for `mac` in a pod's annotation; Results of these versions tell no MAC."""
    mac, pod = "02:00:00:00:55:66", rig.pod("a1")
    conf = bare_conf(rig, cniVersion=version, capabilities={"mac": True})
    result = rig.bare("ADD", pod, {**conf, "runtimeConfig": {"mac": mac}}).ok()
    path = remember(rig, pod, as_list(conf), result)
    put(path, json.dumps({**json.loads(path.read_text()), "capabilityArgs": {"mac": mac}}))
    rig.reload()
    adopt(rig, "--write")
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert rig.links(pod)["eth0"]["address"] == mac


def test_lost_and_no_master_named(rig: Rig) -> None:
    """The macvlan plugin then takes the default route's device: there is none any more."""
    rig.ip("addr add 10.9.0.250/24 dev eth0")
    rig.ip("route add default via 10.9.0.1")
    pod = rig.pod("a1")
    result = rig.bare("ADD", pod, bare_conf(rig)).ok()  # (Debian 13's finds no default route)
    remember(rig, pod, as_list(bare_conf(rig, master=None)), result)
    was = Attachment(pod, result, rig.state(pod))
    rig.reload()
    assert "names no master" in refused(rig, was.pod)
    conf = put(rig.base / "pods.conf", json.dumps(rig.conf(master=["bond4", "eth0"])))
    assert states(adopt(rig, "--write", "--conf", str(conf))) == {was.pod.id: "adopted"}
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert in_result(rig.state(was.pod)) == in_result(was.state)


def test_lost_with_the_vlan_below_it(rig: Rig) -> None:
    """The macvlan plugin was given eth0.3 as it stood; our configuration says what that is."""
    rig.uplink_up("eth0.3", "10.9.0.1")  # this kernel has no 8021q
    was = attach_bare(rig, "a1", bare_conf(rig, master="eth0.3"))
    rig.uplink_down("eth0.3")
    entry = entry_of(adopt(rig), was.pod)
    assert entry["notKnown"][-1] == "whether eth0.3, once back, is the same card"
    conf = put(rig.base / "pods.conf", json.dumps(rig.conf(master="eth0", vlanId=3)))
    adopt(rig, "--write", "--conf", str(conf))
    vlan, card = json.loads(rig.checkpoint(was.pod).read_text())["parents"]
    assert (vlan["name"], vlan["vlan"]["id"], card["name"]) == ("eth0.3", 3, "eth0")
    plan = rig.cli("plan", "--checkpoint-dir", str(rig.checkpoints)).out
    assert "ip link add link eth0 name eth0.3 type vlan id 3" in plan


def test_lost_with_our_own_configuration(rig: Rig) -> None:
    was = rig.attach("a1", rig.conf(master=["bond4", "eth0"], mode="private"))
    remember(rig, was.pod, as_list(rig.conf(master=["bond4", "eth0"], mode="private")), was.result)
    rig.checkpoint(was.pod).unlink()
    rig.reload()
    adopt(rig, "--write")
    rig.plugin("REPAIR", None, rig.conf()).ok()
    assert in_result(rig.state(was.pod)) == in_result(was.state)


def test_lost_with_a_version_that_we_do_not_speak(rig: Rig) -> None:
    """The macvlan plugin is another's; what it was asked to print makes no difference."""
    was = attach_bare(rig, "a1")
    remember(rig, was.pod, as_list(bare_conf(rig, cniVersion="1.9.0")), was.result)
    rig.reload()
    assert states(adopt(rig)) == {was.pod.id: "adoptable"}


def test_lost_and_the_entry_without_a_configuration(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    bare_result(rig, was)
    rig.reload()
    assert "--conf FILE" in refused(rig, was.pod)


# --- older and other forms ------------------------------------------------------------------------


def bare_result(rig: Rig, was: Attachment, result: Json | None = None) -> None:
    """The cache as libcni had it before 0.8: the Result, and nothing else."""
    put(cache_file(rig, was.pod, "pods", "eth0"), json.dumps(result or was.result))


def test_a_bare_result(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    bare_result(rig, was)
    entry = entry_of(adopt(rig, "--write"), was.pod)
    assert (entry["state"], entry["network"]) == ("adopted", "pods")
    assert entry["notKnown"] == ["the configuration that it was made with", "the pod's name"]
    rig.reload()
    assert_repaired(rig, was)


def test_a_result_of_cni_0_2(rig: Rig) -> None:
    """It names neither the interface nor its netns: another entry of the pod has to."""
    conf = bare_conf(rig, cniVersion="0.2.0")
    pod = rig.pod("a1")
    result = rig.bare("ADD", pod, conf).ok()
    assert "ip4" in result
    remember(rig, pod, as_list(conf), result)
    was = Attachment(pod, result, rig.state(pod))
    adopt(rig, "--write")
    document = json.loads(rig.checkpoint(pod).read_text())
    assert document["result"]["cniVersion"] == "0.3.1"
    rig.reload()
    assert rig.plugin("REPAIR", pod).ok()["ips"][0]["address"] == result["ip4"]["ip"]
    assert rig.state(pod) == was.state


def multus_conf() -> Json:
    return {
        "cniVersion": "1.0.0",
        "name": "multus-cni-network",
        "type": "multus",
        "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
        "clusterNetwork": "pods",
    }


def attach_multus(rig: Rig, name: str) -> tuple[Attachment, Attachment]:
    """A pod as Multus attaches it: eth0 of the cluster's network and net1 of another, both by the
    macvlan plugin; with what the runtime and Multus write."""
    rig.uplink_up("eth1", "10.8.0.1")
    pod = rig.pod(name)
    second = bare_conf(rig, name="storage", master="eth1")
    second["ipam"] = {"type": "static", "addresses": [{"address": "10.8.0.7/24"}]}
    made = []
    for conf, ifname in ((bare_conf(rig), "eth0"), (second, "net1")):
        result = rig.bare("ADD", pod, conf, CNI_IFNAME=ifname).ok()
        # A NetworkAttachmentDefinition is a single plugin's, or a list.
        config = conf if ifname == "net1" else as_list(conf)
        remember(rig, pod, config, result, ifname=ifname, directory=MULTUS)
        made.append(Attachment(pod, result, rig.state(pod, ifname), ifname))
    remember(rig, pod, as_list(multus_conf()), made[0].result)
    scratch(rig, pod, [as_list(bare_conf(rig)), second])
    return made[0], made[1]


def scratch(rig: Rig, pod: Pod, configurations: list[Json], **requests: str) -> Path:
    """Multus' saveDelegates: json.Marshal of []*DelegateNetConf."""
    delegates = [
        {
            "Conf": {"name": conf["name"], "type": conf.get("type"), "ipam": {}, "dns": {}},
            "ConfList": {"name": conf["name"], "plugins": conf.get("plugins")},
            "Name": conf["name"],
            "IsFilterV4Gateway": False,
            "IsFilterV6Gateway": False,
            "Bytes": go_bytes(conf),
            **requests,
        }
        for conf in configurations
    ]
    return put(Path(rig.outside(f"{MULTUS}/{pod.id}")), json.dumps(delegates))


def assert_both_repaired(rig: Rig, made: tuple[Attachment, Attachment]) -> None:
    rig.reload()
    rig.reload("eth1", ip="10.8.0.1")
    rig.cli("repair", "--all", "--checkpoint-dir", str(rig.checkpoints))
    for was in made:
        assert rig.state(was.pod, was.ifname) == was.state


def test_multus(rig: Rig) -> None:
    made = attach_multus(rig, "a1")
    pod = made[0].pod
    report = adopt(rig, "--write")
    told = {one["ifname"]: (one["state"], one["network"]) for one in report["attachments"]}
    assert told == {"eth0": ("adopted", "pods"), "net1": ("adopted", "storage")}
    for was in made:
        document = json.loads(rig.checkpoint(pod, was.ifname).read_text())
        assert document["delegate"] == document["netconf"]["type"] == "macvlan"
        assert document["result"] == was.result
        assert document["pod"]["name"] == "a1"
    assert_both_repaired(rig, made)


def test_multus_of_before_it_had_a_cache_of_its_own(rig: Rig) -> None:
    """Only the scratch file knows net1, and that eth0 is the macvlan plugin's."""
    made = attach_multus(rig, "a1")
    for network, ifname in (("pods", "eth0"), ("storage", "net1")):
        cache_file(rig, made[0].pod, network, ifname, MULTUS).unlink()
    report = adopt(rig, "--write")
    eth0, net1 = (entry_of(report, made[0].pod, ifname) for ifname in ("eth0", "net1"))
    assert (eth0["state"], net1["state"]) == ("adopted", "adopted")
    assert eth0["notKnown"] == []
    assert net1["notKnown"] == ["its Result (made up from the interface)"]
    document = json.loads(rig.checkpoint(made[1].pod, "net1").read_text())
    assert document["result"]["ips"] == [{"interface": 0, "address": "10.8.0.7/24"}]
    assert_both_repaired(rig, made)


def test_multus_without_its_own_files(rig: Rig) -> None:
    """A live interface says itself what it is; a lost one does not."""
    (was, _) = attach_multus(rig, "a1")
    for path in (f"{MULTUS}/results", f"{MULTUS}/{was.pod.id}"):
        rig.run("rm", "-r", path)
    report = adopt(rig, status=1)  # net1 is remembered by nobody
    assert entry_of(report, was.pod)["state"] == "adoptable"
    assert [one["ifname"] for one in report["unmanaged"]] == ["net1"]
    rig.uplink_down()
    assert "names no master" in refused(rig, was.pod)


# --- the seed's checkpoints -----------------------------------------------------------------------


def seeds(rig: Rig, was: Attachment) -> Path:
    """A checkpoint as the incident's plugin wrote it."""
    document = {
        "netns": was.pod.path,
        "podname": was.pod.name,
        "sandbox": was.pod.id,
        "ifname": "eth0",
        "result": {**without(was.result, ["cniVersion"]), "dns": {}},
    }
    rig.checkpoints.mkdir(mode=0o700, exist_ok=True)
    path = rig.checkpoints / was.pod.id[:12]
    path.write_text(json.dumps(document))
    path.chmod(0o644)
    return path


def test_a_seeds_checkpoint_becomes_a_full_one(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    old = seeds(rig, was)
    before = old.read_bytes()
    adopt(rig)
    assert old.read_bytes() == before
    assert states(adopt(rig, "--write")) == {was.pod.id: "adopted"}
    assert rig.kept() == [rig.checkpoint(was.pod).name]
    document = json.loads(rig.checkpoint(was.pod).read_text())
    assert document["link"]["ifindex"] == was.state["addr"][0]["ifindex"]
    # Nothing of the old file is lost.
    told = json.loads(before)
    assert document["netns"]["path"] == told["netns"]
    assert document["containerId"] == told["sandbox"]
    assert document["pod"]["name"] == told["podname"]
    assert document["result"] == was.result
    rig.reload()
    assert_repaired(rig, was)


def test_a_seeds_checkpoint_that_nothing_else_speaks_of(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    cache_file(rig, was.pod, "pods", "eth0").unlink()
    old = seeds(rig, was)
    assert "--conf FILE" in refused(rig, was.pod)
    assert old.exists()
    conf = put(rig.base / "pods.conf", json.dumps(rig.conf(followRenamedMaster=True)))
    assert states(adopt(rig, "--write", "--conf", str(conf))) == {was.pod.id: "adopted"}
    assert rig.kept() == [rig.checkpoint(was.pod).name]
    document = json.loads(rig.checkpoint(was.pod).read_text())
    assert (document["network"], document["netconf"]["followRenamedMaster"]) == ("pods", True)
    rig.reload()
    assert_repaired(rig, was)


def test_a_seeds_checkpoint_beside_a_full_one_is_taken_away(rig: Rig) -> None:
    """A run that was killed between commit and removal."""
    was = attach_bare(rig, "a1")
    adopt(rig, "--write")
    seeds(rig, was)
    assert states(adopt(rig, "--write")) == {was.pod.id: "recorded"}
    assert rig.kept() == [rig.checkpoint(was.pod).name]


# --- leftovers ------------------------------------------------------------------------------------


def test_what_is_left_over_when_del_went_to_the_other_plugin(rig: Rig) -> None:
    one, two = attach_bare(rig, "a1"), attach_bare(rig, "b2")
    adopt(rig, "--write")
    detach_bare(rig, one)
    report = adopt(rig)
    assert states(report) == {one.pod.id: "leftover", two.pod.id: "recorded"}
    assert rig.checkpoint(one.pod).exists()
    assert states(adopt(rig, "--write"))[one.pod.id] == "removed"
    assert rig.kept() == [rig.checkpoint(two.pod).name]
    assert states(adopt(rig)) == {two.pod.id: "recorded"}


def test_records_of_pods_whose_namespaces_cannot_be_seen_stay(rig: Rig) -> None:
    """From a debug container, say: the pods live, and libcni still has their entries."""
    one = attach_bare(rig, "a1")
    adopt(rig, "--write")
    words = f"umount -l /run/netns; exec {rig.launcher()} adopt --write"
    places = f"--checkpoint-dir {rig.checkpoints} --run-dir {rig.base}/run"
    unshared = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    done = rig.run(*unshared, f"{words} {places}", check=False)
    assert "removed" not in done.out
    assert rig.kept() == [rig.checkpoint(one.pod).name]


@pytest.mark.parametrize("how", ["unseen", "seen-in-another-mount-namespace"])
def test_records_of_pods_that_live_stay_though_no_cache_names_them(rig: Rig, how: str) -> None:
    """What is removed is proved to be nobody's: a namespace of which the path is gone may live on
    by its processes, or in a mount namespace that is not ours."""
    one = attach_bare(rig, "a1")
    adopt(rig, "--write")
    cache_file(rig, one.pod, "pods", "eth0").unlink()
    places = f"-o json --checkpoint-dir {rig.checkpoints} --run-dir {rig.base}/run"
    words = f"umount -l /run/netns; exec {rig.launcher()} adopt --write {places}"
    unshared = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    with process_of(rig, one.pod, "0::/\n"):
        if how == "unseen":
            rig.run("umount", one.pod.path)
            entry = entry_of(adopt(rig, "--write", status=1), one.pod)
        else:
            entry = entry_of(rig.run(*unshared, words, check=False).report(1), one.pod)
    assert entry["state"] == "recorded"
    assert "its pod lives" in reason_of(entry)
    assert rig.kept() == [rig.checkpoint(one.pod).name]
    if how == "unseen":
        rig.run("rm", one.pod.path)


def test_stale_records_of_our_own_pods_are_left_to_del_and_gc(rig: Rig) -> None:
    was = rig.attach("a1")
    rig.drop_pod(was.pod)
    assert adopt(rig, "--write")["attachments"] == []
    assert rig.checkpoint(was.pod).exists()


def test_a_container_that_was_started_again(rig: Rig) -> None:
    """podman restart: the same id in another namespace; the old record is replaced."""
    was = attach_bare(rig, "a1")
    adopt(rig, "--write")
    detach_bare(rig, was)
    again = attach_bare(rig, "a1")
    assert states(adopt(rig, "--write")) == {again.pod.id: "adopted"}
    rig.reload()
    assert_repaired(rig, again)


# --- races ----------------------------------------------------------------------------------------

LATE = """
from cni_repair.adoption.adopt import Lock
from cni_repair.cli.commands import adopt
from pathlib import Path
real_candidates, real_enter = adopt.candidates, Lock.__enter__
def candidates(*given):
    found = real_candidates(*given)
    {when_read}
    return found
def enter(lock):
    {when_locked}
    return real_enter(lock)
adopt.candidates, Lock.__enter__ = candidates, enter
"""


def late(rig: Rig, when_read: str = "pass", when_locked: str = "pass", status: int = 0) -> Json:
    """`adopt --write`, with something happening in its midst."""
    patch = LATE.format(when_read=when_read, when_locked=when_locked)
    return command(rig, "-o", "json", "--write", patch=patch).report(status)


def test_a_pod_that_is_deleted_while_we_look(rig: Rig) -> None:
    """Its DEL has taken the interface: that is no loss."""
    was = attach_bare(rig, "a1")
    rig.uplink_down()
    entry = f"/var/lib/cni/results/pods-{was.pod.id}-eth0"
    report = late(rig, when_read=f"Path({entry!r}).unlink()")
    assert states(report) == {was.pod.id: "gone"}
    assert rig.kept() == []


def test_a_del_of_ours_that_was_quicker(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    tombstone = str(rig.checkpoints / f"{was.pod.id}@eth0.deleting")
    report = late(rig, when_locked=f"Path({tombstone!r}).touch()")
    assert states(report) == {was.pod.id: "skipped"}
    assert rig.kept() == [Path(tombstone).name]


def test_a_leftover_that_somebody_else_has_just_replaced(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    adopt(rig, "--write")
    detach_bare(rig, was)
    record = str(rig.checkpoint(was.pod))
    report = late(rig, when_locked=f"Path({record!r}).write_text('other')", status=1)
    assert states(report) == {was.pod.id: "failed"}
    assert Path(record).read_text() == "other"


def test_a_leftover_that_somebody_else_has_just_removed(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    adopt(rig, "--write")
    detach_bare(rig, was)
    report = late(rig, when_locked=f"Path({str(rig.checkpoint(was.pod))!r}).unlink()")
    assert states(report) == {was.pod.id: "removed"}
    assert rig.kept() == []


# --- hostile and broken ---------------------------------------------------------------------------


def test_bad_files_stop_nobody(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    results = cache_file(rig, was.pod, "pods", "eth0").parent
    good = json.loads((results / f"pods-{was.pod.id}-eth0").read_text())
    bad = {
        "empty": "",
        "torn": json.dumps(good)[:200],
        "deep": "[" * 5000,
        "twice": '{"kind": "cniCacheV1", "Kind": "x"}',
        "name": json.dumps(good),  # not the one that its content gives
        "base64": json.dumps({**good, "config": "!"}),
        "id": json.dumps({**good, "containerId": "../../etc"}),
        "large": '{"kind": "cniCacheV1"}' + " " * (1 << 20),
        "stranger": '{"hello": "world"}',
    }
    for name, text in bad.items():
        put(results / name, text)
    (results / "link").symlink_to(f"pods-{was.pod.id}-eth0")
    os.mkfifo(results / "fifo")
    (results / "directory").mkdir()
    put(results / "others", json.dumps(good)).chmod(0o666)
    report = adopt(rig, "--write", status=1)
    assert states(report) == {was.pod.id: "adopted"}
    names = {Path(one["file"]).name for one in report["unreadable"]}
    assert names == {*bad, "link", "fifo", "directory", "others"}
    assert all(Path(one["file"]).name in reason_of(one) for one in report["unreadable"])
    told = command(rig)
    assert told.status == 1
    assert "Traceback" not in told.out + told.err
    assert (
        "unreadable: cannot decode /var/lib/cni/results/empty: it is empty; whether its" in told.out
    )
    assert "remove" not in told.out


@pytest.mark.parametrize("alive", [True, False], ids=["alive", "no-process"])
def test_a_torn_entry_says_whether_its_pod_lives(rig: Rig, alive: bool) -> None:
    """It is never to be removed while the pod lives: DEL needs it."""
    was = attach_bare(rig, "a1")
    put(cache_file(rig, was.pod, "pods", "eth0"), "")
    whose = was.pod if alive else Pod("b2")
    with process_of(rig, was.pod, f"0::/docker/{whose.id}\n") as pid:
        (bad,) = adopt(rig, status=1)["unreadable"]
        lives = f"its pod lives (PID {pid}): have it made anew"
        assert (lives in reason_of(bad)) is alive
        unknown = f"no process is in a cgroup of its container {was.pod.id[:12]}; if the runtime"
        assert (unknown in reason_of(bad)) is not alive


def test_a_torn_entry_of_a_pod_that_has_its_checkpoint(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    adopt(rig, "--write")
    put(cache_file(rig, was.pod, "pods", "eth0"), "")
    assert adopt(rig)["unreadable"] == []


def test_a_directory_that_others_may_write_to(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    cache_file(rig, was.pod, "pods", "eth0").parent.chmod(0o777)
    report = adopt(rig, "--write", status=1)
    assert report["attachments"] == []
    (bad,) = report["unreadable"]
    assert (bad["file"], "not trusted" in reason_of(bad)) == ("/var/lib/cni/results", True)


def test_one_hostile_pod_fails_alone(rig: Rig) -> None:
    one, two = attach_bare(rig, "a1"), attach_bare(rig, "b2")
    batch = "".join(f"route add 172.{n // 250}.{n % 250}.0/24 dev eth0\n" for n in range(5000))
    rig.run("ip", "-n", "a1", "-batch", "-", stdin=batch)
    report = adopt(rig, "--write", status=1)
    assert states(report) == {one.pod.id: "refused", two.pod.id: "adopted"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_cannot_be_written_to(rig: Rig, how: str) -> None:
    one, two = attach_bare(rig, "a1"), attach_bare(rig, "b2")
    rig.checkpoints.mkdir(mode=0o700)
    rig.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "disk", str(rig.checkpoints))
    inside = Path(rig.outside(str(rig.checkpoints)))
    old = {"full": "stuff", "read-only": one.pod.id[:12]}[how]
    if how == "full":
        (inside / old).write_bytes(b"x" * 4096)
    else:
        document = seeds(rig, one)
        (inside / old).write_bytes(document.read_bytes())
        document.unlink()
        rig.run("mount", "-o", "remount,ro", str(rig.checkpoints))
    told = command(rig, "--write")
    assert told.status == 1
    words = {"full": "No space left on device", "read-only": "Read-only file system"}[how]
    assert told.out.count(words) == 1
    assert "all 2 failed: cannot use the checkpoint directory" in told.out
    assert os.listdir(inside) == [old]
    rig.run("umount", str(rig.checkpoints))
    assert states(adopt(rig, "--write")) == {one.pod.id: "adopted", two.pod.id: "adopted"}


def test_another_cache_directory(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    elsewhere = str(rig.base / "cache dir")
    remember(rig, was.pod, as_list(bare_conf(rig)), was.result, directory=elsewhere)
    cache_file(rig, was.pod, "pods", "eth0").unlink()
    told = command(rig, "--cache-dir", elsewhere)
    assert "1 attachment: 1 adoptable" in told.out
    assert f"adopt --write --cache-dir '{elsewhere}'" in told.out.splitlines()[-1]


@pytest.mark.parametrize(
    ("directory", "words"),
    [
        ("/nonexistent", "/nonexistent does not exist: correct --cache-dir"),
        ("/etc/passwd", "/etc/passwd is not a directory: correct --cache-dir"),
        ("", "an empty name does not exist: correct --cache-dir"),
        ("/var/lib/cni/results", "give the directory above: --cache-dir /var/lib/cni"),
        ("/var/lib/cni/results/", "give the directory above: --cache-dir /var/lib/cni"),
    ],
)
def test_a_cache_directory_that_is_none(rig: Rig, directory: str, words: str) -> None:
    """A mistyped path must not pass for a node without pods."""
    attach_bare(rig, "a1")
    told = command(rig, "--write", "--cache-dir", LIBCNI, "--cache-dir", directory)
    assert (told.status, words in told.err) == (2, True), told
    assert not rig.checkpoints.exists()


def test_a_cache_directory_of_multus_that_is_named_results(rig: Rig) -> None:
    was = attach_bare(rig, "a1")
    directory = "/var/lib/results"
    remember(rig, was.pod, as_list(bare_conf(rig)), was.result, directory=directory)
    assert states(adopt(rig, "--cache-dir", directory)) == {was.pod.id: "adoptable"}
    rig.run("rm", "-r", directory)


def test_a_usual_cache_directory_may_be_absent(rig: Rig) -> None:
    assert not Path(rig.outside(DOCKERSHIM)).exists()
    assert command(rig).status == 0
