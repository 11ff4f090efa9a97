"""Real plugins that come after cni-repair in a conflist, and pods with several networks."""

from __future__ import annotations

import pytest

from tests.netns.rig import Attachment, Json, Outcome, Pod, Rig, entry_of, slow_but

TUNING: Json = {
    "mac": "02:00:00:aa:bb:cc",
    "mtu": 1400,
    "promisc": True,
    "allmulti": True,
    "sysctl": {
        "net.ipv4.conf.eth0.arp_filter": "1",
        "net.ipv4.conf.eth0.rp_filter": "2",
        "net.core.somaxconn": "500",
    },
}


def chained(rig: Rig, kind: str, verb: str, was: Attachment, **keys: object) -> Outcome:
    """One verb of a plugin after ours."""
    conf = {"cniVersion": "1.0.0", "name": "pods", "type": kind, "prevResult": was.result, **keys}
    return rig.plugin(verb, was.pod, conf, ifname=was.ifname, executable=f"/usr/lib/cni/{kind}")


def command(rig: Rig, *words: str, status: int = 0) -> Json:
    where = ["--checkpoint-dir", str(rig.checkpoints)]
    where += ["--run-dir", str(rig.base / "run")] if words[0] != "status" else []
    return rig.cli(*words, "-o", "json", *where).report(status)


def tuned(rig: Rig, keys: Json) -> Attachment:
    was = rig.attach("pod1", rig.conf(cniVersion="1.0.0"))
    result = chained(rig, "tuning", "ADD", was, **keys).ok()
    was.state = rig.state(was.pod)
    return Attachment(was.pod, result, was.state)


@pytest.mark.parametrize(
    "keys",
    slow_but([TUNING, *({key: value} for key, value in TUNING.items())], TUNING),
    ids=["all", *TUNING],
)
def test_tuning_after_us_in_the_chain(rig: Rig, keys: Json) -> None:
    was = tuned(rig, keys)
    # What a later plugin did is no damage, and nothing to be undone.
    assert entry_of(command(rig, "status", "--all"), was.pod)["state"] == "healthy"
    assert entry_of(command(rig, "repair", "--all"), was.pod)["actions"] == []
    chained(rig, "tuning", "CHECK", was, **keys).ok()
    command(rig, "snapshot")
    rig.reload()
    assert entry_of(command(rig, "repair", "--all"), was.pod)["state"] == "healthy"
    chained(rig, "tuning", "CHECK", was, **keys).ok()
    assert rig.state(was.pod) == was.state
    assert entry_of(command(rig, "repair", "--all"), was.pod)["actions"] == []
    assert rig.ping(was.pod, "10.9.0.1")


DAMAGE = {
    "mac": ("link set eth0 address 02:00:00:aa:bb:cd", "MAC"),
    "mtu": ("link set eth0 mtu 1300", "MTU"),
    "promisc": ("link set eth0 promisc off", "promisc"),
    "allmulti": ("link set eth0 allmulticast off", "allmulticast"),
}


@pytest.mark.parametrize("what", slow_but(DAMAGE, "mtu"))
def test_what_tuning_did_and_somebody_undid(rig: Rig, what: str) -> None:
    """From the snapshot on it is damage; tuning's own CHECK says so, too."""
    was = tuned(rig, TUNING)
    command(rig, "snapshot")
    words, named = DAMAGE[what]
    rig.ip(words, was.pod)
    assert chained(rig, "tuning", "CHECK", was, **TUNING).status == 1
    (finding,) = entry_of(command(rig, "status", "--all", status=1), was.pod)["findings"]
    assert named in finding
    (_,) = entry_of(command(rig, "repair", "--all"), was.pod)["actions"]
    chained(rig, "tuning", "CHECK", was, **TUNING).ok()
    assert rig.state(was.pod) == was.state


@pytest.mark.slow
def test_bandwidth_refuses_a_macvlan(rig: Rig) -> None:
    """It shapes the host's end of a veth pair: there is none. (README says so.)"""
    was = rig.attach("pod1", rig.conf(cniVersion="1.0.0"))
    rates = {"ingressRate": 1000000, "ingressBurst": 1000000}
    assert "not a veth" in chained(rig, "bandwidth", "ADD", was, **rates).out


def second(rig: Rig, pod: Pod) -> Attachment:
    """A second network, as Multus would attach it."""
    ipam = {**rig.conf()["ipam"], "ranges": [[{"subnet": "10.8.0.0/24"}]], "routes": []}
    conf = rig.conf(name="storage", master="eth1", mode="private", mtu=1400, ipam=ipam)
    return rig.attach_pod(pod, conf, ifname="net1")


@pytest.mark.parametrize("default_by", slow_but(["eth0", "net1"], "net1"))
def test_two_networks_with_the_default_route_as_it_was(rig: Rig, default_by: str) -> None:
    """Multus' default-route moves it to another interface after all ADDs."""
    rig.uplink_up("eth1", "10.8.0.1")
    first = rig.attach("pod1")
    net1 = second(rig, first.pod)
    if default_by == "net1":
        rig.ip("route del default", first.pod)
        rig.ip("route add default via 10.8.0.1 dev net1", first.pod)
        taken = command(rig, "snapshot", "--accept", first.pod.id)
        assert {one["outcome"] for one in taken["attachments"]} == {"refreshed"}
    else:
        command(rig, "snapshot")
    before = [rig.state(first.pod, name) for name in ("eth0", "net1")]
    rig.reload("eth0")
    rig.reload("eth1", ip="10.8.0.1")
    report = command(rig, "repair", "--all")
    assert [one["ifname"] for one in report["attachments"]] == ["eth0", "net1"]
    assert [rig.state(first.pod, name) for name in ("eth0", "net1")] == before
    assert rig.ip("route show default", first.pod).split()[4] == default_by
    assert rig.ping(first.pod, "10.9.0.1") and rig.ping(first.pod, "10.8.0.1", net1.ifname)
    again = command(rig, "repair", "--all")
    assert [one["actions"] for one in again["attachments"]] == [[], []]
