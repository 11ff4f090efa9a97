"""`upgrade` killed, disturbed, left alone by its terminal: resumed, it ends the same."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from cni_repair.upgrade import journal as journals
from cni_repair.upgrade.progress import PHASES
from tests.netns.rig import HANG_SECONDS, Rig, eventually, slow_but
from tests.netns.upgrading import (
    DOWN,
    FAILED,
    FINE,
    GATE,
    INTERRUPTED,
    KUBELET,
    REFUSED,
    RELOAD,
    UP,
    asked,
    assert_as_before,
    assert_untouched,
    attached,
    dies,
    end_of,
    events,
    go,
    in_driver,
    kill,
    kubelet_of_paper,
    plan,
    readable,
    report,
    resume,
    runs,
    start,
    start_words,
    state_dir,
    status,
    wait_for,
    where,
)
from tests.processes import is_alive

# --- killed anywhere -----------------------------------------------------------------------------

BOUNDARIES = [(kind, phase) for phase in PHASES for kind in ("phase", "done")]


@pytest.mark.parametrize("at", slow_but(BOUNDARIES, ("done", "driver")), ids=" ".join)
def test_killed_at_a_boundary_and_resumed(rig: Rig, at: tuple[str, str]) -> None:
    pods = attached(rig)
    connection = rig.connection(pods[0].pod)
    path = plan(rig, f"echo run >>{{base}}/runs; {RELOAD}", **KUBELET)
    patch = kubelet_of_paper(rig)
    assert start(rig, path, patch=patch + dies(at)).status == -signal.SIGKILL
    before = asked(rig)
    assert_cut_short(rig, *at)
    done = resume(rig, patch=patch)
    assert done.status == FINE, done
    assert done.out.endswith("upgrade ended well\n")
    assert_as_before(rig, pods)
    connection.exchange("after")
    assert runs(rig) == 1
    document = report(rig)
    assert [one["phase"] for one in document["phases"]] == list(PHASES)
    assert [pod["state"] for pod in document["attachments"]] == ["healthy", "healthy"]
    assert document["kubelet"]["held"] is False
    assert asked(rig)[-2:] == ["release", "disarm"]
    if "hold" in before:
        assert "find" not in asked(rig)[len(before) :]  # it is not what it was


def assert_cut_short(rig: Rig, kind: str, phase: str) -> None:
    """What --status says of an upgrade that was killed there."""
    found = status(rig)
    assert found.status == FAILED
    assert ": cut short\n" in found.out
    assert bool(re.search(rf"^ +{phase} +not ended$", found.out, re.MULTILINE)) == (kind == "phase")
    over = (kind, phase) == ("done", "release")
    way_on = f"cni-repair upgrade --resume --foreground --state-dir {state_dir(rig)}\n"
    assert (way_on in found.out) != over
    held = "kubelet.service is held: stopped and masked; a timer of systemd's releases it at "
    assert (held in found.out) == ("arm" in asked(rig) and not over)


@pytest.mark.slow
def test_killed_again_and_again(rig: Rig) -> None:
    """Every resume dies at the next boundary."""
    pods = attached(rig)
    path = plan(rig, f"echo run >>{{base}}/runs; {RELOAD}")
    first, *rest = BOUNDARIES
    assert start(rig, path, patch=dies(first)).status == -signal.SIGKILL
    for at in rest:
        assert resume(rig, patch=dies(at)).status == -signal.SIGKILL, at
    assert resume(rig).status == FINE
    assert_as_before(rig, pods)
    assert runs(rig) == 1


@pytest.mark.slow
def test_killed_at_any_moment(rig: Rig) -> None:
    pods = attached(rig)
    connection = rig.connection(pods[0].pod)
    chance = random.Random(4)
    path = plan(rig, f"echo run >>{{base}}/runs; {RELOAD}")
    for round_ in range(1, 11):
        with rig.started(rig.launcher(), *start_words(rig, path)) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.1, 0.7))
            kill(process)
        if events(rig) and events(rig)[-1]["event"] != "end":
            assert resume(rig).status == FINE
        elif len(readable(rig.base / "runs").split()) < round_:  # it had not begun
            assert start(rig, path).status == FINE
        assert runs(rig) == round_
        assert_as_before(rig, pods)
        connection.exchange("on")


@pytest.mark.slow
def test_killed_before_it_has_begun(rig: Rig) -> None:
    pods = attached(rig)
    assert start(rig, plan(rig), patch=dies(("begin", ""))).status == -signal.SIGKILL
    assert status(rig).out == "no upgrade was begun on this node\n"
    assert start(rig, plan(rig)).status == FINE
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_killed_between_start_and_note_of_the_driver_command(rig: Rig) -> None:
    """It must not run twice, or beside itself."""
    pods = attached(rig)
    path = plan(rig, f"echo run >>{{base}}/runs; {RELOAD}")
    die = """
