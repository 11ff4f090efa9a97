"""Mutation testing, by mutmut: each small change of the code that decides must fail a unit test, or
be explained.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from integration.command import CHECKOUT
from integration.errors import RigError
from integration.pypackages import PythonPackages
from integration.trust.mutants.change import Mutant, mutants_below
from integration.trust.mutants.explained import Explained, explained, judge
from integration.trust.proof import Extent, Failure, Outcome

NAME = "mutants"
WHAT = "one small change at a time in planning, identity, store, locks, policy (mutmut)"

# What decides, and the unit tests that are to notice. Those of the house itself (imports, sizes)
# are not among them: they would fail for every change that mutmut makes.
_SAMPLE: dict[str, tuple[str, ...]] = {"watch/policy": ("watch_policy",)}
_ALL = {
    **_SAMPLE,
    "network/planning/*": (
        "plan", "plan_properties", "present_properties", "lifetimes", "linklocal", "verify",
        "settling", "detection", "proved",
    ),
    "uplink/plan*": ("plan", "plan_properties", "plannode", "fallback", "ensure"),
    "checkpoint/identity": ("identity", "container_in_cgroup"),
    "checkpoint/store": ("store", "files", "leases", "tombstones"),
    "checkpoint/locks": ("locks", "forget"),
    "watch/choosing": ("watch_choosing",),
}  # fmt: skip
_LEAST_SCORE = 0.9
_COPIED = ("cni_repair", "tests", "conf", "integration", "pyproject.toml", "README.md", "LICENSE")
# That there is an example for which a test fails is enough: nobody reads the smallest one.
_CONFTEST = """\
import pytest
from hypothesis import Phase, settings

@pytest.hookimpl(trylast=True)
def pytest_configure():
    settings.register_profile("mutants", settings.default, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("mutants")
"""
_MUTMUT = "mutmut==3.8.*"
_RUN_SECONDS = 3600.0


def prove(extent: Extent) -> Outcome:
    """Full: all modules; a sample: the watcher's restraint, whose tests take no second."""
    chosen = _ALL if extent.full or extent.case else _SAMPLE
    packages = _packages()
    packages.prepare()
    with tempfile.TemporaryDirectory(prefix="cni-repair-mutants-", dir="/var/tmp") as name:
        work = Path(name)
        _copy(chosen, work)
        _mutmut(packages, work, "run", *([extent.case] if extent.case else []))
        mutants = list(mutants_below(work / "mutants/cni_repair"))
    judged = judge(mutants, _rows_of(chosen), whole=not extent.case)
    score = sum(one.is_killed for one in mutants) / len(mutants) if mutants else 0.0
    failures = [
        *(Failure(one.name, f"survived: {one.change}") for one in judged.unexplained),
        *(Failure(one.module, f"explained, but not there: {one}") for one in judged.outdated),
    ]
    if score < _LEAST_SCORE and not extent.case:
        failures.append(Failure("killed", f"{score:.1%}, at least {_LEAST_SCORE:.0%} are wanted"))
    figures = (
        ("killed", f"{score:.1%}"),
        ("survived", f"{len(judged.explained)} explained, {len(judged.unexplained)} not"),
        *_by_module(mutants),
    )
    notes = tuple(f"survived ({why}): {change}" for change, why in judged.explained)
    return Outcome(len(mutants), tuple(failures), figures, notes=notes)


def _packages() -> PythonPackages:
    return PythonPackages("mutants", (_MUTMUT, *_needed_by_tests()))


def _needed_by_tests() -> list[str]:
    if sys.version_info >= (3, 11):
        import tomllib

        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        return [*project["dependencies"], *project["optional-dependencies"]["test"]]
    raise RigError("pyproject.toml is read by tomllib: run this with Python 3.11 or newer")


def _copy(chosen: dict[str, tuple[str, ...]], work: Path) -> None:
    for part in _COPIED:
        if (CHECKOUT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / part, work / part, ignore=ignored)
        else:
            shutil.copy(CHECKOUT / part, work / part)
    # Its mount namespaces and its look for leaks are once for a process; mutmut's has many runs.
    (work / "tests/conftest.py").write_text(_CONFTEST)
    tests = sorted({f"tests/unit/test_{name}.py" for names in chosen.values() for name in names})
    settings = {
        "source_paths": ["cni_repair"],
        "only_mutate": [f"cni_repair/{module}.py" for module in chosen],
        "also_copy": [part for part in _COPIED if part not in ("cni_repair", "tests")],
        "pytest_add_cli_args_test_selection": tests,
        # "not slow": fewer of hypothesis' examples, for each mutant anew.
        "pytest_add_cli_args": ["-x", "-p", "no:cacheprovider", "-m", "not slow"],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    with (work / "pyproject.toml").open("a") as file:
        file.write("\n".join(["", "[tool.mutmut]", *lines, ""]))


def _mutmut(packages: PythonPackages, work: Path, *arguments: str) -> None:
    log = work / "mutmut.log"  # (A pipe would be kept open by whoever outlives it.)
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "mutmut", *arguments],
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(packages.directory)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            process.wait(_RUN_SECONDS)
        finally:
            # A test that it ended, since that took too long, leaves the processes of its pods.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        said = log.read_text().replace("\r", "\n").strip()
        raise RigError(f"mutmut {arguments[0]}: exit {process.returncode}: {said[-1500:]}")


def _rows_of(chosen: dict[str, tuple[str, ...]]) -> list[Explained]:
    """What is explained of the modules that are mutated."""
    return [one for one in explained() if any(fnmatch(one.change.module, each) for each in chosen)]


def _by_module(mutants: list[Mutant]) -> tuple[tuple[str, str], ...]:
    every = Counter(one.change.module for one in mutants)
    killed = Counter(one.change.module for one in mutants if one.is_killed)
    return tuple((module, f"{killed[module]} of {count}") for module, count in every.items())
