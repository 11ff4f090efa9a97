"""`upgrade` asks afterwards for no more than there was before: gateways that never answered, links
without carrier, pods that were broken. What got worse fails, and a plan may require more."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from tests.netns.rig import Attachment, Json, Rig, slow_but
from tests.netns.upgrading import (
    DOWN,
    FAILED,
    FINE,
    KUBELET,
    REFUSED,
    RELOAD,
    UP,
    asked,
    assert_as_before,
    assert_untouched,
    attached,
    dies,
    events,
    kubelet_of_paper,
    plan,
    report,
    resume,
    start,
    state_dir,
    status,
)

pytestmark = pytest.mark.slow  # many, though each is short

SILENT = "10.9.0.99"  # nobody has it
SOON: Json = {"verify": {"timeout": "0.5s"}}
RELOAD_ETH1 = (
    "ip link del eth1; ip link add eth1 address 02:00:00:00:0a:00 type veth"
    " peer name tor1 address 02:00:00:00:0a:01 netns tor; ip link set eth1 up"
)


def with_silent_gateway(rig: Rig, gateway: str = SILENT) -> Json:
    """A configuration with a second route, through a gateway that does not answer."""
    conf = rig.conf()
    conf["ipam"]["routes"] = [{"dst": "0.0.0.0/0"}, {"dst": "10.50.0.0/16", "gw": gateway}]
    return conf


def pods_with_silent_gateway(rig: Rig, count: int = 2) -> list[Attachment]:
    conf = with_silent_gateway(rig)
    return [rig.attach(f"pod{number}", conf) for number in range(count)]


def line_of(out: str, phase: str) -> str:
    """What an upgrade said of a phase while it ran."""
    live = out.partition("\nAT ")[0].splitlines()
    return [line for line in live if f" {phase} " in line][-1]


def changes(rig: Rig) -> list[str]:
    return [one["change"] for one in report(rig)["comparison"]["attachments"]]


def links(rig: Rig) -> dict[str, Json]:
    return {one["name"]: one for one in report(rig)["comparison"]["links"]}


# --- gateways -------------------------------------------------------------------------------------


def test_gateway_that_never_answered_is_no_failure(rig: Rig) -> None:
    pods = pods_with_silent_gateway(rig)
    done = start(rig, plan(rig, **SOON, **KUBELET), patch=kubelet_of_paper(rig))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    why = f"unreachable: gateway {SILENT} does not answer ARP"
    early = line_of(done.out, "preflight")
    assert "2 of 2 interfaces could be restored; already out of order, so not required" in early
    assert early.endswith(f"eth0 and 1 more: {why}")
    late = line_of(done.out, "verify")
    assert " 0 of 2 verified; was so before: shop/pod0 " in late
    assert late.endswith(f"eth0 and 1 more: {why}")
    told = done.out.partition("was so before the driver was touched, and is no failure")[2]
    assert [line.split()[0] for line in told.splitlines()[1:3]] == ["shop/pod0", "shop/pod1"]
    assert asked(rig)[-2:] == ["release", "disarm"]
    assert changes(rig) == ["same", "same"]
    for one in report(rig)["comparison"]["attachments"]:
        for facts in (one["before"], one["after"]):
            found = {gateway["address"]: gateway["state"] for gateway in facts["gateways"]}
            assert found == {"10.9.0.1": "answered", SILENT: "silent"}


@pytest.mark.slow
def test_gateway_that_answers_at_last(rig: Rig) -> None:
    pods_with_silent_gateway(rig)
    done = start(rig, plan(rig, f"{RELOAD}; ip -n tor addr add {SILENT}/24 dev tor0", **SOON))
    assert done.status == FINE, done
    assert line_of(done.out, "verify").endswith(" 2 of 2 verified")
    assert "was so before" not in done.out
    assert changes(rig) == ["better", "better"]


def test_gateway_that_answers_no_more(rig: Rig) -> None:
    """The reload takes the second gateway's address away; the first is back."""
    pods = pods_with_silent_gateway(rig, 1)
    rig.ip(f"addr add {SILENT}/24 dev tor0", "tor")
    done = start(rig, plan(rig, **SOON))
    assert done.status == FAILED
    assert_as_before(rig, pods)
    late = line_of(done.out, "verify")
    assert f"FAILED: 0 of 1 verified; shop/pod0 {pods[0].pod.id[:12]} eth0: unreachable: " in late
    assert late.endswith(f"gateway {SILENT} does not answer ARP")
    assert "was so before" not in done.out
    assert changes(rig) == ["worse"]


