"""systemd's own journal on a machine of its own: what a shell, and no cni-repair, tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.install.machine import UNITS, Machine
from tests.patience import eventually

pytestmark = pytest.mark.slow

# A name that a shell would take for another.
KUBELET = r"kubelet-a\x2db.service"
_ARM = f"""
from cni_repair.upgrade import kubelet
kubelet.arm(kubelet.Found({KUBELET!r}, True, False), 1000, "hold")
kubelet.hold({KUBELET!r})
"""
_LOG = """
sys.argv[1:] = ["log", "-o", "json"]
from cni_repair.__main__ import main
main()
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    try:
        assert machine.systemctl("start", "systemd-journald.service").returncode == 0
        yield machine
    finally:
        machine.close()


def logged(machine: Machine) -> list[dict[str, Any]]:
    machine.shell("journalctl --sync")
    done = machine.python(_LOG)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["events"]
    return found


def test_a_kubelet_whose_holder_has_vanished(machine: Machine) -> None:
    """The timer releases it, and says so, though nobody of ours is there."""
    machine.write(f"{UNITS}/{KUBELET}", "[Service]\nExecStart=/bin/sleep infinity\n")
    machine.systemctl("daemon-reload")
    assert machine.systemctl("start", KUBELET).returncode == 0
    armed = machine.python(_ARM)
    assert armed.returncode == 0, armed.stderr
    shown = machine.systemctl("list-units", "--all", "--plain", "--no-legend", "*deadman*.service")
    (service,) = [line.split()[0] for line in shown.stdout.splitlines()]
    assert logged(machine) == []
    machine.systemctl("start", service)
    (told,) = eventually(lambda: logged(machine), "the timer's words")
    assert told["message"] == f"{KUBELET} was released by its timer: whoever held it has vanished"
    assert (told["event"], told["more"]["PRIORITY"]) == ("", "4")
    assert machine.unit(KUBELET, "ActiveState") == {"ActiveState": "active"}
