"""`cni-repair watch`: pods are healed, and nobody calls anything."""

from __future__ import annotations

import fcntl
import json
import signal
import socket

import pytest

from tests.netns.rig import HANG_SECONDS, Rig, eventually
from tests.netns.watching import configure, watching


def is_held(rig: Rig, path: str) -> bool:
    """Whether somebody has locked a file of the node."""
    try:
        with open(rig.outside(path), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class TestAnUplink:
    @pytest.mark.slow
    def test_pods_come_back_with_it(self, rig: Rig) -> None:
        pods = [rig.attach(f"pod{number}") for number in range(3)]
        with watching(rig) as watch:
            watch.until_healthy(3)
            for times in (1, 2):  # the second heal waits for the back-off
                rig.uplink_down()
                watch.until_lost(3)
                rig.uplink_up()
                watch.until_healed(3 * times)
                watch.until_healthy(3)
            for one in pods:
                assert rig.state(one.pod) == one.state
            assert watch.end() == 0
        assert watch.said.count("uplink-lost: eth0 is gone") == 2
        assert watch.said.count("uplink-back: eth0 is back") == 2
        assert watch.said.count("healed: ") == 6
        assert watch.said.count("OUTAGE_MS=") == 6

    @pytest.mark.slow
    def test_comes_back_under_another_name_first(self, rig: Rig) -> None:
        """udev renames a card after the kernel has told of it."""
        one = rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            watch.until_lost(1)
            rig.uplink_up("eth1")
            watch.until(lambda status: "eth1" in rig.links(), "eth1")
            rig.ip("link set eth1 down")
            rig.ip("link set eth1 name eth0")
            rig.ip("link set eth0 up")
            watch.until_healthy(1)
        assert rig.state(one.pod)["addr"] == one.state["addr"]

    @pytest.mark.slow
    def test_is_back_before_the_watcher_is(self, rig: Rig) -> None:
        """Killed, and everything happened meanwhile."""
        one = rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            watch.end(signal.SIGKILL)
        rig.reload()
        with watching(rig) as watch:
            watch.until_healed(1)
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state

    @pytest.mark.slow
    def test_outage_is_told_of_a_pod_that_a_look_saw_first(self, rig: Rig) -> None:
        """A look comes between a pod's return and the verdict on its heal."""
        rig.attach("a")
        slow = (
            "import time, cni_repair.watch.healtask as task\n"
            "say = task._Heal._say_verdict\n"
            "task._Heal._say_verdict = lambda *words: (time.sleep(2), say(*words))\n"
        )
        with watching(rig, slow, lookEvery="1s") as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            watch.until_lost(1)
            rig.uplink_up()
            assert watch.until_healed(1)["heals"]["lastOutageMs"] is not None
        (healed,) = [line for line in watch.said.splitlines() if "healed: " in line]
        assert "[CAUSE=uplink]" in healed

    def test_is_away_when_the_watcher_comes(self, rig: Rig) -> None:
        one = rig.attach("a")
        rig.uplink_down()
        with watching(rig) as watch:
            watch.until_lost(1)
            rig.uplink_up()
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state

    @pytest.mark.slow
    def test_takes_only_its_own_pods(self, rig: Rig) -> None:
        rig.uplink_up("eth1", ip="10.9.1.1")
        rig.attach("a")
        rig.attach("b", rig.conf(name="other", master="eth1"))
        with watching(rig) as watch:
            watch.until_healthy(2)
            rig.uplink_down("eth1")
            status = watch.until(
                lambda status: status["attachments"] == {"healthy": 1, "lost": 1}, "one lost pod"
            )
            assert status["byNetwork"] == {"pods": {"healthy": 1}, "other": {"lost": 1}}
            rig.uplink_up("eth1", ip="10.9.1.1")
            watch.until_healthy(2)


@pytest.mark.slow
class TestPods:
    def test_are_known_as_they_come_and_go(self, rig: Rig) -> None:
        with watching(rig) as watch:  # before there is a directory
            watch.until(lambda status: status["attachments"] == {}, "a status")
            one = rig.attach("a")
            watch.until_healthy(1)
            rig.plugin("DEL", one.pod).ok()
            watch.until(lambda status: status["attachments"] == {}, "no attachment")

    def test_are_deleted_while_lost(self, rig: Rig) -> None:
        first, second = rig.attach("a"), rig.attach("b")
        with watching(rig) as watch:
            watch.until_healthy(2)
            rig.uplink_down()
            watch.until_lost(2)
            rig.plugin("DEL", first.pod).ok()
            watch.until_lost(1)
            rig.uplink_up()
            watch.until_healthy(1)
        assert rig.state(second.pod) == second.state
        assert "eth0" not in rig.links(first.pod)

    def test_come_while_others_are_lost(self, rig: Rig) -> None:
        """Over another uplink: ADD needs one."""
        rig.uplink_up("eth1", ip="10.9.1.1")
        rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            watch.until_lost(1)
            rig.attach("b", rig.conf(name="other", master="eth1"))
            watch.until(
                lambda status: status["attachments"] == {"healthy": 1, "lost": 1}, "another pod"
            )
            rig.uplink_up()
            watch.until_healthy(2)

    def test_of_several_directories(self, rig: Rig) -> None:
        other = rig.base / "other"
        rig.attach("a")
        rig.attach("b", rig.conf(name="other", checkpointDir=str(other)))
        with watching(rig, checkpointDirs=[str(rig.checkpoints), str(other)]) as watch:
            watch.until_healthy(2)
            rig.uplink_down()
            watch.until_lost(2)
            rig.uplink_up()
            watch.until_healthy(2)

    def test_are_remembered_some_seconds_after_add(self, rig: Rig) -> None:
        one = rig.attach("a")
        rig.ip("route add 10.20.0.0/16 via 10.9.0.1", one.pod)
        with watching(rig):
            eventually(lambda: "10.20.0.0" in rig.checkpoint(one.pod).read_text(), "the new route")

    def test_come_back_as_they_were_remembered(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig, lookEvery="1s") as watch:
            watch.until_healthy(1)
            eventually(
                lambda: json.loads(rig.checkpoint(one.pod).read_text()).get("settled"),
                "the record to be brought up to date",
            )
            rig.ip("route add 10.20.0.0/16 via 10.9.0.1", one.pod)
            # lookEvery is five times that at most
            eventually(lambda: "10.20.0.0" in rig.checkpoint(one.pod).read_text(), "the new route")
            state = rig.state(one.pod)
            rig.uplink_down()
            watch.until_lost(1)
            rig.uplink_up()
            watch.until_healthy(1)
        assert rig.state(one.pod) == state


@pytest.mark.slow
def test_a_link_that_is_down_is_told_at_once(rig: Rig) -> None:
    """Not with the next look, nor with the next time that the status is written anyway."""
    rig.attach("a")
    later = (
        "import cni_repair.watch.telling as telling, cni_repair.watch.nodelinks as links\n"
        "telling.WRITE_SECONDS = links._QUIET_SECONDS = 9999.0\n"
    )
    with watching(rig, later, lookEvery="1h") as watch:
        watch.until_healthy(1)
        for word, is_up in (("down", False), ("up", True)):
            rig.ip(f"link set eth0 {word}")
            watch.until(
                lambda status, is_up=is_up: (  # type: ignore[misc]
                    status["masters"][0]["carrier"] == is_up == status["masters"][0]["up"]
                ),
                f"eth0 to be {word}",
            )


@pytest.mark.slow
class TestPolicy:
    def test_uplink_leaves_a_pods_own_changes(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig, lookEvery="1s") as watch:
            watch.until_healthy(1)
            rig.ip(f"addr del {one.address}/24 dev eth0", one.pod)
            watch.until(lambda status: status["attachments"] == {"degraded": 1}, "the change")
            watch.until_said("degraded: shop/a eth0 is degraded")
            watch.until_it_has_looked_for(2)
            assert watch.states() == {"degraded": 1}
            assert watch.status()["heals"] == {
                "total": 0, "failed": 0, "lastAt": None, "lastOutageMs": None,
            }  # fmt: skip

    def test_what_no_repair_may_touch_is_told(self, rig: Rig) -> None:
        """Once; nobody tries to repair it, so that no refusal would tell of it."""
        one = rig.attach("a")
        with watching(rig, lookEvery="1s") as watch:
            watch.until_healthy(1)
            rig.ip("link del eth0", one.pod)
            rig.ip("link add eth0 type veth peer name far0", one.pod)
            watch.until_said("refused: shop/a eth0 is foreign: ")
            watch.until_it_has_looked_for(2)
            assert watch.said.count("eth0 is foreign") == 1

    def test_an_unreadable_record_is_told(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig, lookEvery="1s") as watch:
            watch.until_healthy(1)
            rig.checkpoint(one.pod).write_text("{")
            watch.until_said("is unreadable: ")

    def test_drift_heals_them(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig, heal="drift", lookEvery="1s") as watch:
            watch.until_healthy(1)
            rig.ip(f"addr del {one.address}/24 dev eth0", one.pod)
            watch.until_healed(1)
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state

    def test_a_deleted_interface_is_seen_by_its_masters_message(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig, heal="drift", lookEvery="1h", rememberAfter="1h") as watch:
            watch.until_healthy(1)
            rig.ip("link del eth0", one.pod)
            watch.until_healed(1)
        assert rig.state(one.pod) == one.state

    def test_off_only_looks(self, rig: Rig) -> None:
        one = rig.attach("a")
        with watching(rig, heal="off") as watch:
            watch.until_healthy(1)
            rig.reload()
            status = watch.until_lost(1)
            assert (status["mode"], status["heal"]) == ("looking", "off")
            watch.until(lambda status: status["lastLook"], "a look")
            configure(rig, heal="uplink")
            watch.process.send_signal(signal.SIGHUP)
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state
        assert "reloaded: " in watch.said

    def test_a_pause_is_kept_to(self, rig: Rig) -> None:
        one = rig.attach("a")
        config = ("--config", str(configure(rig)))
        with watching(rig) as watch:
            watch.until_healthy(1)
            paused = rig.cli("watch", *config, "--pause", "30m", "--reason", "cables are moved")
            assert paused.status == 0, paused
            status = watch.until(lambda status: status["mode"] == "paused", "the pause")
            assert "cables are moved" in status["reason"]
            rig.reload()
            watch.until_lost(1)
            assert rig.cli("watch", *config, "--resume").status == 0
            watch.until_healthy(1)
            assert watch.status()["mode"] == "healing"
        assert rig.state(one.pod) == one.state

    def test_upgrade_that_has_just_begun_is_seen_with_the_loss(self, rig: Rig) -> None:
        """It takes the uplink away within a second."""
        rig.attach("a")
        rig.run("mkdir", "-p", "-m", "0700", "/run/cni-repair")
        late = "import cni_repair.watch.watcher as watcher\nwatcher._TICK_SECONDS = 9999.0\n"
        with watching(rig, late) as watch:
            watch.until_healthy(1)
            with rig.started("flock", "-F", "/run/cni-repair/upgrade.lock", "sleep", "600"):
                eventually(lambda: is_held(rig, "/run/cni-repair/upgrade.lock"), "the lock")
                assert watch.status()["mode"] == "healing"
                rig.uplink_down()
                watch.until_lost(1)
                watch.until(lambda status: status["mode"] == "upgrading", "the upgrade to be seen")
                assert watch.status()["armed"] == 0

    def test_while_upgrade_is_at_work_it_only_looks(self, rig: Rig) -> None:
        one = rig.attach("a")
        rig.run("mkdir", "-p", "-m", "0700", "/run/cni-repair")
        with watching(rig) as watch:
            watch.until_healthy(1)
            with rig.started("flock", "-F", "/run/cni-repair/upgrade.lock", "sleep", "600"):
                watch.until(lambda status: status["mode"] == "upgrading", "the upgrade to be seen")
                rig.reload()
                watch.until_lost(1)
                assert watch.status()["armed"] == 0
            watch.until_healthy(1)
        assert rig.state(one.pod) == one.state


@pytest.mark.slow
class TestTheProcess:
    def test_a_second_one_says_who_is_first(self, rig: Rig) -> None:
        with watching(rig) as watch:
            watch.until(lambda status: status, "a status")
            second = rig.cli("watch", "--config", str(configure(rig)))
            assert second.status == 3
            assert (
                f"another watcher is at work on this node (PID {watch.process.pid})" in second.err
            )

    def test_a_bad_configuration_keeps_the_old_one(self, rig: Rig) -> None:
        rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            configure(rig, heal="sometimes")
            watch.process.send_signal(signal.SIGHUP)
            watch.until_said("trouble: the old configuration stays: ")
            assert watch.status()["heal"] == "uplink"
            configure(rig, heal="off")
            watch.process.send_signal(signal.SIGHUP)
            watch.until(lambda status: status["heal"] == "off", "the new configuration")

    def test_a_directory_may_come_with_a_new_configuration(self, rig: Rig) -> None:
        other = rig.base / "other"
        rig.attach("a")
        rig.attach("b", rig.conf(name="other", checkpointDir=str(other)))
        with watching(rig) as watch:
            watch.until_healthy(1)
            configure(rig, checkpointDirs=[str(other)])
            watch.process.send_signal(signal.SIGHUP)
            only_other = {"other": {"healthy": 1}}
            watch.until(lambda status: status["byNetwork"] == only_other, "the other pod alone")

    def test_the_service_manager_is_told(self, rig: Rig) -> None:
        rig.attach("a")
        path = str(rig.base / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(HANG_SECONDS)
            env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"}
            with watching(rig, env=env) as watch:
                heard = ""
                while not {"READY=1", "WATCHDOG=1", "STATUS=healing: 1 healthy"} <= {
                    *heard.splitlines()
                }:
                    heard += manager.recv(4096).decode() + "\n"
                watch.process.send_signal(signal.SIGHUP)
                assert _heard(manager, "RELOADING=1").startswith("RELOADING=1\nMONOTONIC_USEC=")
                _heard(manager, "READY=1")
                watch.process.send_signal(signal.SIGTERM)
                _heard(manager, "STOPPING=1")
                assert watch.process.wait(HANG_SECONDS) == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_ends_at_once_while_a_heal_waits(self, rig: Rig, number: int) -> None:
        rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            watch.until_lost(1)
            children = watch.processes()
            assert watch.end(number) == 0
            watch.until_gone(children)
        assert "trouble" not in watch.said
        assert "stopped: " in watch.said

    def test_nothing_outlives_it(self, rig: Rig) -> None:
        rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            rig.uplink_down()
            watch.until_lost(1)
            children = watch.processes()
            assert len(children) > 1
            watch.end(signal.SIGKILL)
            watch.until_gone(children)

    def test_ends_with_its_healer(self, rig: Rig) -> None:
        """Whoever started it starts it again, and what is lost then is healed."""
        rig.attach("a")
        with watching(rig) as watch:
            watch.until_healthy(1)
            healer = watch.processes()[1]  # the daemon's one child; tasks are the healer's
            rig.run("kill", "-9", str(healer))
            assert watch.process.wait(HANG_SECONDS) == 1
        assert "trouble: the process that heals has died" in watch.said

    def test_without_a_capability(self, rig: Rig) -> None:
        limited = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
        words = (rig.launcher(), "watch", "--config", str(configure(rig)))
        done = rig.run(*limited, *words, check=False)
        assert done.status == 3
        assert done.err.startswith("cni-repair: CAP_NET_ADMIN is missing: ")
        assert done.err.count("\n") == 1

    def test_a_run_directory_that_cannot_be_made(self, rig: Rig) -> None:
        (rig.base / "file").write_text("")
        done = rig.cli("watch", "--config", str(configure(rig, runDir=f"{rig.base}/file/run")))
        assert done.status == 1
        assert done.err.startswith(f"cni-repair: cannot make a lock in {rig.base}/file/run")
        assert done.err.count("\n") == 1


def _heard(manager: socket.socket, word: str) -> str:
    while True:
        text = manager.recv(4096).decode()
        if word in text.splitlines():
            return text