import os
from cni_repair.upgrade.journal import Journal
commit = Journal.commit
def die_or_commit(self, event):
    if event["event"] == "driver":
        os.kill(os.getpid(), 9)
    return commit(self, event)
Journal.commit = die_or_commit
"""
    assert start(rig, path, patch=die).status == -signal.SIGKILL
    assert resume(rig).status == FINE
    assert runs(rig) == 1
    assert_as_before(rig, pods)


def test_killed_while_the_driver_command_works_on(rig: Rig) -> None:
    pods = attached(rig)
    connection = rig.connection(pods[0].pod)
    with in_driver(rig) as process:
        kill(process)
        found = status(rig)
        assert ": cut short\n" in found.out
        assert "left to do: hold, driver, masters, repair, verify, release:" in found.out
        words = ["upgrade", "--resume", "--foreground", *where(rig)]
        with rig.started(rig.launcher(), *words) as resumed:
            wait_for(rig, event="resume")
            eventually(lambda: "at work" in str(events(rig, "word")), "the resume to find it")
            assert ": running (PID " in status(rig).out
            go(rig)
            done = end_of(resumed)
    assert done.status == FINE, done
    assert "the driver command is still at work (PID " in done.out
    assert "| done\n" in done.out
    assert_as_before(rig, pods)
    connection.exchange("after")
    assert runs(rig) == 1
    outages = [pod["outageMs"] for pod in report(rig)["attachments"]]
    assert all(outage > 0 for outage in outages)


@pytest.mark.slow
def test_killed_and_the_driver_command_ends_meanwhile(rig: Rig) -> None:
    pods = attached(rig)
    with in_driver(rig) as process:
        kill(process)
        go(rig)
        ended = Path(rig.outside("/run/cni-repair/driver.status"))
        eventually(lambda: readable(ended) == "0\n", "the driver command to end")
    done = resume(rig)
    assert done.status == FINE, done
    assert "exit 0 after " in done.out
    assert_as_before(rig, pods)
    assert runs(rig) == 1


@pytest.mark.slow
def test_killed_together_with_the_driver_command(rig: Rig) -> None:
    """It is run again: the NIC may be without a driver."""
    pods = attached(rig)
    with in_driver(rig) as process:
        kill(process)
        (noted,) = events(rig, "driver")
        os.killpg(noted["pid"], signal.SIGKILL)
        eventually(lambda: not is_alive(noted["pid"]), "the driver command to go")
        go(rig)
        done = resume(rig)
    assert done.status == FINE, done
    assert "did not come to its end: it is run again" in done.out
    assert_as_before(rig, pods)
    assert runs(rig) == 2


@pytest.mark.slow
def test_killed_past_the_deadline_of_the_driver_command(rig: Rig) -> None:
    pods = attached(rig)
    with in_driver(rig, driver={"deadline": "10m"}) as process:
        kill(process)
        (noted,) = events(rig, "driver")
        journal = state_dir(rig) / "journal"
        journal.write_text(journal.read_text().replace(str(noted["deadline"]), "1.0"))
        rig.uplink_up()
        done = resume(rig)
    assert done.status == FAILED
    assert "killed at its deadline of 600 s" in done.out
    eventually(lambda: not is_alive(noted["pid"]), "the driver command to go")
    assert_as_before(rig, pods)


@pytest.mark.parametrize(
    "number", slow_but([signal.SIGINT, signal.SIGTERM], signal.SIGTERM), ids=lambda n: n.name
)
def test_interrupted_says_how_to_go_on(rig: Rig, number: signal.Signals) -> None:
    pods = attached(rig)
    with in_driver(rig) as process:
        process.send_signal(number)
        done = end_of(process)
    assert done.status == INTERRUPTED
    assert "Traceback" not in done.err
    assert done.out.endswith("upgrade interrupted\n")
    assert f"cni-repair upgrade --resume --foreground --state-dir {state_dir(rig)}\n" in done.out
    assert resume(rig).status == FINE
    assert_as_before(rig, pods)
    assert runs(rig) == 1


# Three processes repair; each waits at its first attachment until the file `go` is there. (Without
# the index: what is fired needs no turn.)
WORKERS_THAT_WAIT = """
import os, time
from cni_repair.repair import attachment, scheduler
from cni_repair.upgrade import podphases
podphases.write_index = lambda *_: 0
os.sched_getaffinity = lambda _: {0, 1, 2}
scheduler._WORTH_A_PROCESS = 1
run = attachment.AttachmentRepair.run
def waiting(self, recorded):
    with open("$BASE/workers", "a") as file:
        print(os.getpid(), file=file, flush=True)
    while not os.path.exists("$BASE/go"):
        time.sleep(0.01)
    return run(self, recorded)
