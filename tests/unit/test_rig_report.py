"""What the rigs of integration/ say of what failed, keep of it, and need of a machine."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration import command
from integration.driver import kernel
from integration.driver.checks import Checks
from integration.driver.evidence import Evidence
from integration.driver.report import Outcome
from integration.kubelet import rig as kubelet_rig
from tests.unit.samples import REPOSITORY

INTEGRATION = REPOSITORY / "integration"

HELD = {"what": "snapshot: exit 0", "holds": True, "detail": "exit 0"}
FAILED = {"what": "REPAIR: exit 0", "holds": False, "detail": "still tentative: fd00:9::2\nexit 1"}
SILENT = {"what": "pings pass", "holds": False, "detail": ""}


def outcome(*checks: dict[str, Any]) -> Outcome:
    evidence = {"console": "soft lockup", "journal": "e1000e: link down", "links": "2: eth0"}
    return Outcome("qinq", list(checks), 24.2, "7.1 s", "ip link set eth0 up: exit 0", evidence)


def run(*outcomes: Outcome, json_wanted: bool = False, evidence: Path | None = None) -> int:
    """Print them as a rig does."""
    options = argparse.Namespace(json=json_wanted, verbose=False)
    keeper = Evidence("cni-repair-test", evidence)
    made = command.print_each((one for one in outcomes), options, keeper)
    return command.conclude(made, options, keeper, 0.0)


def test_failure_names_check_and_what_was_seen_and_last_line_where_it_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(outcome(HELD, FAILED), evidence=tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    (failed,) = (number for number, line in enumerate(lines) if line.endswith("FAILS"))
    assert "REPAIR: exit 0" in lines[failed]
    assert lines[failed + 1].endswith("still tentative: fd00:9::2")
    assert lines[-2].startswith("1 scenarios, 2 checks: FAILED: qinq (REPAIR: exit 0); ")
    assert lines[-1] == f"evidence: {tmp_path}"


def test_everything_is_kept(tmp_path: Path) -> None:
    run(outcome(HELD, FAILED, SILENT), evidence=tmp_path / "new")
    place = tmp_path / "new" / "qinq"
    texts = {file.name: file.read_text() for file in place.glob("*.txt")}
    assert texts == {
        "called.txt": "ip link set eth0 up: exit 0\n",
        "console.txt": "soft lockup\n",
        "journal.txt": "e1000e: link down\n",
        "links.txt": "2: eth0\n",
        "checks.txt": """\
qinq: 1 of 3 checks hold
holds  snapshot: exit 0
FAILS  REPAIR: exit 0
       still tentative: fd00:9::2
       exit 1
FAILS  pings pass
       (the check tells nothing more)
""",
    }
    document = json.loads((place / "outcome.json").read_text())
    assert document["kept_in"] == str(place)


def test_with_json_stdout_is_one_document_and_stderr_ends_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(outcome(FAILED), json_wanted=True, evidence=tmp_path) == 1
    said = capsys.readouterr()
    (document,) = json.loads(said.out)
    assert document["kept_in"] == str(tmp_path / "qinq")
    assert said.err == f"evidence: {tmp_path}\n"


def test_nothing_is_kept_of_what_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(outcome(HELD), evidence=tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 scenarios, 1 checks: all hold; ")


def test_scenario_without_a_check_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(outcome(), evidence=tmp_path) == 1
    assert "FAILED: qinq (no check was made)" in capsys.readouterr().out


def test_node_is_looked_at_when_the_first_check_fails_and_only_then() -> None:
    seen: list[int] = []
    checks = Checks(on_first_failure=lambda: seen.append(len(checks.made)))
    for holds in (True, False, True, False):
        checks("a check", holds)
    assert seen == [2]


# --- What a fresh machine lacks ------------------------------------------------------------------

# Of packages that every Debian system has: coreutils, grep, procps, util-linux, systemd (which each
# rig asks for by its own path).
ALWAYS_THERE = {"journalctl", "systemctl", "systemd-run", "tail", "touch"}


def programs_run(package: str) -> Iterator[str]:
    """The programs that a package's `run([PROGRAM, …])` calls name."""
    for file in (INTEGRATION / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            command = node.args[0] if node.args else None
            if node.func.attr == "run" and isinstance(command, ast.List):
                yield from literal(command.elts[:1])


def literal(elements: list[ast.expr]) -> Iterator[str]:
    for element in elements:
        if isinstance(element, ast.Constant) and isinstance(element.value, str):
            yield element.value


def test_every_program_that_the_guest_runs_is_installed_first() -> None:
    """`ping` was there only where the tests had been run before: qinq ended at its third check."""
    installed = {Path(path).name for path in kernel.PROGRAMS}
    wanted = set(programs_run("driver")) - ALWAYS_THERE
    assert {"ip", "ping"} <= wanted
    assert {name for name in wanted if not name.startswith("/")} - installed == set()


def test_kubelets_node_has_what_its_probes_call() -> None:
    assert {"ip", "ping"} <= {Path(path).name for path in kubelet_rig.PROGRAMS}
