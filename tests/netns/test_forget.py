"""`forget`: records that no pod owns are removed; stale ones fail nothing meanwhile."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from tests.netns.rig import Attachment, Json, Outcome, Rig, entry_of, states
from tests.unit.samples import SEED, SEED_NAME

pytestmark = [pytest.mark.usefixtures("runtime"), pytest.mark.slow]  # many, though each is short


def forget(rig: Rig, *words: str) -> Outcome:
    return rig.cli("forget", "--checkpoint-dir", str(rig.checkpoints), *words)


def forgotten(rig: Rig, status: int, *words: str) -> Json:
    return forget(rig, "-o", "json", *words).report(status)


def outcome_of(found: Json, was: Attachment) -> str:
    outcome: str = entry_of(found, was.pod)["outcome"]
    return outcome


def end(rig: Rig, was: Attachment) -> None:
    """Its namespace goes, and nobody calls DEL."""
    rig.drop_pod(was.pod)


def change_identity(rig: Rig, was: Attachment, **changes: Any) -> None:
    path = rig.checkpoint(was.pod)
    known = model.decode(path.read_bytes(), path.name)
    assert known.netns is not None
    changed = replace(known, netns=replace(known.netns, **changes))
    path.write_text(model.encode(changed), encoding="ascii")


# --- stale is told, not failed ----------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["plan"], ["verify"], ["repair", "--all"], ["snapshot", "--check"],
        ["snapshot"], ["status", "shop/gone"], ["repair", "shop/gone"], ["verify", "shop/gone"],
    ],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("form", ["table", "json"])
def test_stale_record_fails_no_command(rig: Rig, words: list[str], form: str) -> None:
    rig.attach("well")
    end(rig, rig.attach("gone"))
    done = rig.cli(*words, "-o", form, "--checkpoint-dir", str(rig.checkpoints))
    assert (done.status, done.err) == (0, "")
    assert "stale" in done.out


def test_stale_record_does_not_fail_repair_of_the_node(rig: Rig) -> None:
    well, gone = rig.attach("well"), rig.attach("gone")
    end(rig, gone)
    rig.reload()
    found = rig.plugin("REPAIR", None).report(0)
    assert states(found) == {well.pod.id: "healthy", gone.pod.id: "stale"}
    assert found["summary"]["failed"] == 0
    # Who asks for its Result gets none.
    assert rig.plugin("REPAIR", gone.pod, netns="").error(103)


# --- proven ------------------------------------------------------------------------------------


def test_record_of_a_pod_that_is_gone_is_forgotten(rig: Rig) -> None:
    """A DEL that comes later needs no record: it succeeds, and frees the address."""
    well, gone = rig.attach("well"), rig.attach("gone")
    end(rig, gone)
    done = forget(rig, gone.pod.id[:12])
    assert (done.status, done.err) == (0, "")
    # (The machine's next namespace may have got its inode.)
    assert re.search(r"no process and no mount holds its namespace|by its cookie", done.out)
    lease = rig.base / "ipam" / "pods" / gone.address
    assert f"  rm {lease}\n" in done.out
    assert rig.kept() == [f"{well.pod.id}@eth0.json"]
    assert not list((rig.base / "run").glob(f"{gone.pod.id}*"))
    assert gone.address in rig.leases()
    assert rig.cli("status", "--checkpoint-dir", str(rig.checkpoints)).status == 0
    rig.plugin("DEL", gone.pod, netns="").ok()
    assert list(rig.leases()) == [well.address]


def test_reboot_is_proof(rig: Rig) -> None:
    was = rig.attach("pod1")
    change_identity(rig, was, boot_id="of-an-earlier-boot")
    found = forgotten(rig, 0, was.pod.id)
    assert outcome_of(found, was) == "forgotten"
    assert "rebooted" in entry_of(found, was.pod)["proof"]
    assert rig.kept() == []


def test_another_namespace_of_the_same_inode_is_proof(rig: Rig) -> None:
    was = rig.attach("pod1")
    change_identity(rig, was, cookie=1)
    assert "by its cookie" in entry_of(forgotten(rig, 0, "--stale"), was.pod)["proof"]
    assert rig.kept() == []


def test_predecessors_record_is_known_by_its_sandbox(rig: Rig) -> None:
    well = rig.attach("well")
    legacy = rig.checkpoints / SEED_NAME
    legacy.write_text(json.dumps(SEED))
    legacy.chmod(0o600)
    conf = rig.base / "10.conf"
    conf.write_text(json.dumps(rig.conf()))
    done = forget(rig, "--stale", "--conf", str(conf))
    assert done.status == 0, done
    assert "no process's cgroup names its sandbox" in done.out
    assert rig.kept() == [f"{well.pod.id}@eth0.json"]


def test_dry_run_removes_nothing(rig: Rig) -> None:
    was = rig.attach("gone")
    end(rig, was)
    found = forgotten(rig, 0, "--stale", "--dry-run")
    assert outcome_of(found, was) == "forgettable"
    assert entry_of(found, was.pod)["reserved"] == [f"{rig.base}/ipam/pods/{was.address}"]
    assert rig.kept() == [f"{was.pod.id}@eth0.json"]


def test_nothing_stale_is_nothing_to_do(rig: Rig) -> None:
    rig.attach("well")
    done = forget(rig, "--stale")
    assert done.status == 0
    assert "nothing to forget" in done.out
    assert len(rig.kept()) == 1


# --- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["", "link del eth0", "link set eth0 down"])
def test_living_pod_keeps_its_record_and_every_other_that_is_named(rig: Rig, damage: str) -> None:
    well, gone = rig.attach("well"), rig.attach("gone")
    if damage:
        rig.ip(damage, well.pod)
    end(rig, gone)
    done = forget(rig, well.pod.id, gone.pod.id)
    assert done.status == 3
    assert "its pod lives: its namespace net:[" in done.out
    assert "nothing was removed" in done.out
    assert "  next: cni-repair forget, without what is kept" in done.out
    assert "  rm " not in done.out  # nor is an address to be given up then
    assert len(rig.kept()) == 2
    # All that are stale are not all that live.
    assert outcome_of(forgotten(rig, 0, "--stale"), gone) == "forgotten"
    assert rig.kept() == [f"{well.pod.id}@eth0.json"]


def test_namespace_that_only_a_process_holds_lives(rig: Rig) -> None:
    was = rig.attach("pod1")
    with rig.started_in(was.pod, "sleep", "600") as process:
        end(rig, was)
        assert "stale" in rig.cli("status", "--checkpoint-dir", str(rig.checkpoints)).out
        done = forget(rig, "--stale")
        assert done.status == 3
        assert "its pod lives: its namespace net:[" in done.out
        assert f"/proc/{process.pid}/ns/net" in done.out
        assert "no repair reaches it; delete the pod" in done.out  # status calls it stale
    assert len(rig.kept()) == 1


def test_namespace_that_is_mounted_out_of_sight_lives(rig: Rig) -> None:
    """A runtime may have a mount namespace of its own."""
    was = rig.attach("pod1")
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 600")
    with rig.started(*words) as process:
        assert process.stdout is not None
        process.stdout.readline()
        rig.run("umount", was.pod.path)
        done = forget(rig, was.pod.id)
        assert done.status == 3
        assert f"/root{was.pod.path}" in done.out
    assert len(rig.kept()) == 1


def test_what_cannot_be_told_is_kept(rig: Rig) -> None:
    """Without a cookie (before 5.14) an inode may be anybody's."""
    was = rig.attach("pod1")
    change_identity(rig, was, cookie=None, path="/run/netns/elsewhere")
    done = forget(rig, "--stale")
    assert done.status == 3
    assert "it cannot be told whether net:[" in done.out
    assert len(rig.kept()) == 1