attachment.AttachmentRepair.run = waiting
"""


def workers(rig: Rig) -> set[int]:
    return {int(pid) for pid in readable(rig.base / "workers").split()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGINT, "all"),  # Ctrl-C
        (signal.SIGTERM, "all"),
        (signal.SIGTERM, "it"),
        (signal.SIGKILL, "it"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_stopped_while_several_processes_repair(
    rig: Rig, number: signal.Signals, whom: str
) -> None:
    """All of them end, the one that shows what happens, too; and it can be gone on with."""
    pods = attached(rig, 6)
    launcher = rig.launcher(WORKERS_THAT_WAIT.replace("$BASE", str(rig.base)))
    with rig.started("setsid", launcher, *start_words(rig, plan(rig))) as process:
        eventually(lambda: len(workers(rig)) == 3, "the workers")
        if whom == "all":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(HANG_SECONDS)
        go(rig)
        done = end_of(process)  # comes with the end of the last that may still print
    assert done.err == ""
    assert done.status == (-number if number == signal.SIGKILL else INTERRUPTED)
    eventually(lambda: not any(map(is_alive, workers(rig))), "the workers' end")
    assert resume(rig).status == FINE
    assert_as_before(rig, pods)


TORN = b'{"at":1.0,"event":"do'


@pytest.mark.parametrize(
    "tail",
    slow_but([TORN, b"\0" * 4096, b"\xff\n{}\n[]\n17"]),
    ids=["torn", "zeros", "garbage"],
)
def test_torn_journal_loses_nothing_more(rig: Rig, tail: bytes) -> None:
    """What a power cut or a full disk leaves, and what is written behind it."""
    pods = attached(rig)
    path = plan(rig, f"echo run >>{{base}}/runs; {RELOAD}")
    assert start(rig, path, patch=dies(("done", "driver"))).status == -signal.SIGKILL
    with (state_dir(rig) / "journal").open("ab") as file:
        file.write(tail)
    assert resume(rig).status == FINE
    kinds = [event["event"] for event in journals.read(str(state_dir(rig)))]
    assert kinds.count("resume") == 1
    assert_as_before(rig, pods)
    assert runs(rig) == 1


# --- one at a time -------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_at_once(rig: Rig) -> None:
    attached(rig, 1)
    with in_driver(rig) as process:
        for words in (
            start_words(rig, plan(rig)),
            [*start_words(rig, plan(rig)), "--state-dir", str(rig.base / "other")],
            ["upgrade", "--resume", "--foreground", *where(rig)],
            ["upgrade", "--release", *where(rig)],
        ):
            done = rig.cli(*words)
            assert done.status == REFUSED
            assert "another upgrade is at work on this node" in done.err
        found = rig.cli("upgrade", "--status", *where(rig))
        assert f": running (PID {process.pid})\n" in found.out
        assert re.search(r"^ +driver +not ended$", found.out, re.MULTILINE)
        go(rig)
        assert end_of(process).status == FINE


@pytest.mark.slow
def test_no_start_over_one_that_was_cut_short(rig: Rig) -> None:
    pods = attached(rig)
    assert start(rig, plan(rig), patch=dies(("phase", "masters"))).status == -signal.SIGKILL
    done = start(rig, plan(rig))
    assert done.status == REFUSED
    assert "did not end: cni-repair upgrade --status --state-dir " in done.err
    done = rig.cli("upgrade", "--release", *where(rig))
    said = "the upgrade is given up; the pods: cni-repair status\n"
    assert (done.status, done.out) == (FINE, f"it held no kubelet: nothing to release\n{said}")
    assert ": ended, FAILED, and given up" in status(rig).out
    assert "left to do" not in status(rig).out
    done = resume(rig)
    assert done.status == REFUSED
    assert "was given up: cni-repair repair --all brings its pods back" in done.err
    assert start(rig, plan(rig, ["/bin/true"])).status == FINE
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_start_over_one_that_was_cut_short_before_it_touched_anything(rig: Rig) -> None:
    pods = attached(rig)
    assert start(rig, plan(rig), patch=dies(("done", "snapshot"))).status == -signal.SIGKILL
    assert start(rig, plan(rig)).status == FINE
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_no_start_beside_a_driver_command_that_still_works(rig: Rig) -> None:
    attached(rig, 1)
    with in_driver(rig) as process:
        kill(process)
        assert "the driver command is still at work (PID " in status(rig).out
        done = rig.cli("upgrade", "--release", *where(rig))
        assert done.status == FINE
        assert "the driver command is still at work (PID " in done.out
        done = start(rig, plan(rig))
        assert done.status == REFUSED
        assert "the driver command of the last upgrade is still at work (PID " in done.err
        assert "--resume" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True], ids=["live", "resumed"])
def test_command_whose_shell_was_killed_is_waited_for(rig: Rig, resumed: bool) -> None:
    """Nothing is repaired, and no other is run, beside it."""
    pods = attached(rig, 1)
    with in_driver(rig) as process:
        shell = events(rig, "driver")[0]["pid"]
        if resumed:
            kill(process)
        os.kill(shell, signal.SIGKILL)
        eventually(lambda: not is_alive(shell), "the shell's end")
        if not resumed:
            go(rig)
            assert end_of(process).status == FAILED  # nobody knows how it ended
        else:
            words = ["upgrade", "--resume", "--foreground", *where(rig)]
            with rig.started(rig.launcher(), *words) as second:
                wait_for(rig, event="resume")
                assert runs(rig) == 1
                go(rig)
                assert end_of(second).status == FINE
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_no_second_run_over_pods_that_were_left_unrepaired(rig: Rig) -> None:
    """Tools that drive a fleet try again."""
    pods = attached(rig, 1)
    path = plan(rig, f"echo run >>{{base}}/runs; {DOWN}", masters={"deadline": "0.1s"})
    assert start(rig, path).status == FAILED
    done = start(rig, path)
    assert done.status == REFUSED
    assert "the last upgrade left pods unrepaired: " in done.err
    assert runs(rig) == 1
    rig.uplink_up()
    rig.settle(None)
    assert resume(rig).status == FINE
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_pods_that_vanish_meanwhile_are_told_of(rig: Rig) -> None:
    pods = attached(rig, 2)
    gone = "; ".join(f"ip netns del {one.pod.name}" for one in pods)
    done = start(rig, plan(rig, f"{DOWN}; {gone}; {UP}"))
    assert "; 2 gone since the snapshot, their sandboxes with them" in done.out


@pytest.mark.slow
def test_unit_that_does_not_begin(rig: Rig) -> None:
    attached(rig, 1)
    assert start(rig, plan(rig, ["/bin/true"])).status == FINE
    words = [word for word in start_words(rig, plan(rig)) if word != "--foreground"]
    (state_dir(rig) / "journal.new").mkdir()
    done = rig.cli(*words, patch=unit_of_paper(rig))
    assert done.status == REFUSED
    assert "did not begin, nothing was done" in done.err


@pytest.mark.slow
def test_after_a_reboot_there_is_nothing_to_resume(rig: Rig) -> None:
    attached(rig, 1)
    assert start(rig, plan(rig), patch=dies(("phase", "masters"))).status == -signal.SIGKILL
    file = state_dir(rig) / "journal"
    boot = events(rig, "begin")[0]["bootId"]
    file.write_text(file.read_text().replace(boot, "another"))
    assert ": cut short by a reboot" in status(rig).out
    assert "left to do" not in status(rig).out
    assert report(rig)["remaining"] == []
    done = resume(rig)
    assert done.status == REFUSED
    assert "the node was rebooted since" in done.err
    assert start(rig, plan(rig)).status == FINE


# --- disks ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_disk_that_fills_up_meanwhile(rig: Rig) -> None:
    """The driver's installation may well take the last block: the pods are repaired."""
    pods = attached(rig)
    state_dir(rig).mkdir(mode=0o700)
    rig.run("mount", "-t", "tmpfs", "-o", "size=20m,mode=700", "tmpfs", str(state_dir(rig)))
    fill = f"dd if=/dev/zero of={state_dir(rig)}/ballast bs=4k; dd if=/dev/zero bs=1 count=4096"
    done = start(rig, plan(rig, f"{fill} of={state_dir(rig)}/ballast2; {RELOAD}"))
    rig.run("rm", f"{state_dir(rig)}/ballast", f"{state_dir(rig)}/ballast2")
    assert done.status == FINE, done
    assert "is not complete: No space left on device" in done.err
    assert done.out.endswith("upgrade ended well\n")
    assert_as_before(rig, pods)
    # What the journal lacks, a resume does again.
    again = resume(rig)
    assert again.status in (FINE, REFUSED)
    assert runs_in(rig) == 1


