"""ADD, DEL, CHECK, STATUS, GC and VERSION on the real plugins, when things go wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import model
from cni_repair.checkpoint.locks import Lock
from tests.netns.rig import (
    HANG_SECONDS,
    PLUGINS,
    SHORT_DEADLINE,
    Json,
    Outcome,
    Pod,
    Rig,
    eventually,
    options,
    read_only,
    slow_but,
    states,
)
from tests.processes import descriptors, is_alive

MACVLAN = f"{PLUGINS}/macvlan"


def assert_nothing_left(rig: Rig, pod: Pod) -> None:
    assert set(rig.links(pod)) == {"lo"}
    assert rig.leases() == {}
    assert rig.kept() == []


def exhausted(rig: Rig) -> Json:
    """A configuration whose IPAM has no address to give."""
    only = {"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.9"}
    ipam = {**rig.conf()["ipam"], "ranges": [[only]]}
    directory = rig.base / "ipam" / "pods"
    directory.mkdir(parents=True)
    (directory / "10.9.0.9").write_text("somebody\r\neth0")
    return rig.conf(ipam=ipam)


# --- ADD that fails ------------------------------------------------------------------------------


def test_ipam_without_addresses(rig: Rig) -> None:
    conf = exhausted(rig)
    one, two = rig.pod("pod1"), rig.pod("pod2")
    bare = rig.bare("ADD", one, conf).report(1)
    assert rig.plugin("ADD", two, conf).report(1) == bare
    assert rig.leases() == {"10.9.0.9": "somebody"}
    assert rig.kept() == []
    assert set(rig.links(two)) == {"lo"}


def test_unknown_ipam(rig: Rig) -> None:
    pod = rig.pod("pod1")
    outcome = rig.plugin("ADD", pod, rig.conf(ipam={"type": "nosuch"}))
    assert "nosuch" in outcome.report(1)["msg"]
    assert_nothing_left(rig, pod)
    rig.plugin("ADD", pod).ok()


@pytest.mark.parametrize("kind", ["ptp", "bridge", "nosuch"])
def test_delegate_of_another_kind_is_refused_and_rolled_back(rig: Rig, kind: str) -> None:
    pod = rig.pod("pod1")
    before = rig.node_links()
    outcome = rig.plugin("ADD", pod, rig.conf(delegate=kind))
    words = outcome.error(4 if kind == "nosuch" else 7)
    assert kind in words
    assert_nothing_left(rig, pod)
    assert {link for link in rig.node_links() if link[0] != "cni0"} == before


NONSENSE = {
    "text": ("echo not JSON", 6),
    "nothing": ("true", 6),
    "list": ("echo '[1]'", 6),
    "huge": ("head -c 9000000 /dev/zero | tr '\\0' ' '", 6),
    "folded keys": ("""echo '{"a":1,"A":2}'""", 6),
    "signal": ("kill -9 $$", 109),
    "status": ("exit 3", 109),
    "text and status": ("echo oh no; exit 1", 109),
}


@pytest.mark.parametrize("kind", slow_but(NONSENSE, "text", "list", "huge", "signal"))
def test_delegate_that_answers_nonsense(rig: Rig, kind: str) -> None:
    output, code = NONSENSE[kind]
    said = rig.base / "said"
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] || exec {MACVLAN}
        {MACVLAN} >{said} && {{ {output}; }}
        """,
    )
    pod = rig.pod("pod1")
    rig.plugin("ADD", pod).error(code)
    assert '"ips"' in said.read_text()  # it had done its work
    assert_nothing_left(rig, pod)


