"""How much a reader has to hold in mind at once: classes of few methods, functions of few
parameters (HOUSE), computed from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.samples import REPOSITORY

MOST_METHODS = 12
MOST_PARAMETERS = 6
# How the reason begins, in its docstring, for which a class may have more.
REASON = "More than twelve methods: "

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def offenders(root: Path) -> list[str]:
    """What is too big, with the place where it begins."""
    return [
        f"{path.relative_to(root)}:{line}: {what}"
        for path in sorted((root / "cni_repair").rglob("*.py"))
        for line, what in _in_module(ast.parse(path.read_text(encoding="utf-8")))
    ]


def _in_module(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(statement, Function) for statement in node.body)
            if methods > MOST_METHODS and REASON not in _words(ast.get_docstring(node)):
                yield node.lineno, f"class {node.name} has {methods} methods"
        elif isinstance(node, Function):
            parameters = len(_parameters(node.args))
            if parameters > MOST_PARAMETERS:
                yield node.lineno, f"{node.name}() has {parameters} parameters"


def _words(docstring: str | None) -> str:
    return " ".join((docstring or "").split())


def _parameters(args: ast.arguments) -> list[str]:
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [arg.arg for arg in given if arg is not None and arg.arg not in ("self", "cls")]


def test_nothing_is_too_big() -> None:
    assert offenders(REPOSITORY) == []


def house(tmp_path: Path, source: str) -> Path:
    (tmp_path / "cni_repair").mkdir()
    (tmp_path / "cni_repair/a.py").write_text(source)
    return tmp_path


def class_of(methods: int, docstring: str = "Words.") -> str:
    bodies = "".join(f"    def m{number}(self): ...\n" for number in range(methods))
    return f'\nclass A:\n    """{docstring}"""\n\n{bodies}'


ONE_MORE = class_of(12) + "    @property\n    def p(self): ...\n"
TOO_MANY_METHODS = ["cni_repair/a.py:2: class A has 13 methods"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (class_of(12), []),
        (class_of(13), TOO_MANY_METHODS),
        (class_of(13, "Words. More than twelve\n    methods: a page each."), []),
        (class_of(13, "More than twelve methods:"), TOO_MANY_METHODS),
        (ONE_MORE, TOO_MANY_METHODS),
        ("def f(a, b, c, d, e, g): ...\n", []),
        ("class A:\n    def f(self, a, b, c, d, e, g): ...\n", []),
    ],
)
def test_what_is_found(tmp_path: Path, source: str, found: list[str]) -> None:
    assert offenders(house(tmp_path, source)) == found


@pytest.mark.parametrize(
    "parameters",
    ["a, b, c, d, e, g, h", "a, b, /, c, d, *, e, g, h=1", "a, b, c, d, e, *g, **h"],
)
@pytest.mark.parametrize("before", ["", "class A:\n    async ", "def g():\n    "])
def test_every_kind_of_parameter_counts(tmp_path: Path, parameters: str, before: str) -> None:
    line = before.count("\n") + 1
    found = offenders(house(tmp_path, f"{before}def f({parameters}): ...\n"))
    assert found == [f"cni_repair/a.py:{line}: f() has 7 parameters"]
