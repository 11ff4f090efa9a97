"""The rigs of integration/, as tests run them: in a process, with `--json`, once for all tests."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cni_repair.demo.lab import product
from integration.command import LEFT_OUT

Json = dict[str, Any]


def runner(rig: ModuleType) -> Path:
    """The program that people start."""
    assert rig.__file__
    return Path(rig.__file__).with_name("run")


def call_rig(
    rig: ModuleType, *options: str, seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    return _call([str(runner(rig)), *options], seconds)


def call_changed(rig: ModuleType, change: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Call it once Python's `change` was made to its modules."""
    return _call([*changed(rig, change), *options])


def changed(rig: ModuleType, change: str) -> list[str]:
    """The command for that; options may follow."""
    program = (
        f"import sys; sys.path.insert(0, {str(runner(rig).parents[2])!r});"
        f" from {rig.__package__} import rig; {change}; sys.exit(rig.main())"
    )
    return [sys.executable, "-IB", "-c", program]


def _call(command: list[str], seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def outcomes_in(out: str, err: str) -> dict[str, Json]:
    """What came of each step, by its name."""
    assert out, err
    return {outcome["scenario"]: outcome for outcome in json.loads(out)}


def outcomes_of(rig: ModuleType, *options: str, seconds: float, what: str = "") -> dict[str, Json]:
    """Likewise, of a run. Where `what` it needs could not be had, the tests are skipped."""
    done = call_rig(rig, "--json", *options, seconds=seconds)
    if what and done.returncode == LEFT_OUT:
        pytest.skip(f"the test with {what} is LEFT OUT: {done.stderr.strip()}")
    return outcomes_in(done.stdout, done.stderr)


def assert_holds(outcome: Json) -> None:
    failed = [check for check in outcome["checks"] if not check["holds"]]
    assert outcome["checks"]
    assert not failed, f"{failed}\n{outcome['kept_in']}\n{outcome['log']}\n{outcome['evidence']}"


def write_source(directory: Path) -> Path:
    """A checkout whose cni-repair need not be installed, which takes long: its launcher is ours."""
    (directory / "cni-repair").write_text(f"#!/bin/sh\nexec {shlex.join(product())}\n")
    install = f"#!/bin/sh\nmkdir $4\ninstall {directory}/cni-repair $4\n"
    (directory / "install.sh").write_text(install)
    (directory / "install.sh").chmod(0o755)
    return directory