def hanging(rig: Rig, verbs: str, before: str = MACVLAN) -> Path:
    """A macvlan plugin that does its work and then hangs, with a child; where the PIDs stand."""
    pids = rig.base / "pids"
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        case $CNI_COMMAND in {verbs}) ;; *) exec {MACVLAN} ;; esac
        {before} >/dev/null
        sleep 1000 &
        echo $$ $! >{pids}.new && mv {pids}.new {pids}
        wait
        """,
    )
    return pids


@pytest.mark.slow
def test_delegate_that_hangs_is_killed_with_its_children(rig: Rig) -> None:
    pids = hanging(rig, "ADD")
    pod = rig.pod("pod1")
    words = rig.plugin("ADD", pod, patch=SHORT_DEADLINE).error(11)
    assert "macvlan" in words
    killed = [int(pid) for pid in pids.read_text().split()]
    eventually(lambda: not any(map(is_alive, killed)), "them to die")
    assert_nothing_left(rig, pod)


@pytest.mark.slow
def test_delegate_that_hangs_in_the_clean_up_too(rig: Rig) -> None:
    hanging(rig, "ADD|DEL", "true")
    pod = rig.pod("pod1")
    assert "clean-up failed" in rig.plugin("ADD", pod, patch=SHORT_DEADLINE).error(11)
    rig.plugin("DEL", pod, patch=SHORT_DEADLINE).error(11)
    (rig.base / "plugins" / "macvlan").unlink()
    rig.plugin("DEL", pod).ok()
    assert_nothing_left(rig, pod)


def test_delegate_gets_nothing_of_our_environment(rig: Rig) -> None:
    seen = rig.base / "environment"
    rig.write_plugin("macvlan", f"#!/bin/sh\n/usr/bin/env >{seen}\nexec {MACVLAN}\n")
    pod = rig.pod("pod1")
    more = {"HOME": "/root", "TOKEN": "secret", "LANG": "C", "PYTHONPATH": "/tmp", "cni_x": "y"}
    rig.plugin("ADD", pod, CNI_EXTRA="kept", **more).ok()
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert names - shells_own == {
        "CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_EXTRA", "CNI_IFNAME", "CNI_NETNS",
        "CNI_PATH", "PATH",
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_no_plugin_is_run_from_a_relative_directory(rig: Rig, verb: str) -> None:
    """The macvlan plugin looks for host-local in the CNI_PATH that it is given, and takes what a
    relative directory leads to."""
    ran = rig.base / "ran"
    planted = rig.base / "planted" / "host-local"
    planted.parent.mkdir()
    planted.write_text(f"#!/bin/sh\ntouch {ran}\nexec {PLUGINS}/host-local\n")
    planted.chmod(0o755)
    relative = str(planted.parent)[1:]  # the rig starts plugins in /
    pod = rig.pod("pod1")
    conf = rig.conf()
    added: Json = {}
    for called in ("ADD", "CHECK", "DEL"):
        more = {"CNI_PATH": f"{relative}:{PLUGINS}"} if called == verb else {}
        previous = {} if called == "ADD" else {"prevResult": added}
        outcome = rig.plugin(called, pod, {**conf, **previous}, **more)
        added = outcome.ok() if called == "ADD" else added
    assert not ran.exists()
    assert_nothing_left(rig, pod)


def test_delegate_that_talks_does_not_spoil_the_document(rig: Rig) -> None:
    rig.write_plugin("macvlan", f"#!/bin/sh\necho noise >&2\nexec {MACVLAN}\n")
    outcome = rig.plugin("ADD", rig.pod("pod1"))
    assert outcome.ok()["cniVersion"] == "1.0.0"
    assert "noise" in outcome.err


@pytest.mark.parametrize(
    "netns", slow_but(["/nowhere", "/proc/self/ns/net", "/dev/null", "/run"], "/proc/self/ns/net")
)
def test_add_into_no_pod(rig: Rig, netns: str) -> None:
    before = rig.node_links()
    pod = rig.pod("pod1")
    assert netns in rig.plugin("ADD", pod, netns=netns).error(4)
    assert rig.node_links() == before
    assert_nothing_left(rig, pod)


def test_four_adds_at_once(rig: Rig) -> None:
    pods = [rig.pod(f"pod{number}") for number in range(4)]
    stdin = json.dumps(rig.conf())
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                rig.started(rig.launcher(), stdin=stdin, env=rig.environ("ADD", pod))
            )
            for pod in pods
        ]
        for process in processes:
            out, err = process.communicate(timeout=HANG_SECONDS)
            assert process.returncode == 0, (out, err)
    assert len(rig.leases()) == len(rig.kept()) == 4


# --- ADD that is killed --------------------------------------------------------------------------

KILL_BEFORE_COMMIT = """
import os
from cni_repair.node import capture
capture.capture = lambda *a: os.kill(os.getpid(), 9)
"""
KILL_BEFORE_DELEGATE = """
import os
from cni_repair.cni import delegate
delegate.call = lambda *a, **k: os.kill(os.getpid(), 9)
"""
KILL_BETWEEN_WRITE_AND_RENAME = """
import os
from cni_repair.checkpoint.store import Store
fulfil = Store.fulfil
def killed(self, key, text):
    os.rename = lambda *a, **k: os.kill(os.getpid(), 9)
    fulfil(self, key, text)
Store.fulfil = killed
"""
KILL_BETWEEN_RENAMES = """
import os
from cni_repair.checkpoint import store
whole = store.replace_whole
store.replace_whole = lambda *a, **k: (whole(*a, **k), os.kill(os.getpid(), 9))
"""
KILL_AFTER_COMMIT = """
import os
from cni_repair.checkpoint.store import Store
fulfil = Store.fulfil
Store.fulfil = lambda *a: (fulfil(*a), os.kill(os.getpid(), 9))
"""
KILL_ON_ROLL_BACK = """
import os
from cni_repair.cni import delete
from cni_repair.node import capture
def fail(*a):
    raise RuntimeError("made up")
capture.capture = fail
delete.delete_locked = lambda *a: os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(
    "patch",
    [
        KILL_BEFORE_DELEGATE,
        KILL_BEFORE_COMMIT,
        KILL_BETWEEN_WRITE_AND_RENAME,
        KILL_BETWEEN_RENAMES,
        KILL_ON_ROLL_BACK,
    ],
    ids=["before the delegate", "before commit", "before rename", "between", "on roll-back"],
)
@pytest.mark.parametrize("then", slow_but(["ADD", "DEL", "ADD by another pod"], "DEL"))
def test_killed_before_the_commit(rig: Rig, patch: str, then: str) -> None:
    pod = rig.pod("pod1")
    assert rig.plugin("ADD", pod, patch=patch).status == -signal.SIGKILL
    assert rig.kept() != []
    assert rig.plugin("REPAIR").report(0)["attachments"] == []
    if then == "DEL":
        rig.plugin("DEL", pod).ok()
        assert_nothing_left(rig, pod)
        return
    if then == "ADD by another pod":  # of the same container id: the first netns is gone
        rig.drop_pod(pod)
        pod = rig.pod("pod1")
    result = rig.plugin("ADD", pod).ok()
    assert rig.kept() == [rig.checkpoint(pod).name]
    assert list(rig.leases()) == [result["ips"][0]["address"].partition("/")[0]]
    rig.plugin("CHECK", pod, {**rig.conf(), "prevResult": result}).ok()


@pytest.mark.slow
def test_killed_after_the_commit_nothing_is_lost(rig: Rig) -> None:
    pod = rig.pod("pod1")
    assert rig.plugin("ADD", pod, patch=KILL_AFTER_COMMIT).status == -signal.SIGKILL
    assert rig.kept() == [rig.checkpoint(pod).name]
    was = rig.state(pod)
    rig.reload()
    rig.plugin("REPAIR", pod).ok()
    assert rig.state(pod) == was
    rig.plugin("ADD", pod).error(106)
    rig.plugin("DEL", pod).ok()
    assert_nothing_left(rig, pod)
    rig.plugin("ADD", pod).ok()