def runs_in(rig: Rig) -> int:
    text = Path(rig.outside(str(state_dir(rig) / "journal"))).read_text(errors="replace")
    return text.count('"event":"driver"')


@pytest.mark.slow
def test_driver_command_is_not_started_unless_that_can_be_noted(rig: Rig) -> None:
    pods = attached(rig)
    links = rig.node_links()
    no_space = """
import errno
from cni_repair.upgrade.journal import Journal
write = Journal._write
def fails(self, event, durable):
    if event["event"] == "driver":
        raise OSError(errno.ENOSPC, "No space left on device")
    write(self, event, durable)
Journal._write = fails
"""
    path = plan(rig, f"touch {{base}}/runs; {RELOAD}", on_failure={"driver": "hold"}, **KUBELET)
    done = start(rig, path, patch=kubelet_of_paper(rig) + no_space)
    assert done.status == FAILED
    assert "driver     FAILED: cannot write the upgrade's journal: No space left" in done.out
    assert " masters " not in done.out.partition(" driver     FAILED")[2]
    assert asked(rig)[-1] == "disarm"
    assert not (rig.base / "runs").exists()
    assert_untouched(rig, pods, links)


@pytest.mark.slow
def test_resume_on_a_disk_that_has_become_read_only(rig: Rig) -> None:
    pods = attached(rig)
    assert start(rig, plan(rig), patch=dies(("phase", "masters"))).status == -signal.SIGKILL
    for directory in (state_dir(rig), rig.checkpoints):
        rig.run("mount", "--bind", str(directory), str(directory))
        rig.run("mount", "-o", "remount,bind,ro", str(directory))
    done = resume(rig)
    assert done.status == FINE, done
    assert "is not complete: Read-only file system" in done.err
    assert_as_before(rig, pods)


