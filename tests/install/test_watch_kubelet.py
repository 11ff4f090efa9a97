"""holdKubelet: onLoss, with a real systemd: what is held is let go of, whatever happens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import REPOSITORY
from tests.install.test_watch_unit import UNIT, start
from tests.patience import HANG_SECONDS, eventually

pytestmark = pytest.mark.slow

KUBELET = "kubelet.service"
NOTE = "/run/cni-repair/watch.kubelet"
_TIMERS = "cni-repair-*deadman-*"
# A package's unit; the node's own, which no mask in /run covers; and one that ignores SIGTERM.
_PLACES = {"a package's": "/usr/local/lib/systemd/system", "the node's own": UNITS}
_RUNS = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n"

# Arguments: the settings, a method of Holder, its arguments; and a patch to be run before.
_PROGRAM = """
import json
from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.upgrade import kubelet
from cni_repair.watch.kubelet import Holder
from cni_repair.watch.settings import default_settings
changes, method, arguments, patch = map(json.loads, sys.argv[1:5])
exec(patch)
holder = Holder(replace(default_settings(), **{"hold_kubelet": "onLoss", **changes}))
try:
    print(json.dumps({"said": getattr(holder, method)(*arguments), "held": holder.is_held}))
except CniError as error:
    print(json.dumps({"error": str(error), "held": holder.is_held}))
"""


# The daemon ends while it is about to hold.
_ENDED = """
import asyncio, threading
from types import SimpleNamespace
from cni_repair.base.frozen import replace
from cni_repair.upgrade import kubelet
from cni_repair.watch.keeping import Keeping
from cni_repair.watch.settings import default_settings

async def main():
    begun, ended, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()
    hold = kubelet.hold

    def at_that_moment(unit):
        loop.call_soon_threadsafe(begun.set)
        ended.wait()
        hold(unit)

    kubelet.hold = at_that_moment
    settings = replace(default_settings(), hold_kubelet="onLoss")
    telling = SimpleNamespace(settings=settings, changed=lambda: None, trouble=print)
    keeping = Keeping((), telling, None, lambda: True)
    work = asyncio.create_task(keeping.run())
    keeping.lost("eth0")
    await begun.wait()
    work.cancel()
    loop.call_later(0, ended.set)
    await asyncio.wait([work])

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    with Machine() as machine:
        machine.shell("mount -t tmpfs tmpfs /usr/local/lib")
        machine.shell("mkdir -p /usr/local/lib/systemd/system")
        yield machine


@pytest.fixture
def machine(booted: Machine) -> Iterator[Machine]:
    """Without a kubelet, and without what earlier tests held."""
    yield booted
    booted.shell(f"rm -f {NOTE} /run/systemd/system.control/{KUBELET}")
    booted.systemctl("unmask", "--runtime", KUBELET)
    booted.systemctl("stop", KUBELET, *units(booted, _TIMERS))
    booted.shell(f"rm -f {' '.join(f'{place}/{KUBELET}' for place in _PLACES.values())}")
    booted.systemctl("daemon-reload")
    booted.systemctl("reset-failed")
    # (systemd forgets a unit that was stopped when it has time.)
    eventually(lambda: not units(booted, _TIMERS), "the timers to go")


@pytest.fixture
def kubelet(machine: Machine) -> Machine:
    """A machine with a kubelet that runs; of one it has the name, and the habit of coming back."""
    return with_kubelet(machine)


def with_kubelet(machine: Machine, place: str = UNITS, text: str = _RUNS) -> Machine:
    machine.write(f"{place}/{KUBELET}", text)
    machine.systemctl("daemon-reload")
    assert machine.systemctl("start", KUBELET).returncode == 0
    return machine


def call(
    machine: Machine, method: str, *arguments: str, patch: str = "", **changes: Any
) -> dict[str, Any]:
    words = [json.dumps(one) for one in (changes, method, arguments, patch)]
    done = machine.python(_PROGRAM, *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def hold(machine: Machine, **changes: Any) -> dict[str, Any]:
    return call(machine, "hold", "eth0 is gone", **changes)


def seconds_of(span: str) -> float:
    """A time span as systemd writes it: 1h 16min 38.693057s."""
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 0.001, "us": 0.000001}
    return sum(float(number) * sizes[size] for number, size in re.findall(r"([\d.]+)(\w+)", span))


def state(machine: Machine) -> tuple[str, str]:
    shown = machine.unit(KUBELET, "LoadState", "ActiveState")
    return shown["LoadState"], shown["ActiveState"]