# As if a whole 45 s had been waited for the lock.
IMPATIENT = """
from cni_repair.checkpoint import locks
locks._ORPHANS_SECONDS = 0.0
locks.Lock.__init__.__defaults__ = (0.5, -1)
"""


def killed_while_its_delegate_works(rig: Rig, pod: Pod, started: Path) -> None:
    with rig.started(
        rig.launcher(), stdin=json.dumps(rig.conf()), env=rig.environ("ADD", pod)
    ) as process:
        eventually(started.exists, "the delegate to be at work")
        process.kill()
        process.wait(HANG_SECONDS)


@pytest.mark.parametrize("verb", ["DEL", "ADD"])
def test_delegate_finishes_under_our_lock_when_we_are_killed(rig: Rig, verb: str) -> None:
    """Were it killed with us, host-local would leave an empty file, or the plugin half a link."""
    started, go = rig.base / "started", rig.base / "go"
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] && {{ touch {started}; until test -e {go}; do sleep 0.02; done; }}
        exec {MACVLAN}
        """,
    )
    pod = rig.pod("pod1")
    killed_while_its_delegate_works(rig, pod, started)
    with rig.started(
        rig.launcher(), stdin=json.dumps(rig.conf()), env=rig.environ(verb, pod)
    ) as waiting:
        eventually(
            lambda: any("@eth0.lock" in target for target in descriptors(waiting.pid)),
            "the next one to wait for the lock",
        )
        go.touch()
        assert waiting.wait(HANG_SECONDS) == 0
    if verb == "ADD":
        assert list(rig.leases().values()) == [pod.id]
        rig.plugin("DEL", pod).ok()
    assert_nothing_left(rig, pod)


def test_delegate_that_hangs_without_us_is_ended_by_the_next_call(rig: Rig) -> None:
    pids = hanging(rig, "ADD")
    pod = rig.pod("pod1")
    killed_while_its_delegate_works(rig, pod, pids)
    assert "eth0" in rig.links(pod)
    orphans = [int(pid) for pid in pids.read_text().split()]
    rig.plugin("REPAIR").ok()  # does not wait for it
    assert all(map(is_alive, orphans))
    (rig.base / "plugins" / "macvlan").unlink()
    rig.plugin("ADD", pod, patch=IMPATIENT).ok()
    eventually(lambda: not any(map(is_alive, orphans)), "it to be ended")
    assert len(rig.leases()) == 1


def test_delegate_of_a_living_add_is_not_ended_by_who_waits(rig: Rig) -> None:
    pids = hanging(rig, "ADD")
    pod = rig.pod("pod1")
    stdin, environ = json.dumps(rig.conf()), rig.environ("ADD", pod)
    with rig.started(rig.launcher(), stdin=stdin, env=environ) as process:
        eventually(pids.exists, "the delegate to hang")
        told = rig.plugin("DEL", pod, patch=IMPATIENT).error(11)
        assert "lslocks" in told
        delegate, child = map(int, pids.read_text().split())
        assert is_alive(delegate) and is_alive(child)
        os.killpg(delegate, signal.SIGKILL)
        assert process.wait(HANG_SECONDS) == 1
    assert_nothing_left(rig, pod)


@pytest.mark.parametrize("then", ["DEL", "ADD", "GC"])
def test_what_a_delegate_that_was_killed_with_us_has_left(rig: Rig, then: str) -> None:
    """By a control group's end, say: host-local's file is empty, and the macvlan plugin's link has
    no name yet. Neither plugin's own DEL finds that again."""
    pod, other = rig.pod("pod1"), rig.attach("pod2")
    assert rig.plugin("ADD", pod, patch=KILL_BEFORE_DELEGATE).status == -signal.SIGKILL
    rig.ip(f"link add link eth0 name veth0a1b2c3d netns {pod.name} type macvlan mode bridge")
    torn = rig.base / "ipam" / "pods" / "10.9.0.77"
    torn.touch()
    if then == "GC":
        collect(rig, (other.pod, "eth0")).ok()
    else:
        rig.plugin(then, pod).ok()
    assert not torn.exists()
    assert set(rig.links(pod)) == ({"lo", "eth0"} if then == "ADD" else {"lo"})
    assert rig.state(other.pod) == other.state
    assert other.address in rig.leases()


def test_links_of_the_pods_own_are_not_what_a_killed_plugin_left(rig: Rig) -> None:
    pod = rig.pod("pod1")
    assert rig.plugin("ADD", pod, patch=KILL_BEFORE_DELEGATE).status == -signal.SIGKILL
    rig.ip("link add vethaaaaaaaa type veth peer name peer", pod)
    rig.ip("link add link peer name vethbbbbbbbb type macvlan", pod)
    rig.ip(f"link add link eth0 name net1 netns {pod.name} type macvlan mode bridge")
    rig.plugin("DEL", pod).ok()
    assert set(rig.links(pod)) == {"lo", "vethaaaaaaaa", "peer", "vethbbbbbbbb", "net1"}


def test_second_add_of_a_living_attachment_harms_nothing(rig: Rig) -> None:
    was = rig.attach("pod1")
    leases, kept = rig.leases(), rig.kept()
    rig.plugin("ADD", was.pod).error(106)
    rig.reload()  # lost, but the pod lives: REPAIR is what it needs
    rig.plugin("ADD", was.pod).error(106)
    assert (rig.leases(), rig.kept()) == (leases, kept)
    rig.plugin("REPAIR", was.pod).ok()
    assert rig.state(was.pod) == was.state


