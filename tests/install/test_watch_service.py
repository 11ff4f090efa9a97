"""`cni-repair watch` as a service, by a real systemd: it heals by itself, within its sandbox, is
started again when it is killed, and lets go of kubelet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.extent import IS_FULL
from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import LAUNCHER
from tests.install.test_watch_kubelet import assert_free, state, with_kubelet
from tests.install.test_watch_unit import PODS, UNIT, make_uplink, node_with_pods
from tests.patience import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_STATUS = "/run/cni-repair/watch.json"
_RELOADS = 10 if IS_FULL else 3
_HELD = ("masked", "inactive")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A node with pods of all kinds, whose kubelet is held, and which is watched."""
    with Machine() as machine:
        node_with_pods(machine)
        with_kubelet(machine)
        # What happens again and again is to be healed without a wait.
        text = "version: 1\nholdKubelet: onLoss\nbackOff: {first: 0.1s, most: 0.1s}\n"
        machine.write("/etc/cni-repair/watch.yaml", text)
        machine.write(f"{UNITS}/{WATCH}", UNIT)
        machine.systemctl("daemon-reload")
        assert machine.systemctl("start", WATCH).returncode == 0
        wait_for(machine, "healthy")
        yield machine


def wait_for(machine: Machine, state: str, but: int = 0) -> None:
    """The watcher, which is not the process `but`, sees all pods in that state."""

    def seen() -> bool:
        path = machine.path(_STATUS)
        if not path.exists():
            return False
        status: dict[str, Any] = json.loads(path.read_text())
        found = {name: count for name, count in status["attachments"].items() if count}
        return status["pid"] != but and found == {state: len(PODS)}

    eventually(seen, f"all pods to be {state}")


def lose(machine: Machine) -> None:
    machine.shell("ip link delete eth0")
    eventually(lambda: state(machine) == _HELD, "kubelet to be held")


def heal(machine: Machine, but: int = 0) -> None:
    """The uplink comes back; kubelet is released once the pods are healed. (That is waited for
    first: for a moment the status is still what it was before the loss.)"""
    make_uplink(machine)
    eventually(lambda: state(machine) == ("loaded", "active"), "kubelet to be released")
    wait_for(machine, "healthy", but)
    assert lost_interfaces(machine) == 0


def kill(machine: Machine) -> int:
    """As the kernel does when memory is short; the process that was killed."""
    pid = int(machine.unit(WATCH, "MainPID")["MainPID"])
    machine.shell(f"kill -9 {pid}")
    return pid


def lost_interfaces(machine: Machine) -> int:
    """Asked of the kernel, not of cni-repair."""
    return sum("eth0" not in machine.shell(f"{how} ip -br link") for how in PODS.values())


def test_heals_pods_of_every_kind_again_and_again(machine: Machine) -> None:
    for _ in range(_RELOADS):
        lose(machine)
        assert lost_interfaces(machine) == len(PODS)
        heal(machine)
    assert machine.unit(WATCH, "NRestarts") == {"NRestarts": "0"}
    assert_free(machine)


def test_killed_is_started_again_and_heals_and_releases(machine: Machine) -> None:
    lose(machine)
    killed = kill(machine)
    wait_for(machine, "lost", but=killed)
    assert state(machine) == _HELD
    heal(machine, but=killed)
    assert machine.unit(WATCH, "NRestarts") == {"NRestarts": "1"}
    assert_free(machine)


def test_kubelet_is_held_for_what_was_lost_while_nobody_watched(machine: Machine) -> None:
    killed = kill(machine)
    lose(machine)
    heal(machine, but=killed)


def test_stopped_releases_what_it_holds(machine: Machine) -> None:
    lose(machine)
    assert machine.systemctl("stop", WATCH).returncode == 0
    assert_free(machine)
    assert machine.unit(WATCH, "Result") == {"Result": "success"}


def test_second_one_says_who_is_first(machine: Machine) -> None:
    done = machine.run(LAUNCHER, "watch", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 3
    assert machine.unit(WATCH, "MainPID")["MainPID"] in done.stderr


def test_hung_is_ended_by_the_watchdog(machine: Machine) -> None:
    pid = int(machine.unit(WATCH, "MainPID")["MainPID"])
    machine.shell(f"kill -STOP {pid}")
    eventually(lambda: machine.unit(WATCH, "NRestarts")["NRestarts"] == "1", seconds=120)
    wait_for(machine, "healthy", but=pid)
    lose(machine)
    heal(machine, but=pid)
