"""Mutation testing, by mutmut: each small change of the code that decides must fail a unit test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from integration.command import CHECKOUT
from integration.errors import RigError
from integration.pypackages import PythonPackages
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
    "uplink/plan*": ("plannode", "fallback", "ensure"),
    "checkpoint/identity": ("identity", "container_in_cgroup"),
    "checkpoint/store": ("store", "files", "leases", "tombstones"),
    "checkpoint/locks": ("locks", "forget"),
    "watch/choosing": ("watch_choosing",),
}  # fmt: skip
_LEAST_SCORE = 0.9
_MOST_SHOWN = 40
_COPIED = ("cni_repair", "tests", "conf", "integration", "pyproject.toml", "README.md", "LICENSE")
_MUTMUT = "mutmut==3.8.*"
_RUN_SECONDS = 3600.0
# What mutmut writes of a mutant: pytest's exit status, or a signal (SIGXCPU: no end).
_SURVIVED, _UNTESTED = 0, 33


def prove(extent: Extent) -> Outcome:
    """Full: all modules; a sample: the watcher's restraint, whose tests take no second."""
    chosen = _ALL if extent.full or extent.case else _SAMPLE
    packages = _packages()
    packages.prepare()
    with tempfile.TemporaryDirectory(prefix="cni-repair-mutants-", dir="/var/tmp") as name:
        work = Path(name)
        _copy(chosen, work)
        _mutmut(packages, work, "run", *([extent.case] if extent.case else []))
        mutants = _mutants(work)
        left = [one for one in mutants if not one.is_killed]
        changes = {one.name: _change(packages, work, one.name) for one in left[:_MOST_SHOWN]}
    score = 1 - len(left) / len(mutants) if mutants else 0.0
    if extent.case or score < _LEAST_SCORE:
        failures = tuple(Failure(name, change) for name, change in changes.items())
    else:
        failures = ()
    return Outcome(len(mutants), failures, (("killed", f"{score:.1%}"), *_by_module(mutants)))


@dataclass(frozen=True)
class Mutant:
    """A change, and whether a test failed for it."""

    name: str  # as mutmut calls it
    module: str
    is_killed: bool


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
    (work / "tests/conftest.py").write_text("")
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


def _mutmut(packages: PythonPackages, work: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(
        command,
        check=False,
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(packages.directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_RUN_SECONDS,
    )
    if done.returncode != 0:
        said = done.stdout.replace("\r", "\n").strip()
        raise RigError(f"mutmut {arguments[0]}: exit {done.returncode}: {said[-1500:]}")
    return done.stdout


def _mutants(work: Path) -> list[Mutant]:
    """Of each mutated module mutmut keeps a document beside the copy that it works on."""
    mutants = []
    for path in sorted((work / "mutants/cni_repair").rglob("*.meta")):
        module = str(path.relative_to(work / "mutants/cni_repair")).removesuffix(".py.meta")
        for name, status in json.loads(path.read_text())["exit_code_by_key"].items():
            if status is not None:  # None: not carried out, since only a case was wanted
                mutants.append(Mutant(name, module, status not in (_SURVIVED, _UNTESTED)))
    return mutants


def _change(packages: PythonPackages, work: Path, name: str) -> str:
    """The lines that the change takes away and brings."""
    shown = _mutmut(packages, work, "show", name).splitlines()
    lines = [line for line in shown if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return " ".join(" ".join(line.split()) for line in lines)


def _by_module(mutants: list[Mutant]) -> tuple[tuple[str, str], ...]:
    every = Counter(one.module for one in mutants)
    killed = Counter(one.module for one in mutants if one.is_killed)
    return tuple((module, f"{killed[module]} of {count}") for module, count in every.items())