@pytest.mark.slow
def test_one_pods_silence_excuses_no_others(rig: Rig) -> None:
    was_silent = rig.attach("pod0", with_silent_gateway(rig))
    answered = rig.attach("pod1")
    command = f"{RELOAD}; ip -n tor addr flush dev tor0; ip -n tor addr add {SILENT}/24 dev tor0"
    done = start(rig, plan(rig, command, **SOON))
    assert done.status == FAILED
    found = {one["containerID"]: one for one in report(rig)["comparison"]["attachments"]}
    assert found[was_silent.pod.id]["change"] == found[answered.pod.id]["change"] == "worse"
    assert "was so before" not in done.out


@pytest.mark.slow
def test_gateway_that_is_reached_over_one_family_only(rig: Rig) -> None:
    conf = rig.conf(v4=True, v6=True)
    pod = rig.attach("pod0", conf, ipv6=True)
    rig.ip("-6 addr flush dev tor0", "tor")
    done = start(rig, plan(rig, **SOON))
    assert done.status == FINE, done
    assert "does not answer neighbour solicitations" in line_of(done.out, "verify")
    (found,) = report(rig)["comparison"]["attachments"]
    assert sorted(one["state"] for one in found["before"]["gateways"]) == ["answered", "silent"]
    assert rig.ping(pod.pod, "10.9.0.1")


@pytest.mark.slow
def test_pod_without_a_gateway(rig: Rig) -> None:
    conf = rig.conf()
    conf["ipam"]["routes"] = []
    pods = [rig.attach("pod0", conf)]
    done = start(rig, plan(rig, require={"gateways": "all"}))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert changes(rig) == ["same"]


@pytest.mark.slow
def test_gateway_that_the_snapshot_learns_of_is_measured_then(rig: Rig) -> None:
    """The record of ADD does not know it, and preflight has not asked it."""
    pods = attached(rig, 1)
    rig.ip(f"route add 10.60.0.0/16 via {SILENT} dev eth0", pods[0].pod)
    done = start(rig, plan(rig, **SOON))
    assert done.status == FINE, done
    assert f"was so before: shop/pod0 {pods[0].pod.id[:12]} eth0: unreachable" in done.out
    assert len(events(rig, "before")) == 2


@pytest.mark.slow
def test_dry_run_measures_too(rig: Rig) -> None:
    pods = pods_with_silent_gateway(rig)
    before = rig.node_links()
    done = start(rig, plan(rig, **SOON), "--dry-run")
    assert done.status == FINE
    assert f"unreachable: gateway {SILENT} does not answer ARP\ndry run: nothing" in done.out
    document = start(rig, plan(rig, **SOON), "--dry-run", "-o", "json").report(FINE)
    (uplink,) = document["comparison"]["links"]
    assert (uplink["name"], uplink["before"]["carrier"], uplink["after"]) == ("eth0", True, None)
    found = document["comparison"]["attachments"]
    assert [one["before"]["verdict"] for one in found] == ["unreachable", "unreachable"]
    assert_untouched(rig, pods, before)
    assert not state_dir(rig).exists()


# --- carrier --------------------------------------------------------------------------------------


def second_uplink(rig: Rig) -> list[Attachment]:
    """A pod on each of two uplinks."""
    rig.uplink_up("eth1", "10.8.0.1")
    return [rig.attach("pod0"), rig.attach("pod1", rig.conf(master="eth1"))]


def unplugged(rig: Rig) -> None:
    rig.ip("link set tor1 down", "tor")


def switched_off(rig: Rig) -> None:
    rig.ip("link set eth1 down")


WITHOUT_CARRIER = [unplugged, switched_off]


