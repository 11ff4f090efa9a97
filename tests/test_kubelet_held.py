"""holdKubelet: onLoss, with a real kubelet over a real containerd, both services of a real systemd.

kubelet 1.20.2 has no dockershim in Debian's source. What that does to a pod without an address does
a checker that is a part of kubelet's service: it removes the sandbox some time after the loss.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from integration.containerd import cri, runtime
from integration.containerd.image import IMAGE, write_image
from integration.kubelet import kubelet as rig
from integration.kubelet.private import SYSCTLS
from integration.kubernetes import build
from tests.background import Background
from tests.extent import IS_FULL
from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import LAUNCHER, REPOSITORY
from tests.install.test_watch_unit import DEVELOPED, NETWORK, UNIT, make_uplink
from tests.patience import eventually

_BUILD_SECONDS = 900

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_BUILD_SECONDS + 900)]

# As in tests/install/test_watch_race.py. This kubelet takes seconds to begin.
ROUNDS, _PATIENCE = (20, 1) if IS_FULL else (3, 20)
PODS = ("web-1", "web-2")
_SECONDS = 300.0
_KUBELET = "kubelet.service"
_SOCKET = "/run/c/containerd.sock"
_BEGUN, _REMOVED = "/run/k/begun", "/run/k/removed"
# The service's main process, as dockershim is in kubelet's own: it ends with it.
_CHECKER = f"""\
import subprocess, sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from integration.containerd.cri import Cri

subprocess.Popen(sys.argv[1:])
lost = {{}}


def has_address(netns):
    command = ["nsenter", "--net=" + netns, "ip", "-4", "addr", "show", "dev", "eth0"]
    return "inet " in subprocess.run(command, capture_output=True, text=True).stdout


with Cri(Path({_SOCKET!r})) as cri:
    with open({_BEGUN!r}, "a") as file:
        print("begun", file=file)
    while True:
        for sandbox in cri.sandboxes():
            if not sandbox.ready or has_address(sandbox.netns):
                lost.pop(sandbox.id, None)
            elif time.monotonic() - lost.setdefault(sandbox.id, time.monotonic()) >= {_PATIENCE}:
                with open({_REMOVED!r}, "a") as file:
                    print(sandbox.id, file=file)
                cri.stop_sandbox(sandbox.id)
        time.sleep(0.05)
"""
# The machine's controllers are where version 1 has them, and systemd's cgroups are of version 2:
# runc could not limit anything there.
_RUNC = f"""\
#!/usr/bin/python3 -I
import json, os, sys
if "--bundle" in sys.argv:
    path = sys.argv[sys.argv.index("--bundle") + 1] + "/config.json"
    config = json.load(open(path))
    config["linux"].pop("resources", None)
    json.dump(config, open(path, "w"))
os.execv({runtime.RUNC!r}, ["runc", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def machine(kubelet_build: Background) -> Iterator[Machine]:
    """A node whose kubelet has made its pods."""
    runtime.prepare()
    try:
        program = build.prepare(_BUILD_SECONDS)
    except build.NotBuilt as error:
        pytest.skip(f"the test with a real kubelet is LEFT OUT: {error}")
    with Machine() as machine:
        make_node(machine)
        start_containerd(machine)
        start_kubelet(machine, program)
        yield machine


def make_node(machine: Machine) -> None:
    machine.write(LAUNCHER, DEVELOPED, 0o755)
    make_uplink(machine)
    # kubelet sets some of the whole machine's sysctls: here, copies. And it wants an address.
    machine.shell("mkdir /run/sysctls; mknod /dev/kmsg c 1 11")
    for number, name in enumerate(SYSCTLS):
        copy = f"/run/sysctls/{number}"
        machine.shell(f"cat /proc/sys/{name} >{copy}; mount --bind {copy} /proc/sys/{name}")
    machine.shell("ip link set lo up; ip link add mgmt type veth peer name mgmt-far")
    machine.shell("ip link set mgmt up; ip link set mgmt-far up; ip addr add 192.0.2.9/24 dev mgmt")
    machine.shell("ip route add default via 192.0.2.1")


def start_containerd(machine: Machine) -> None:
    plugins = {key: value for key, value in NETWORK.items() if key not in ("cniVersion", "name")}
    conflist = {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugins]}
    machine.write("/etc/cni/net.d/10-pods.conflist", json.dumps(conflist))
    machine.shell("ln -s /usr/lib/cni/* /opt/cni/bin/; mkdir /run/c")
    machine.write("/run/c/runc", _RUNC, 0o755)
    places = (Path("/run/c"), Path("/etc/cni/net.d"), Path("/opt/cni/bin"))
    config = runtime.configuration(*places, runc="/run/c/runc")
    machine.write("/run/c/config.toml", config)
    write_image(runtime.BUSYBOX, machine.path("/run/c/image.tar"))
    path = f"PATH={runtime.PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"
    machine.write(
        f"{UNITS}/containerd.service",
        f"[Service]\nEnvironment={path}\nKillMode=process\nDelegate=yes\n"
        f"ExecStart={runtime.PROGRAMS}/containerd --config=/run/c/config.toml\n",
    )
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "containerd")
    ctr = f"{path} {runtime.PROGRAMS}/ctr --address={_SOCKET} --namespace=k8s.io"
    eventually(machine.path(_SOCKET).exists, "containerd")
    machine.shell(f"{ctr} image import --snapshotter=native /run/c/image.tar")