def test_container_that_does_not_see_the_node_is_refused(rig: Rig) -> None:
    was = rig.attach("pod1")
    end(rig, was)
    words = ["forget", was.pod.id, "--checkpoint-dir", str(rig.checkpoints)]
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = rig.run(*inside, rig.launcher(), *words, check=False)
    assert done.status == 3
    assert "it cannot be told whether its pod lives" in done.out
    assert len(rig.kept()) == 1


@pytest.mark.parametrize(
    ("inside", "status"), [("", 0), ("unshare --pid --fork --kill-child ", 3)], ids=("here", "pod")
)
def test_a_runtime_is_known_by_more_than_its_name(
    rig: Rig, tmp_path: Path, inside: str, status: int
) -> None:
    """A node that is a container (kind) has its runtime beside us. A pod, whose PID namespace is
    below ours, may call a process likewise: records of living pods would go."""
    named = tmp_path / "containerd"
    shutil.copy("/bin/sleep", named)
    was = rig.attach("pod1")
    end(rig, was)
    forget = f"{rig.launcher()} forget {was.pod.id} --checkpoint-dir {rig.checkpoints}"
    seen = "until grep -qx containerd /proc/[0-9]*/comm; do sleep 0.1; done"
    script = f"{inside}{named} 600 & {seen}; {forget}; status=$?; kill $!; exit $status"
    own = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script]
    done = rig.run(*own, check=False)
    assert done.status == status, done
    assert len(rig.kept()) == (0 if status == 0 else 1)


def test_unreadable_record_is_kept(rig: Rig) -> None:
    was = rig.attach("pod1")
    end(rig, was)
    rig.checkpoint(was.pod).write_text("{")
    done = forget(rig, was.pod.id)
    assert done.status == 3
    assert "it cannot be told whose it is" in done.out
    assert "then cni-repair adopt --write" in done.out
    assert len(rig.kept()) == 1


def test_lock_of_another_is_respected(rig: Rig) -> None:
    was = rig.attach("pod1")
    end(rig, was)
    lock = rig.base / "run" / f"{was.pod.id}@eth0.lock"
    patch = "from cni_repair.checkpoint.locks import Lock\nLock.__init__.__defaults__ = (0.1, -1)"
    with rig.started(
        "flock", "--no-fork", str(lock), "sh", "-c", "echo; exec sleep 600"
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        words = ("forget", was.pod.id, "--checkpoint-dir", str(rig.checkpoints))
        done = rig.cli(*words, patch=patch)
    assert done.status == 3
    assert "another cni-repair is at work on" in done.out
    assert len(rig.kept()) == 1


@pytest.mark.parametrize("wrong", ["feedbeef", "shop/nobody"])
def test_unknown_name_among_several_is_wrong_usage(rig: Rig, wrong: str) -> None:
    was = rig.attach("gone")
    end(rig, was)
    done = forget(rig, was.pod.id, wrong)
    assert done.status == 2
    assert wrong in done.err
    assert len(rig.kept()) == 1


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=str)
def test_nobody_named_is_wrong_usage(rig: Rig, words: list[str]) -> None:
    done = forget(rig, *words)
    assert done.status == 2
    assert "--stale" in done.err
