"""`cni-repair watch` where things go wrong: nothing is lost, and the others are looked after."""

from __future__ import annotations

import signal

import pytest

from tests.netns.rig import HANG_SECONDS, Rig, eventually
from tests.netns.watching import Watch, watching

pytestmark = pytest.mark.slow  # a daemon that is waited for takes seconds

# A child that hangs at one pod, or dies there, whatever it does: `{fault}` is what happens to it.
AT_ONE_POD = """
import os, time
from cni_repair.watch import crew, tasks

crew.WORKING_SECONDS = 5.0

def faulty(work):
    def at_one_pod(node, entry, *more):
        if entry.key.container_id.startswith("bad"):
            {fault}
        return work(node, entry, *more)
    return at_one_pod

tasks.examine_one = faulty(tasks.examine_one)
"""
FAULTS = {"hangs": "time.sleep(3600)", "dies": "os._exit(1)", "fails": "raise KeyError('bug')"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_child_that_does_not_end_a_look(rig: Rig, fault: str) -> None:
    rig.attach("bad")
    rig.attach("good")
    with watching(rig, patch=AT_ONE_POD.format(fault=FAULTS[fault])) as watch:
        watch.until(lambda status: status["attachments"] == {"healthy": 1, "unreadable": 1}, "both")
        watch.until_said("eth0 cannot be looked at: ")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_pod_that_cannot_be_armed_does_not_hold_the_others(rig: Rig, fault: str) -> None:
    """They are armed without it; it is healed by itself once the uplink is back."""
    bad, good = rig.attach("bad"), rig.attach("good")
    at_one_pod = f"""
import os, time
from cni_repair.repair.armed.arming import Arming
from cni_repair.watch import crew

crew.WORKING_SECONDS = 5.0
add = Arming.add

def faulty(self, entry):
    if entry.key.container_id.startswith("bad"):
        {FAULTS[fault]}
    add(self, entry)

Arming.add = faulty
"""
    with watching(rig, patch=at_one_pod) as watch:
        watch.until_healthy(2)
        rig.uplink_down()
        watch.until_armed(1)
        watch.until_said("a heal over eth0 failed arming shop/bad eth0, which is healed alone: ")
        rig.uplink_up()
        watch.until_healthy(2)
    assert [rig.state(one.pod) for one in (bad, good)] == [bad.state, good.state]


# How DEL says so, before it takes away the interface; on a disk that is full, say, in the run
# directory, and the record stays.
BURIED = {
    "its record is gone": "store.tombstone(entry.key)",
    "its record stays": "tombstones.put({run!r}, store, entry.key)",
}


@pytest.mark.parametrize("how", BURIED)
def test_a_pod_that_is_deleted_during_a_look_is_not_lost(rig: Rig, how: str) -> None:
    rig.attach("a")
    going = rig.attach("going")
    rig.ip("link del eth0", going.pod)
    deleted = f"""
from cni_repair.checkpoint import tombstones
from cni_repair.checkpoint.store import Store
from cni_repair.watch import tasks

def deleted_before(work):
    def look(node, entry, *more):
        if entry.key.container_id.startswith("going"):
            with Store({str(rig.checkpoints)!r}) as store:
                {BURIED[how].format(run=str(rig.base / "run"))}
        return work(node, entry, *more)
    return look

tasks.examine_one = deleted_before(tasks.examine_one)
"""
    with watching(rig, patch=deleted) as watch:
        watch.until(lambda status: status["attachments"] == {"healthy": 1}, "the other pod")
        assert "lost: " not in watch.said


@pytest.mark.parametrize("ends", ["", "raise crew.TaskFailed('ended')"], ids=["said", "failed"])
def test_what_is_said_of_a_pod_that_is_deleted_meanwhile(rig: Rig, ends: str) -> None:
    """The line was on its way, or its task failed."""
    rig.attach("a")
    going = rig.attach("going")
    rig.ip("link del eth0", going.pod)
    arrived, deleted = rig.base / "arrived", rig.base / "deleted"
    late = f"""
import asyncio, os
from cni_repair.watch import crew
lines = crew.Task.lines

async def late(self):
    async for line in lines(self):
        if line.get("containerID", "").startswith("going"):
            open({str(arrived)!r}, "w").close()
            while not os.path.exists({str(deleted)!r}):
                await asyncio.sleep(0.01)
            {ends}
        yield line

crew.Task.lines = late
"""
    with watching(rig, patch=late, lookEvery="1h", rememberAfter="1h") as watch:
        eventually(arrived.exists, "the line")
        rig.plugin("DEL", going.pod).ok()
        deleted.touch()
        watch.until(lambda status: status["lastLook"], "the look to end")
        watch.until(lambda status: status["attachments"] == {"healthy": 1}, "the other pod")
        assert "lost: " not in watch.said
        assert "cannot be looked at" not in watch.said


class TestNoProcess:
    """Where none can be had for a while, everything has its turn afterwards."""

    def test_for_a_look(self, rig: Rig) -> None:
        count = 5  # more than are tried
        for number in range(count):
            rig.attach(f"pod{number}")
        flag = rig.base / "flag"
        flag.touch()
        none = f"""
import os
from cni_repair.watch.healer import Healer
start = Healer.start
def none(self):
    if os.path.exists({str(flag)!r}):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return start(self)
Healer.start = none
"""
        with watching(rig, patch=none) as watch:
            watch.until(lambda status: status["attachments"] == {"unreadable": count}, "no look")
            flag.unlink()
            watch.until_healthy(count)

    def test_to_remember(self, rig: Rig) -> None:
        one = rig.attach("a")
        flag = rig.base / "flag"
        flag.touch()
        fails = f"""
import os
from cni_repair.watch.crew import Crew
task = Crew.task
def fails(self, request):
    is_meant = request["task"] == "remember" and os.path.exists({str(flag)!r})
    return task(self, {{**request, "task": "none"}} if is_meant else request)
Crew.task = fails
"""
        with watching(rig, patch=fails, lookEvery="1s") as watch:
            watch.until_said("cannot be remembered")
            flag.unlink()
            rig.ip("route add 10.20.0.0/16 via 10.9.0.1", one.pod)
            eventually(lambda: "10.20.0.0" in rig.checkpoint(one.pod).read_text(), "the new route")


class TestAChildThatIsKilled:
    def test_while_it_is_armed(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            watch.until_armed(1)
            kill_children(watch)
            watch.until_said("a heal over eth0 failed: its process died")
            watch.until_armed(1)  # by another
            rig.uplink_up()
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state

    def test_again_and_again(self, rig: Rig) -> None:
        """Each pod is healed on its own then."""
        one = rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            kill_both_tries(watch)
            rig.uplink_up()
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state

    def test_each_is_healed_while_others_wait_for_their_uplinks(self, rig: Rig) -> None:
        one = rig.attach("a")
        others = [f"eth{number}" for number in range(1, 5)]
        for name in others:
            rig.uplink_up(name, ip="10.9.1.1")
            rig.attach(f"on-{name}", rig.conf(name=name, master=name))
        with watching(rig) as watch:
            watch.until_healthy(5)
            rig.uplink_down()
            kill_both_tries(watch)
            for name in others:
                rig.uplink_down(name)
            watch.until_armed(4)
            rig.uplink_up()
            watch.until(
                lambda status: status["attachments"] == {"healthy": 1, "lost": 4}, "a healed pod"
            )
        assert rig.state(one.pod) == one.state


def test_a_bug_in_a_heal_ends_the_daemon(rig: Rig) -> None:
    """Its service begins it anew; going on, it would heal nothing over that uplink any more."""
    rig.attach("a")
    bug = """
from cni_repair.watch import journal

def armed(*arguments):
    raise ArithmeticError("a bug")

journal.armed = armed
"""
    with pytest.raises(AssertionError, match="ArithmeticError: a bug"), watching(rig, bug) as watch:
        watch.until_healthy(1)
        rig.uplink_down()
        assert watch.process.wait(HANG_SECONDS) == 1


def test_the_healer_is_stopped(rig: Rig) -> None:
    """Nobody ends its children then, nor begins any: that pods are not looked at is told."""
    rig.attach("a")
    impatient = """
from cni_repair.watch import crew

crew.WORKING_SECONDS = crew.WAITING_SECONDS = 2.0
"""
    with watching(rig, patch=impatient) as watch:
        watch.until_healthy(1)
        healer = str(watch.processes()[1])
        rig.run("kill", "-STOP", healer)
        watch.until(lambda status: status["attachments"] == {"unreadable": 1}, "nothing to be seen")
        watch.until_said("cannot be looked at: it said nothing for 2 s, and was ended")
        rig.run("kill", "-CONT", healer)
        watch.until_healthy(1)


def kill_children(watch: Watch) -> None:
    """All that the healer has forked."""
    for pid in watch.processes()[2:]:
        watch.rig.run("kill", "-9", str(pid), check=False)


def kill_both_tries(watch: Watch) -> None:
    """What arms the pods, and what arms them in its place."""
    for times in (1, 2):
        watch.until_said("armed: ", times)
        watch.until_armed(1)
        kill_children(watch)
    # (After the first, another is armed: none armed is a moment's state.)
    watch.until(lambda status: status["armed"] == 0, "the end of both")


class TestKilled:
    """kill -9, and started again."""

    @pytest.mark.parametrize("moment", ["armed", "back"])
    def test_at(self, rig: Rig, moment: str) -> None:
        pods = [rig.attach(f"pod{number}") for number in range(4)]
        with watching(rig) as watch:
            watch.until_healthy(4)
            rig.uplink_down()
            watch.until_armed(4)
            if moment == "back":
                rig.uplink_up()
                eventually(lambda: any("eth0" in rig.links(one.pod) for one in pods), "one pod")
            processes = watch.processes()
            watch.end(signal.SIGKILL)
            watch.until_gone(processes)
        if moment == "armed":
            rig.uplink_up()
        with watching(rig) as watch:
            watch.until_healthy(4)
        for one in pods:
            assert rig.state(one.pod) == one.state
        assert not [name for name in rig.links() if name.startswith("cnirep")]


def test_carrier_comes_late(rig: Rig) -> None:
    """The pod is ready before; its outage lasts until then, longer than a repair waits for it."""
    one = rig.attach("a")
    impatient = "from cni_repair.repair import scheduler\nscheduler.SETTLE_SECONDS = 0.0\n"
    with watching(rig, patch=impatient) as watch:
        watch.until_healthy(1)
        rig.uplink_down()
        watch.until_armed(1)
        node = rig.lab.ground.node_reference
        rig.lab.ip(rig.lab.tor, *f"link add tor0 type veth peer name eth0 netns {node}".split())
        rig.ip("link set eth0 up")
        eventually(lambda: "eth0" in rig.links(one.pod), "the pod's link")
        assert watch.status()["heals"]["total"] == 0
        rig.lab.ip(rig.lab.tor, *["link", "set", "tor0", "up"])
        watch.until_healed(1)
        assert watch.status()["heals"]["lastOutageMs"] > 0


def test_a_flapping_uplink(rig: Rig) -> None:
    pods = [rig.attach(f"pod{number}") for number in range(3)]
    with watching(rig) as watch:
        watch.until_healthy(3)
        for _ in range(5):
            rig.reload()
        watch.until_said("uplink-back: ", 5)
        # With the last loss, or a heal that was overtaken, all may be said to be well for a moment.
        eventually(
            lambda: (
                all("eth0" in rig.links(one.pod) for one in pods)
                and watch.states() == {"healthy": 3}
            ),
            "all to be back",
        )
    for one in pods:
        assert rig.state(one.pod) == one.state


def test_messages_are_missed(rig: Rig) -> None:
    """ENOBUFS: the socket is dead then, and nobody knows what has happened."""
    one = rig.attach("a")
    tiny = "from cni_repair.watch import events\nevents.BUFFER_BYTES = 1\n"
    rig.ip("link add flood0 type veth peer name flood1")
    changes = "".join(f"link set flood0 mtu {1000 + number % 400}\n" for number in range(2000))
    with watching(rig, patch=tiny, lookEvery="1h", rememberAfter="1h") as watch:
        watch.until_healthy(1)

        def flood() -> bool:
            rig.run("ip", "-batch", "-", stdin=changes)
            return "messages of the node's links were lost" in watch.said

        eventually(flood, "an overflow")
        rig.uplink_down()
        watch.until_lost(1)
        rig.uplink_up()
        watch.until_healthy(1)
    assert rig.state(one.pod) == one.state


def test_the_clock_is_set_back(rig: Rig) -> None:
    one = rig.attach("a")
    backwards = """
import itertools, time
hours = itertools.count(1)
time.time = lambda: 1_000_000_000.0 - 3600 * next(hours)
"""
    with watching(rig, patch=backwards) as watch:
        watch.until_healthy(1)
        rig.uplink_down()
        watch.until_lost(1)
        rig.uplink_up()
        watch.until_healed(1)
        watch.until_healthy(1)
        assert watch.until_healed(1)["heals"]["lastOutageMs"] > 0
    assert rig.state(one.pod) == one.state


def test_the_machine_has_slept(rig: Rig) -> None:
    """What happened then was told to nobody."""
    one = rig.attach("a")
    awake = rig.base / "awake"
    sleeps = f"""
import os
from cni_repair.watch import rundir
boot_time = rundir.boot_time
rundir.boot_time = lambda: boot_time() + 3600 * os.path.exists({str(awake)!r})
"""
    with watching(rig, patch=sleeps, lookEvery="1h", rememberAfter="1h") as watch:
        watch.until_healthy(1)
        rig.ip(f"addr del {one.address}/24 dev eth0", one.pod)
        awake.touch()
        watch.until(lambda status: status["attachments"] == {"degraded": 1}, "the change")


def test_the_disk_is_full(rig: Rig) -> None:
    one = rig.attach("a")
    run_dir = rig.base / "watch"
    run_dir.mkdir(mode=0o700)
    rig.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(run_dir))
    with watching(rig, runDir=str(run_dir)) as watch:
        watch.until(lambda status: status["attachments"] == {"healthy": 1}, "a status")
        fill = ("dd", "if=/dev/zero", f"of={run_dir}/big", "bs=4096")
        assert rig.run(*fill, check=False).status != 0
        rig.reload()
        eventually(lambda: f"trouble: cannot write {run_dir}/watch.json" in watch.said, "trouble")
        eventually(lambda: rig.state(one.pod) == one.state, "the pod")
        rig.run("rm", f"{run_dir}/big")
        watch.until_healthy(1)


def test_records_cannot_be_written(rig: Rig) -> None:
    one = rig.attach("a")
    path = str(rig.checkpoints)
    rig.run("mount", "--bind", path, path)
    rig.run("mount", "-o", "remount,ro,bind", path)
    rig.ip("route add 10.20.0.0/16 via 10.9.0.1", one.pod)
    with watching(rig) as watch:
        watch.until_said("the record of shop/a eth0 was not brought up to date")
        rig.uplink_down()
        watch.until_lost(1)
        rig.uplink_up()
        watch.until_healthy(1)


def test_a_directory_that_is_not_trusted(rig: Rig) -> None:
    rig.attach("a")
    rig.checkpoints.chmod(0o777)
    with watching(rig) as watch:
        watch.until_said(f"trouble: checkpoint directory {rig.checkpoints} is not trusted")
        assert watch.states() == {}
        rig.checkpoints.chmod(0o700)
        watch.process.send_signal(signal.SIGHUP)
        watch.until_healthy(1)


def test_a_record_that_cannot_be_read(rig: Rig) -> None:
    one, torn = rig.attach("a"), rig.attach("b")
    rig.checkpoint(torn.pod).write_text("{")
    with watching(rig) as watch:
        watch.until(lambda status: status["attachments"] == {"healthy": 1, "unreadable": 1}, "both")
        rig.uplink_down()
        watch.until(lambda status: status["attachments"] == {"lost": 1, "unreadable": 1}, "both")
        rig.uplink_up()
        watch.until(lambda status: status["attachments"] == {"healthy": 1, "unreadable": 1}, "both")
    assert rig.state(one.pod) == one.state


def test_a_directory_of_another_parent(rig: Rig) -> None:
    """inotify tells nothing of what is replaced above a directory."""
    one = rig.attach("a")
    parent = rig.base / "var"
    records = parent / "records"
    records.mkdir(parents=True, mode=0o700)
    with watching(rig, lookEvery="1h", checkpointDirs=[str(records)]) as watch:
        watch.until(lambda status: status["lastLook"], "a look")
        parent.rename(rig.base / "old")
        parent.mkdir()
        rig.run("cp", "--archive", str(rig.checkpoints), str(records))
        watch.until_healthy(1)
        rig.reload()
        watch.until_healed(1)
    assert rig.state(one.pod) == one.state


def test_the_run_directory_is_replaced(rig: Rig) -> None:
    """Another watcher could begin there: this one ends, and its service begins it anew."""
    rig.attach("a")
    run_dir = rig.base / "watch"
    with watching(rig, runDir=str(run_dir)) as watch:
        watch.until_healthy(1)
        run_dir.rename(rig.base / "old")
        assert watch.process.wait(HANG_SECONDS) == 1
        assert f"the run directory {run_dir} was replaced" in watch.said
    with watching(rig, runDir=str(run_dir)) as watch:
        watch.until_healthy(1)


def test_two_names_of_one_directory(rig: Rig) -> None:
    """A change is told by each; and what has not changed is not new again and again."""
    rig.attach("a")
    other = rig.base / "other"
    other.mkdir()
    rig.run("mount", "--bind", str(rig.checkpoints), str(other))
    told = rig.base / "told"
    counted = f"""
from cni_repair.watch import telling
from cni_repair.watch.looking import Looking
telling.WRITE_SECONDS = 1.0
whole = Looking.whole
def counted(self, directories):
    with open({str(told)!r}, "a") as file:
        print(*directories, file=file)
    whole(self, directories)
Looking.whole = counted
"""
    directories = [str(rig.checkpoints), str(other)]
    with watching(rig, patch=counted, lookEvery="1h", checkpointDirs=directories) as watch:
        began = watch.until_healthy(2)["updated"]
        rig.attach("b")
        watch.until_healthy(4)
        watch.until(lambda status: status["updated"] > began + 4, "some ticks")
        assert len(told.read_text().splitlines()) <= 4
