"""Pods without a record: `status`, `verify` and `snapshot --check` count them, there or lost."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.netns.rig import Attachment, Json, Outcome, Pod, Rig
from tests.netns.test_forget import change_identity

pytestmark = pytest.mark.slow  # many, though each is short

COMMANDS = [["status"], ["verify", "--timeout", "1"], ["snapshot", "--check"]]
on_all = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def cache(rig: Rig) -> Path:
    return rig.base / "cni"


def command(rig: Rig, *words: str, patch: str = "") -> Outcome:
    """With a runtime's cache that is the test's own."""
    own = f"import cni_repair.adoption.caches as c; c.CACHE_DIRS = ({str(cache(rig))!r},)\n"
    return rig.cli(*words, "--checkpoint-dir", str(rig.checkpoints), patch=own + patch)


def unmanaged(rig: Rig, status: int, *words: str) -> list[Json]:
    found: list[Json] = command(rig, *words, "-o", "json").report(status)["unmanaged"]
    return found


def remember(rig: Rig, pod: Pod, conf: Json, result: Json, **changes: Any) -> Path:
    """As libcni keeps it for a runtime."""
    entry = {
        "kind": "cniCacheV1",
        "containerId": pod.id,
        "config": base64.b64encode(json.dumps({**conf, "plugins": [conf]}).encode()).decode(),
        "ifName": "eth0",
        "networkName": conf["name"],
        "netns": pod.path,
        "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", pod.name]],
        "result": result,
        **changes,
    }
    directory = cache(rig) / "results"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = directory / f"{conf['name']}-{pod.id}-eth0"
    file.write_text(json.dumps(entry))
    file.chmod(0o600)
    return file


def bare(rig: Rig, name: str, **changes: Any) -> Pod:
    """A pod that another plugin attached, and that its runtime remembers."""
    pod = rig.pod(name)
    conf = rig.conf(type="macvlan", **changes)
    remember(rig, pod, conf, rig.bare("ADD", pod, conf).ok())
    return pod


# --- there, and lost ----------------------------------------------------------------------------


@on_all
@pytest.mark.parametrize("records", [True, False], ids=["others-recorded", "no-records"])
def test_pod_that_only_its_runtime_remembers_is_counted(
    rig: Rig, words: list[str], records: bool
) -> None:
    """Also where there is no record at all: `--purge`, and a new installation."""
    if records:
        rig.attach("ours")
    else:
        rig.checkpoints.mkdir(mode=0o700)
    pod = bare(rig, "bare")
    (there,) = unmanaged(rig, 1, *words)
    assert (there["state"], there["pod"], there["containerID"]) == (
        "attached", "shop/bare", pod.id,
    )  # fmt: skip
    rig.ip("link del eth0", pod)
    (lost,) = unmanaged(rig, 1, *words)
    assert lost == {**there, "state": "lost"}
    done = command(rig, *words)
    assert done.status == 1
    assert "  next: cni-repair adopt --write" in done.out


@pytest.mark.parametrize("records", [True, False], ids=["others-recorded", "no-records"])
def test_repair_of_the_node_passes_no_lost_pod_by(rig: Rig, records: bool) -> None:
    """`repair --all && systemctl start kubelet`."""
    if records:
        rig.attach("ours")
    else:
        rig.checkpoints.mkdir(mode=0o700)
    pod = bare(rig, "bare")
    assert command(rig, "repair", "--all").status == 0  # it has its interface
    rig.ip("link del eth0", pod)
    done = command(rig, "repair", "--all")
    assert done.status == 1
    assert "1 lost interface without a record, which no repair brings back: shop/bare" in done.err
    assert "  next: cni-repair adopt --write" in done.err


def test_coverage_does_not_rise_when_an_uncovered_pod_dies(rig: Rig) -> None:
    rig.attach("ours")
    pod = bare(rig, "bare")
    last = [command(rig, "snapshot", "--check").out.splitlines()[-1]]
    rig.ip("link del eth0", pod)
    last.append(command(rig, "snapshot", "--check").out.splitlines()[-1])
    assert last == ["coverage: 1 of 2 interfaces could be restored"] * 2


@on_all
def test_interface_that_nobody_remembers_is_counted(rig: Rig, words: list[str]) -> None:
    """By a process alone, without a name."""
    rig.attach("ours")
    pod = rig.pod("bare")
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip("link set eth0x netns bare name net1")
    with rig.started_in(pod, "sleep", "600"):
        rig.drop_pod(pod)
        (found,) = unmanaged(rig, 1, *words)
        assert found["netns"].startswith("/proc/")
        # It has no other name: without it, nobody could tell which pod it is.
        assert re.search(rf"^unmanaged +{found['netns']}\b", command(rig, *words).out, re.MULTILINE)
        assert (found["ifname"], found["state"], found["pod"]) == ("net1", "attached", "")


@on_all
def test_second_interface_of_a_pod_that_has_a_record_is_counted(rig: Rig, words: list[str]) -> None:
    was = rig.attach("ours")
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip(f"link set eth0x netns {was.pod.name} name net1")
    (found,) = unmanaged(rig, 1, *words)
    assert found["ifname"] == "net1"


def test_stale_record_covers_no_other_pod(rig: Rig) -> None:
    """The inode of a namespace that is gone may be another pod's by now."""
    was = rig.attach("ours")
    change_identity(rig, was, cookie=1)
    assert [one["ifname"] for one in unmanaged(rig, 1, "status")] == ["eth0"]


# --- not to be counted ---------------------------------------------------------------------------