def start_kubelet(machine: Machine, program: Path) -> None:
    config = {**rig.CONFIG, "staticPodPath": "/run/k/pods", "volumePluginDir": "/run/k/plugins"}
    machine.shell("mkdir -p /run/k/pods")
    machine.write("/run/k/config", json.dumps(config))
    machine.write("/run/k/checker.py", _CHECKER)
    command = [sys.executable, "-IB", "/run/k/checker.py", str(program), *rig.OPTIONS]
    command += ["--config=/run/k/config", "--root-dir=/run/k/root", "--cert-dir=/run/k/pki"]
    command.append(f"--container-runtime-endpoint=unix://{_SOCKET}")
    machine.write(
        f"{UNITS}/{_KUBELET}", f"[Service]\nRestart=always\nExecStart={shlex.join(command)}\n"
    )
    machine.systemctl("daemon-reload")
    assert machine.systemctl("start", _KUBELET).returncode == 0
    for name in PODS:
        container: dict[str, Any] = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never"}
        container |= {"command": ["sleep", "2147483647"]}
        machine.write(
            f"/run/k/{name}",
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": name, "namespace": "shop"},
                    "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
                }
            ),
        )
        machine.shell(f"mv /run/k/{name} /run/k/pods/{name}.json")  # whole
    eventually(lambda: run_all(machine), "the pods", seconds=_SECONDS, pause=1)


def run_all(machine: Machine) -> bool:
    found = containers(machine)
    return len(found) == len(PODS) and all(found.values())


def containers(machine: Machine) -> dict[tuple[str, int, str], list[tuple[str, int]]]:
    """The sandboxes that are up, with their attempts and addresses: and the containers that run in
    each, with their processes."""
    with cri.Cri(machine.path(_SOCKET)) as client:
        running = [one for one in client.containers() if one.running]
        return {
            (sandbox.id, sandbox.attempt, sandbox.ip): [
                (one.id, client.pid(one.id)) for one in running if one.sandbox_id == sandbox.id
            ]
            for sandbox in client.sandboxes()
            if sandbox.ready
        }


def watch(machine: Machine, hold: str) -> None:
    text = f"version: 1\nholdKubelet: {hold}\nbackOff: {{first: 0.1s, most: 0.1s}}\n"
    machine.write("/etc/cni-repair/watch.yaml", text)
    machine.write(f"{UNITS}/{WATCH}", UNIT)
    machine.systemctl("daemon-reload")
    assert machine.systemctl("restart", WATCH).returncode == 0
    wait_healthy(machine)


def wait_healthy(machine: Machine) -> None:
    def healthy() -> bool:
        path = machine.path("/run/cni-repair/watch.json")
        found = json.loads(path.read_text())["attachments"] if path.exists() else {}
        return bool(found.get("healthy") == len(PODS) == sum(found.values()))

    eventually(healthy, "all pods to be healthy")


def lines(machine: Machine, name: str) -> list[str]:
    path = machine.path(name)
    return path.read_text().split() if path.exists() else []


def has_begun(machine: Machine, times: int) -> bool:
    return len(lines(machine, _BEGUN)) == times


def kubelet_is(machine: Machine, *state: str) -> bool:
    shown = machine.unit(_KUBELET, "LoadState", "ActiveState")
    return (shown["LoadState"], shown["ActiveState"]) == state


def test_wins_each_time(machine: Machine) -> None:
    before = containers(machine)
    watch(machine, "onLoss")
    for number in range(ROUNDS):
        eventually(partial(has_begun, machine, number + 1), "kubelet to be at work")
        machine.shell("ip link delete eth0")
        eventually(lambda: kubelet_is(machine, "masked", "inactive"), "kubelet to be held")
        assert lines(machine, _REMOVED) == [], f"lost the race in round {number}"
        make_uplink(machine)
        eventually(lambda: kubelet_is(machine, "loaded", "active"), "kubelet to be released")
        wait_healthy(machine)
    eventually(partial(has_begun, machine, ROUNDS + 1), "kubelet to be at work again")
    assert lines(machine, _REMOVED) == []
    assert containers(machine) == before


def test_control_without_it_the_sandboxes_are_removed(machine: Machine) -> None:
    """(Last: it leaves no pods.)"""
    watch(machine, "never")
    machine.shell("ip link delete eth0")
    removed = partial(lines, machine, _REMOVED)
    eventually(lambda: len({*removed()}) == len(PODS), "the sandboxes to go", seconds=_SECONDS)