# --- terminals -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_hangup_and_a_reader_that_has_gone_end_nothing(rig: Rig) -> None:
    pods = attached(rig)
    with in_driver(rig) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        process.stdout = process.stderr = None
        for number in (signal.SIGHUP, signal.SIGTSTP):
            process.send_signal(number)
        go(rig)
        assert process.wait(HANG_SECONDS) == FINE
    assert_as_before(rig, pods)
    assert report(rig)["status"] == FINE


@pytest.mark.parametrize("closed", slow_but(["<&-", ">&- 2>&-", "<&- >&- 2>&-"]))
def test_closed_standard_streams(rig: Rig, closed: str) -> None:
    pods = attached(rig)
    words = " ".join([rig.launcher(), *start_words(rig, plan(rig, f"echo hello; {RELOAD}"))])
    done = rig.run("sh", "-c", f"exec {words} {closed}", check=False)
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert [event["line"] for event in events(rig, "output")] == ["hello"]
    assert report(rig)["status"] == FINE


@pytest.mark.parametrize("output", slow_but(["table", "json"]))
def test_full_log_changes_no_exit_status(rig: Rig, output: str) -> None:
    pods = attached(rig)
    words = " ".join([rig.launcher(), *start_words(rig, plan(rig)), "-o", output])
    assert rig.run("sh", "-c", f"exec {words} >/dev/full", check=False).status == FINE
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_reader_that_hangs_is_not_waited_for(rig: Rig) -> None:
    """Ctrl-S, or an SSH session over the NIC that is away: the pipe is full, nobody reads."""
    pods = attached(rig)
    flood = "yes 'all work and no play' | head -c 200000"
    path = plan(rig, f"{DOWN}; {flood}; {UP}")
    with rig.started(rig.launcher(), *start_words(rig, path)) as process:
        wait_for(rig, event="end", status=FINE)
        assert_as_before(rig, pods)
        assert process.poll() is None  # it still has much to say
        done = end_of(process)
    assert done.status == FINE
    assert done.out.endswith("upgrade ended well\n")