def end(rig: Rig) -> None:
    rig.drop_pod(bare(rig, "bare"))


def bridged(rig: Rig) -> None:
    """Its interface is gone; but it was none that we could make."""
    pod = rig.pod("bare")
    remember(rig, pod, {**rig.conf(), "type": "bridge"}, {"cniVersion": "1.0.0"})


def with_another_network(rig: Rig) -> None:
    """An entry of an older libcni tells no plugin; that pod has a network."""
    pod = rig.pod("bare")
    file = remember(rig, pod, rig.conf(type="macvlan"), {})
    file.write_text(json.dumps({"cniVersion": "1.0.0", "ips": [], "interfaces": []}))
    rig.ip("link add veth0 type veth peer name peer0", pod)


def nodes_own(rig: Rig) -> None:
    rig.ip("link add link eth0 name shim0 type macvlan mode bridge")


def garbage(rig: Rig) -> None:
    directory = cache(rig) / "results"
    directory.mkdir(mode=0o700, parents=True)
    (directory / "junk").write_text("{")


@on_all
@pytest.mark.parametrize(
    "prepare",
    [end, bridged, with_another_network, nodes_own, garbage],
    ids=lambda one: one.__name__,
)
def test_what_is_no_uncovered_pod_is_not_counted(
    rig: Rig, words: list[str], prepare: Callable[[Rig], None]
) -> None:
    rig.attach("ours")
    prepare(rig)
    assert unmanaged(rig, 0, *words) == []


def test_pod_of_countless_links_is_passed_over_alone(rig: Rig) -> None:
    """It may have made them to keep whoever looks busy."""
    rig.attach("ours")
    hostile, other = bare(rig, "hostile"), bare(rig, "other")
    for number in range(3):
        rig.ip(f"link add many{number} type bridge", hostile)
    rig.uplink_down()
    patch = "import cni_repair.adoption.uncovered as u; u.MAX_LINKS = 2"
    found = command(rig, "status", "-o", "json", patch=patch).report(1)["unmanaged"]
    assert [one["containerID"] for one in found] == [other.id]


@pytest.mark.parametrize("words", [["status", "shop/ours"], ["verify", "shop/ours"]], ids=" ".join)
def test_selection_is_about_what_was_selected(rig: Rig, words: list[str]) -> None:
    rig.attach("ours")
    bare(rig, "bare")
    assert unmanaged(rig, 0, *words) == []


def test_interface_that_its_pod_has_renamed_is_counted_once(rig: Rig) -> None:
    rig.attach("ours")
    pod = bare(rig, "bare")
    rig.ip("link set eth0 down", pod)
    rig.ip("link set eth0 name lan0", pod)
    (found,) = unmanaged(rig, 1, "status")
    assert (found["ifname"], found["state"]) == ("lan0", "attached")


def test_records_in_another_directory_are_named(rig: Rig) -> None:
    """They are none of this directory's, and no pod without one."""
    rig.attach("ours")
    other = rig.base / "other"
    pod = rig.pod("theirs")
    conf = rig.conf(checkpointDir=str(other))
    remember(rig, pod, conf, rig.plugin("ADD", pod, conf).ok())
    done = command(rig, "status")
    assert done.status == 0
    assert f"  next: cni-repair status --checkpoint-dir {other}\n" in done.out
    rig.ip("link del eth0", pod)
    assert unmanaged(rig, 0, "status") == []
    next(other.iterdir()).unlink()
    assert [one["state"] for one in unmanaged(rig, 1, "status")] == ["lost"]


def test_networks_of_dockers_own_are_told_and_fail_nothing(rig: Rig) -> None:
    """Its containers are no pods: nobody could ever make a record of them."""
    rig.attach("ours")
    rig.ip("link add link eth0 name eth0x type macvlan")
    pod = rig.pod("container")
    rig.ip("link set eth0x netns container name eth0")
    named = "/var/run/docker/netns"
    (rig.base / "held").touch()
    script = f"""
        mount --bind {pod.path} {rig.base}/held
        mount -t tmpfs none /run
        mkdir -p {named}; touch {named}/0123; mount --bind {rig.base}/held {named}/0123
        exec "$@" """
    words = ("status", "-o", "json", "--checkpoint-dir", str(rig.checkpoints))
    done = rig.run("unshare", "-m", "sh", "-c", script, "sh", rig.launcher(), *words, check=False)
    (found,) = json.loads(done.out)["unmanaged"]
    assert (found["owner"], found["netns"]) == ("docker", f"{named}/0123")
    assert done.status == 0


# --- an unreadable record is counted once ---------------------------------------------------------


def torn_at_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damaged(path: Path) -> None:
    path.write_text(path.read_text().replace('"mtu"', '"mtv"', 1))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [torn_at_its_end, damaged, emptied], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("written", [[], ["--check"]], ids=["snapshot", "check"])
def test_unreadable_record_is_counted_once(
    rig: Rig, damage: Callable[[Path], None], written: list[str]
) -> None:
    pods: list[Attachment] = [rig.attach(f"pod{number}") for number in (1, 2, 3)]
    damage(rig.checkpoint(pods[1].pod))
    done = command(rig, "snapshot", *written)
    assert done.status == 1
    assert done.out.splitlines()[-1] == "coverage: 2 of 3 interfaces could be restored"


def test_unreadable_record_whose_runtime_remembers_it_is_no_pod_without_one(rig: Rig) -> None:
    was = rig.attach("pod1")
    remember(rig, was.pod, rig.conf(), was.result)
    emptied(rig.checkpoint(was.pod))
    assert unmanaged(rig, 1, "status") == []
