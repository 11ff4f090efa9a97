"""install.sh --watch, with a real systemd: installed, enabled, started, upgraded and removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.machine import UNITS, WATCH, Machine
from tests.install.node import LAUNCHER, PREFIX, REPOSITORY, Node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONFIG = "/etc/cni-repair/watch.yaml"
_WANTED = f"{UNITS}/multi-user.target.wants/{WATCH}"


@pytest.fixture
def machine(fresh_node: Node) -> Iterator[Machine]:
    """With an installation, without the watcher."""
    with Machine() as machine:
        for directory in ("/opt", "/usr/local/sbin", "/usr/local/share"):
            shutil.copytree(
                fresh_node.path(directory),
                machine.path(directory),
                symlinks=True,
                dirs_exist_ok=True,
            )
        yield machine


def install(machine: Node, wheels: Path, *arguments: str) -> str:
    done = machine.install("--wheels", str(wheels), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def pid(machine: Machine) -> int:
    """The watcher's process; 0 where there is none."""
    return int(machine.unit(WATCH, "MainPID")["MainPID"])


def program(machine: Machine) -> str:
    """What the watcher's process runs."""
    return machine.shell(f"tr '\\0' ' ' </proc/{pid(machine)}/cmdline")


def test_runs_is_upgraded_and_removed(machine: Machine, wheels: Path) -> None:
    said = install(machine, wheels, "--watch")
    assert f"cni-repair watch runs, by {CONFIG}" in said
    assert machine.systemctl("is-active", "is-enabled", WATCH).stdout.split()[0] == "inactive"
    assert [
        machine.systemctl(f"is-{what}", WATCH).stdout.strip() for what in ("active", "enabled")
    ] == ["active", "enabled"]
    assert machine.path(CONFIG).read_text() == (REPOSITORY / "conf/watch.yaml").read_text()
    assert machine.version_in_service() in program(machine)
    shown = machine.run(LAUNCHER, "watch", "--status", env={"PATH": os.defpath})
    assert (shown.returncode, shown.stderr) == (0, "")

    # Again: the engineer's configuration stays, and the new version runs.
    machine.write(CONFIG, "version: 1\nlookEvery: 30s\n")
    first = pid(machine)
    install(machine, wheels, "--watch")
    assert pid(machine) not in {0, first}
    assert machine.path(CONFIG).read_text() == "version: 1\nlookEvery: 30s\n"

    # An upgrade that is not told of it.
    second = pid(machine)
    install(machine, wheels)
    assert pid(machine) not in {0, second}
    assert machine.version_in_service() in program(machine)

    done = machine.install("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"removed {WATCH}\n" in done.stdout
    assert f"kept {CONFIG} (--uninstall --purge removes it)\n" in done.stdout
    assert machine.unit(WATCH, "LoadState", "ActiveState") == {
        "LoadState": "not-found", "ActiveState": "inactive",
    }  # fmt: skip
    assert not machine.path(_WANTED).is_symlink() and not machine.path(PREFIX).exists()
    assert not [words for words in machine.processes().values() if " watch " in words]

    assert machine.install("--uninstall", "--purge").returncode == 0
    assert not machine.path(CONFIG).exists()


def test_stopped_by_the_engineer_stays_stopped(machine: Machine, wheels: Path) -> None:
    install(machine, wheels, "--watch")
    machine.systemctl("disable", "--now", WATCH)
    install(machine, wheels)
    assert pid(machine) == 0
    assert machine.systemctl("is-enabled", WATCH).stdout.strip() == "disabled"
    done = machine.install("--uninstall", "--prefix", "/opt/another")
    assert done.returncode == 0 and machine.path(f"{UNITS}/{WATCH}").exists()


def test_configuration_that_is_wrong_is_named(machine: Machine, wheels: Path) -> None:
    machine.write(CONFIG, "version: 1\nheal: everything\n")
    done = machine.install("--wheels", str(wheels), "--watch")
    assert done.returncode == 1
    assert "$.heal: 'everything' is not known" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("install.sh: cni-repair is installed, but its watcher does not start")
    assert f"systemctl restart {WATCH}" in last
    # It is not started again and again: that would mend nothing.
    assert machine.unit(WATCH, "ActiveState", "NRestarts") == {
        "ActiveState": "failed", "NRestarts": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    "content", ["", "[Service]\nExecStart=/bin/true\n"], ids=["masked", "other"]
)
def test_unit_of_somebody_elses_is_left(machine: Machine, wheels: Path, content: str) -> None:
    if content:
        machine.write(f"{UNITS}/{WATCH}", content)
    else:
        machine.path(f"{UNITS}/{WATCH}").symlink_to("/dev/null")
    done = machine.install("--wheels", str(wheels), "--watch")
    assert done.returncode == 1
    assert f"{UNITS}/{WATCH} is not ours: move it away, or unmask it" in done.stderr
    install(machine, wheels)
    assert machine.install("--uninstall").returncode == 0
    assert (
        machine.path(f"{UNITS}/{WATCH}").is_symlink() or machine.path(f"{UNITS}/{WATCH}").exists()
    )


def test_another_bin_dir_is_the_services(machine: Machine, wheels: Path) -> None:
    install(machine, wheels, "--watch", "--bin-dir", "/opt/elsewhere")
    assert "/opt/elsewhere/cni-repair watch" in program(machine)


def test_without_systemd_is_refused_and_nothing_changed(node: Node) -> None:
    done = node.install("--watch")
    assert done.returncode == 3
    assert done.stderr == (
        "install.sh: --watch: systemd does not run here: install without it, and have your own"
        " service manager run '/usr/local/sbin/cni-repair watch', and start it again whenever it"
        " ends\n"
    )
    assert os.listdir(node.path("/opt")) == []


@pytest.mark.parametrize("action", ["--uninstall", "--demo"])
def test_goes_with_an_installation_only(node: Node, action: str) -> None:
    done = node.install("--watch", action)
    assert done.returncode == 2
    assert "--watch: goes with an installation only" in done.stderr