def unit_of_paper(rig: Rig) -> str:
    """Code that starts a process in systemd's place. (The real one is at work in the guest.)"""
    return f"""
import os, subprocess, sys
from cni_repair.upgrade import unit
def start(name, arguments):
    with open({str(rig.base / "unit.log")!r}, "w") as log:
        unit.process = subprocess.Popen(
            [{rig.launcher()!r}, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )
unit.start = start
unit.is_running = lambda name: unit.process.poll() is None
"""


@pytest.mark.slow
def test_unit_that_is_followed(rig: Rig) -> None:
    pods = attached(rig)
    words = [word for word in start_words(rig, plan(rig)) if word != "--foreground"]
    done = rig.cli(*words, patch=unit_of_paper(rig))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert "repair     2 of 2 interfaces to repair" in done.out
    before_all_else = ["upgrade of this node by", "  release    ", " preflight  2 of 2 interfaces"]
    assert sorted(before_all_else, key=done.out.index) == before_all_else
    assert done.out.endswith("upgrade ended well\n")
    assert done.out.count(" driver     begins\n") == 1
    again = rig.cli(*words, patch=unit_of_paper(rig))  # beside the journal of the first
    assert again.out.count(" driver     begins\n") == 1


@pytest.mark.slow
def test_unit_goes_on_without_who_follows_it(rig: Rig) -> None:
    pods = attached(rig)
    path = plan(rig, f"{DOWN}; {GATE}; {UP}")
    words = [word for word in start_words(rig, path) if word != "--foreground"]
    with rig.started(rig.launcher(unit_of_paper(rig)), *words) as process:
        wait_for(rig, event="lost", link="eth0")
        process.send_signal(signal.SIGINT)
        done = end_of(process)
    assert done.status == INTERRUPTED
    assert "the upgrade goes on in cni-repair-upgrade.service: cni-repair upgrade" in done.err
    go(rig)
    wait_for(rig, event="end", status=FINE)
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_unit_that_is_killed(rig: Rig) -> None:
    pods = attached(rig)
    path = plan(rig, f"{DOWN}; {GATE}; {UP}")
    words = [word for word in start_words(rig, path) if word != "--foreground"]
    with rig.started(rig.launcher(unit_of_paper(rig)), *words) as process:
        wait_for(rig, event="lost", link="eth0")
        os.kill(events(rig, "begin")[0]["pid"], signal.SIGKILL)
        done = end_of(process)
    assert done.status == FAILED
    assert "cni-repair-upgrade.service ended without a word: see journalctl" in done.err
    go(rig)
    done = rig.cli("upgrade", "--resume", *where(rig), patch=unit_of_paper(rig))
    assert done.status == FINE, done
    assert "goes on where it was cut short" in done.out
    assert_as_before(rig, pods)