@pytest.mark.parametrize(
    "spoil", slow_but(WITHOUT_CARRIER, unplugged), ids=lambda spoil: spoil.__name__
)
def test_uplink_that_had_no_carrier_is_not_waited_for(
    rig: Rig, spoil: Callable[[Rig], None]
) -> None:
    """Its driver is reloaded, too, and the pod over it comes back as it was."""
    stays, _ = second_uplink(rig)
    spoil(rig)
    again = f"{RELOAD}; {RELOAD_ETH1}"
    if spoil is switched_off:
        again = again.removesuffix("; ip link set eth1 up")
    done = start(rig, plan(rig, again, **KUBELET), patch=kubelet_of_paper(rig))
    assert done.status == FINE, done
    assert_as_before(rig, [stays])
    masters = line_of(done.out, "masters")
    assert masters.endswith("eth0: there, with carrier; eth1: there (it had no carrier before)")
    assert "1 of 2 healthy" in line_of(done.out, "repair")
    assert "was so before: shop/pod1 " in line_of(done.out, "repair")
    assert " 1 of 2 verified; was so before: eth1 " in line_of(done.out, "verify")
    assert asked(rig)[-2:] == ["release", "disarm"]
    found = links(rig)
    assert (found["eth0"]["change"], found["eth1"]["change"]) == ("same", "same")
    assert found["eth1"]["before"]["carrier"] is found["eth1"]["after"]["carrier"] is False
    assert [pod["asBefore"] for pod in report(rig)["attachments"]] == [False, True]


@pytest.mark.slow
def test_named_master_that_had_no_carrier(rig: Rig) -> None:
    """A standby leg, say, that no pod stands on."""
    pods = attached(rig)
    rig.uplink_up("eth1", "10.8.0.1")
    unplugged(rig)
    command = f"{RELOAD}; {RELOAD_ETH1}"
    done = start(rig, plan(rig, command, masters={"names": ["eth0", "eth1"]}))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert "eth1: there (it had no carrier before)" in line_of(done.out, "masters")
    assert "was so before: eth1 has no carrier" in line_of(done.out, "verify")


@pytest.mark.slow
def test_uplink_that_gets_its_carrier_at_last(rig: Rig) -> None:
    pods = second_uplink(rig)
    unplugged(rig)
    command = (
        f"{RELOAD}; {RELOAD_ETH1}; ip -n tor link set tor1 up; ip -n tor addr add 10.8.0.1/24 dev"
        " tor1; ip -n tor addr add 10.9.0.1/32 dev tor1"
    )
    done = start(rig, plan(rig, command))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert links(rig)["eth1"]["change"] == "better"
    assert "was so before" not in done.out


@pytest.mark.slow
def test_uplink_that_loses_its_carrier(rig: Rig) -> None:
    """As ever; the one that had none before excuses it not."""
    second_uplink(rig)
    unplugged(rig)
    command = f"{RELOAD}; {RELOAD_ETH1}; ip -n tor link set tor0 down"
    done = start(rig, plan(rig, command, masters={"deadline": "0.5s"}, **SOON))
    assert done.status == FAILED
    assert "FAILED: eth0 has no carrier (after 0.5 s)" in line_of(done.out, "masters")
    found = links(rig)
    assert (found["eth0"]["change"], found["eth1"]["change"]) == ("worse", "same")
    assert "FAILED: 0 of 2 healthy" in line_of(done.out, "repair")
    assert "; was so before: shop/pod1 " in line_of(done.out, "repair")


@pytest.mark.slow
def test_uplink_that_was_up_and_comes_back_down(rig: Rig) -> None:
    """Nobody plugged it in; but whoever does so now, has no network."""
    second_uplink(rig)
    unplugged(rig)
    command = f"{RELOAD}; {RELOAD_ETH1.removesuffix('; ip link set eth1 up')}"
    done = start(rig, plan(rig, command, masters={"deadline": "0.5s"}, **SOON))
    assert done.status == FAILED
    why = "FAILED: eth1 is down: ip link set dev eth1 up (after 0.5 s)"
    assert why in line_of(done.out, "masters")


@pytest.mark.slow
def test_uplink_that_was_not_there_is_not_waited_for(rig: Rig) -> None:
    """Its pod is lost, and cannot be restored, which the plan allows."""
    stays, _ = second_uplink(rig)
    rig.uplink_down("eth1")
    done = start(rig, plan(rig, coverage="50%"))
    assert done.status == FINE, done
    assert_as_before(rig, [stays])
    masters = line_of(done.out, "masters")
    assert "eth0: there, with carrier" in masters
    assert "eth1: not waited for, it was not there before" in masters


