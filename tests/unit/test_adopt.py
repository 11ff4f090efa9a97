"""Adopting, as far as it is thinking: what is put together, and the verdict on it."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_repair.adoption.caches import Remembered
from cni_repair.adoption.candidates import Candidate, candidates
from cni_repair.adoption.verdict import (
    ADOPTABLE,
    ADOPTED,
    GONE,
    RECORDED,
    REFUSED,
    SKIPPED,
    Adoption,
    Configured,
    NotAdopted,
    check_was_ours,
    live_attachment,
    lost_attachment,
    result_of,
    without_rivals,
)
from cni_repair.base.frozen import replace
from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.model import Checkpoint, Pod, decode, encode
from cni_repair.checkpoint.store import Key
from cni_repair.cli.commands import adopt as cli
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.model import Address, Hop, HostLink, Route
from cni_repair.network.observed import Observed
from cni_repair.node.capture import Seen, kept
from tests.unit.samples import (
    ADDRESS,
    ADDRESS_6,
    ATTACHMENT,
    CHECKPOINT,
    CONTAINER,
    KEY,
    LINK,
    MASTER,
    NETNS,
    NODE_NETNSID,
    RESULT,
    ROUTE,
    UPLINK,
    live,
)

Json = dict[str, Any]

MACVLAN: Json = {"type": "macvlan", "name": "podnet", "master": "eth0.3"}
OURS: Json = {"type": "cni-repair", "name": "podnet", "master": "eth0", "vlanId": 3}
MULTUS: Json = {"type": "multus", "name": "multus-cni-network"}
BRIDGE: Json = {"type": "bridge", "name": "bridged"}
TUNING: Json = {"type": "tuning", "name": "podnet"}
IDENTITY = Identity("/run/netns/x", "now", 4, 4026532008, 17)
CONFIGURED = Configured("macvlan", "/checkpoints", (MASTER, UPLINK), "private", 1400)


def remembered(
    *plugins: Json,
    key: Key = KEY,
    file: str = "/var/lib/cni/results/podnet-06c9-eth0",
    written_at: int = 1000,
    network: str = "podnet",
    netns: str = "/run/netns/x",
    args: dict[str, str] | None = None,
    result: Json | None = None,
) -> Remembered:
    return Remembered(
        file,
        key,
        written_at,
        network,
        netns,
        plugins,
        args or {},
        RESULT if result is None else result,
    )


def candidate(*plugins: Json, **changes: Any) -> Candidate:
    (one,) = candidates([remembered(*plugins, **changes)])
    return one


def seen(link: LiveLink | None = None, **changes: Any) -> Seen:
    """The pod of the samples, or another link in its place."""
    observed = Observed(
        NODE_NETNSID, link or live(), (ADDRESS, ADDRESS_6), (ROUTE,), **changes.pop("around", {})
    )
    parents = changes.pop("parents", (MASTER, UPLINK))
    return Seen(replace(observed, **changes), (("ipv4/arp_notify", "1"),), IDENTITY, parents)


def ack(one: Candidate, look: Seen) -> NotAdopted:
    assert look.observed.link is not None
    with pytest.raises(NotAdopted) as raised:
        live_attachment(one, look, look.observed.link)
    return raised.value


# --- putting together -----------------------------------------------------------------------------


def test_containerd_and_multus_speak_of_one_attachment() -> None:
    runtime = remembered(MULTUS, network="multus-cni-network", args={"K8S_POD_NAME": "web"})
    cached = remembered(MACVLAN, TUNING, file="/var/lib/cni/multus/results/podnet-06c9-eth0")
    scratch = remembered(
        {**MACVLAN, "mode": "private"}, file="/var/lib/cni/multus/06c9", netns="", result={}
    )
    (one,) = candidates([runtime, cached, scratch])
    assert (one.file, one.network, one.plugin) == (cached.file, "podnet", MACVLAN)
    assert one.args == {"K8S_POD_NAME": "web"}
    (one,) = candidates([runtime, scratch])
    assert (one.file, one.network) == (scratch.file, "podnet")
    assert one.plugin == {**MACVLAN, "mode": "private"}
    assert (one.netns, one.result) == ("/run/netns/x", RESULT)


def test_the_other_interfaces_of_a_pod_tell_its_netns_and_name() -> None:
    net1 = remembered(MACVLAN, key=Key(CONTAINER, "net1"), netns="", result={}, network="storage")
    eth0 = remembered(BRIDGE, args={"K8S_POD_NAME": "web"})
    other = remembered(MACVLAN, key=Key("other", "eth0"), netns="/run/netns/other")
    found = {one.key: one for one in candidates([net1, other, eth0])}
    one = found[net1.key]
    assert (one.netns, one.args, one.network) == (
        "/run/netns/x",
        {"K8S_POD_NAME": "web"},
        "storage",
    )
    assert one.result == {}  # that is not shared


def test_the_plugin_that_made_the_interface() -> None:
    assert candidate(MACVLAN, TUNING).plugin == MACVLAN
    assert candidate(BRIDGE, TUNING).plugin == BRIDGE
    assert candidate(OURS, TUNING).kind == "cni-repair"
    assert candidate(TUNING, MACVLAN).kind == "macvlan"
    assert candidate(MULTUS, BRIDGE).kind == "bridge"
    assert candidate(MULTUS).kind == "multus"
    assert candidate().plugin is None
    assert candidate({"name": "podnet"}).kind == ""
    assert candidate({"type": ["macvlan"], "name": "podnet"}).kind == ""


def test_the_newer_of_two_equal_entries() -> None:
    old = remembered(MACVLAN, written_at=1, netns="/proc/7/ns/net", file="/b")
    new = remembered(MACVLAN, written_at=2, file="/a")
    for group in ([old, new], [new, old]):
        (one,) = candidates(group)
        assert (one.netns, one.written_at, one.file) == ("/run/netns/x", 2, "/a")


def test_the_seeds_checkpoint_is_noted() -> None:
    seed = remembered(file=f"/checkpoints/{CONTAINER[:12]}", network="")
    (one,) = candidates([seed, remembered(MACVLAN)])
    assert (one.legacy_file, one.network, one.plugin) == (CONTAINER[:12], "podnet", MACVLAN)
    assert candidate(MACVLAN).legacy_file == ""


def test_one_network_only() -> None:
    pods, other = remembered(MACVLAN), remembered(BRIDGE, key=Key("b", "eth0"), network="bridged")
    seed = remembered(key=Key("c", "eth0"), network="", written_at=2000)
    found = candidates([pods, other, seed], "podnet")
    assert [(one.key.container_id, one.network) for one in found] == [
        (CONTAINER, "podnet"),
        ("c", "podnet"),
    ]
    assert len(candidates([pods, other, seed])) == 3


entries = st.builds(
    remembered,
    st.sampled_from([MACVLAN, OURS, MULTUS, BRIDGE, TUNING]),
    key=st.builds(Key, st.sampled_from(["a", "b"]), st.sampled_from(["eth0", "net1"])),
    file=st.sampled_from(["/one", "/two", f"/checkpoints/{CONTAINER[:12]}"]),
    written_at=st.integers(0, 3),
    network=st.sampled_from(["", "podnet", "other"]),
    netns=st.sampled_from(["", "/run/netns/x", "/run/netns/y"]),
    args=st.sampled_from([{}, {"K8S_POD_NAME": "web"}]),
    result=st.sampled_from([{}, RESULT]),
)


@given(found=st.lists(entries, max_size=8, unique_by=repr), seed=st.integers())
def test_order_does_not_matter_and_each_attachment_comes_once(
    found: list[Remembered], seed: int
) -> None:
    made = candidates(found)
    assert sorted(one.key.name for one in made) == sorted({one.key.name for one in found})
    assert [one.written_at for one in made] == sorted(one.written_at for one in made)
    # Two that say the same in one file are one entry: that cannot be, and no order is promised.
    if len({(one.key, one.file, one.written_at) for one in found}) == len(found):
        shuffled = found[:]
        random.Random(seed).shuffle(shuffled)
        assert candidates(shuffled) == made


# --- the live interface ---------------------------------------------------------------------------


def test_what_is_there_is_recorded() -> None:
    attachment, unknown = live_attachment(candidate(MACVLAN), seen(), live())
    assert attachment == replace(ATTACHMENT, routes=(ROUTE,), settled=True)
    assert unknown == ()


def test_follow_renamed_master_is_the_configurations() -> None:
    for follow in (True, False):
        attachment, _ = live_attachment(candidate(MACVLAN), seen(), live(), follow)
        assert attachment.follow_renamed_master is follow


def with_link(**changes: Any) -> LiveLink:
    return live(replace(LINK, **changes))


@pytest.mark.parametrize(
    ("link", "state", "words"),
    [
        (with_link(kind="veth"), SKIPPED, "eth0 is a veth link, made by plugin macvlan"),
        (with_link(kind=""), SKIPPED, "eth0 is a hardware link"),
        (replace(live(), name="real"), REFUSED, "eth0 is another name of the pod's link real"),
        (replace(live(), master_netnsid=None), REFUSED, "over a link of the pod itself"),
        (replace(live(), master_netnsid=7), REFUSED, "over no link of the node"),
        (with_link(mode="source"), REFUSED, "in mode source"),
        (with_link(mode="unknown"), REFUSED, "in mode unknown"),
        (replace(live(), up=False), REFUSED, "eth0 is down"),
    ],
)
def test_what_is_not_adopted(link: LiveLink, state: str, words: str) -> None:
    error = ack(candidate(MACVLAN), seen(link))
    assert (error.state, words in str(error)) == (state, True), error


def test_a_master_that_has_just_gone() -> None:
    assert "over no link of the node" in str(ack(candidate(MACVLAN), seen(parents=())))


def test_no_carrier_is_no_reason() -> None:
    """The record is of use just then."""
    look = seen(live(carrier=False))
    assert look.observed.link is not None
    assert live_attachment(candidate(MACVLAN), look, look.observed.link)[1] == ()


def result(*addresses: str, mac: str = LINK.mac, routes: list[Json] | None = None) -> Json:
    return {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "mac": mac, "sandbox": NETNS}],
        "ips": [{"interface": 0, "address": one, "gateway": "10.161.72.1"} for one in addresses],
        "routes": routes or [],
    }


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (result("10.161.75.156/22"), ["10.161.75.155/22", "10.161.75.156/22"]),
        (result("10.161.75.155/24"), ["10.161.75.155/22", "10.161.75.155/24"]),
        (result("10.161.75.155/22", "fd00::156/64"), ["fd00::155/64", "fd00::156/64"]),
        (result(mac="02:00:00:00:00:01"), [LINK.mac, "02:00:00:00:00:01"]),
        (result("not an address"), ["is not used", "results/podnet-06c9-eth0"]),
        ({"interfaces": "x"}, ["is not used", "result.interfaces"]),
    ],
)
def test_another_interface_than_the_remembered_one(told: Json, words: list[str]) -> None:
    error = ack(candidate(MACVLAN, result=told), seen())
    assert error.state == REFUSED
    assert all(word in str(error) for word in words), error


def test_another_mac_with_the_remembered_addresses() -> None:
    """A later plugin (tuning) may have changed it."""
    told = result("10.161.75.155/22", mac="02:00:00:00:00:01")
    attachment, _ = live_attachment(candidate(MACVLAN, result=told), seen(), live())
    assert attachment.link.mac == LINK.mac


def test_an_interface_without_addresses() -> None:
    look = seen(addresses=())
    assert live_attachment(candidate(MACVLAN, result=result()), look, live())[1] == ()
    error = ack(candidate(MACVLAN, result=result("10.161.75.155/22")), look)
    assert "eth0 has no address" in str(error)


def test_what_could_not_be_learnt_is_said() -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.161.72.9"}]
    told = result("10.161.75.155/22", routes=routes)
    _, unknown = live_attachment(candidate(result=told), seen(), live())
    assert unknown == (
        "route 10.0.0.0/8 via 10.161.72.9 of its Result is gone: not recorded",
        "the configuration that it was made with",
    )
    _, unknown = live_attachment(candidate(MACVLAN, result={}), seen(), live())
    assert unknown == ("its Result (made up from the interface)",)


def test_a_result_made_up_is_what_the_plugin_would_have_said() -> None:
    other_table = replace(ROUTE, table=100)
    attachment = replace(ATTACHMENT, routes=(ROUTE, other_table, Route(4, "10.0.0.0/8")))
    assert result_of(attachment, "/run/netns/x") == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "mac": LINK.mac, "sandbox": "/run/netns/x"}],
        "ips": [
            {"interface": 0, "address": "10.161.75.155/22"},
            {"interface": 0, "address": "fd00::155/64"},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.161.72.1"}, {"dst": "10.0.0.0/8"}],
        "dns": {},
    }


def test_a_result_made_up_of_a_multipath_route() -> None:
    hops = (Hop("eth0", "10.161.72.1"), Hop("net1", "10.8.0.1"), Hop("eth0", "10.161.72.2"))
    made = result_of(replace(ATTACHMENT, routes=(Route(4, "0.0.0.0/0", hops=hops),)), NETNS)
    assert made["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.161.72.1"},
        {"dst": "0.0.0.0/0", "gw": "10.161.72.2"},
    ]


# --- the lost interface ---------------------------------------------------------------------------


def test_a_lost_interface_as_far_as_it_is_known() -> None:
    attachment, unknown = lost_attachment(candidate(MACVLAN), CONFIGURED)
    assert attachment.parents == (MASTER, UPLINK)
    link = attachment.link
    assert (link.mac, link.mode, link.mtu, link.ifindex) == (LINK.mac, "private", 1400, 0)
    assert attachment.addresses == (ADDRESS,)
    assert attachment.routes == (ROUTE,)
    assert unknown == (
        "eth0 is gone: its ifindex (sockets bound to eth0 will not recover)",
        "its sysctls, and what was changed after ADD",
    )


def test_what_else_is_not_known_of_a_lost_interface() -> None:
    away = HostLink("bond4", 0, "", "", 0)
    _, unknown = lost_attachment(candidate(MACVLAN), replace(CONFIGURED, mtu=0, parents=(away,)))
    assert "its MTU (it gets its master's)" in unknown
    assert "whether bond4, once back, is the same card" in unknown


def test_a_lost_interface_that_is_not_known_well_enough() -> None:
    with pytest.raises(NotAdopted, match="names no master") as raised:
        lost_attachment(candidate(MACVLAN), replace(CONFIGURED, parents=()))
    assert (raised.value.state, "--conf FILE" in str(raised.value)) == (REFUSED, True)
    with pytest.raises(NotAdopted, match="nothing tells its addresses or its MAC"):
        lost_attachment(candidate(MACVLAN, result={}), CONFIGURED)


@pytest.mark.parametrize(
    ("plugin", "args", "mac"),
    [
        ({**MACVLAN, "mac": "02:00:00:00:00:07"}, {}, "02:00:00:00:00:07"),
        (MACVLAN, {"MAC": "02:00:00:00:00:08"}, "02:00:00:00:00:08"),
        ({**MACVLAN, "mac": "no MAC"}, {}, ""),
        (MACVLAN, {}, ""),
    ],
    ids=["configured", "in-the-arguments", "no-mac", "none"],
)
def test_a_lost_interface_whose_result_tells_no_mac(
    plugin: Json, args: dict[str, str], mac: str
) -> None:
    """One of CNI 0.2.0 never does. A new MAC is better than no interface."""
    told = {"ips": [{"address": "10.161.75.155/22"}]}
    one = candidate(plugin, args=args, result=told)
    attachment, unknown = lost_attachment(one, CONFIGURED)
    assert attachment.link.mac == (mac or "02:be:b4:32:b9:b2")  # the same each time
    assert ("its MAC (it gets a new one)" in unknown) is (not mac)


def test_a_lost_ipvlan_has_its_masters_mac_anyway() -> None:
    told = {"ips": [{"address": "10.161.75.155/22"}]}
    one = candidate({**MACVLAN, "type": "ipvlan"}, result=told)
    _, unknown = lost_attachment(one, replace(CONFIGURED, mode="l2"))
    assert not [words for words in unknown if "MAC" in words]


@pytest.mark.parametrize("plugins", [[MACVLAN], [OURS], [MULTUS], []])
def test_may_have_been_a_macvlan(plugins: list[Json]) -> None:
    check_was_ours(candidate(*plugins))


def test_was_none() -> None:
    with pytest.raises(NotAdopted, match="plugin bridge made it") as raised:
        check_was_ours(candidate(BRIDGE, TUNING))
    assert raised.value.state == SKIPPED


# --- rivals ---------------------------------------------------------------------------------------


def adoption(container_id: str = "a", state: str = ADOPTABLE, ifname: str = "eth0") -> Adoption:
    key = Key(container_id, ifname)
    checkpoint = replace(CHECKPOINT, key=key, netns=IDENTITY) if state != GONE else None
    return Adoption(key, "/file", state, "/run/netns/x", "podnet", Pod(), checkpoint=checkpoint)


def test_rivals_are_refused_with_each_others_names() -> None:
    one, two, other = adoption("a"), adoption("b"), adoption("a", ifname="net1")
    told = without_rivals([one, two, other], [])
    assert [one.state for one in told] == [REFUSED, REFUSED, ADOPTABLE]
    assert "container b" in told[0].reason and "container a" in told[1].reason
    assert told[0].checkpoint is None


def test_rivals_that_have_their_record() -> None:
    recorded = replace(CHECKPOINT, key=Key("b", "eth0"), netns=IDENTITY)
    (told,) = without_rivals([adoption("a")], [recorded])
    assert told.state == REFUSED
    assert without_rivals([adoption("b")], [recorded]) == [adoption("b")]


def test_another_namespace_is_no_rival() -> None:
    elsewhere = replace(CHECKPOINT, key=Key("b", "eth0"), netns=replace(IDENTITY, cookie=18))
    assert without_rivals([adoption("a")], [elsewhere]) == [adoption("a")]
    assert without_rivals([adoption("a"), adoption("b", GONE)], []) == [
        adoption("a"),
        adoption("b", GONE),
    ]


# --- the command ----------------------------------------------------------------------------------


def options(tmp_path: Path, **changes: Any) -> argparse.Namespace:
    values = {
        "checkpoint_dir": str(tmp_path / "checkpoints"),
        "run_dir": str(tmp_path / "run"),
        "conf": None,
        "containers": [],
        "output": "table",
        "write": False,
        "cache_dir": [str(tmp_path / "cni")],
    }
    return argparse.Namespace(**{**values, **changes})


def test_nothing_to_adopt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf = tmp_path / "pods.conf"
    conf.write_text(json.dumps({**OURS, "cniVersion": "1.0.0"}))
    (tmp_path / "cni").mkdir()
    # (Without --conf, whatever this machine has is looked at, too.)
    assert cli.run(options(tmp_path, conf=str(conf))) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"no attachments in {tmp_path}/cni/results"
    assert last == "dry run: nothing was written, and --write would write nothing, either"
    assert not (tmp_path / "checkpoints").exists()


def shown(*found: Adoption) -> list[str]:
    return cli.table(list(found))


def test_words_that_all_of_a_state_share_are_said_once() -> None:
    lost = ("eth0 is gone: its ifindex",)
    rows = [replace(adoption(name), unknown=lost) for name in ("a", "b")]
    alone = replace(adoption("c", SKIPPED), reason="eth0 is a veth link", checkpoint=None)
    lines = shown(*rows, alone)
    assert [line.split()[0] for line in lines] == [
        "STATE",
        "adoptable",
        "adoptable",
        "skipped",
        "eth0",
        "all",
    ]
    assert lines[-1] == "    all 2 adoptable: not known: eth0 is gone: its ifindex"
    different = replace(rows[1], unknown=("its MTU",))
    assert shown(rows[0], different)[-1] == "    not known: its MTU"
    assert shown(rows[0])[-1] == "    not known: eth0 is gone: its ifindex"


def test_pods_that_are_gone_are_not_listed() -> None:
    assert shown(adoption("a", GONE)) == []
    assert len(shown(adoption("a", GONE), adoption("b", RECORDED))) == 2


def test_names_do_not_steer_the_terminal() -> None:
    pod = replace(CHECKPOINT, key=Key("a", "eth0"), pod=Pod("shop", "\x1b[31mred\nline"))
    one = replace(adoption("a"), checkpoint=pod, reason="\x1b]0;title\x07")
    text = "\n".join(shown(one, replace(one, state=REFUSED)))
    assert "\x1b" not in text and "\x07" not in text
    assert len(text.splitlines()) == 4  # the two have their reason in common


def test_what_is_adopted_can_be_read_back() -> None:
    attachment, _ = lost_attachment(candidate(MACVLAN), CONFIGURED)
    made: Checkpoint = replace(CHECKPOINT, attachment=attachment)
    assert decode(encode(made).encode(), f"{KEY.name}.json").attachment == attachment


def test_a_configuration_as_it_is_kept() -> None:
    netconf = {**MACVLAN, "prevResult": RESULT, "ipam": {"token": "hunter2"}}
    assert kept(netconf) == {**MACVLAN, "ipam": {"token": "[redacted]"}}


def test_states_of_failure() -> None:
    states = {state: adoption("a", state).failed for state in (ADOPTED, SKIPPED, GONE, REFUSED)}
    assert states == {ADOPTED: False, SKIPPED: False, GONE: False, REFUSED: True}


def test_an_ipv6_address_in_another_spelling_is_the_same() -> None:
    told = result("fd00:0::155/64")
    look = seen(addresses=(Address(6, "fd00::155", 64),))
    assert live_attachment(candidate(MACVLAN, result=told), look, live())[0].addresses