def test_add_over_the_record_of_a_dead_pod(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.drop_pod(was.pod)
    now = rig.attach("pod1")
    assert list(rig.leases()) == [now.address]
    rig.plugin("CHECK", now.pod, {**rig.conf(), "prevResult": now.result}).ok()


# --- DEL -----------------------------------------------------------------------------------------


def netns_gone(rig: Rig, pod: Pod) -> None:
    rig.drop_pod(pod)


def link_gone(rig: Rig, pod: Pod) -> None:
    rig.ip("link del eth0", pod)


def master_gone(rig: Rig, _: Pod) -> None:
    rig.uplink_down()


def master_and_netns_gone(rig: Rig, pod: Pod) -> None:
    rig.uplink_down()
    rig.drop_pod(pod)


def link_down(rig: Rig, pod: Pod) -> None:
    rig.ip("link set eth0 down", pod)


def checkpoint_torn(rig: Rig, pod: Pod) -> None:
    os.truncate(rig.checkpoint(pod), 100)


def checkpoint_gone(rig: Rig, pod: Pod) -> None:
    rig.checkpoint(pod).unlink()


def nothing_gone(_: Rig, __: Pod) -> None:
    pass


@pytest.mark.parametrize("netns", slow_but([None, ""], None), ids=["CNI_NETNS", "no CNI_NETNS"])
@pytest.mark.parametrize(
    "damage",
    [
        nothing_gone, netns_gone, link_gone, master_gone, master_and_netns_gone, link_down,
        checkpoint_torn, checkpoint_gone,
    ],
)  # fmt: skip
def test_del_frees_everything_and_twice(rig: Rig, damage: Any, netns: str | None) -> None:
    was = rig.attach("pod1")
    keep = rig.attach("pod2")
    damage(rig, was.pod)
    for _ in range(2):
        assert rig.plugin("DEL", was.pod, netns=netns).out == ""
        assert list(rig.leases()) == [keep.address]
        assert rig.checkpoint(was.pod).name not in rig.kept()
    if damage not in (netns_gone, master_and_netns_gone) and netns is None:
        assert set(rig.links(was.pod)) == {"lo"}


def test_del_without_a_checkpoint_directory(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.checkpoint(was.pod).unlink()
    rig.checkpoints.rmdir()
    for _ in range(2):
        rig.plugin("DEL", was.pod).ok()
        assert_nothing_left(rig, was.pod)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "not recorded"])
@pytest.mark.parametrize(
    "path", slow_but(["/proc/self/ns/net", "/dev/null", "/nowhere"], "/proc/self/ns/net")
)
def test_del_with_a_path_that_is_no_pods_any_more(rig: Rig, path: str, recorded: bool) -> None:
    """PIDs are used again (kubernetes #100648): the node's own eth0 stands under the same name."""
    was = rig.attach("pod1")
    if not recorded:
        rig.checkpoint(was.pod).unlink()
    before = rig.node_links()
    assert any(name == "eth0" for name, _, _ in before)
    rig.plugin("DEL", was.pod, netns=path).ok()
    assert rig.node_links() == before
    assert rig.leases() == {}
    assert rig.kept() == []


