"""holdKubelet: onLoss against a kubelet that rebuilds a pod a second after it has lost its address.

Real: systemd, the watcher by its own unit, the plugins, the pods. Of dockershim's kubelet there is
what matters here: a service that looks at its pods' addresses, and removes a pod that is without.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import LAUNCHER
from tests.install.test_watch_kubelet import KUBELET, NOTE, state
from tests.install.test_watch_unit import DEVELOPED, UNIT, attach, make_uplink
from tests.patience import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 20
PODS = ("web-1", "web-2", "web-3", "db-0")
_CONFIG = "/etc/cni-repair/watch.yaml"
_REBUILT = "/run/rebuilt"
# It looks often, and gives a pod without an address a second, as the real one's relist does.
_PROGRAM = f"""\
import subprocess, time
lost = {{}}
open("/run/kubelet.log", "a").write("begins\\n")
while True:
    for pod in {PODS!r}:
        shown = subprocess.run(["ip", "-n", pod, "-4", "addr", "show", "dev", "eth0"],
                               capture_output=True, text=True)
        if "inet " in shown.stdout:
            lost.pop(pod, None)
        elif time.monotonic() - lost.setdefault(pod, time.monotonic()) >= 1:
            open("{_REBUILT}", "a").write(pod + "\\n")
            lost.pop(pod)
    time.sleep(0.05)
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A node with pods, and a kubelet that rebuilds them."""
    with Machine() as machine:
        machine.write(LAUNCHER, DEVELOPED, 0o755)
        make_uplink(machine)
        for pod in PODS:
            machine.shell(f"ip netns add {pod}")
            attach(machine, pod, f"/run/netns/{pod}")
        machine.write("/run/kubelet.py", _PROGRAM)
        machine.write(
            f"{UNITS}/{KUBELET}",
            f"[Service]\nExecStart={sys.executable} -I /run/kubelet.py\nRestart=always\n",
        )
        machine.write(f"{UNITS}/{WATCH}", UNIT)
        machine.systemctl("daemon-reload")
        assert machine.systemctl("start", KUBELET).returncode == 0
        yield machine


def watch(machine: Machine, hold: str) -> None:
    # Twenty losses in a row are to be healed without a wait.
    text = f"version: 1\nholdKubelet: {hold}\nbackOff: {{first: 0.1s, most: 0.1s}}\n"
    machine.write(_CONFIG, text)
    assert machine.systemctl("restart", WATCH).returncode == 0
    eventually(lambda: states(machine) == f"{len(PODS)} healthy", "the watcher to see all pods")


def states(machine: Machine) -> str:
    first, *_ = machine.run(LAUNCHER, "status", env={"PATH": "/usr/bin:/bin"}).stdout.splitlines()
    return first.partition(": ")[2]


def rebuilt(machine: Machine) -> list[str]:
    path = machine.path(_REBUILT)
    return path.read_text().split() if path.exists() else []


def test_control_without_it_every_pod_is_rebuilt(machine: Machine) -> None:
    watch(machine, "never")
    machine.shell("ip link delete eth0")
    eventually(lambda: set(rebuilt(machine)) == set(PODS), "the pods to be rebuilt")


def test_wins_each_time(machine: Machine) -> None:
    watch(machine, "onLoss")
    for number in range(ROUNDS):
        machine.shell("ip link delete eth0")
        eventually(lambda: state(machine) == ("masked", "inactive"), "kubelet to be held")
        assert rebuilt(machine) == [], f"lost the race in round {number}"
        make_uplink(machine)
        eventually(lambda: state(machine) == ("loaded", "active"), "kubelet to be released")
        assert states(machine) == f"{len(PODS)} healthy"
    eventually(lambda: not machine.path(NOTE).exists(), "the note to go")
    assert rebuilt(machine) == []
    begun = machine.path("/run/kubelet.log").read_text().splitlines()
    assert len(begun) == 1 + ROUNDS
