"""Many pods at once, by several processes: as one process would have left and reported them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.rig import (
    HANG_SECONDS,
    PATIENT,
    Attachment,
    Json,
    Pod,
    Rig,
    entry_of,
    eventually,
    options,
    states,
)
from tests.netns.test_announce import Wire, announced_by_arp, announced_of, mac_of
from tests.processes import is_alive

pytestmark = pytest.mark.slow  # pods take their time to be made

PODS = 42
ONE = "import os\nos.sched_getaffinity = lambda _: {0}\n"
# Three workers and the first process, whatever the machine has; each tells who it is.
SEVERAL = """
import os
from cni_repair.repair import scheduler, workers
os.sched_getaffinity = lambda _: {0, 1, 2, 3}
scheduler._WORTH_A_PROCESS = 1
_work_there = workers.Workers._work_there
def noted(*args):
    with open("$BASE/workers", "a") as file:
        print(os.getpid(), file=file, flush=True)
    _work_there(*args)
workers.Workers._work_there = noted
"""
# `before` is called in a worker before each attachment's turn, with how many it had already.
IN_A_WORKER = """
from cni_repair.repair.transfer import SharedRepair
_repair_there, _turns = SharedRepair._repair_there, []
def _counted(self, place):
    before(len(_turns))
    _turns.append(place)
    return _repair_there(self, place)
SharedRepair._repair_there = _counted
"""
# Every process waits at its second attachment until the file `go` is there: most of them are left
# then, whatever the machine's speed.
WAITING = (
    IN_A_WORKER
    + """
import time
def before(turns):
    while turns == 1 and not os.path.exists("$BASE/go"):
        time.sleep(0.01)
_mine = workers.Workers.mine
def _slowly(self):
    for turns, number in enumerate(_mine(self)):
        before(turns)
        yield number
workers.Workers.mine = _slowly
"""
)


def patch_of(rig: Rig, *texts: str) -> str:
    for name in ("workers", "go"):
        (rig.base / name).unlink(missing_ok=True)
    return "".join(texts).replace("$BASE", str(rig.base))


def workers_of(rig: Rig) -> list[int]:
    """The processes that took part in the last run, but for the first."""
    file = rig.base / "workers"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def repaired(rig: Rig, *texts: str, status: int = 0, workers: int = 3, **changes: Any) -> Json:
    """REPAIR of the node, with this many workers."""
    report = rig.plugin("REPAIR", None, rig.conf(**changes), patch=patch_of(rig, *texts))
    assert len(workers_of(rig)) == workers, report
    return report.report(status)


def have_ended(rig: Rig) -> bool:
    """Whether all workers have; who their parent is then may take its time to reap them."""
    return not any(map(is_alive, workers_of(rig)))


def assert_all_restored(rig: Rig, pods: list[Attachment]) -> None:
    assert [rig.state(was.pod, was.ifname) for was in pods] == [was.state for was in pods]


def cut(rig: Rig) -> None:
    """Every pod's interface goes; the uplink, when it is back, is as it was, index included."""
    index = rig.links()["eth0"]["ifindex"]
    rig.reload()
    assert rig.links()["eth0"]["ifindex"] > index


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, list[Attachment]]]:
    """A node with many pods: made once, and whole at the end of each test."""
    with Rig(tmp_path_factory.mktemp("many")) as rig:
        yield rig, [rig.attach(f"p{number:02}") for number in range(PODS)]


Node = tuple[Rig, list[Attachment]]


# --- all of a node -------------------------------------------------------------------------------


def test_all_lost_come_back_and_are_reported_as_by_one_process(node: Node) -> None:
    rig, pods = node
    cut(rig)
    by_one = repaired(rig, ONE, workers=0)
    cut(rig)
    with Wire(rig) as wire:
        assert repaired(rig, SEVERAL) == by_one
        eventually(
            lambda: (
                wire.read()
                and all(was.address in announced_by_arp(wire.frames, mac_of(was)) for was in pods)
            ),
            "every pod's announcement",
        )
    assert_all_restored(rig, pods)
    assert by_one["summary"]["healthy"] == PODS
    again = repaired(rig, SEVERAL)
    assert [entry["actions"] for entry in again["attachments"]] == [[]] * PODS


