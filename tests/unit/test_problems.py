"""What `check` says in one line, from a watcher's status document."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_repair.cli.commands.check import UNKNOWN, within
from cni_repair.watch.problems import MOST_BYTES, SUBJECTS, fitted, lines_of, problems_in
from tests.unit.samples import REPOSITORY, run_module

UP = {"name": "eth0.3", "up": True, "carrier": True, "attachments": 4}
AWAY = {"name": "eth1", "up": False, "carrier": False, "attachments": 2}
WELL: dict[str, Any] = {
    "attachments": {"healthy": 4, "stale": 1, "renamed": 1},
    "damaged": {"uplinkUp": 0, "uplinkDown": 0},
    "masters": [UP],
    "unmanaged": 0,
    "coverage": {"interfaces": 5, "restorable": 5},
}


def lines(*subjects: str, **changes: Any) -> list[str]:
    return lines_of(problems_in(WELL | changes), subjects or SUBJECTS)


def test_all_is_well_with_stale_and_renamed_ones() -> None:
    assert lines() == []


def test_pod_that_lacks_its_network_while_the_master_is_up() -> None:
    assert lines(damaged={"uplinkUp": 1, "uplinkDown": 0}) == [
        "1 pod interface lost or damaged, uplink up: cni-repair status"
    ]


def test_uplink_that_is_away_is_named_and_its_pods_are_no_problem_of_theirs() -> None:
    changes = {"damaged": {"uplinkUp": 0, "uplinkDown": 2}, "masters": [UP, AWAY]}
    assert lines(**changes) == ["eth1 down, 2 pod interfaces on it: cni-repair status"]
    assert lines("pods", **changes) == []


def test_pods_of_a_vlan_and_its_nic_are_counted_once() -> None:
    vlan = AWAY | {"name": "eth1.3"}
    (line,) = lines(damaged={"uplinkUp": 0, "uplinkDown": 2}, masters=[AWAY, vlan])
    assert line.startswith("eth1, eth1.3 down, 2 pod interfaces")


def test_link_without_carrier_is_down() -> None:
    assert lines(masters=[UP | {"carrier": False}]) == [
        "eth0.3 down, 4 pod interfaces on it: cni-repair status"
    ]


def test_link_that_nothing_is_on_may_be_down() -> None:
    assert lines(masters=[UP, AWAY | {"attachments": 0}]) == []


def test_lost_pod_beside_an_uplink_that_is_away_is_told_first() -> None:
    found = lines(damaged={"uplinkUp": 1, "uplinkDown": 2}, masters=[UP, AWAY])
    assert [line.partition(" ")[0] for line in found] == ["1", "eth1"]


@pytest.mark.parametrize(
    ("unmanaged", "restorable", "told"), [(2, 3, 2), (0, 4, 1), (1, 5, 1), (0, 5, 0)]
)
def test_records(unmanaged: int, restorable: int, told: int) -> None:
    coverage = {"interfaces": 5, "restorable": restorable}
    found = lines(unmanaged=unmanaged, coverage=coverage)
    assert [line.partition(" ")[0] for line in found] == ([str(told)] if told else [])
    assert lines("pods", "uplinks", unmanaged=unmanaged, coverage=coverage) == []


def test_many_uplinks_are_counted() -> None:
    masters = [AWAY | {"name": f"eth{number}"} for number in range(9)]
    (line,) = lines("uplinks", damaged={"uplinkUp": 0, "uplinkDown": 18}, masters=masters)
    assert line.startswith("eth0, eth1, eth2 and 6 more down, 18 pod interfaces")


@pytest.mark.parametrize("text", ["", "x" * 80, "x" * 81, "ü" * 200, "\ud800" * 100])
def test_line_fits(text: str) -> None:
    line = fitted(text)
    assert len(line.encode()) <= MOST_BYTES
    assert line.isascii()
    assert len(text) > MOST_BYTES or len(line) == len(text)


# --- In time -------------------------------------------------------------------------------------


@pytest.fixture
def waited_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The children of `within`, which waits for none: one might hang in the kernel."""
    started: list[int] = []
    fork = os.fork

    def noted() -> int:
        pid = fork()
        if pid:
            started.append(pid)
        return pid

    monkeypatch.setattr(os, "fork", noted)
    yield
    for pid in started:
        os.waitpid(pid, 0)


@pytest.mark.usefixtures("waited_for")
def test_answer_of_the_child() -> None:
    assert within(60, lambda: (1, "two words")) == (1, "two words")


@pytest.mark.usefixtures("waited_for")
def test_look_that_hangs_is_left_behind() -> None:
    def hang() -> tuple[int, str]:
        while True:
            signal.pause()

    status, line = within(0.2, hang)
    assert (status, line) == (UNKNOWN, "unknown: no answer in 0.2 s: cni-repair status")


@pytest.mark.usefixtures("waited_for")
def test_look_that_fails_is_unknown() -> None:
    def fail() -> tuple[int, str]:
        raise ZeroDivisionError("a mistake")

    assert within(60, fail) == (UNKNOWN, "unknown: ZeroDivisionError: a mistake")


@pytest.mark.usefixtures("waited_for")
def test_answer_longer_than_a_pipe_holds_is_cut() -> None:
    status, line = within(60, lambda: (1, "x" * 1_000_000))
    assert (status, set(line)) == (1, {"x"})


def test_child_that_cannot_be_killed_holds_no_stream_of_ours() -> None:
    """node-problem-detector reads our stdout to its end."""
    code = (
        "import os, signal\n"
        "from cni_repair.cli.commands.check import within\n"
        "os.kill = lambda pid, number: print(pid)\n"
        "within(1, lambda: [signal.pause() for _ in iter(int, 1)])\n"
    )
    # Comes back with stdout's end; the child lives on for a second.
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip().isdigit()
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"]])
def test_wrong_usage_is_unknown_too(words: list[str]) -> None:
    assert run_module("check", *words).returncode == UNKNOWN


@pytest.mark.needs_root
def test_without_the_capabilities_it_is_unknown() -> None:
    """As anything else than root is."""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", sys.executable, "-m", "cni_repair", "check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (UNKNOWN, "")
    assert done.stdout.startswith("unknown: CAP_NET_ADMIN is missing")


def test_configuration_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    done = run_module("check", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == UNKNOWN
    assert len(done.stdout) <= MOST_BYTES + 1
    assert done.stdout.startswith(b"unknown: ")
    assert done.stdout.count(b"\n") == 1
