"""`upgrade --foreground` on a node in namespaces: the procedure, what it refuses, what may fail.
(What systemd has to do with it is shown in the guest.)"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable

import pytest

from cni_repair.repair.scheduler import _WORTH_A_PROCESS
from cni_repair.upgrade.progress import PHASES
from tests.netns.rig import Json, Pod, Rig, eventually, slow_but
from tests.netns.test_armed_index import fired, told
from tests.netns.upgrading import (
    DOWN,
    FAILED,
    FINE,
    GATE,
    KUBELET,
    REFUSED,
    RELOAD,
    STOOD_FOR,
    USAGE,
    asked,
    assert_as_before,
    assert_untouched,
    attached,
    dies,
    end_of,
    events,
    go,
    in_driver,
    kubelet_of_paper,
    plan,
    report,
    resume,
    start,
    start_words,
    state_dir,
    status,
    wait_for,
    where,
)

PODS_FOR_TWO = 2 * _WORTH_A_PROCESS

# --- the whole procedure -------------------------------------------------------------------------


def test_pods_and_their_connections_survive(rig: Rig) -> None:
    pods = attached(rig, 3)
    connection = rig.connection(pods[0].pod)
    connection.exchange("before")
    done = start(rig, plan(rig, f"echo hello; {RELOAD}"))
    assert (done.status, done.err) == (FINE, "")
    assert_as_before(rig, pods)
    connection.exchange("after")
    assert all(rig.ping(was.pod, "10.9.0.1") for was in pods)
    for words in [
        "  driver     echo hello; ip link del eth0",
        " driver     | hello\n",
        " driver     eth0 is gone",
        " masters    eth0: there, with carrier\n",
        " repair     3 of 3 interfaces to repair\n",
        " verify     3 of 3 verified\n",
        "\nlongest outage: ",
        "\nupgrade ended well\n",
    ]:
        assert words in done.out
    found = status(rig)
    assert found.status == FINE
    assert re.match(r"upgrade by \S+/plan.yaml, begun 2\d{3}-.*: ended well\n", found.out)
    assert "left to do" not in found.out


@pytest.mark.slow
def test_report_tells_each_pods_loss_and_outage(rig: Rig) -> None:
    pods = attached(rig)
    document = start(rig, plan(rig), "-o", "json").report(FINE)
    assert document == report(rig)
    assert (document["standing"], document["status"], document["current"]) == ("ended", 0, None)
    assert [phase["phase"] for phase in document["phases"]] == list(PHASES)
    assert all(phase["ok"] and phase["seconds"] >= 0 for phase in document["phases"])
    (uplink,) = [one for one in document["links"] if one["name"] == "eth0"]
    away = uplink["backAt"] - uplink["lostAt"]
    assert 0 < away < document["ended"] - document["began"]
    most = document["ended"] - uplink["lostAt"]
    for pod, was in zip(document["attachments"], pods):
        assert (pod["containerID"], pod["ifname"]) == (was.pod.id, "eth0")
        assert (pod["pod"], pod["state"]) == (f"shop/{was.pod.name}", "healthy")
        assert pod["lost"] == ["the pod's eth0 is gone"]
        assert pod["actions"][0].startswith("ip link add link eth0 name eth0 index ")
        assert 1000 * away <= pod["outageMs"] <= 1000 * most
    assert [one["verdict"] for one in document["verdicts"]] == ["healthy", "healthy"]
    assert document["remaining"] == []
    assert document["kubelet"] is None


@pytest.mark.slow
def test_what_came_after_add_comes_back(rig: Rig) -> None:
    """The snapshot has recorded it."""
    pod = rig.attach("pod1").pod
    rig.ip("addr add 10.77.0.1/24 dev eth0", pod)
    was = rig.state(pod)
    assert start(rig, plan(rig)).status == FINE
    assert rig.state(pod) == was


@pytest.mark.slow
def test_pod_without_macvlan_is_left_alone(rig: Rig) -> None:
    """A driver command that takes nothing away is no reason to touch any pod."""
    pods = attached(rig)
    document = start(rig, plan(rig, ["/bin/true"]), "-o", "json").report(FINE)
    assert [pod["actions"] for pod in document["attachments"]] == [[], []]
    assert [pod["outageMs"] for pod in document["attachments"]] == [None, None]
    assert_as_before(rig, pods)


@pytest.mark.parametrize("directory", slow_but(["there", "missing"]))
def test_node_without_pods(rig: Rig, directory: str) -> None:
    if directory == "there":
        rig.checkpoints.mkdir(mode=0o700)
    done = start(rig, plan(rig))
    assert done.status == FINE
    assert "0 of 0 interfaces could be restored" in done.out
    assert "none to wait for" in done.out


def test_dry_run_changes_nothing(rig: Rig) -> None:
    pods = attached(rig)
    rig.ip("addr add 10.77.0.1/24 dev eth0", pods[0].pod)
    pods[0].state = rig.state(pods[0].pod)
    records = {name: (rig.checkpoints / name).read_bytes() for name in rig.kept()}
    links = rig.node_links()
    done = start(rig, plan(rig), "--dry-run")
    assert done.status == FINE
    assert f"driver     {RELOAD} (killed after 5 min)" in done.out
    assert done.out.endswith(
        "preflight: 2 of 2 interfaces could be restored\ndry run: nothing was done\n"
    )
    assert_untouched(rig, pods, links)
    assert {name: (rig.checkpoints / name).read_bytes() for name in rig.kept()} == records
    assert not state_dir(rig).exists()
    document = start(rig, plan(rig), "--dry-run", "-o", "json").report(FINE)
    assert document["findings"] == []


def test_documents_where_none_was_begun(rig: Rig) -> None:
    for option, code in (("--status", FAILED), ("--release", FINE)):
        document = rig.cli("upgrade", option, "-o", "json", *where(rig)).report(code)
        assert (document["standing"], document["plan"]) == ("none", None)


@pytest.mark.slow
def test_document_of_one_that_is_given_up(rig: Rig) -> None:
    attached(rig, 1)
    assert start(rig, plan(rig, ["/bin/false"])).status == FAILED
    document = rig.cli("upgrade", "--release", "-o", "json", *where(rig)).report(FINE)
    assert (document["standing"], document["status"], document["remaining"]) == ("ended", 1, [])


# Each attachment's turn tells by which process it is done, and how many threads that has. Each
# process waits once, at its first, for another's: none shall have done all before others begin.
TURNS = """
import os, time
from cni_repair.repair import attachment
os.sched_getaffinity = lambda _: {0, 1}
run, until = attachment.AttachmentRepair.run, {}
def processes():
    with open("$BASE/turns") as file:
        return {line.split()[0] for line in file}
