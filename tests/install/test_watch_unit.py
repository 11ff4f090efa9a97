"""conf/systemd/cni-repair-watch.service: what its sandbox lets cni-repair do, and what it does not.

A real systemd starts REPAIR with just the unit's own protection.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import LAUNCHER, REPOSITORY
from tests.patience import eventually

pytestmark = pytest.mark.slow

UNIT = (REPOSITORY / "conf" / "systemd" / WATCH).read_text()
DEVELOPED = f"""\
#!{sys.executable} -I
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from cni_repair.__main__ import main
sys.exit(main())
"""
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_CAPABILITIES = {
    "CAP_NET_ADMIN": "missing",
    "CAP_NET_RAW": "missing",
    "CAP_SYS_ADMIN": "missing",
    "CAP_SYS_PTRACE": "Permission denied",
}
_BY_PATH, _OF_A_USER, _OF_ROOT = ("by-path", "of-a-user", "of-root")
# And how to run something in their networks.
_OF_UNIT = "nsenter --net --target $(systemctl show --property=MainPID --value {}.service)"
PODS = {
    _BY_PATH: f"ip netns exec {_BY_PATH}",
    _OF_A_USER: _OF_UNIT.format(_OF_A_USER),
    _OF_ROOT: _OF_UNIT.format(_OF_ROOT),
}
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "type": "cni-repair",
    "master": "eth0",
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as machine:
        node_with_pods(machine)
        yield machine


def node_with_pods(machine: Machine) -> None:
    """Three pods: one is known by a mount, two by processes, one of which is a user's."""
    machine.write(LAUNCHER, DEVELOPED, 0o755)
    make_uplink(machine)
    machine.shell(f"ip netns add {_BY_PATH}")
    attach(machine, _BY_PATH, f"/run/netns/{_BY_PATH}")
    user = "setpriv --reuid 65535 --regid 65535 --clear-groups"
    for pod, command in ((_OF_A_USER, f"unshare --net {user}"), (_OF_ROOT, "unshare --net")):
        machine.shell(f"systemd-run --quiet --unit {pod} {command} sleep infinity")
        attach(machine, pod, f"/proc/{settled_pid(machine, pod)}/ns/net")


def settled_pid(machine: Machine, pod: str) -> str:
    """The process of a pod, once it is in a namespace of its own."""
    pid = machine.unit(f"{pod}.service", "MainPID")["MainPID"]
    eventually(lambda: machine.shell(f"cat /proc/{pid}/comm") == "sleep\n", "the pod's process")
    return pid


def make_uplink(machine: Machine) -> None:
    machine.shell("ip link add eth0 type veth peer name tor0; ip link set eth0 up")
    machine.shell("ip link set tor0 up")


def attach(machine: Machine, pod: str, netns: str) -> None:
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": pod.encode().hex().ljust(64, "0"),
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": netns,
        "CNI_PATH": "/usr/lib/cni",
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}",
    }
    done = machine.run(LAUNCHER, env=environment, stdin=json.dumps(NETWORK))
    assert done.returncode == 0, done.stdout


def start(machine: Machine, unit: str, command: str, kind: str) -> int:
    """Start a unit with another command; systemctl's exit status."""
    unit = re.sub("(?m)^(Restart|Watchdog|ExecReload).*\n", "", unit)
    unit = re.sub("(?m)^Type=.*", f"Type={kind}", unit)
    said = "StandardOutput=truncate:/run/out\nStandardError=truncate:/run/err"
    unit = re.sub("(?m)^ExecStart=.*", f"ExecStart={command}\n{said}", unit)
    machine.write(f"{UNITS}/{WATCH}", unit)
    machine.systemctl("daemon-reload")
    return machine.systemctl("start", WATCH).returncode


def repair(machine: Machine, unit: str) -> tuple[int, list[dict[str, Any]], str]:
    """Lose all pods, and have REPAIR run as that unit: (exit status, attachments, stderr)."""
    machine.shell("ip link delete eth0")
    make_uplink(machine)
    status = start(machine, unit, f"{LAUNCHER} repair --all -o json", "oneshot")
    said = machine.path("/run/out").read_text()
    attachments = json.loads(said)["attachments"] if said else []
    return status, attachments, machine.path("/run/err").read_text()


def test_repairs_with_what_it_may_do(machine: Machine) -> None:
    status, attachments, said = repair(machine, UNIT)
    found = {one["pod"].partition("/")[2]: one["state"] for one in attachments}
    assert (status, found, said) == (0, dict.fromkeys(PODS, "healthy"), "")


@pytest.mark.parametrize(("name", "words"), _CAPABILITIES.items())
def test_needs_each_capability(machine: Machine, name: str, words: str) -> None:
    _, attachments, said = repair(machine, UNIT.replace(f"CapabilityBoundingSet={name}\n", ""))
    healthy = {one["pod"].partition("/")[2] for one in attachments if one["state"] == "healthy"}
    assert healthy < set(PODS)
    assert words in said + json.dumps(attachments)


def test_has_no_other_capability() -> None:
    """Each line names one, and the line before says what for."""
    named = re.findall("(?m)^#   .+\nCapabilityBoundingSet=(.+)$", UNIT)
    assert named == re.findall("(?m)^CapabilityBoundingSet=(.+)$", UNIT)
    assert set(named) == set(_CAPABILITIES)


def test_sees_mounts_of_later_pods_and_keeps_none(machine: Machine) -> None:
    """Else a new pod would not be found, and one that is gone would go on answering pings."""
    machine.shell("ip netns add early")
    assert start(machine, UNIT, "/usr/bin/sleep infinity", "exec") == 0
    pid = machine.unit(WATCH, "MainPID")["MainPID"]

    def mounted() -> set[str]:
        lines = machine.shell(f"cat /proc/{pid}/mountinfo").splitlines()
        points = [Path(line.split()[4]) for line in lines if " nsfs " in line]
        return {point.name for point in points}

    assert {_BY_PATH, "early"} <= mounted()
    machine.shell("ip netns add late; ip netns delete early")
    assert "late" in mounted() and "early" not in mounted()
    machine.shell("ip netns delete late")
    assert "late" not in mounted()
    machine.systemctl("stop", WATCH)


def test_locks_outlive_it(machine: Machine) -> None:
    """Those of an ADD that runs meanwhile are the same."""
    before = machine.shell("stat -c %i /run/cni-repair/*")
    start(machine, UNIT, "/usr/bin/true", "oneshot")
    assert machine.shell("stat -c %i /run/cni-repair/*") == before


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--man=no"),
        # systemd's own measure, 0 to 10: what must stay open is worth 3.5 in systemd 252.
        ("security", "--offline=true", "--threshold=40"),
    ],
    ids=lambda words: words[0],
)
def test_systemd_finds_no_fault_with_it(machine: Machine, words: tuple[str, ...]) -> None:
    machine.write(f"{UNITS}/{WATCH}", UNIT)
    done = machine.run("/usr/bin/systemd-analyze", *words, f"{UNITS}/{WATCH}", env=_PATH)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