class Terminal:
    """A pseudo-terminal with an upgrade on it, and what it shows."""

    def __init__(self, rig: Rig, term: str, *words: str) -> None:
        self._master, slave = pty.openpty()
        self._shown = ""
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *rig.command(rig.launcher(), *words)],  # Ctrl-C is for it alone
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": term},
        )
        os.close(slave)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str) -> None:
        while not re.search(pattern, self._shown):
            told = select.select([self._master], [], [], HANG_SECONDS)[0]
            assert told, f"{pattern!r} after {self._shown!r}"
            self._shown += os.read(self._master, 65536).decode()

    def read(self, status: int = FINE) -> str:
        """All that comes until the end."""
        shown = self._shown.encode()
        while select.select([self._master], [], [], HANG_SECONDS)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other end open
                break
            shown += data
        assert self.process.wait(HANG_SECONDS) == status, shown.decode()
        self.close()
        return shown.decode()

    def close(self) -> None:
        os.close(self._master)


@pytest.mark.parametrize(
    "term", slow_but(["xterm-256color", "vt100", "dumb"]), ids=lambda term: term
)
def test_on_a_terminal(rig: Rig, term: str) -> None:
    attached(rig)
    words = [*start_words(rig, plan(rig, f"echo hello; {DOWN}; {GATE}; {UP}")), "--yes"]
    began = time.monotonic()
    terminal = Terminal(rig, term, *words)
    if term == "dumb":
        wait_for(rig, event="lost", link="eth0")
    else:
        terminal.wait_for(r"\[4/8\] driver  [1-9]\d* s")
    go(rig)
    shown = terminal.read()
    seconds = time.monotonic() - began
    escapes = set(re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]", shown))
    if term == "dumb":
        assert escapes == set()
    else:
        # Nothing that moves the cursor, or hides it for who is killed.
        assert {escape[-1] for escape in escapes} == {"K", "m"}
        assert shown.count("\x1b[K") < 60 + 2 * seconds  # a line each second, and for each event
    text = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", shown).replace("\r\n", "\n")
    final = [line.rpartition("\r")[2] for line in text.split("\n")]
    assert any(line.endswith(" driver     | hello") for line in final)
    assert final[-2] == "upgrade ended well"
    assert not any(line.startswith("[") for line in final)


@pytest.mark.slow
def test_terminal_that_is_closed_ends_nothing(rig: Rig) -> None:
    pods = attached(rig)
    path = plan(rig, f"{DOWN}; {GATE}; {UP}; echo more")
    terminal = Terminal(rig, "vt100", *start_words(rig, path), "--yes")
    wait_for(rig, event="lost", link="eth0")
    terminal.close()
    go(rig)
    assert terminal.process.wait(HANG_SECONDS) == FINE
    assert_as_before(rig, pods)
    assert report(rig)["status"] == FINE


