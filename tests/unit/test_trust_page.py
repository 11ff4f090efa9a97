"""The manual's page on trust: each sentence of its lists has tests that exist, each proof a row."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from integration.trust.proofs import PROOFS
from tests.unit.samples import REPOSITORY

PAGE = REPOSITORY / "cni_repair" / "manual" / "trust.md"
_TEST = re.compile(r"<!-- test: (.+) -->")
_ITEM = "- "


def sentences(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each item of a page's lists, and the tests that the comment right above it names."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(_ITEM):
            more = takewhile(lambda one: one.startswith("  "), lines[number + 1 :])
            comment = _TEST.fullmatch(lines[number - 1])
            words = " ".join([line.removeprefix(_ITEM), *map(str.strip, more)])
            yield words, comment[1].split() if comment else []


def names_in(path: Path) -> set[str]:
    """The tests of a file as pytest names them: those of classes with their class."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if hasattr(one, "name")}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def missing(test: str) -> bool:
    file, _, name = test.partition("::")
    path = REPOSITORY / file
    return not path.is_file() or name not in names_in(path)


@pytest.mark.parametrize(
    ("sentence", "tests"),
    [pytest.param(*one, id=one[0][:60]) for one in sentences(PAGE.read_text())],
)
def test_each_sentence_has_tests_that_exist(sentence: str, tests: list[str]) -> None:
    assert tests != []
    assert [one for one in tests if missing(one)] == []
    assert sentence.endswith(".")
    assert not re.search(r"\. [A-Z]", sentence), "one sentence, one comment"


def test_each_comment_is_about_a_sentence() -> None:
    text = PAGE.read_text()
    about = sum(len(tests) for _, tests in sentences(text))
    assert about == sum(len(tests.split()) for tests in _TEST.findall(text)) > 30


def test_what_is_missing_is_noticed() -> None:
    page = "<!-- test: tests/unit/test_x.py::test_a -->\n- One\n  sentence.\n- Another.\n"
    assert [*sentences(page)] == [
        ("One sentence.", ["tests/unit/test_x.py::test_a"]),
        ("Another.", []),
    ]
    here = "tests/unit/test_trust_page.py"
    assert missing("tests/unit/test_x.py::test_a")
    assert missing(f"{here}::test_that_nobody_has_written")
    assert not missing(f"{here}::test_what_is_missing_is_noticed")
    assert not missing("tests/install/test_install.py::TestFreshInstallation::test_names")


def test_every_proof_has_a_row() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|", PAGE.read_text(), re.MULTILINE)
    assert {_name_of(proof) for proof in PROOFS} <= {*rows}


def _name_of(proof: str) -> str:
    """The NAME of a proof, without importing what it needs."""
    package = REPOSITORY / "integration" / "trust" / proof
    for file in [package.with_suffix(".py"), *package.glob("*.py")]:
        text = file.read_text() if file.is_file() else ""
        if found := re.search(r'^NAME(?:: str)? = "(.+)"$', text, re.MULTILINE):
            return found[1]
    raise AssertionError(f"{proof} has no NAME")


def calls_of(name: str) -> Iterator[tuple[Path, ast.Call]]:
    """Each call of what is called so, as a function or as an attribute, in what runs on a node."""
    for path in sorted((REPOSITORY / "cni_repair").rglob("*.py")):
        if "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and name in (
                getattr(node.func, "id", ""),
                getattr(node.func, "attr", "").lstrip("_"),
            ):
                yield path, node


def test_only_network_namespaces_are_entered() -> None:
    """All calls of setns(2), and there is no other way in."""
    calls = [*calls_of("setns")]
    assert len(calls) >= 3
    for path, call in calls:
        assert ast.unparse(call.args[1]) == "CLONE_NEWNET", f"{path}:{call.lineno}"
    assert [*calls_of("unshare")] == []
    # The image's container goes over to the node's own root, before there is a pod in sight.
    assert [path.stem for path, _ in calls_of("chroot")] == ["daemonset"]