def units(machine: Machine, pattern: str) -> list[str]:
    shown = machine.systemctl("list-units", "--all", "--plain", "--no-legend", pattern).stdout
    return [line.split()[0] for line in shown.splitlines()]


def assert_free(machine: Machine) -> None:
    assert state(machine) == ("loaded", "active")
    assert not machine.path(f"/run/systemd/system.control/{KUBELET}").is_symlink()
    # These go after kubelet is free; and systemd forgets a unit that was stopped when it has time.
    eventually(lambda: not machine.path(NOTE).exists(), "the note to go")
    eventually(lambda: not units(machine, _TIMERS), "the timer to go")


HELD = ("masked", "inactive")


@pytest.mark.parametrize("place", [*_PLACES.values()], ids=[*_PLACES])
def test_is_stopped_and_masked_then_as_it_was(machine: Machine, place: str) -> None:
    kubelet = with_kubelet(machine, place)
    done = hold(kubelet)
    assert done["held"] and "masked and stopped until the pods are healed" in done["said"]
    assert state(kubelet) == HELD
    assert kubelet.systemctl("start", KUBELET).returncode != 0  # a watchdog, say
    assert [name.rpartition(".")[2] for name in units(kubelet, _TIMERS)] == ["service", "timer"]
    done = call(kubelet, "release")
    assert done == {"said": f"{KUBELET} is unmasked and started", "held": False}
    assert_free(kubelet)
    assert call(kubelet, "release")["said"] == ""


@pytest.mark.parametrize("place", [*_PLACES.values()], ids=[*_PLACES])
def test_from_within_the_units_sandbox(machine: Machine, place: str) -> None:
    """What the service may do is enough for both."""
    kubelet = with_kubelet(machine, place)
    path = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
    kubelet.write("/run/holder", f"{path}{_PROGRAM}")
    for method, arguments, after in (("hold", '["why"]', HELD), ("release", "[]", None)):
        command = f"{sys.executable} -IB /run/holder {{}} '\"{method}\"' '{arguments}' '\"\"'"
        assert start(kubelet, UNIT, command, "oneshot") == 0, kubelet.systemctl("status", WATCH)
        assert "error" not in json.loads(kubelet.path("/run/out").read_text())
        if after:
            assert state(kubelet) == after
    assert_free(kubelet)


def test_again_keeps_the_first_deadline(kubelet: Machine) -> None:
    hold(kubelet)
    before = kubelet.path(NOTE).read_text()
    assert hold(kubelet)["held"]
    assert kubelet.path(NOTE).read_text() == before
    assert state(kubelet) == HELD
    eventually(lambda: len(units(kubelet, _TIMERS)) == 2, "one timer alone, and its service")


def test_next_watcher_releases_what_a_killed_one_held(kubelet: Machine) -> None:
    """In between of any two steps: what is noted and not yet held is released, too."""
    killed = "def die(*_): import os; os.kill(os.getpid(), 9)\n"
    for step in ("arm", "hold", "_mask"):
        words = ("{}", '"hold"', '["why"]', json.dumps(f"{killed}kubelet.{step} = die"))
        assert kubelet.python(_PROGRAM, *words).returncode in (-9, 137)
        assert kubelet.path(NOTE).exists()
        assert call(kubelet, "release")["said"]
        assert_free(kubelet)


def test_daemon_that_ends_meanwhile_releases_it(kubelet: Machine) -> None:
    done = kubelet.python(_ENDED)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert_free(kubelet)


def test_timer_releases_what_nobody_releases(kubelet: Machine) -> None:
    hold(kubelet, kubelet_deadline=1000)
    note = json.loads(kubelet.path(NOTE).read_text())
    (service, timer) = units(kubelet, _TIMERS)
    shown = kubelet.systemctl("show", "--value", "--property=NextElapseUSecMonotonic", timer).stdout
    assert abs(seconds_of(shown) - note["until"]) < HANG_SECONDS
    # Time passes.
    kubelet.write(NOTE, json.dumps({**note, "until": note["until"] - 1000}), 0o600)
    kubelet.systemctl("start", service)
    eventually(lambda: state(kubelet) == ("loaded", "active"), "the release")
    kubelet.systemctl("stop", timer)  # it would have ended by itself
    done = call(kubelet, "release")
    assert done["said"] == f"{KUBELET} was released by its timer, at the deadline"
    eventually(lambda: not units(kubelet, _TIMERS), "the timer to go")
    assert_free(kubelet)