def on_terminal(rig: Rig, path: str, *words: str) -> Terminal:
    terminal = Terminal(rig, "vt100", *start_words(rig, path), *words)
    if "--yes" not in words:
        terminal.wait_for("begin the upgrade of ")
        terminal.wait_for(r" now\? \[y/N\] ")
    return terminal


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ("n\n", REFUSED),
        ("\n", REFUSED),
        ("\x04", REFUSED),
        ("sure\n", REFUSED),
        ("\x03", INTERRUPTED),
    ],
    ids=["n", "Enter", "Ctrl-D", "sure", "Ctrl-C"],
)
def test_who_does_not_agree_at_the_terminal_has_touched_nothing(
    rig: Rig, keys: str, code: int
) -> None:
    pods = attached(rig)
    links = rig.node_links()
    terminal = on_terminal(rig, plan(rig, f"touch {{base}}/runs; {RELOAD}"))
    assert not state_dir(rig).exists()
    terminal.type(keys)
    shown = terminal.read(code)
    assert "Traceback" not in shown
    if code == REFUSED:
        assert "not begun, nothing was touched: answer y, or say --yes" in shown
    assert not state_dir(rig).exists()
    assert not (rig.base / "runs").exists()
    assert_untouched(rig, pods, links)


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["y\n", "YES\n"])
def test_who_agrees_at_the_terminal_begins(rig: Rig, keys: str) -> None:
    """What will be done is said before, and nobody else is held up by who thinks it over."""
    pods = attached(rig)
    terminal = on_terminal(rig, plan(rig))
    assert rig.cli("upgrade", "--release", *where(rig)).status == FINE
    terminal.type(keys)
    shown = terminal.read()
    assert shown.index("  driver     ip link del eth0") < shown.index("begin the upgrade of ")
    assert "upgrade ended well" in shown
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_json_is_asked_for_beside_it(rig: Rig) -> None:
    """(The terminal shows both streams; what comes first is the question, then one document.)"""
    attached(rig, 1)
    terminal = on_terminal(rig, plan(rig), "-o", "json")
    terminal.type("y\n")
    document = terminal.read().partition("[y/N] ")[2].partition("{")[2]
    assert json.loads("{" + document)["status"] == FINE


@pytest.mark.slow
def test_neither_a_script_nor_a_dry_run_nor_a_resume_is_asked(rig: Rig) -> None:
    attached(rig, 1)
    path = plan(rig)
    for words in (["--dry-run"], ["--yes"]):
        terminal = Terminal(rig, "vt100", *start_words(rig, path), *words)
        assert "[y/N]" not in terminal.read()
    assert start(rig, path, patch=dies(("phase", "masters"))).status == -signal.SIGKILL
    terminal = Terminal(rig, "vt100", "upgrade", "--resume", "--foreground", *where(rig))
    assert "[y/N]" not in terminal.read()


@pytest.mark.slow
def test_refused_before_anybody_is_asked(rig: Rig) -> None:
    attached(rig, 1)
    assert start(rig, plan(rig), patch=dies(("phase", "masters"))).status == -signal.SIGKILL
    shown = Terminal(rig, "vt100", *start_words(rig, plan(rig))).read(REFUSED)
    assert "[y/N]" not in shown
    assert f"cni-repair upgrade --resume --foreground --state-dir {state_dir(rig)}" in shown


# --- times ---------------------------------------------------------------------------------------

DATED = r"2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)"


def test_times_have_date_and_zone(rig: Rig) -> None:
    attached(rig, 1)
    patch = kubelet_of_paper(rig)
    done = start(rig, plan(rig, DOWN, masters={"deadline": "0.2s"}, **KUBELET), patch=patch)
    found = status(rig)
    for pattern, text in [
        (rf"^{DATED} preflight  1 of 1 interfaces could be restored$", done.out),
        (rf"^{DATED} driver     begins$", done.out),
        (rf"^{DATED} driver     ok +\d+\.\d  exit 0 after ", done.out),
        (rf"^{DATED} eth0 went$", found.out),
        (rf"^upgrade by \S+, begun {DATED}: ended, FAILED$", found.out),
        (rf"a timer of systemd's releases it at {DATED}$", found.out),
    ]:
        assert re.search(pattern, text, re.MULTILINE), (pattern, text)
    assert all(re.fullmatch(DATED, event["when"]) for event in events(rig))
