"""What mutmut changed: read from the modules that it made, in one line each."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What mutmut writes of a mutant: pytest's exit status, or a signal (SIGXCPU: no end).
_SURVIVED, _UNTESTED = 0, 33
_ORIGINAL = "orig"


@dataclass(frozen=True)
class Change:
    """A change by what it is, and not by its number, which changes with the lines above it."""

    module: str  # below cni_repair, without .py
    function: str  # with its class
    diff: str  # the lines that it takes away, then those that it brings

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.diff}"


@dataclass(frozen=True)
class Mutant:
    """A change, and whether a test failed for it."""

    name: str  # as mutmut calls it
    change: Change
    is_killed: bool


def mutants_below(directory: Path) -> Iterator[Mutant]:
    """The mutants that were carried out of all modules below mutmut's copy of cni_repair."""
    for document in sorted(directory.rglob("*.meta")):
        path = document.with_suffix("")
        module = str(path.relative_to(directory).with_suffix(""))
        functions = _functions(path.read_text())
        for name, status in json.loads(document.read_text())["exit_code_by_key"].items():
            if status is not None:  # None: not carried out, since only a case was wanted
                change = _change(module, functions, name.rpartition(".")[2])
                yield Mutant(name, change, status not in (_SURVIVED, _UNTESTED))


def _functions(source: str) -> dict[str, list[str]]:
    """The lines of each function and method. mutmut has put there, beside the original, a copy with
    each change."""
    lines = source.splitlines()
    return {
        node.name: lines[node.lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }


def _change(module: str, functions: dict[str, list[str]], copy: str) -> Change:
    stem, _, _ = copy.rpartition("_")  # x_name__mutmut_7, xǁClassǁname__mutmut_7
    mangled = stem.removesuffix("__mutmut").removeprefix("x")
    name = mangled.strip("ǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("_")
    before, after = functions[f"{stem}_{_ORIGINAL}"], functions[copy]
    after = [line.replace(copy, f"{stem}_{_ORIGINAL}") for line in after]
    plain = f"{stem}_{_ORIGINAL}", name.rpartition(".")[2]
    return Change(module, name, _difference(before, after).replace(*plain))


def _difference(before: list[str], after: list[str]) -> str:
    """The lines that differ, however they are indented, as one."""
    lines = difflib.unified_diff(before, after, n=0, lineterm="")
    signed = [(line[0], line[1:]) for line in lines if line[:2] not in ("--", "++", "@@")]
    return " ".join(f"{sign} {' '.join(line.split())}" for sign, line in signed)