@pytest.mark.slow
def test_uplink_that_had_a_smaller_mtu_than_its_pods(rig: Rig) -> None:
    """Records say 9000; what a pod has follows its master down, at once."""
    rig.reload(mtu=9000)
    attached(rig, 1)
    rig.ip("link set eth0 mtu 1500")
    done = start(rig, plan(rig))
    assert "eth0: there, with carrier" in line_of(done.out, "masters")


# --- pods that were broken ------------------------------------------------------------------------


@pytest.mark.slow
def test_lost_pod_that_could_not_be_repaired_before_either(rig: Rig) -> None:
    """Another link has its MAC: the kernel refuses to set it up."""
    stays, lost = attached(rig)
    (mac,) = [link["address"] for name, link in rig.links(lost.pod).items() if name == "eth0"]
    rig.ip("link del eth0", lost.pod)
    rig.ip(f"link add link eth0 name thief address {mac} type macvlan")
    rig.ip("link set thief up")
    done = start(rig, plan(rig, ["/bin/true"], **SOON))
    assert done.status == FINE, done
    assert_as_before(rig, [stays])
    assert "1 of 2 healthy, 0 of them repaired; was so before: shop/pod1 " in done.out
    assert " 1 of 2 verified; was so before: shop/pod1 " in line_of(done.out, "verify")
    assert changes(rig) == ["same", "same"]


@pytest.mark.slow
def test_lost_pod_comes_back_to_a_silent_gateway(rig: Rig) -> None:
    pods = pods_with_silent_gateway(rig, 1)
    rig.ip("link del eth0", pods[0].pod)
    done = start(rig, plan(rig, **SOON))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert "was so before: shop/pod0 " in line_of(done.out, "verify")


@pytest.mark.slow
def test_degraded_pod_is_repaired_and_asks_its_gateways(rig: Rig) -> None:
    """It asked them before, too: that it was damaged excuses no gateway that answered."""
    pods = attached(rig, 1)
    rig.ip("addr add 10.77.0.1/24 dev eth0", pods[0].pod)
    assert rig.cli("snapshot", "--checkpoint-dir", str(rig.checkpoints)).status == FINE
    rig.ip("addr del 10.77.0.1/24 dev eth0", pods[0].pod)
    assert start(rig, plan(rig, **SOON)).status == FINE
    assert changes(rig) == ["better"]
    rig.ip("addr del 10.77.0.1/24 dev eth0", pods[0].pod)
    done = start(rig, plan(rig, f"{DOWN}; {UP}; ip -n tor addr flush dev tor0", **SOON))
    assert done.status == FAILED
    assert "gateway 10.9.0.1 does not answer ARP" in line_of(done.out, "verify")
    assert changes(rig) == ["worse"]


@pytest.mark.slow
@pytest.mark.parametrize("active", [True, False])
def test_kubelet_that_was_stopped_is_not_started(rig: Rig, active: bool) -> None:
    attached(rig, 1)
    as_was = f"""
found = kubelet.Found("kubelet.service", {active}, False)
kubelet.find = asked("find", found)
"""
    done = start(rig, plan(rig, **KUBELET), patch=kubelet_of_paper(rig) + as_was)
    assert done.status == FINE, done
    (released,) = [
        line for line in (rig.base / "asked").read_text().splitlines() if line.startswith("release")
    ]
    assert f"active={active}, masked=False" in released
    told = line_of(done.out, "release")
    assert told.endswith(
        "unmasked and started" if active else "kubelet.service is as it was before"
    )


# --- what a plan requires -------------------------------------------------------------------------


UNMET = {
    "all gateways": ({"gateways": "all"}, f"gateway {SILENT} does not answer now"),
    "a gateway": ({"gateways": [SILENT]}, f"gateway {SILENT} does not answer now"),
    "nobody's gateway": ({"gateways": ["10.9.0.77"]}, "no pod has 10.9.0.77 as its gateway"),
    "all carrier": ({"carrier": "all"}, "$.require.carrier: eth1 has no carrier now"),
    "a carrier": ({"carrier": ["eth1"]}, "$.require.carrier: eth1 has no carrier now"),
    "no link": ({"carrier": ["eth7"]}, "$.require.carrier: eth7 does not exist now"),
}