def noted(self, recorded):
    with open("$BASE/turns", "a") as file:
        print(os.getpid(), len(os.listdir("/proc/self/task")), file=file, flush=True)
    last = until.setdefault(os.getpid(), time.monotonic() + 60)
    while len(processes()) < 2 and time.monotonic() < last:
        time.sleep(0.005)
    return run(self, recorded)
attachment.AttachmentRepair.run = noted
# Without the index: what is fired needs no turn.
from cni_repair.upgrade import podphases
podphases.write_index = lambda *_: 0
"""


@pytest.mark.slow
@pytest.mark.parametrize("output", ["text", "json"])
def test_all_processors_repair(rig: Rig, output: str) -> None:
    """Whoever watches: what is shown must not keep the repair from forking."""
    pods = attached(rig, PODS_FOR_TWO)
    how = ["-o", "json"] if output == "json" else []
    done = start(rig, plan(rig), *how, patch=TURNS.replace("$BASE", str(rig.base)))
    assert done.status == FINE, done
    turns = [line.split() for line in (rig.base / "turns").read_text().splitlines()]
    assert len(turns) >= PODS_FOR_TWO
    assert len({process for process, _ in turns}) == 2
    assert {threads for _, threads in turns} == {"1"}
    assert_as_before(rig, pods)
    assert len(events(rig, "restored")) == PODS_FOR_TWO
    assert {one["state"] for one in report(rig)["attachments"]} == {"healthy"}


def test_pods_are_armed_before_the_driver(rig: Rig) -> None:
    pods = attached(rig, 2)
    done = start(rig, plan(rig), patch=told(rig))
    assert done.status == FINE, done
    assert fired(rig) == (2, 2, {})
    assert_as_before(rig, pods)
    assert len(events(rig, "restored")) == 2
    for one in report(rig)["attachments"]:
        assert one["state"] == "healthy" and one["lost"] and one["actions"]


# --- refusals ------------------------------------------------------------------------------------


def bare_pod(rig: Rig) -> None:
    """A pod that nobody remembers."""
    rig.pod("bare")
    rig.ip("link add link eth0 name eth0x type macvlan")
    rig.ip("link set eth0x netns bare name net1")


def foreign(rig: Rig) -> None:
    rig.ip("link del eth0", "pod1")
    rig.ip("link add eth0 type bridge", "pod1")


def no_more_disk(rig: Rig) -> None:
    state_dir(rig).mkdir(mode=0o700)
    rig.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(state_dir(rig)))


def no_writable_disk(rig: Rig) -> None:
    state_dir(rig).mkdir(mode=0o700)
    rig.run("mount", "-t", "tmpfs", "-o", "ro,mode=700", "tmpfs", str(state_dir(rig)))


def read_only_records(rig: Rig) -> None:
    rig.run("mount", "--bind", str(rig.checkpoints), str(rig.checkpoints))
    rig.run("mount", "-o", "remount,bind,ro", str(rig.checkpoints))


def records_for_all(rig: Rig) -> None:
    rig.checkpoints.chmod(0o777)


def other_version(rig: Rig) -> None:
    state_dir(rig).mkdir(mode=0o700)
    begin = {"at": 1.0, "event": "begin", "version": 2, "plan": {}, "planFile": "", "options": {}}
    file = state_dir(rig) / "journal"
    file.write_text(json.dumps({**begin, "bootId": "", "pid": 1}) + "\n")


def others_journal(rig: Rig) -> None:
    state_dir(rig).mkdir(mode=0o700)
    file = state_dir(rig) / "journal"
    file.touch()
    os.chown(file, 12345, 12345)


Spoil = Callable[[Rig], None]


def assert_refused(rig: Rig, words: str, path: str, *more: str) -> None:
    """In these words, on a line or two, and nothing is touched."""
    links, records = rig.node_links(), kept(rig)
    pods = {name: rig.state(Pod(name)) for name in ("pod0", "pod1")}
    done = start(rig, path, *more)
    assert done.status == REFUSED, done
    assert words in done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert rig.node_links() == links
    assert {name: rig.state(Pod(name)) for name in pods} == pods
    assert kept(rig) == records
    assert events(rig, "driver") == []


def kept(rig: Rig) -> dict[str, bytes]:
    return {name: (rig.checkpoints / name).read_bytes() for name in rig.kept()}


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--dry-run"], marks=pytest.mark.slow)], ids=["for real", "dry run"]
)
def test_plan_that_does_not_suit_the_node(rig: Rig, more: list[str]) -> None:
    attached(rig)
    cases: list[tuple[Json, str]] = [
        ({"masters": {"names": ["eth9"]}}, "$.masters.names: eth9 does not exist now"),
        ({"kubelet": {}}, "systemd does not run here: where nothing rebuilds pods, say `kubelet:"),
        ({"driver": {"command": ["/bin/none", "x"]}}, "$.driver.command: '/bin/none' is not there"),
        ({"driver": {"command": ["/etc/passwd"]}}, "'/etc/passwd' is not executable"),
    ]
    for changes, words in cases:
        assert_refused(rig, words, plan(rig, **changes), *more)
    done = start(rig, plan(rig, **cases[0][0], **cases[2][0]), *more)
    assert done.status == REFUSED
    assert re.search(r"eth9 does not exist now; name links of this node$", done.out, re.MULTILINE)
    assert re.search(r"'/bin/none' is not there: install it.*$", done.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(spoil, words, marks=[] if spoil is bare_pod else pytest.mark.slow)
        for spoil, words in [
            (bare_pod, "/run/netns/bare net1 (macvlan over eth0): no record: cni-repair adopt"),
            (foreign, "coverage is 1 of 2, the plan wants 100%"),
            (no_more_disk, "MiB free): make room, 16 MiB will do"),
            (no_writable_disk, "Read-only file system"),
            (read_only_records, "on a read-only file system"),
            (records_for_all, "is not trusted: others may write to it"),
            (other_version, "another version of cni-repair: end that upgrade with the version"),
            (others_journal, "it belongs to uid 12345, not to uid 0"),
        ]
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_node_that_is_not_ready(rig: Rig, spoil: Spoil, words: str) -> None:
    attached(rig)
    spoil(rig)
    assert_refused(rig, words, plan(rig))
    if spoil is not no_writable_disk:  # to be seen by those who write only
        assert_refused(rig, words, plan(rig), "--dry-run")


def test_wrong_plan_is_wrong_usage(rig: Rig) -> None:
    done = start(rig, plan(rig, masters={"deadline": "2 minutes"}, drivr={}))
    assert done.status == USAGE
    first, second = done.err.splitlines()
    assert "plan.yaml: $.masters.deadline: '2 minutes' is no duration" in first
    assert "$.drivr: unknown key: did you mean driver?" in second
    assert not state_dir(rig).exists()


def test_options_of_a_start_are_refused_elsewhere(rig: Rig) -> None:
    for verb, option in [
        ("--resume", "--dry-run"),
        ("--resume", "--checkpoint-dir=/x"),
        ("--release", "--no-kubelet"),
        ("--status", "--run-dir=/x"),
    ]:
        done = rig.cli("upgrade", verb, option, *where(rig))
        assert (done.status, done.out) == (USAGE, "")
        assert f"{option.partition('=')[0]}: only with PLAN.yaml" in done.err


@pytest.mark.slow
def test_pod_that_is_being_worked_on_holds_the_start_up(rig: Rig) -> None:
    (was,) = attached(rig, 1)
    lock = f"{rig.conf()['runDir']}/{was.pod.id}@eth0.lock"
    with rig.started("flock", "--no-fork", lock, "sleep", "600"):
        eventually(
            lambda: rig.run("flock", "-n", lock, "true", check=False).status != 0, "the lock"
        )
        done = start(rig, plan(rig))
    assert done.status == REFUSED
    assert re.search(r"preflight +FAILED: .*another cni-repair is at work on ", done.out)


@pytest.mark.slow
def test_nothing_to_look_at_resume_or_release(rig: Rig) -> None:
    assert status(rig).out == "no upgrade was begun on this node\n"
    assert report(rig)["standing"] == "none"
    done = resume(rig)
    assert done.status == REFUSED
    assert "nothing to resume" in done.err
    done = rig.cli("upgrade", "--release", *where(rig))
    assert (done.status, done.out) == (
        FINE,
        "no upgrade was begun on this node: nothing to release\n",
    )
    assert start(rig, plan(rig)).status == FINE
    done = resume(rig)
    assert done.status == REFUSED
    assert "has come to its end: there is nothing to resume" in done.err


# --- pods that cannot all be restored ------------------------------------------------------------


@pytest.mark.slow
def test_coverage_that_the_plan_allows(rig: Rig) -> None:
    good, bad = attached(rig)
    foreign(rig)
    bare_pod(rig)
    done = start(rig, plan(rig, coverage="30%"))
    assert done.status == FINE, done
    assert_as_before(rig, [good])
    assert "1 of 1 healthy, 1 of them repaired; 1 given up" in done.out
    text = done.out.partition("could not have been restored, which the plan's coverage allows:")[2]
    assert f"  shop/{bad.pod.name} " in text
    assert "  /run/netns/bare net1 (macvlan over eth0): no record" in text
    found = {pod["containerID"]: pod["givenUp"] for pod in report(rig)["attachments"]}
    assert found == {good.pod.id: False, bad.pod.id: True}


@pytest.mark.slow
def test_pod_that_was_lost_before_comes_back_without_an_outage_of_ours(rig: Rig) -> None:
    pods = attached(rig)
    rig.ip("link del eth0", pods[0].pod)
    document = start(rig, plan(rig), "-o", "json").report(FINE)
    assert_as_before(rig, pods)
    outages = [pod["outageMs"] for pod in document["attachments"]]
    assert outages[0] is None
    assert outages[1] > 0


@pytest.mark.slow
def test_pod_that_is_deleted_meanwhile_is_left_out(rig: Rig) -> None:
    stays, goes = attached(rig)
    with in_driver(rig) as process:
        rig.plugin("DEL", goes.pod).ok()
        go(rig)
        assert end_of(process).status == FINE
    assert_as_before(rig, [stays])
    assert "eth0" not in rig.links(goes.pod)
    assert [pod["containerID"] for pod in report(rig)["attachments"]] == [stays.pod.id]


@pytest.mark.slow
def test_pod_whose_netns_went_without_del_is_no_failure(rig: Rig) -> None:
    rig.uplink_up("eth1", "10.8.0.1")
    stays, gone = rig.attach("pod0"), rig.attach("pod1", rig.conf(master="eth1"))
    rig.drop_pod(gone.pod)
    rig.uplink_down("eth1")  # nobody alive stands on it
    done = start(rig, plan(rig))
    assert done.status == FINE, done
    assert_as_before(rig, [stays])


# --- the driver command --------------------------------------------------------------------------


def test_driver_command_that_fails(rig: Rig) -> None:
    pods = attached(rig)
    done = start(rig, plan(rig, f"{RELOAD}; echo no such firmware >&2; exit 7"))
    assert done.status == FAILED
    assert_as_before(rig, pods)
    assert "| no such firmware" in done.out
    assert " driver     FAILED: exit 7 after " in done.out
    assert "2 of 2 healthy, 2 of them repaired" in done.out
    assert done.out.endswith("upgrade FAILED: see above\n")
    assert "ended, FAILED" in status(rig).out
    assert status(rig).status == FAILED
    assert resume(rig).status == REFUSED
    assert len(events(rig, "driver")) == 1


def test_failure_that_a_resume_has_healed(rig: Rig) -> None:
    """The verdict says that the node is well; what happened stays told."""
    pods = attached(rig)
    done = start(rig, plan(rig, f"{DOWN}; exit 7", masters={"deadline": "0.1s"}))
    assert done.status == FAILED
    assert report(rig)["verdict"] == "failed"
    rig.uplink_up()
    rig.settle(None)
    done = resume(rig)
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    told = (
        re.escape("(driver, masters, repair, verify), healed at ")
        + ".*"
        + re.escape(
            " by --resume; the driver command was not run again: begin a new upgrade for that"
        )
    )
    assert re.search(rf"^upgrade FAILED at .* {told}\n\Z", done.out, re.MULTILINE)
    found = status(rig)
    assert found.status == FINE
    assert re.match(rf"upgrade by .*, begun .*: FAILED at .* {told}\n", found.out)
    document = report(rig)
    assert (document["standing"], document["verdict"]) == ("ended", "healed")
    first, second = document["runs"]
    assert (first["by"], first["status"]) == ("start", FAILED)
    assert first["failed"] == ["driver", "masters", "repair", "verify"]
    assert (second["by"], second["status"], second["failed"]) == ("resume", FINE, [])
    phases = {phase["phase"]: phase["ok"] for phase in document["phases"]}
    assert [name for name, ok in phases.items() if not ok] == ["driver"]
    assert start(rig, plan(rig)).status == FINE  # which is not refused
    assert report(rig)["verdict"] == "well"


def test_plan_and_drivers_are_told_apart(rig: Rig) -> None:
    """By what a tool that drives a fleet knows whether it is done."""
    attached(rig, 1)
    path = plan(rig)
    tried = start(rig, path, "--dry-run", "-o", "json").report(FINE)
    document = start(rig, path, "-o", "json").report(FINE)
    (valid,) = rig.cli("validate", path, "-o", "json").report(0)["files"]
    assert document["planDigest"] == tried["planDigest"] == valid["parts"][0]["planDigest"]
    (card,) = document["drivers"]
    assert card["link"] == "eth0"
    assert card["before"] == card["after"] == card["now"]
    assert (card["now"]["name"], card["now"]["version"]) == ("veth", "1.0")
    assert tried["drivers"] == [{**card, "before": None, "after": None}]
    rig.uplink_down()
    assert report(rig)["drivers"] == [{**card, "now": None}]


@pytest.mark.slow
def test_driver_command_that_hangs_is_killed(rig: Rig) -> None:
    pods = attached(rig)
    command = f"{RELOAD}; touch {{base}}/reloaded; sleep 600; echo never"
    overdue = f"""