def test_del_with_a_path_that_leads_to_another_pod_now(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.drop_pod(was.pod)
    other = rig.pod("pod1")
    result = rig.plugin("ADD", other, CNI_CONTAINERID="another").ok()
    state = rig.state(other)
    rig.plugin("DEL", was.pod).ok()
    assert rig.state(other) == state
    assert rig.leases() == {result["ips"][0]["address"].partition("/")[0]: "another"}
    assert rig.kept() == ["another@eth0.json"]


def test_del_where_the_inode_came_again(rig: Rig) -> None:
    """Inodes of nsfs recur, cookies do not."""
    was = rig.attach("pod1")
    rig.drop_pod(was.pod)
    other = rig.pod("pod1")
    rig.plugin("ADD", other, CNI_CONTAINERID="another").ok()
    state = rig.state(other)
    path, status = rig.checkpoint(was.pod), os.stat(rig.outside(other.path))
    known = model.decode(path.read_bytes(), path.name)
    assert known.netns is not None
    netns = replace(known.netns, dev=status.st_dev, ino=status.st_ino)
    path.write_text(model.encode(replace(known, netns=netns)))
    rig.plugin("DEL", was.pod).ok()
    assert rig.state(other) == state
    assert list(rig.leases().values()) == ["another"]


def test_del_never_takes_a_link_that_is_not_ours(rig: Rig) -> None:
    """The pod squatted the name after the loss; the master is gone, so the delegate fails."""
    was = rig.attach("pod1")
    rig.uplink_down()
    rig.ip("link add eth0 type bridge", was.pod)
    rig.plugin("DEL", was.pod).ok()
    assert set(rig.links(was.pod)) == {"lo", "eth0"}
    assert rig.leases() == {}


def tombstone(rig: Rig, pod: Pod) -> Path:
    """Where the checkpoint directory cannot have it."""
    return rig.base / "run" / f"{pod.id}@eth0.deleting"


def test_del_on_a_read_only_disk_ends_and_is_remembered(rig: Rig) -> None:
    """The pod and its address do not wait for the disk; and nobody makes the interface again with
    an address that is free."""
    was, other = rig.attach("pod1"), rig.attach("pod2")
    read_only(rig)
    rig.plugin("DEL", was.pod).ok()
    assert "eth0" not in rig.links(was.pod)
    assert list(rig.leases()) == [other.address]
    assert rig.checkpoint(was.pod).exists()
    rig.plugin("DEL", rig.pod("never-seen")).ok()

    assert states(rig.plugin("REPAIR").report(0)) == {other.pod.id: "healthy"}
    rig.plugin("REPAIR", was.pod).error(108)
    for command in (
        ["status", "--all"],
        ["plan"],
        ["verify"],
        ["snapshot", "--check"],
        ["repair", "--all"],
    ):
        report = rig.cli(*command, "-o", "json", *options(rig)).report(0)
        assert [one["containerID"] for one in report["attachments"]] == [other.pod.id]
    assert "eth0" not in rig.links(was.pod)

    rig.plugin("DEL", was.pod).ok()  # the runtime may call it again, before and after
    rig.run("umount", str(rig.checkpoints))
    assert states(rig.plugin("REPAIR").report(0)) == {other.pod.id: "healthy"}
    rig.plugin("DEL", was.pod).ok()
    assert not tombstone(rig, was.pod).exists()
    assert not rig.checkpoint(was.pod).exists()


def test_add_after_such_a_del_begins_anew(rig: Rig) -> None:
    was = rig.attach("pod1")
    read_only(rig)
    rig.plugin("DEL", was.pod).ok()
    assert tombstone(rig, was.pod).exists()
    rig.run("umount", str(rig.checkpoints))
    again = rig.attach_pod(was.pod)
    assert not tombstone(rig, was.pod).exists()
    rig.reload()
    assert states(rig.plugin("REPAIR").report(0)) == {was.pod.id: "healthy"}
    assert rig.state(was.pod) == again.state


def test_gc_after_such_a_del_removes_its_record(rig: Rig) -> None:
    was = rig.attach("pod1")
    read_only(rig)
    rig.plugin("DEL", was.pod).ok()
    rig.run("umount", str(rig.checkpoints))
    rig.plugin("GC", None, {**rig.conf(), "cni.dev/valid-attachments": []}).ok()
    assert not tombstone(rig, was.pod).exists()
    assert_nothing_left(rig, was.pod)


def test_a_tombstone_is_for_one_record(rig: Rig) -> None:
    """Another record of the same name, as after a restored backup, is not hidden by it."""
    was = rig.attach("pod1")
    read_only(rig)
    rig.plugin("DEL", was.pod).ok()
    rig.run("umount", str(rig.checkpoints))
    path = tombstone(rig, was.pod)
    kept = path.read_bytes()
    again = rig.attach_pod(was.pod)
    path.write_bytes(kept)
    path.chmod(0o600)
    assert states(rig.plugin("REPAIR").report(0)) == {again.pod.id: "healthy"}


@pytest.mark.parametrize("before", ["observe_pod", "chain_from"])
def test_add_whose_master_goes_away_just_after_the_plugins_work(rig: Rig, before: str) -> None:
    """It is to be tried again: nothing is wrong with the plugin, nor with the record."""
    gone = f"""
import subprocess
from cni_repair.node import capture
look = capture.{before}
def after_the_loss(*arguments, **options):
    subprocess.run(["ip", "link", "del", "eth0"], check=True)
    return look(*arguments, **options)
capture.{before} = after_the_loss
"""
    pod = rig.pod("pod1")
    told = rig.plugin("ADD", pod, rig.conf(), patch=gone).error(11)
    assert told.startswith("eth0 went away with its master while it was attached")
    assert (rig.kept(), rig.leases()) == ([], {})
    rig.uplink_up()
    rig.plugin("ADD", pod, rig.conf()).ok()


def test_an_address_is_freed_once_its_pod_does_not_answer_for_it_any_more(rig: Rig) -> None:
    """The plugin frees it first, and then takes the interface away: killed in between, it would
    leave a pod that answers for an address of the next one's."""
    up = rig.base / "up"
    rig.write_plugin(
        "host-local",
        "#!/bin/sh\n"
        f'[ "$CNI_COMMAND" != DEL ] || nsenter --net="$CNI_NETNS" ip -o link show up >{up}\n'
        f"exec {PLUGINS}/host-local\n",
    )
    was = rig.attach("pod1")
    rig.plugin("DEL", was.pod).ok()
    assert "eth0" not in up.read_text()
    assert rig.leases() == {}


def test_del_that_can_be_remembered_nowhere_takes_nothing_away(rig: Rig) -> None:
    was = rig.attach("pod1")
    read_only(rig)
    run = str(rig.base / "run")
    rig.run("mount", "--bind", run, run)
    (rig.base / "run" / f"{was.pod.id}@eth0.lock").touch(0o600)
    full = """
from cni_repair.checkpoint import tombstones
def replace_durably(*_):
    raise OSError(28, "No space left on device")
tombstones.replace_durably = replace_durably
"""
    told = rig.plugin("DEL", was.pod, patch=full).error(5)
    assert "nothing was taken away" in told
    assert rig.state(was.pod) == was.state
    assert list(rig.leases()) == [was.address]


@pytest.mark.parametrize("moment", ["tombstone", "delegate"])
def test_del_that_is_killed_is_never_repaired_and_works_the_next_time(
    rig: Rig, moment: str
) -> None:
    patch = {
        "tombstone": """
import os
from cni_repair.checkpoint.store import Store
tombstone = Store.tombstone
Store.tombstone = lambda *a: (tombstone(*a), os.kill(os.getpid(), 9))
""",
        "delegate": """
import os
from cni_repair.checkpoint.store import Store
Store.remove = lambda *a: os.kill(os.getpid(), 9)
""",
    }[moment]
    was = rig.attach("pod1")
    assert rig.plugin("DEL", was.pod, patch=patch).status == -signal.SIGKILL
    rig.reload()
    assert rig.plugin("REPAIR").report(0)["attachments"] == []
    rig.plugin("REPAIR", was.pod).error(108)
    assert set(rig.links(was.pod)) == {"lo"}
    rig.plugin("DEL", was.pod).ok()
    assert_nothing_left(rig, was.pod)


# --- CHECK ---------------------------------------------------------------------------------------


def check(rig: Rig, pod: Pod, result: Json, conf: Json | None = None, **how: Any) -> Outcome:
    return rig.plugin("CHECK", pod, {**(conf or rig.conf()), "prevResult": result}, **how)


def test_check_of_a_healthy_pod_says_nothing(rig: Rig) -> None:
    was = rig.attach("pod1")
    assert check(rig, was.pod, was.result) == Outcome(0, "", "")
    assert json.loads(rig.checkpoint(was.pod).read_text())["settled"] is True
    before = rig.checkpoint(was.pod).stat().st_ino
    assert check(rig, was.pod, was.result) == Outcome(0, "", "")
    assert rig.checkpoint(was.pod).stat().st_ino == before  # from the second time on: nothing


@pytest.mark.parametrize(
    "damage",
    slow_but(
        ["link del eth0", "addr flush dev eth0", "route del default", "link set eth0 down"],
        "link del eth0",
        "route del default",
    ),
)
def test_check_of_a_damaged_pod(rig: Rig, damage: str) -> None:
    was = rig.attach("pod1")
    rig.ip(damage, was.pod)
    assert check(rig, was.pod, was.result).report(1)["msg"]
    conf = rig.conf(repairOnCheck=True)
    check(rig, was.pod, was.result, conf).ok()
    assert rig.state(was.pod) == was.state


def test_check_sees_what_the_delegate_does_not(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.ip("route add 203.0.113.0/24 via 10.9.0.1", was.pod)
    check(rig, was.pod, was.result).ok()
    rig.ip("route del 203.0.113.0/24", was.pod)
    rig.bare("CHECK", was.pod, {**rig.conf(), "prevResult": was.result}).ok()
    assert "203.0.113.0/24" in check(rig, was.pod, was.result).error(101)


def test_repair_on_check_without_a_master(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.uplink_down()
    conf = rig.conf(repairOnCheck=True)
    assert check(rig, was.pod, was.result, conf).report(1)["msg"]
    rig.uplink_up()
    check(rig, was.pod, was.result, conf).ok()
    assert rig.state(was.pod) == was.state


def test_check_without_a_checkpoint_is_the_delegates(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.checkpoint(was.pod).unlink()
    check(rig, was.pod, was.result).ok()
    rig.checkpoints.rmdir()
    check(rig, was.pod, was.result).ok()
    rig.ip("addr flush dev eth0", was.pod)
    assert check(rig, was.pod, was.result).report(1)["msg"]


def test_check_in_the_wrong_netns(rig: Rig) -> None:
    was, other = rig.attach("pod1"), rig.attach("pod2")
    assert check(rig, was.pod, was.result, netns=other.pod.path).report(1)["msg"]


@contextmanager
def chained(rig: Rig, pod: Pod, **settings: Any) -> Iterator[Json]:
    """A conflist: cni-repair first, then tuning. Gives the chain's Result."""
    first = rig.plugin("ADD", pod).ok()
    tuning = {"cniVersion": "1.0.0", "name": "pods", **settings}
    result: Json = rig.bare("ADD", pod, {**tuning, "prevResult": first}, "tuning").ok()
    yield result
    rig.bare("CHECK", pod, {**tuning, "prevResult": result}, "tuning").ok()
    rig.bare("DEL", pod, {**tuning, "prevResult": result}, "tuning").ok()
    rig.plugin("DEL", pod, {**rig.conf(), "prevResult": result}).ok()
    assert_nothing_left(rig, pod)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"mac": "02:00:00:00:aa:01"},
        {"mtu": 1400},
        {"mac": "02:00:00:00:aa:01", "mtu": 1280, "promisc": False},
        {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1", "net.ipv4.conf.eth0.rp_filter": "2"}},
    ],
    ids=["mac", "mtu", "mac and mtu", "sysctl"],
)
def test_what_a_chained_plugin_changed_comes_back(rig: Rig, settings: Json) -> None:
    pod = rig.pod("pod1")
    with chained(rig, pod, **settings) as result:
        check(rig, pod, result).ok()
        was = rig.state(pod)
        rig.reload()
        rig.plugin("REPAIR", pod).ok()
        assert rig.state(pod) == was
        check(rig, pod, result).ok()


# --- STATUS --------------------------------------------------------------------------------------


def test_status(rig: Rig) -> None:
    conf = rig.conf(statusGrace=0)
    assert rig.plugin("STATUS", None, conf).ok() is None
    rig.uplink_down()
    assert "eth0" in rig.plugin("STATUS", None, conf).error(50)
    rig.uplink_up()
    was = rig.attach("pod1")
    assert rig.plugin("STATUS", None, conf).ok() is None
    rig.uplink_down()
    assert "eth0" in rig.plugin("STATUS", None, conf).error(51)
    rig.plugin("STATUS", None, {**conf, "name": "others"}).error(50)
    rig.uplink_up()
    assert rig.plugin("STATUS", None, conf).ok() is None
    assert "eth0" not in rig.links(was.pod)


# --- GC ------------------------------------------------------------------------------------------


def collect(rig: Rig, *valid: tuple[Pod, str], **how: Any) -> Outcome:
    listed = [{"containerID": pod.id, "ifname": ifname} for pod, ifname in valid]
    return rig.plugin("GC", None, {**rig.conf(), "cni.dev/valid-attachments": listed}, **how)


def test_gc_drops_what_is_not_valid_and_frees_its_address(rig: Rig) -> None:
    keep, drop, dead = rig.attach("pod1"), rig.attach("pod2"), rig.attach("pod3")
    other = rig.attach("pod4", rig.conf(name="others"))
    rig.drop_pod(dead.pod)
    assert collect(rig, (keep.pod, "eth0")).out == ""
    assert rig.leases() == {keep.address: keep.pod.id}
    assert rig.leases("others") == {other.address: other.pod.id}
    assert rig.kept() == sorted([rig.checkpoint(keep.pod).name, rig.checkpoint(other.pod).name])
    assert "eth0" not in rig.links(drop.pod)
    assert rig.state(keep.pod) == keep.state
    assert rig.state(other.pod) == other.state


def test_gc_never_deletes_in_a_namespace_that_is_another_pods_now(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.drop_pod(was.pod)
    other = rig.pod("pod1")
    rig.plugin("ADD", other, CNI_CONTAINERID="another").ok()
    state = rig.state(other)
    listed = [{"containerID": "another", "ifname": "eth0"}]
    rig.plugin("GC", None, {**rig.conf(), "cni.dev/valid-attachments": listed}).ok()
    assert rig.state(other) == state
    assert list(rig.leases().values()) == ["another"]


def test_gc_takes_the_remains_of_a_killed_add(rig: Rig) -> None:
    pod = rig.pod("pod1")
    assert rig.plugin("ADD", pod, patch=KILL_BEFORE_COMMIT).status == -signal.SIGKILL
    collect(rig).ok()
    assert_nothing_left(rig, pod)


KILL_AT_FORGETTING = """
import os
from cni_repair.checkpoint.locks import Lock
Lock.forget = lambda self: os.kill(os.getpid(), 9)
"""
KILL_IN_WRITING_THE_INTENT = """
import os
os.rename = lambda *a, **k: os.kill(os.getpid(), 9)
"""


def locks_of_pods(rig: Rig) -> set[str]:
    return {name for name in os.listdir(rig.base / "run") if "@" in name}


@pytest.mark.parametrize("verb", ["GC", "DEL"])
def test_gc_sweeps_up_a_lock_that_a_killed_one_left(rig: Rig, verb: str) -> None:
    keep, drop = rig.attach("pod1"), rig.attach("pod2")
    if verb == "GC":
        assert collect(rig, (keep.pod, "eth0"), patch=KILL_AT_FORGETTING).status == -signal.SIGKILL
    else:
        killed = rig.plugin("DEL", drop.pod, patch=KILL_AT_FORGETTING)
        assert killed.status == -signal.SIGKILL
    assert locks_of_pods(rig) == {f"{one.pod.id}@eth0.lock" for one in (keep, drop)}
    collect(rig, (keep.pod, "eth0")).ok()
    assert locks_of_pods(rig) == {f"{keep.pod.id}@eth0.lock"}
    assert rig.state(keep.pod) == keep.state


def test_gc_sweeps_up_what_was_half_written(rig: Rig) -> None:
    pod = rig.pod("pod1")
    assert rig.plugin("ADD", pod, patch=KILL_IN_WRITING_THE_INTENT).status == -signal.SIGKILL
    assert rig.kept() == [f".{pod.id}@eth0.intent.tmp"]
    collect(rig).ok()
    assert_nothing_left(rig, pod)


def test_gc_leaves_what_is_being_worked_on(rig: Rig) -> None:
    """An ADD has its lock before its intent."""
    rig.attach("pod1")
    with Lock(str(rig.base / "run"), "another@eth0"):
        collect(rig).ok()
        assert locks_of_pods(rig) == {"another@eth0.lock"}


BOTH = ("cni.dev/valid-attachments", "cni.dev/attachments")


@pytest.mark.parametrize("key", BOTH)
def test_gc_reads_the_list_under_either_key(rig: Rig, key: str) -> None:
    """The second is that of SPEC 1.1.0 as tagged; later text, and libcni, have the first."""
    keep, drop = rig.attach("pod1"), rig.attach("pod2")
    listed = [{"containerID": keep.pod.id, "ifname": "eth0"}]
    rig.plugin("GC", None, {**rig.conf(), key: listed}).ok()
    assert rig.leases() == {keep.address: keep.pod.id}
    assert "eth0" not in rig.links(drop.pod)
    assert rig.state(keep.pod) == keep.state


def test_gc_keeps_what_either_key_names(rig: Rig) -> None:
    one, two, three = rig.attach("pod1"), rig.attach("pod2"), rig.attach("pod3")
    listed = {
        key: [{"containerID": was.pod.id, "ifname": "eth0"}] * 2  # twice is once
        for key, was in zip(BOTH, (one, two), strict=True)
    }
    rig.plugin("GC", None, {**rig.conf(), **listed}).ok()
    assert rig.leases() == {one.address: one.pod.id, two.address: two.pod.id}
    assert "eth0" not in rig.links(three.pod)


def test_gc_of_an_empty_list_deletes_all_and_null_beside_it_says_nothing(rig: Rig) -> None:
    was = rig.attach("pod1")
    rig.plugin("GC", None, {**rig.conf(), BOTH[0]: [], BOTH[1]: None}).ok()
    assert_nothing_left(rig, was.pod)


def test_gc_reads_entries_in_any_case_as_go_does(rig: Rig) -> None:
    was = rig.attach("pod1")
    listed = [{"containerId": was.pod.id, "IfName": "eth0"}]
    rig.plugin("GC", None, {**rig.conf(), BOTH[0]: listed}).ok()
    assert rig.state(was.pod) == was.state


@pytest.mark.parametrize(
    "lists",
    [
        {},
        {BOTH[0]: None},
        {BOTH[1]: None},
        {BOTH[0]: "pod1"},
        {BOTH[1]: {}},
        {BOTH[0]: [], BOTH[1]: "pod1"},
        {BOTH[0]: ["pod1"]},
        {BOTH[0]: [None]},
        {BOTH[0]: [{"containerID": "pod1"}]},
        {BOTH[1]: [{"ifname": "eth0"}]},
        {BOTH[1]: [{"containerID": "", "ifname": "eth0"}]},
        {BOTH[0]: [{"containerID": "pod1", "ifname": 0}]},
        {BOTH[0]: [{"containerID": "pod1", "ifname": None}]},
    ],
    ids=str,
)
def test_gc_without_a_list_that_can_be_read_deletes_nothing(rig: Rig, lists: Any) -> None:
    was = rig.attach("pod1")
    rig.plugin("GC", None, {**rig.conf(), **lists}).error(7)
    assert rig.state(was.pod) == was.state
    assert list(rig.leases()) == [was.address]


def test_gc_hands_both_lists_to_a_delegate_that_knows_gc_and_none_to_its_del(rig: Rig) -> None:
    was = rig.attach("pod1")
    said = rig.base / "said"
    versions = json.dumps({"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]})
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = VERSION ] && {{ echo '{versions}'; exit; }}
        cat >{said}.$CNI_COMMAND
        """,
    )
    listed = [{"containerID": "another", "ifname": "eth0"}]
    conf = {**rig.conf(cniVersion="1.1.0"), **dict.fromkeys(BOTH, listed)}
    rig.plugin("GC", None, conf).ok()
    asked = json.loads(Path(f"{said}.GC").read_text(encoding="utf-8"))
    assert {key: asked[key] for key in BOTH} == dict.fromkeys(BOTH, listed)
    deleted = json.loads(Path(f"{said}.DEL").read_text(encoding="utf-8"))
    assert not set(BOTH) & set(deleted)
    assert rig.kept() == [], was


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_verbs_of_1_1_0_are_not_passed_on_for_an_older_configuration(rig: Rig, verb: str) -> None:
    """A plugin that knows them says: config version does not allow it."""
    versions = json.dumps({"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]})
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = VERSION ] && {{ echo '{versions}'; exit; }}
        echo '{{"code": 1, "msg": "config version does not allow it"}}'
        exit 1
        """,
    )
    rig.plugin(verb, None, {**rig.conf(cniVersion="1.0.0"), BOTH[0]: []}).ok()
    rig.plugin(verb, None, {**rig.conf(cniVersion="1.1.0"), BOTH[0]: []}).error(1)


# --- VERSION -------------------------------------------------------------------------------------


def test_version(rig: Rig) -> None:
    asked = json.dumps({"cniVersion": "1.0.0"})
    assert rig.plugin("VERSION", None, asked).ok() == {
        "cniVersion": "1.0.0",
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"],  # as macvlan's
    }


def test_version_without_a_delegate(rig: Rig) -> None:
    document = rig.plugin("VERSION", None, "{}", CNI_PATH="/nowhere").ok()
    assert document["supportedVersions"][0] == "0.1.0"
    assert document["supportedVersions"][-1] == "1.1.0"


def test_interrupted_add_leaves_nothing(rig: Rig) -> None:
    """Ctrl-C reaches us, not the delegate: it ends what it does, then our roll-back begins."""
    pid, go = rig.base / "started", rig.base / "go"
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] && {{ echo $$ >{pid}; until test -e {go}; do sleep 0.02; done; }}
        exec {MACVLAN}
        """,
    )
    pod = rig.pod("pod1")
    environ = rig.environ("ADD", pod)
    with rig.started(rig.launcher(), env=environ, stdin=json.dumps(rig.conf())) as process:
        delegate = int(
            eventually(lambda: pid.exists() and pid.read_text(), "the delegate to start")
        )
        process.send_signal(signal.SIGINT)
        go.touch()
        out, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1
    assert json.loads(out)["code"] == 11
    assert not is_alive(delegate)
    assert_nothing_left(rig, pod)


def test_second_ctrl_c_kills_a_delegate_that_hangs(rig: Rig) -> None:
    pids = hanging(rig, "ADD")
    pod = rig.pod("pod1")
    environ = rig.environ("ADD", pod)
    with rig.started(rig.launcher(), env=environ, stdin=json.dumps(rig.conf())) as process:
        eventually(pids.exists, "the delegate to hang")

        def ends() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        eventually(ends, "the roll-back")
    killed = [int(pid) for pid in pids.read_text().split()]
    eventually(lambda: not any(map(is_alive, killed)), "the delegate to be killed")


def test_add_that_is_interrupted_as_its_delegate_starts_leaves_nothing(rig: Rig) -> None:
    """Before anybody but the kernel knows that there is one."""
    ended = rig.base / "ended"
    rig.write_plugin(
        "macvlan",
        f"""#!/bin/sh
        [ "$CNI_COMMAND" = ADD ] && {{ sleep 0.2; {MACVLAN}; touch {ended}; exit; }}
        exec {MACVLAN}
        """,
    )
    interrupt = """
import os, signal
from cni_repair.cni import delegate
spawn = delegate._spawn
def spawn_and_interrupt(*args):
    delegate._spawn = spawn
    child = spawn(*args)
    os.kill(os.getpid(), signal.SIGINT)
    return child
delegate._spawn = spawn_and_interrupt
"""
    pod = rig.pod("pod1")
    rig.plugin("ADD", pod, patch=interrupt).error(11)
    assert ended.exists()
    assert_nothing_left(rig, pod)