@pytest.mark.parametrize("output", ["json", "table"])
def test_command_line_says_the_same(node: Node, output: str) -> None:
    rig, _ = node
    words = ["repair", "--all", *options(rig), *(["-o", "json"] if output == "json" else [])]
    said = []
    for patch in (ONE, SEVERAL):
        rig.ip("link del eth0", rig_pod(node, 5))
        rig.ip("link del eth0", rig_pod(node, 30))
        said.append(rig.cli(*words, patch=patch_of(rig, patch)))
    assert len(workers_of(rig)) == 3
    assert said[0] == said[1]
    assert said[0].status == 0
    assert said[0].out


def rig_pod(node: Node, number: int) -> Pod:
    return node[1][number].pod


def test_worker_killed_in_the_middle_of_a_pod(node: Node) -> None:
    """Its lock goes with it; that pod, and those that it would have done, are another's."""
    rig, pods = node
    die = """
from cni_repair.network import apply
first, add, done = os.getpid(), apply._PodWork.add, []
def mostly(self, step):
    done.append(step)
    if os.getpid() != first and len(done) == 10:
        os.kill(os.getpid(), 9)
    add(self, step)
apply._PodWork.add = mostly
"""
    cut(rig)
    report = repaired(rig, SEVERAL, die)
    assert set(states(report).values()) == {"healthy"}
    assert_all_restored(rig, pods)


def test_first_process_killed_while_workers_work(node: Node) -> None:
    """They end with what they have in hand: the runtime, which reads until the end of the output,
    does not wait for the rest; what is left is the next one's to do."""
    rig, pods = node
    patch = patch_of(rig, SEVERAL, WAITING)
    cut(rig)
    with rig.started(
        rig.launcher(patch), stdin=json.dumps(rig.conf()), env=rig.environ("REPAIR", None)
    ) as process:
        eventually(lambda: len(workers_of(rig)) == 3, "the workers")
        process.kill()
        process.wait(HANG_SECONDS)
        (rig.base / "go").touch()
        out, _ = process.communicate(timeout=HANG_SECONDS)
    assert out == b""
    eventually(lambda: have_ended(rig), "the workers' end")
    report = repaired(rig, SEVERAL)
    rejected = [entry for entry in report["attachments"] if entry["actions"]]
    assert len(rejected) >= PODS - 2 * 4  # each of the four has had at most two
    assert_all_restored(rig, pods)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_with_its_workers(node: Node, number: signal.Signals) -> None:
    """As by Ctrl-C, or by systemd's stop: each of the processes gets the signal."""
    rig, pods = node
    patch = patch_of(rig, SEVERAL, WAITING)
    cut(rig)
    stdin, environ = json.dumps(rig.conf()), rig.environ("REPAIR", None)
    with rig.started("setsid", rig.launcher(patch), stdin=stdin, env=environ) as process:
        eventually(lambda: len(workers_of(rig)) == 3, "the workers")
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert err == b""
    if number == signal.SIGINT:
        assert json.loads(out)["code"] == 11
    assert process.returncode == (1 if number == signal.SIGINT else -number)
    eventually(lambda: have_ended(rig), "the workers' end")
    repaired(rig, SEVERAL)
    assert_all_restored(rig, pods)


