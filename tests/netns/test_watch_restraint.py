"""What the watcher leaves be: pods that were refused, pauses; and what it says when it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni_repair.watch.pausing import NAME
from tests.netns.onwire import MAC, another_host, static
from tests.netns.rig import Rig
from tests.netns.watching import configure, watching

pytestmark = pytest.mark.slow  # a daemon that is waited for takes seconds


def test_a_refused_pod_is_not_tried_again_until_something_has_changed(rig: Rig) -> None:
    first, second = rig.attach("a", static(rig)), rig.attach("b")
    rig.reload()
    another_host(rig)
    with watching(rig, lookEvery="1s") as watch:
        status = watch.until(lambda status: status["refused"], "the refusal")
        (refused,) = status["refused"]
        assert (refused["pod"], refused["state"]) == ("shop/a", "lost")
        assert f"address {first.address} is in use by {MAC}" in refused["reason"]
        status = watch.until_it_has_looked_for(4)
        assert status["attachments"] == {"healthy": 1, "lost": 1}
        assert (status["refused"], status["heals"]["failed"]) == ([refused], 1)
        assert rig.state(second.pod) == second.state
        rig.reload()  # which takes that host's link, too
        watch.until_healthy(2)
        watch.until(lambda status: status["refused"] == [], "no refusal")
        assert rig.state(first.pod) == first.state


def test_another_link_of_the_uplinks_name_is_not_used_and_told(rig: Rig) -> None:
    one = rig.attach("a")
    with watching(rig) as watch:
        watch.until_healthy(1)
        rig.uplink_down()
        watch.until_armed(1)
        rig.ip("link add other0 type veth peer name other1")
        rig.ip("link add link other0 name eth0 type macvlan")
        watch.until_said(
            "what is over eth0 is not healed: the node's eth0 is a macvlan link now, it was a veth"
        )
        watch.until_lost(1)
        rig.ip("link del eth0")
        rig.uplink_up()
        watch.until_healthy(1)
    assert rig.state(one.pod) == one.state


def test_a_pause_before_the_start_is_kept_to_and_ends_by_itself(rig: Rig) -> None:
    one = rig.attach("a")
    config = ("--config", str(configure(rig)))
    words = rig.cli("watch", *config, "--pause", "1h", "--reason", "cables").out
    assert "no watcher runs on this node now: one that is started meanwhile begins so" in words
    rig.reload()
    with watching(rig) as watch:
        watch.until(
            lambda status: status["mode"] == "paused" and status["attachments"] == {"lost": 1},
            "a look",
        )
        shown = rig.cli("watch", *config, "--status").out.splitlines()
        assert shown[0] == "1 attachment: 1 lost"
        assert "paused by" in shown[1] and shown[1].endswith(": cables")
        file = Path(rig.base, "run", NAME)
        file.write_text(json.dumps({**json.loads(file.read_text()), "until": 1.0}))
        watch.until_healthy(1)
    assert rig.state(one.pod) == one.state


def test_what_it_says_when_asked(rig: Rig) -> None:
    rig.attach("a")
    config = ("--config", str(configure(rig)))
    with watching(rig) as watch:
        watch.until_healthy(1)
        found = json.loads(rig.cli("watch", *config, "--status", "-o", "json").out)
        assert (found["standing"], found["pause"]) == ("running", None)
        assert found["status"]["pid"] == watch.process.pid
        assert found["status"]["attachments"] == {"healthy": 1}
        rig.uplink_down()
        watch.until_lost(1)
        done = rig.cli("watch", *config, "--status")
        assert done.status == 0
        assert done.out.splitlines()[0] == "1 attachment: 1 lost"
        assert any(line.startswith("eth0    away for ") for line in done.out.splitlines())
        said = rig.cli("status", "--checkpoint-dir", str(rig.checkpoints)).out
        assert "\nwatch: " not in said  # of the run directory that is not the watcher's
        said = rig.cli(
            "status", "--checkpoint-dir", str(rig.checkpoints), "--run-dir", f"{rig.base}/run"
        ).out
        assert "\nwatch: heals by itself what an uplink takes with it: " in said
    done = rig.cli("watch", *config, "--status")
    assert done.status == 1
    assert done.out.startswith("watch: DOES NOT RUN: ")


def test_the_state_of_a_pod_that_nobody_repairs_is_told(rig: Rig) -> None:
    """One that a pod made itself is never tried, so never refused: its state says it."""
    one = rig.attach("a")
    rig.ip("link del eth0", one.pod)
    rig.ip("link add eth0 type veth peer name far0", one.pod)
    with watching(rig, heal="drift") as watch:
        status = watch.until(lambda status: status["attachments"] == {"foreign": 1}, "a look")
        assert (status["refused"], status["heals"]["total"]) == ([], 0)
        shown = rig.cli("watch", "--config", str(configure(rig)), "--status").out.splitlines()
        assert shown[0] == "1 attachment: 1 foreign"
        assert shown[-1].startswith("next: cni-repair status")
