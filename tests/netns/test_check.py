"""`check`: what a probe is told, with a watcher and without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cni_repair.watch.problems import MOST_BYTES, SUBJECTS
from cni_repair.watch.status import Status, first_watcher, write_status
from tests.netns.rig import Outcome, Rig
from tests.netns.test_uncovered import bare, cache

pytestmark = pytest.mark.slow  # many, though each is short

OK, PROBLEM, UNKNOWN = range(3)


def run_dir(rig: Rig) -> str:
    return str(rig.base / "run")


def check(rig: Rig, *words: str, dirs: str = "", patch: str = "", more: str = "") -> Outcome:
    config = rig.base / "watch.yaml"
    config.write_text(
        f"version: 1\ncheckpointDirs: [{dirs or rig.checkpoints}]\nrunDir: {run_dir(rig)}\n{more}\n"
    )
    own = f"import cni_repair.adoption.caches as c; c.CACHE_DIRS = ({str(cache(rig))!r},)\n"
    own += "import cni_repair.cli.commands.check as k; k._SECONDS = 60.0\n"  # on any machine
    done = rig.cli("check", "--config", str(config), *words, patch=own + patch)
    assert done.out.count("\n") == 1
    assert len(done.out) <= MOST_BYTES + 1
    assert done.err == ""
    return done


def statuses(rig: Rig) -> dict[str, int]:
    return {subject: check(rig, subject).status for subject in SUBJECTS}


def test_all_is_well(rig: Rig) -> None:
    rig.attach("one")
    done = check(rig)
    assert (done.status, done.out) == (OK, "OK: 1 pod interface\n")


def test_lost_pod_whose_master_is_up(rig: Rig) -> None:
    rig.attach("well")
    one = rig.attach("one")
    rig.ip("link del eth0", one.pod)
    assert statuses(rig) == {"pods": PROBLEM, "uplinks": OK, "records": OK}
    said = "1 pod interface lost or damaged, uplink up: cni-repair status\n"
    assert check(rig).out == said
    assert check(rig, "uplinks", "records").out == "OK: 2 pod interfaces\n"


def test_uplink_that_is_gone_is_named(rig: Rig) -> None:
    rig.attach("one")
    rig.attach("two")
    rig.uplink_down()
    assert statuses(rig) == {"pods": OK, "uplinks": PROBLEM, "records": OK}
    assert check(rig).out == "eth0 down, 2 pod interfaces on it: cni-repair status\n"


def test_uplink_that_is_down_is_named(rig: Rig) -> None:
    rig.attach("one")
    rig.ip("link set eth0 down")
    assert statuses(rig) == {"pods": OK, "uplinks": PROBLEM, "records": OK}


def test_stale_record_is_no_problem(rig: Rig) -> None:
    one = rig.attach("one")
    rig.drop_pod(one.pod)
    assert check(rig).status == OK


@pytest.mark.parametrize("lost", [True, False])
def test_pod_without_a_record(rig: Rig, lost: bool) -> None:
    rig.attach("ours")
    pod = bare(rig, "bare")
    assert statuses(rig) == {"pods": OK, "uplinks": OK, "records": PROBLEM}
    if lost:
        rig.ip("link del eth0", pod)
        assert check(rig, "pods").status == PROBLEM


def test_several_directories_of_records(rig: Rig) -> None:
    rig.attach("one")
    other = rig.base / "other"
    two = rig.attach("two", rig.conf(checkpointDir=str(other)))
    assert check(rig, dirs=f"{rig.checkpoints}, {other}").out == "OK: 2 pod interfaces\n"
    rig.ip("link del eth0", two.pod)
    assert check(rig, "pods", dirs=f"{rig.checkpoints}, {other}").status == PROBLEM


def test_unreadable_record(rig: Rig) -> None:
    one = rig.attach("one")
    rig.checkpoint(one.pod).write_text("{")
    assert statuses(rig) == {"pods": OK, "uplinks": OK, "records": PROBLEM}


# --- With a watcher ------------------------------------------------------------------------------

STATUS: Status = {
    "pid": 1, "since": 0.0, "config": "", "mode": "healing", "reason": "", "heal": "uplink",
    "lastLook": 0.0, "attachments": {"healthy": 5}, "byNetwork": {},
    "damaged": {"uplinkUp": 0, "uplinkDown": 0}, "masters": [], "armed": 0,
    "heals": {"total": 0, "failed": 0, "lastAt": None, "lastOutageMs": None}, "refused": [],
    "kubelet": {"held": False, "since": None}, "unmanaged": 0,
    "coverage": {"restorable": 5, "interfaces": 5},
}  # fmt: skip


@contextmanager
def watcher(rig: Rig, **changes: Any) -> Iterator[None]:
    """What a watcher has in the run directory while it runs."""
    with first_watcher(run_dir(rig)):
        write_status(run_dir(rig), STATUS | changes)  # type: ignore[arg-type]
        yield


def test_what_the_watcher_saw_is_told_and_nothing_is_looked_at(rig: Rig) -> None:
    one = rig.attach("one")
    rig.ip("link del eth0", one.pod)
    with watcher(rig):
        assert check(rig).out == "OK: 5 pod interfaces\n"
    with watcher(rig, damaged={"uplinkUp": 2, "uplinkDown": 0}):
        assert check(rig).out.startswith("2 pod interfaces lost or damaged")


def test_watcher_that_has_died_is_unknown_unless_something_is_wrong(rig: Rig) -> None:
    one = rig.attach("one")
    with watcher(rig):
        pass
    done = check(rig)
    assert (done.status, done.out) == (
        UNKNOWN,
        "unknown: cni-repair watch has ended: systemctl status cni-repair-watch\n",
    )
    rig.ip("link del eth0", one.pod)
    assert check(rig).out.startswith("1 pod interface lost or damaged")


def test_a_mistake_in_the_file_of_a_watcher_that_runs_hides_nothing(rig: Rig) -> None:
    """It does not follow that."""
    with watcher(rig, damaged={"uplinkUp": 2, "uplinkDown": 0}):
        done = check(rig, more="heal: uplnk")
    assert done.out.startswith("2 pod interfaces lost or damaged")
    with watcher(rig):
        assert check(rig, more="heal: uplnk").out == "OK: 5 pod interfaces\n"


def test_a_mistake_where_no_watcher_runs_names_the_remedy(rig: Rig) -> None:
    rig.attach("one")
    done = check(rig, more="heal: uplnk")
    config = rig.base / "watch.yaml"
    words = f"unknown: a mistake: cni-repair validate {config}"
    assert (done.status, done.out.rstrip(".\n")) == (UNKNOWN, words[: MOST_BYTES - 3])


def test_watcher_that_hangs_is_unknown(rig: Rig) -> None:
    rig.attach("one")
    patch = "import cni_repair.watch.status as s; s.HUNG_SECONDS = -1.0\n"
    with watcher(rig):
        done = check(rig, patch=patch)
    assert (done.status, done.out) == (
        UNKNOWN,
        "unknown: cni-repair watch hangs: systemctl status cni-repair-watch\n",
    )


def test_torn_status_is_unknown(rig: Rig) -> None:
    rig.attach("one")
    with watcher(rig):
        (rig.base / "run" / "watch.json").write_text("{")
        done = check(rig)
    assert done.status == UNKNOWN
    assert done.out.startswith("unknown: ")