@pytest.mark.parametrize("step", ["arm", "hold"])
def test_failure_ends_in_a_released_kubelet_and_says_so(machine: Machine, step: str) -> None:
    with_kubelet(machine)
    command = {"arm": "systemd-run", "hold": f"stop {KUBELET}"}[step]
    # systemd's own tool fails, as where its bus is gone.
    machine.write("/run/false", f"#!/bin/sh\ncase \"$0 $*\" in *'{command}'*) exit 1;; esac\n"
                  "exec /run/real \"$@\"\n", 0o755)  # fmt: skip
    tool = "/usr/bin/systemd-run" if step == "arm" else "/usr/bin/systemctl"
    machine.shell(f"cp {tool} /run/real; mount --bind /run/false {tool}")
    done = hold(machine)
    machine.shell(f"umount {tool}")
    assert not done["held"]
    assert f"{KUBELET} is not held, but released again" in done["error"]
    assert_free(machine)


def test_neither_held_nor_released_is_told_and_left_to_the_timer(machine: Machine) -> None:
    """It does not start any more: the timer tries again, and so does a release."""
    text = (
        "[Service]\nExecStartPre=/bin/sh -c 'test ! -e /run/broken'\nExecStart=/bin/sleep 99999\n"
    )
    with_kubelet(machine, text=text)
    hold(machine)
    machine.write("/run/broken", "")
    done = call(machine, "release")
    assert done["held"] and f"{KUBELET} does not start" in done["error"]
    assert units(machine, _TIMERS)
    machine.shell("rm /run/broken")
    assert call(machine, "release")["said"]
    assert_free(machine)


def test_masked_by_the_engineer_is_left_alone(machine: Machine) -> None:
    with_kubelet(machine, _PLACES["a package's"])
    machine.systemctl("mask", "--now", KUBELET)
    assert hold(machine) == {"said": "", "held": False}
    assert call(machine, "release")["said"] == ""
    assert state(machine) == HELD
    machine.systemctl("unmask", KUBELET)


def test_stopped_by_the_engineer_is_left_stopped(kubelet: Machine) -> None:
    kubelet.systemctl("stop", KUBELET)
    assert hold(kubelet) == {"said": "", "held": False}
    assert call(kubelet, "release")["said"] == ""
    assert state(kubelet) == ("loaded", "inactive")


def test_upgrade_at_work_holds_it_itself(kubelet: Machine) -> None:
    kubelet.shell("mkdir -p -m 0700 /run/cni-repair")
    lock = ["flock", "/run/cni-repair/upgrade.lock", "sh", "-c", "echo held; cat"]
    command = kubelet.command(*lock, env={"PATH": "/usr/bin:/bin"})
    with kubelet.started(command, stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "held\n"
        assert hold(kubelet) == {"said": "", "held": False}
    assert state(kubelet) == ("loaded", "active")


def test_upgrade_is_refused_what_the_watcher_holds(kubelet: Machine) -> None:
    hold(kubelet)
    find = "from cni_repair.upgrade import kubelet; kubelet.find('kubelet.service')"
    done = kubelet.python(find)
    assert "kubelet.service is held by cni-repair already: cni-repair-watch-deadman-" in done.stderr
    (service, _) = units(kubelet, _TIMERS)
    assert f"release it: systemctl start {service}" in done.stderr
    kubelet.systemctl("start", service)
    eventually(lambda: state(kubelet) == ("loaded", "active"), "the release")


def test_no_such_unit_says_what_to_do(machine: Machine) -> None:
    done = hold(machine, kubelet_unit="k3s.service")
    assert "no unit k3s.service" in done["error"] and "`holdKubelet: never`" in done["error"]
    assert not machine.path(NOTE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"bootId": "BOOT", "unit": 1}'])
def test_note_that_nobody_can_read_names_itself(machine: Machine, text: str) -> None:
    boot = machine.shell("cat /proc/sys/kernel/random/boot_id").strip()
    machine.shell("mkdir -p -m 0700 /run/cni-repair")
    machine.write(NOTE, text.replace("BOOT", boot), 0o600)
    done = machine.python(
        "from cni_repair.watch.kubelet import Holder\n"
        "from cni_repair.watch.settings import default_settings\n"
        "from cni_repair.base.errors import CniError\n"
        "try: Holder(default_settings()).release()\n"
        "except CniError as error: print(error)\n"
    )
    assert NOTE in done.stdout and done.stderr == ""


def test_never_is_never(kubelet: Machine) -> None:
    assert hold(kubelet, hold_kubelet="never") == {"said": "", "held": False}
    assert state(kubelet) == ("loaded", "active")