@pytest.mark.parametrize("case", slow_but(UNMET, "all gateways"))
def test_requirement_that_does_not_hold_is_refused(rig: Rig, case: str) -> None:
    require, words = UNMET[case]
    rig.uplink_up("eth1", "10.8.0.1")
    pods = [
        rig.attach("pod0", with_silent_gateway(rig)),
        rig.attach("pod1", rig.conf(master="eth1")),
    ]
    unplugged(rig)
    before = rig.node_links()
    path = plan(rig, f"touch {{base}}/runs; {RELOAD}", require=require, **SOON)
    for more in ([], ["--dry-run"]):
        done = start(rig, path, *more)
        assert done.status == REFUSED
        assert words in done.out
        assert "put that right, or do not require it" in done.out
    assert not (rig.base / "runs").exists()
    assert_untouched(rig, pods[:1], before)


@pytest.mark.slow
def test_requirement_that_holds(rig: Rig) -> None:
    pods = second_uplink(rig)
    rig.ip("addr add 10.9.0.1/32 dev tor1", "tor")
    path = plan(rig, require={"carrier": "all", "gateways": "all"})
    done = start(rig, path)
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert "required: carrier of all uplinks; required: answers of all gateways" in done.out


@pytest.mark.slow
def test_required_carrier_is_waited_for_whatever_else_is_not(rig: Rig) -> None:
    """eth1 is no pod's."""
    attached(rig)
    rig.uplink_up("eth1", "10.8.0.1")
    how: Json = {
        "masters": {"deadline": "0.5s", "carrier": False},
        "require": {"carrier": ["eth1"]},
    }
    done = start(rig, plan(rig, "ip -n tor link set tor1 down", **how))
    assert done.status == FAILED
    assert "FAILED: eth1 has no carrier (after 0.5 s)" in line_of(done.out, "masters")


# --- killed and resumed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    slow_but(
        [
            ("done", "preflight"), ("done", "snapshot"), ("driver", ""), ("done", "driver"),
            ("phase", "verify"),
        ],
        ("done", "driver"),
    ),
    ids=" ".join,
)  # fmt: skip
def test_killed_it_still_knows_what_was_before(rig: Rig, at: tuple[str, str]) -> None:
    pods = pods_with_silent_gateway(rig)
    path = plan(rig, **SOON)
    assert start(rig, path, patch=dies(at)).status == -signal.SIGKILL
    done = resume(rig)
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert "0 of 2 verified; was so before: shop/pod0 " in line_of(done.out, "verify")
    assert changes(rig) == ["same", "same"]
    assert len(events(rig, "before")) == 1


@pytest.mark.slow
def test_killed_again_in_its_preflight_it_does_not_measure_after_the_fact(rig: Rig) -> None:
    """A full disk swallowed the end of preflight; by the time of the resume a gateway is silent."""
    attached(rig)
    command = f"{RELOAD}; ip -n tor addr flush dev tor0"
    assert start(rig, plan(rig, command, **SOON), patch=dies(("done", "driver"))).status < 0
    journal = state_dir(rig) / "journal"
    lines = journal.read_text().splitlines()
    kept = [line for line in lines if line and not _is_end_of(json.loads(line), "preflight")]
    assert len(kept) == len(lines) - 1
    journal.write_text("\n".join(kept) + "\n")
    done = resume(rig)
    assert done.status == FAILED
    assert "gateway 10.9.0.1 does not answer ARP" in line_of(done.out, "verify")
    assert changes(rig) == ["worse", "worse"]


def _is_end_of(event: Json, phase: str) -> bool:
    return bool(event["event"] == "done" and event["phase"] == phase)


@pytest.mark.slow
def test_upgrade_that_an_older_version_began_is_asked_for_everything(rig: Rig) -> None:
    """Its journal has no measure."""
    pods_with_silent_gateway(rig)
    assert start(rig, plan(rig, **SOON), patch=dies(("done", "driver"))).status < 0
    journal = state_dir(rig) / "journal"
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line]
    kept = [json.dumps(event) for event in lines if event["event"] != "before"]
    journal.write_text("\n".join(kept) + "\n")
    done = resume(rig)
    assert done.status == FAILED
    assert "FAILED: 0 of 2 verified; shop/pod0 " in line_of(done.out, "verify")
    document = report(rig)["comparison"]
    assert {one["before"] for one in (*document["links"], *document["attachments"])} == {None}
    assert "upgrade" in status(rig).out
