"""An interface that its pod renamed: it has the recorded index over the recorded master, and is the
attachment under any name. It is told, by every command in the same way, and not touched."""

from __future__ import annotations

import pytest

from tests.netns.rig import Attachment, Json, Pod, Rig, entry_of, options, states


def rename(rig: Rig, was: Attachment, name: str = "eth0-nic", mac: str = "") -> None:
    """Traffic flows as before: addresses and routes stay, down and up again only takes routes."""
    rig.ip(f"link set {was.ifname} down", was.pod)
    rig.ip(f"link set {was.ifname} name {name}", was.pod)
    if mac:
        rig.ip(f"link set {name} address {mac}", was.pod)
    rig.ip(f"link set {name} up", was.pod)
    if not rig.ip_json("route show default", was.pod):
        rig.ip(f"route add default via 10.9.0.1 dev {name}", was.pod)


def everything_of(rig: Rig, pod: Pod) -> tuple[str, str]:
    rig.settle(pod)
    return rig.ip("-d addr show", pod), rig.ip("route show table all", pod)


def assert_told(rig: Rig, was: Attachment, *words: str) -> None:
    """By whatever looks at attachments: with both names, as no failure, and nothing to be done."""
    before = everything_of(rig, was.pod)
    for command in (("status",), ("plan",), ("verify",), ("repair", "--all"), ("status", "--all")):
        report = rig.cli(*command, "-o", "json", *options(rig)).report(0)
        entry = entry_of(report, was.pod)
        told = "; ".join(entry["findings"])
        assert entry["state"] == "renamed", (command, entry)
        assert entry.get("actions", []) == []
        assert all(word in told for word in words), (command, told)
        assert (report["summary"]["renamed"], report["summary"]["failed"]) == (1, 0)
    report = rig.plugin("REPAIR").report(0)
    assert states(report) == {was.pod.id: "renamed"}
    assert rig.plugin("REPAIR", was.pod, ifname=was.ifname).ok()["ips"] == was.result["ips"]
    assert everything_of(rig, was.pod) == before


@pytest.mark.parametrize("mac", ["", "02:00:00:00:00:77"])
def test_renamed_with_its_traffic_flowing(rig: Rig, mac: str) -> None:
    was = rig.attach("pod1")
    rename(rig, was, mac=mac)
    assert rig.ping(was.pod, "10.9.0.1", "eth0-nic")
    assert_told(rig, was, "eth0 is called eth0-nic now", mac)
    assert rig.ping(was.pod, "10.9.0.1", "eth0-nic")
    table = rig.cli("status", *options(rig))
    assert table.status == 0
    assert "renamed: the pod has its interface" in table.out
    assert "next: cni-repair" not in rig.cli("repair", "--all", *options(rig)).out


def test_another_link_bears_the_name_then(rig: Rig) -> None:
    """As KubeVirt does it: a bridge, the interface as its port, and a link named eth0 that has the
    interface's MAC and address."""
    was = rig.attach("pod1")
    rename(rig, was, mac="02:00:00:00:00:77")
    mac = was.state["addr"][0]["address"]
    for command in (
        "link add k6t-eth0 type bridge",
        "addr flush dev eth0-nic",
        "link set eth0-nic master k6t-eth0",
        f"link add eth0 address {mac} type veth peer name tap0",
        f"addr add {was.address}/24 dev eth0",
    ):
        rig.ip(command, was.pod)
    assert_told(rig, was, "eth0 is called eth0-nic now", "eth0 is a veth link of another index now")


def test_two_interfaces_that_changed_their_names(rig: Rig) -> None:
    pod = rig.pod("pod1")
    first, second = (rig.attach_pod(pod, rig.conf(), name) for name in ("net1", "net2"))
    for command in ("net1 down", "net2 down", "net1 name swap", "net2 name net1", "swap name net2"):
        rig.ip(f"link set {command}", pod)
    for name in ("net1", "net2"):
        rig.ip(f"link set {name} up", pod)
    before = everything_of(rig, pod)
    report = rig.plugin("REPAIR").report(0)
    told = {one["ifname"]: (one["state"], one["findings"][0]) for one in report["attachments"]}
    assert {name: state for name, (state, _) in told.items()} == {
        first.ifname: "renamed",
        second.ifname: "renamed",
    }
    assert told["net1"][1].startswith("net1 is called net2 now")
    assert told["net2"][1].startswith("net2 is called net1 now")
    assert everything_of(rig, pod) == before
    assert coverage(rig)["interfaces"] == 2


