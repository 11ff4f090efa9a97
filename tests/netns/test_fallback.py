"""`fallbackMaster`: a lost pod moves to another of its masters, and to no other way on its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.netns.rig import Json, Rig, entry_of, master_of, states

pytestmark = pytest.mark.slow  # `tests/run --fast` is to take two minutes


def conf(rig: Rig, **changes: Any) -> Json:
    allowed: Json = {"fallbackMaster": True, "masterTimeout": 0.2, **changes}
    return rig.conf(master=["eth0", "eth1"], **allowed)


def repaired(rig: Rig, status: int, **changes: Any) -> Json:
    return rig.plugin("REPAIR", None, conf(rig, **changes)).report(status)


def two_uplinks(rig: Rig) -> None:
    rig.uplink_up("eth1", ip="10.9.1.1")


def test_moves_when_the_recorded_master_stays_away_and_back_again(rig: Rig) -> None:
    two_uplinks(rig)
    was = rig.attach("pod1", conf=conf(rig))
    rig.uplink_down("eth0")
    directory = conf(rig)["checkpointDir"]
    status = rig.cli("status", "--checkpoint-dir", directory, "-o", "json").report(1)
    assert "moves the pod to eth1" in str(entry_of(status, was.pod)["findings"])
    entry = entry_of(repaired(rig, 0), was.pod)
    assert entry["state"] == "healthy"
    assert entry["notes"] == ["moved to eth1: eth0 did not come back (fallbackMaster)"]
    assert master_of(rig, was.pod) == "eth1"
    after = rig.state(was.pod)
    assert after["addr"] == was.state["addr"]
    # From now on eth1 is the recorded one: eth0's return changes nothing, eth1's loss does.
    rig.uplink_up("eth0")
    assert entry_of(repaired(rig, 0), was.pod)["actions"] == []
    assert master_of(rig, was.pod) == "eth1"
    rig.uplink_down("eth1")
    assert "moved to eth0" in str(entry_of(repaired(rig, 0), was.pod)["notes"])
    assert rig.state(was.pod) == was.state


def test_only_where_the_configuration_at_add_said_so(rig: Rig) -> None:
    two_uplinks(rig)
    free = rig.attach("pod1", conf=conf(rig))
    bound = rig.attach("pod2", conf=conf(rig, fallbackMaster=False))
    rig.uplink_down("eth0")
    report = repaired(rig, 1)
    assert entry_of(report, free.pod)["state"] == "healthy"
    assert entry_of(report, bound.pod)["error"]["code"] == 11
    assert set(rig.links(bound.pod)) == {"lo"}


def test_not_while_the_recorded_master_comes_in_time(rig: Rig) -> None:
    two_uplinks(rig)
    was = rig.attach("pod1", conf=conf(rig))
    rig.reload("eth0")
    assert entry_of(repaired(rig, 0), was.pod)["notes"] == []
    assert rig.state(was.pod) == was.state


def test_not_where_the_recorded_name_is_another_kind_of_link(rig: Rig) -> None:
    """A name that is another's is somebody's decision to make, not a master that is away."""
    two_uplinks(rig)
    was = rig.attach("pod1", conf=conf(rig))
    rig.uplink_down("eth0")
    rig.ip("link add eth0 type bridge")
    assert entry_of(repaired(rig, 1), was.pod)["error"]["code"] == 107
    assert set(rig.links(was.pod)) == {"lo"}


def test_no_other_master_there_either(rig: Rig) -> None:
    two_uplinks(rig)
    was = rig.attach("pod1", conf=conf(rig))
    rig.uplink_down("eth0")
    rig.uplink_down("eth1")
    entry = entry_of(repaired(rig, 1), was.pod)
    assert (entry["state"], entry["error"]["code"]) == ("lost", 11)
    assert "eth0" in entry["error"]["msg"]


def test_disk_that_cannot_be_written_to_is_named(rig: Rig) -> None:
    two_uplinks(rig)
    was = rig.attach("pod1", conf=conf(rig))
    rig.uplink_down("eth0")
    directory = conf(rig)["checkpointDir"]
    rig.run("mount", "--bind", directory, directory)
    rig.run("mount", "-o", "remount,bind,ro", directory)
    (note,) = entry_of(repaired(rig, 0), was.pod)["notes"]
    assert "still names eth0" in note
    assert master_of(rig, was.pod) == "eth1"
    rig.run("umount", directory)


def test_checkpoint_remembers_the_new_card(rig: Rig) -> None:
    two_uplinks(rig)
    was = rig.attach("pod1", conf=conf(rig))
    rig.uplink_down("eth0")
    repaired(rig, 0)
    path = Path(rig.outside(conf(rig)["checkpointDir"])) / f"{was.pod.id}@eth0.json"
    parents = json.loads(path.read_text())["parents"]
    assert [parent["name"] for parent in parents] == ["eth1"]
    assert parents[0]["ifindex"] == rig.links()["eth1"]["ifindex"]


def test_key_that_can_never_matter_is_refused(rig: Rig) -> None:
    pod = rig.pod("pod1")
    words = rig.plugin("ADD", pod, rig.conf(fallbackMaster=True)).error(7)
    assert "only one master" in words


def test_every_lost_pod_moves(rig: Rig) -> None:
    two_uplinks(rig)
    pods = [rig.attach(f"pod{number}", conf=conf(rig)).pod for number in range(3)]
    rig.uplink_down("eth0")
    assert states(repaired(rig, 0)) == {pod.id: "healthy" for pod in pods}
    assert {master_of(rig, pod) for pod in pods} == {"eth1"}