import os
from cni_repair.base.frozen import replace
from cni_repair.upgrade import driver
watch = driver.watch
def overdue(running, run_dir, on_progress, meanwhile):
    while not os.path.exists({str(rig.base / "reloaded")!r}):
        meanwhile(0.05)
    return watch(replace(running, deadline=0.0), run_dir, on_progress, meanwhile)
driver.watch = overdue
"""
    done = start(rig, plan(rig, command), patch=overdue)
    assert done.status == FAILED
    assert " driver     FAILED: killed at its deadline of 300 s" in done.out
    assert "| never" not in done.out
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_what_a_driver_command_prints_cannot_steer_the_terminal(rig: Rig) -> None:
    done = start(rig, plan(rig, r"printf '\033[2J\007\377 x\r\n:warning: [red]no line feed'"))
    assert "| ?[2J?\ufffd x\n" in done.out
    assert "| :warning: [red]no line feed\n" in done.out


# --- masters that are late, or another's ---------------------------------------------------------


@pytest.mark.slow
def test_master_that_comes_late_is_waited_for(rig: Rig) -> None:
    pods = attached(rig)
    with rig.started(rig.launcher(), *start_words(rig, plan(rig, DOWN))) as process:
        wait_for(rig, event="phase", phase="masters")
        rig.uplink_up()
        done = end_of(process)
    assert done.status == FINE, done
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_master_that_gets_its_mtu_late_is_waited_for(rig: Rig) -> None:
    """The driver's default comes first, the distribution's network service second."""
    rig.reload(mtu=9000)
    pods = attached(rig, 1)
    with rig.started(rig.launcher(), *start_words(rig, plan(rig, RELOAD))) as process:
        wait_for(rig, event="phase", phase="masters")
        assert rig.links()["eth0"]["mtu"] == 1500
        rig.ip("link set tor0 mtu 9000", "tor")
        rig.ip("link set eth0 mtu 9000")
        done = end_of(process)
    assert done.status == FINE, done
    assert_as_before(rig, pods)


@pytest.mark.slow
def test_records_that_go_with_the_nic_are_missed(rig: Rig) -> None:
    """Their file system is not mounted any more: an empty directory is left."""
    pods = attached(rig, 1)
    hide = f"mount -t tmpfs -o mode=700 tmpfs {rig.checkpoints}"
    done = start(rig, plan(rig, f"{RELOAD}; {hide}"))
    assert done.status == FAILED
    assert " repair     FAILED: the records in " in done.out
    rig.run("umount", str(rig.checkpoints))
    assert resume(rig).status == FINE
    assert_as_before(rig, pods)


def bridge(rig: Rig) -> None:
    rig.ip("link add eth0 type bridge")
    rig.ip("link set eth0 up")


def link_down(rig: Rig) -> None:
    """(Never up, not for a moment: carrier would be there.)"""
    rig.ip(
        "link add eth0 address 02:00:00:00:09:00 type veth"
        " peer name tor0 address 02:00:00:00:09:01 netns tor"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instead", "words"),
    [
        (None, "eth0 does not exist"),
        (bridge, "eth0"),
        (link_down, "eth0 is down: ip link set dev eth0 up"),
    ],
    ids=["none", "another link", "down"],
)
def test_master_that_does_not_come_back(rig: Rig, instead: Spoil | None, words: str) -> None:
    """Then it is put right, and the upgrade resumed."""
    pods = attached(rig)
    path = plan(rig, f"{DOWN}; {GATE}", masters={"deadline": "0.5s"})
    with rig.started(rig.launcher(), *start_words(rig, path)) as process:
        wait_for(rig, event="lost", link="eth0")
        if instead:
            instead(rig)
        go(rig)
        done = end_of(process)
    assert done.status == FAILED
    line = next(line for line in done.out.splitlines() if " masters    FAILED: " in line)
    assert words in line
    assert line.endswith("(after 0.5 s)")
    if instead is not link_down:
        assert {pod["state"] for pod in report(rig)["attachments"]} == {"lost"}
    assert "left to do: hold, masters, repair, verify, release: cni-repair upgrade" in done.out
    assert "in the way, and what to do about it: cni-repair status; then\n" in done.out
    rig.run("ip", "link", "del", "eth0", check=False)
    rig.uplink_up()
    rig.settle(None)
    done = resume(rig)
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert len(events(rig, "driver")) == 1


@pytest.mark.slow
def test_gateway_that_is_silent(rig: Rig) -> None:
    pods = attached(rig)
    command = f"{RELOAD}; ip -n tor link set tor0 arp off; ip -n tor addr flush dev tor0"
    done = start(rig, plan(rig, command, verify={"timeout": "0.5s"}))
    assert done.status == FAILED
    assert " verify     FAILED: 0 of 2 verified; shop/pod0 " in done.out
    assert "gateway 10.9.0.1 does not answer ARP" in done.out
    assert_as_before(rig, pods)
    rig.ip("link set tor0 arp on", "tor")
    rig.ip("addr add 10.9.0.1/24 dev tor0", "tor")
    assert "about it: cni-repair verify; then\nleft to do: verify, release:" in status(rig).out
    done = resume(rig)
    assert done.status == FINE, done
    assert "interfaces to repair" not in done.out


@pytest.mark.slow
def test_link_that_comes_up_while_a_resume_verifies(rig: Rig) -> None:
    """Whoever plugs a cable in resumes at once, and the card takes seconds to find its carrier."""
    pods = attached(rig)
    command = f"{RELOAD}; ip -n tor link set tor0 arp off"
    done = start(rig, plan(rig, command, verify={"timeout": "0.5s"}))
    assert done.status == FAILED
    rig.ip("link set tor0 arp on down", "tor")
    rig.ip("addr replace 10.9.0.1/24 dev tor0", "tor")
    words = ["upgrade", "--resume", "--foreground", *where(rig)]
    with rig.started(rig.launcher(), *words) as process:
        wait_for(rig, event="resume")
        eventually(lambda: events(rig)[-1].get("phase") == "verify", "it to look")
        assert process.poll() is None
        rig.ip("link set tor0 up", "tor")
        done = end_of(process)
    assert done.status == FINE, done
    assert_as_before(rig, pods)


# --- the kubelet, as far as it is not systemd's --------------------------------------------------


@pytest.mark.slow
def test_kubelet_is_held_and_released(rig: Rig) -> None:
    pods = attached(rig)
    done = start(rig, plan(rig, **KUBELET), patch=kubelet_of_paper(rig))
    assert done.status == FINE, done
    assert_as_before(rig, pods)
    assert asked(rig) == ["find", "find", "arm", "hold", "release", "disarm"]
    arm = (rig.base / "asked").read_text().splitlines()[2]
    assert f" {STOOD_FOR:.1f} hold" in arm
    assert "undoes it after 12 min 5 s, should cni-repair vanish" in done.out
    assert report(rig)["kubelet"] == {"unit": "kubelet.service", "held": False, "until": None}


@pytest.mark.slow
def test_no_kubelet(rig: Rig) -> None:
    attached(rig, 1)
    done = start(rig, plan(rig, **KUBELET), "--no-kubelet", patch=kubelet_of_paper(rig))
    assert done.status == FINE, done
    assert asked(rig) == []
    assert report(rig)["kubelet"] is None


@pytest.mark.slow
def test_masters_that_do_not_come_back_hold_the_kubelet(rig: Rig) -> None:
    pods = attached(rig)
    patch = kubelet_of_paper(rig)
    path = plan(rig, DOWN, masters={"deadline": "0.2s"}, **KUBELET)
    done = start(rig, path, patch=patch)
    assert done.status == FAILED
    assert asked(rig)[-1] == "arm"
    assert "release    FAILED: kubelet.service stays masked and stopped, as on_failure" in done.out
    assert "kubelet.service is held: stopped and masked; a timer of systemd's releases" in done.out
    assert f"cni-repair upgrade --release --state-dir {state_dir(rig)}\n" in done.out
    again = start(rig, path, patch=patch)
    assert again.status == REFUSED
    assert "the last upgrade holds kubelet.service" in again.err
    rig.uplink_up()
    rig.settle(None)
    assert resume(rig, patch=patch).status == FINE
    assert asked(rig)[-2:] == ["release", "disarm"]
    assert_as_before(rig, pods)


@pytest.mark.parametrize("policy", slow_but(["release", "hold"]))
def test_driver_command_that_fails_with_a_kubelet(rig: Rig, policy: str) -> None:
    """Who resumes has looked at it: then it is released."""
    attached(rig, 1)
    patch = kubelet_of_paper(rig)
    path = plan(rig, "false", on_failure={"driver": policy}, **KUBELET)
    assert start(rig, path, patch=patch).status == FAILED
    assert asked(rig)[-1] == ("disarm" if policy == "release" else "arm")
    done = resume(rig, patch=patch)
    assert done.status == (REFUSED if policy == "release" else FINE)
    assert asked(rig)[-1] == "disarm"
    assert report(rig)["kubelet"]["held"] is False
    assert start(rig, plan(rig, "true")).status == FINE


@pytest.mark.slow
def test_killed_before_anybody_was_told_the_kubelet_stays_held(rig: Rig) -> None:
    attached(rig, 1)
    patch = kubelet_of_paper(rig)
    path = plan(rig, "false", on_failure={"driver": "hold"}, **KUBELET)
    assert start(rig, path, patch=patch + dies(("done", "driver"))).status == -signal.SIGKILL
    assert resume(rig, patch=patch).status == FAILED
    assert asked(rig)[-1] == "arm"
    assert report(rig)["kubelet"]["held"] is True


@pytest.mark.slow
def test_given_up_by_hand(rig: Rig) -> None:
    attached(rig, 1)
    patch = kubelet_of_paper(rig)
    path = plan(rig, **KUBELET)
    assert start(rig, path, patch=patch + dies(("done", "driver"))).status == -signal.SIGKILL
    words = ["upgrade", "--release", *where(rig)]
    done = rig.cli(*words, patch=kubelet_of_paper(rig, "release"))
    assert (done.status, done.out) == (FAILED, "")
    assert "systemd does not answer" in done.err
    assert report(rig)["kubelet"]["held"] is True
    done = rig.cli(*words, patch=patch)
    assert (done.status, done.out) == (
        FINE,
        "kubelet.service was released by hand\n"
        "the upgrade is given up; the pods: cni-repair status\n",
    )
    assert report(rig)["kubelet"]["held"] is False
    assert ": ended, FAILED" in status(rig).out


@pytest.mark.parametrize("verb", slow_but(["arm", "hold"]))
def test_kubelet_that_cannot_be_held(rig: Rig, verb: str) -> None:
    """Then the driver is not touched, and the kubelet let go."""
    pods = attached(rig)
    links = rig.node_links()
    done = start(rig, plan(rig, **KUBELET), patch=kubelet_of_paper(rig, verb))
    assert done.status == FAILED
    assert " hold       FAILED: systemd does not answer" in done.out
    assert asked(rig)[-2:] == ["release", "disarm"]
    assert_untouched(rig, pods, links)
    assert start(rig, plan(rig)).status == FINE


@pytest.mark.parametrize("verb", slow_but(["arm", "hold"]))
def test_systemd_that_fails_a_resume_keeps_no_pod_from_its_repair(rig: Rig, verb: str) -> None:
    pods = attached(rig)
    path, patch = plan(rig, **KUBELET), kubelet_of_paper(rig)
    assert start(rig, path, patch=patch + dies(("done", "driver"))).status == -signal.SIGKILL
    done = resume(rig, patch=kubelet_of_paper(rig, verb))
    assert done.status == FAILED
    assert " hold       FAILED: systemd does not answer" in done.out
    assert " repair     2 of 2 healthy, 2 of them repaired" in done.out
    assert_as_before(rig, pods)


def test_in_a_container_without_the_pods_namespaces_nothing_is_touched(rig: Rig) -> None:
    """They would be stale: no coverage would be asked for them, and the driver taken away."""
    attached(rig, 1)
    words = " ".join([rig.launcher(), *start_words(rig, plan(rig))])
    hidden = f"unshare --mount sh -c 'mount -t tmpfs tmpfs /run/netns && exec {words}'"
    contained = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", f"{hidden}; exit $?"]
    done = rig.run(*contained, check=False)
    assert done.status == REFUSED
    assert "lives, but its namespace" in done.out
    assert "eth0" in rig.links()