def test_the_old_name_stays_as_an_altname(rig: Rig) -> None:
    was = rig.attach("pod1")
    rename(rig, was)
    rig.ip("link property add dev eth0-nic altname eth0", was.pod)
    assert_told(rig, was, "eth0 is called eth0-nic now")


def test_check_says_it_and_not_that_there_is_none(rig: Rig) -> None:
    was = rig.attach("pod1")
    rename(rig, was)
    before = everything_of(rig, was.pod)
    for repair_on_check in (False, True):
        conf = rig.conf(repairOnCheck=repair_on_check, prevResult=was.result)
        assert "eth0 is called eth0-nic now" in rig.plugin("CHECK", was.pod, conf).error(101)
    assert everything_of(rig, was.pod) == before


# --- not ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "commands",
    [
        ["link add net0 index {index} type bridge"],
        [
            "link add own type veth peer name far",
            "link add link own name net0 index {index} type macvlan mode bridge",
        ],
    ],
    ids=["another kind", "macvlan over the pod's own"],
)
def test_what_took_the_index_is_not_the_attachment(rig: Rig, commands: list[str]) -> None:
    was = rig.attach("pod1")
    rig.reload()
    for command in commands:
        rig.ip(command.format(index=was.state["addr"][0]["ifindex"]), was.pod)
    report = rig.plugin("REPAIR").report(0)
    entry = entry_of(report, was.pod)
    assert (entry["state"], bool(entry["actions"])) == ("healthy", True)
    assert rig.ping(was.pod, "10.9.0.1")


def test_a_macvlan_over_another_master_is_not_the_attachment(rig: Rig) -> None:
    was = rig.attach("pod1")
    index = was.state["addr"][0]["ifindex"]
    rig.uplink_up("eth1", "10.8.0.1")
    rig.reload()
    rig.ip(f"link add link eth1 name other index {index} type macvlan mode bridge")
    rig.ip(f"link set other netns {was.pod.name} name net0")
    (link,) = rig.ip_json("link show net0", was.pod)
    assert link["ifindex"] == index
    assert entry_of(rig.plugin("REPAIR").report(0), was.pod)["state"] == "healthy"
    # Nobody has a record of it.
    assert [one["ifname"] for one in unmanaged(rig)] == ["net0"]


def test_moved_into_a_namespace_of_the_pods_own(rig: Rig) -> None:
    """It cannot be seen, and counts as lost; the kernel does not let two of one MAC be up."""
    was = rig.attach("pod1")
    child = rig.pod("child")
    rig.ip(f"link set eth0 netns {child.name}", was.pod)
    rig.ip("link set eth0 up", child)
    entry = entry_of(rig.plugin("REPAIR").report(1), was.pod)
    assert entry["state"] == "lost"
    assert "the same MAC" in entry["error"]["details"]
    assert set(rig.links(was.pod)) == {"lo"}
    # It is told where it is, too: nobody has a record of it there.
    assert [one["netns"] for one in unmanaged(rig)] == [child.path]


# --- coverage -------------------------------------------------------------------------------------


def coverage(rig: Rig) -> Json:
    found = rig.cli("snapshot", "-o", "json", *options(rig))
    document: Json = found.report(found.status)
    return dict(document["summary"])


def unmanaged(rig: Rig) -> list[Json]:
    found = rig.cli("snapshot", "--check", "-o", "json", *options(rig))
    return list(found.report(found.status)["unmanaged"])


def test_coverage_counts_it_once_and_keeps_its_record(rig: Rig) -> None:
    was = rig.attach("pod1")
    record = rig.checkpoint(was.pod).read_bytes()
    rename(rig, was, mac="02:00:00:00:00:77")
    summary = coverage(rig)
    assert (summary["interfaces"], summary["unmanaged"], summary["kept"]) == (1, 0, 1)
    assert rig.checkpoint(was.pod).read_bytes() == record
    told = rig.cli("snapshot", "--check", *options(rig)).out
    assert "eth0 is called eth0-nic now" in told
    assert "once lost, a repair would make it again as eth0" in told


def test_renamed_then_lost_comes_back_as_recorded(rig: Rig) -> None:
    was = rig.attach("pod1")
    rename(rig, was, mac="02:00:00:00:00:77")
    coverage(rig)
    rig.reload()
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == was.state


def test_named_back_it_is_healthy_again(rig: Rig) -> None:
    was = rig.attach("pod1")
    rename(rig, was)
    rig.ip("link set eth0-nic down", was.pod)
    rig.ip("link set eth0-nic name eth0", was.pod)
    rig.plugin("REPAIR").report(0)
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