def test_two_repairs_with_del_check_and_add_between(node: Node) -> None:
    rig, pods = node
    going, checked = pods[-1], pods[PODS // 2]
    cut(rig)
    stdin, environ = json.dumps(rig.conf()), rig.environ("REPAIR", None)
    launcher = rig.launcher(patch_of(rig, SEVERAL))
    with (
        rig.started(launcher, stdin=stdin, env=environ) as one,
        rig.started(launcher, stdin=stdin, env=environ) as two,
    ):
        rig.plugin("DEL", going.pod).ok()
        new = rig.attach("new")
        conf = {**rig.conf(repairOnCheck=True), "prevResult": checked.result}
        rig.plugin("CHECK", checked.pod, conf).ok()
        for process in (one, two):
            out, err = process.communicate(timeout=HANG_SECONDS)
            assert process.returncode == 0, (out, err)
            assert json.loads(out)["summary"]["healthy"] in (PODS - 1, PODS)
    assert "eth0" not in rig.links(going.pod)
    pods.pop()
    rig.drop_pod(going.pod)
    pods.append(new)
    assert_all_restored(rig, pods)


def test_pods_deleted_while_their_master_is_away(node: Node) -> None:
    """A DEL that was quicker is no failure, and nothing of the pod is reported. When the master is
    back, the others are shared once more."""
    rig, pods = node
    rig.uplink_down()
    patch = patch_of(rig, SEVERAL)
    stdin = json.dumps(rig.conf(masterTimeout=2 * HANG_SECONDS))
    gone, unmounted = pods.pop(), pods.pop()
    with rig.started(rig.launcher(patch), stdin=stdin, env=rig.environ("REPAIR", None)) as process:
        eventually(lambda: len(workers_of(rig)) == 3, "the workers")
        rig.plugin("DEL", gone.pod).ok()
        rig.plugin("DEL", unmounted.pod).ok()
        rig.drop_pod(unmounted.pod)
        rig.uplink_up()
        out, err = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, (out, err)
    rig.drop_pod(gone.pod)
    assert len(workers_of(rig)) == 6
    assert set(states(json.loads(out)).items()) == {(was.pod.id, "healthy") for was in pods}
    assert_all_restored(rig, pods)


def test_carrier_that_comes_late(node: Node) -> None:
    """The first process waits for it, whoever repaired the pod, and announces then."""
    rig, pods = node
    cut(rig)
    rig.ip("link set tor0 down", "tor")
    patch = patch_of(rig, SEVERAL, PATIENT)
    stdin, environ = json.dumps(rig.conf()), rig.environ("REPAIR", None)
    with Wire(rig) as wire, rig.started(rig.launcher(patch), stdin=stdin, env=environ) as process:
        eventually(lambda: workers_of(rig) and have_ended(rig), "the workers' end")
        assert process.poll() is None
        early = wire.read()
        assert not any(announced_by_arp(early, mac_of(was)) for was in pods)
        rig.ip("link set tor0 up", "tor")
        out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, (out, err)
        assert set(states(json.loads(out)).values()) == {"healthy"}
        assert all(announced_of(wire, was) == {was.address} for was in pods)
    assert_all_restored(rig, pods)


def test_what_another_repaired_while_it_was_locked(node: Node) -> None:
    """An upgrade counts it as restored all the same."""
    rig, pods = node
    for was in pods[:2]:
        rig.ip("link del eth0", was.pod)
    tell = """
from cni_repair.base.frozen import replace
from cni_repair.repair.session import Session
_init = Session.__init__
def note_restored(report):
    with open("$BASE/restored", "a") as file:
        print(report.key.container_id, file=file, flush=True)
def init(self, node, store, options, *more):
    _init(self, node, store, replace(options, on_restored=note_restored), *more)
Session.__init__ = init
"""
    stdin, environ = json.dumps(rig.conf()), rig.environ("REPAIR", None)
    file = rig.base / "restored"
    file.unlink(missing_ok=True)
    with (rig.base / "run" / f"{pods[0].pod.id}@eth0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        launcher = rig.launcher(patch_of(rig, SEVERAL, tell))
        with rig.started(launcher, stdin=stdin, env=environ) as process:
            eventually(file.exists, "the other pod's repair")
            elsewhere = rig.conf(runDir=str(rig.base / "other"))  # not held up by that lock
            rig.plugin("REPAIR", pods[0].pod, elsewhere).ok()
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, (out, err)
    assert entry_of(json.loads(out), pods[0].pod)["actions"] == []
    assert sorted(file.read_text().split()) == sorted(was.pod.id for was in pods[:2])
    assert_all_restored(rig, pods[:2])


# --- of all kinds --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A node with a dozen attachments over two uplinks, of which some have trouble of their own."""
    with Rig(tmp_path_factory.mktemp("mixed")) as rig:
        rig.uplink_up("eth1", "10.8.0.1")
        yield rig


def storage(rig: Rig, **changes: Any) -> Json:
    ipam = {
        **rig.conf()["ipam"],
        "ranges": [[{"subnet": "10.8.0.0/24"}]],
        "routes": [{"dst": "192.0.2.0/24", "gw": "10.8.0.1"}],
    }
    return rig.conf(name="storage", master="eth1", ipam=ipam, **changes)


def test_every_kind_of_trouble_is_reported_as_by_one_process(mixed: Rig) -> None:
    rig = mixed
    conf = rig.conf()
    stale = rig.attach("stale")  # the first over its master
    pods = [rig.attach(f"m{number}") for number in range(8)]
    second = [rig.attach_pod(was.pod, storage(rig), ifname="net1") for was in pods[:3]]
    rig.drop_pod(stale.pod)
    foreign, unreadable, locked, degraded = pods[4:]
    lost = [*pods[:4], *second]
    rig.checkpoint(unreadable.pod).write_text("{")

    def lose_all() -> None:
        for was in lost:
            rig.ip(f"link del {was.ifname}", was.pod)
        for was in (foreign, locked):
            rig.ip("link del eth0", was.pod, check=False)
        rig.ip("link add eth0 type bridge", foreign.pod)
        rig.ip(f"addr del {degraded.address}/24 dev eth0", degraded.pod)

    brief = "from cni_repair.repair import scheduler\nscheduler._LOCK_SECONDS = 0.3\n"
    told = []
    with (rig.base / "run" / f"{locked.pod.id}@eth0.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for patch, workers in ((ONE, 0), (SEVERAL, 3)):
            lose_all()
            words = ["--checkpoint-dir", str(rig.checkpoints), "--run-dir", conf["runDir"]]
            texts = patch_of(rig, patch, brief)
            done = rig.cli("repair", "--all", *words, "-o", "json", patch=texts)
            assert len(workers_of(rig)) == workers
            told.append(done.report(1))
    assert told[0] == told[1]
    assert entry_of(told[1], stale.pod)["state"] == "stale"
    assert entry_of(told[1], foreign.pod)["state"] == "foreign"
    assert entry_of(told[1], unreadable.pod)["state"] == "unreadable"
    assert entry_of(told[1], locked.pod)["error"]["code"] == 11
    assert entry_of(told[1], degraded.pod)["actions"]
    for was in (*lost, degraded):
        assert rig.state(was.pod, was.ifname) == was.state


def test_interfaces_of_one_pod_that_need_each_other(mixed: Rig) -> None:
    """Both, in their order, by the same process; what the first lacks at its turn (a next hop
    through the second) it has afterwards, and its report still says all of that turn."""
    rig = mixed
    first = [rig.attach(f"w{number}") for number in range(4)]
    second = [rig.attach_pod(was.pod, storage(rig), ifname="net1") for was in first]
    for was, other in zip(first, second):
        hops = "nexthop via 10.9.0.1 dev eth0 nexthop via 10.8.0.1 dev net1"
        rig.ip(f"route add 203.0.113.0/24 {hops}", was.pod)
        for conf, one in ((rig.conf(), was), (storage(rig), other)):
            document = {**conf, "prevResult": one.result}
            rig.plugin("CHECK", one.pod, document, ifname=one.ifname).ok()
    states_now = [rig.state(was.pod) for was in first]
    taken = first[0].pod  # the index that its eth0 had
    for was in first:
        index = rig.links(was.pod)["eth0"]["ifindex"]
        rig.ip("link del eth0", was.pod)
        rig.ip("link del net1", was.pod)
        if was.pod == taken:
            rig.ip(f"link add br9 index {index} type bridge", was.pod)
    patch = patch_of(rig, SEVERAL)
    report = json.loads(rig.cli("repair", "--all", *options(rig), "-o", "json", patch=patch).out)
    mine = [one for one in report["attachments"] if one["containerID"][:1] == "w"]
    assert [one["ifname"] for one in mine] == ["eth0"] * 4 + ["net1"] * 4
    assert {one["state"] for one in mine} == {"healthy"}
    assert all("203.0.113.0/24" in str(one["actions"]) for one in mine[4:])
    assert "sockets bound to eth0 will not recover" in str(mine[0]["findings"])
    assert [rig.state(was.pod) for was in first[1:]] == states_now[1:]
    assert rig.state(taken)["routes"] == states_now[0]["routes"]
    assert [rig.state(was.pod, "net1") for was in second] == [was.state for was in second]


def test_masters_are_made_by_the_first_process_once(mixed: Rig) -> None:
    """Even where the first pods over one are stale. It knows then what became of them, and of what
    the node had on them, also where only a worker's pods were lost."""
    rig = mixed
    gone = rig.attach("gone", storage(rig))
    pods = [rig.attach(f"u{number}", storage(rig)) for number in range(8)]
    rig.drop_pod(gone.pod)
    rig.reload("eth1", ip="10.8.0.1")
    # This kernel has no VLANs, which alone have to be made: no master counts as ready.
    asked = """
from cni_repair.repair import uplink_cache
ensure = uplink_cache.ensure
def noted_ensure(rtnl, run_dir, chain, *more):
    with open("$BASE/asked", "a") as file:
        print(os.getpid(), chain[0].name, file=file, flush=True)
    return ensure(rtnl, run_dir, chain, *more)
uplink_cache.ensure = noted_ensure
uplink_cache.UplinkCache._ready = lambda *_: None
"""
    patch = patch_of(rig, SEVERAL, asked)
    report = json.loads(rig.cli("repair", "--all", *options(rig), "-o", "json", patch=patch).out)
    assert {entry_of(report, was.pod)["state"] for was in pods} == {"healthy"}
    workers = workers_of(rig)
    assert len(workers) == 3
    calls = [line.split() for line in (rig.base / "asked").read_text().splitlines()]
    assert [name for _, name in calls].count("eth1") == 1
    assert not [name for process, name in calls if int(process) in workers]
    assert_all_restored(rig, pods)


def test_move_is_recorded_before_another_may_look(rig: Rig) -> None:
    """`fallbackMaster`: whoever has the lock next (CHECK, say) finds the pod where its record
    says it is."""
    rig.uplink_up("eth1", ip="10.9.1.1")
    conf = rig.conf(master=["eth0", "eth1"], fallbackMaster=True)
    was = rig.attach("pod1", conf)
    rig.uplink_down("eth0")
    copy = f"""
import shutil
from cni_repair.repair import pod
leave = pod.AttachmentLock.__exit__
def left(self, *how):
    leave(self, *how)
    if not os.path.exists("$BASE/first"):
        shutil.copy("{rig.checkpoint(was.pod)}", "$BASE/first")
pod.AttachmentLock.__exit__ = left
"""
    report = rig.plugin("REPAIR", None, conf, patch=patch_of(rig, "import os\n", copy)).report(0)
    assert entry_of(report, was.pod)["notes"][0].startswith("moved to eth1")
    found = json.loads((rig.base / "first").read_text())
    assert [one["name"] for one in found["parents"]] == ["eth1"]
