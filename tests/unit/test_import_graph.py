"""The house's rooms (DESIGN §7): who may import whom, computed from the source.

Every import counts: those inside functions, and those for type checkers alone, too. A type that is
borrowed from above is a dependency on the room above.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.samples import REPOSITORY

# From the top down; rooms of one row do not know each other.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("placing",),
    ("cli",),
    ("cni", "demo"),
    ("watch",),
    ("upgrade",),
    ("adoption", "repair"),
    ("node",),
    ("uplink",),
    ("checkpoint",),
    ("network",),
    ("netlink",),
    ("base",),
    ("",),  # the package itself: its version
)
# The floors within a room, from the top down, where it has any.
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "network": (
        ("reachability",),
        ("observe", "apply"),
        ("links",),
        ("planning",),
        ("operations",),
        ("observed",),
        ("kernel",),
        ("model",),
    ),
}


class Import(NamedTuple):
    importer: str  # "cni_repair.cni.add"
    imported: str
    line: str  # "cni_repair/cni/add.py:17: from …"


def modules_of(root: Path) -> dict[str, Path]:
    """The modules of a package by their names."""
    found = {}
    for path in sorted((root / "cni_repair").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(root: Path) -> list[Import]:
    """Every import of one of the package's modules by another."""
    modules = modules_of(root)
    found = []
    for name, path in modules.items():
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            for number, target in _targets(node, modules):
                if target != name:
                    line = lines[number - 1].strip()
                    at = f"{path.relative_to(root)}:{number}: {line}"
                    found.append(Import(name, target, at))
    return found


def _targets(node: ast.AST, modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """The modules that a statement imports, once each, with its line."""
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        fulls = [f"{node.module}.{alias.name}" for alias in node.names]
        of_modules = {full if full in modules else node.module for full in fulls}
        yield from ((node.lineno, name) for name in sorted(of_modules & modules.keys()))
    elif isinstance(node, ast.Import):
        yield from ((node.lineno, one.name) for one in node.names if one.name in modules)


def height(module: str, room: str = "") -> int:
    """The row of ROOMS, or of a room's FLOORS, that a module is in; 0 is the highest."""
    parts = module.split(".")[1:]
    name = (parts[1:] if room else parts)[:1]
    rows = FLOORS[room] if room else ROOMS
    for number, row in enumerate(rows):
        if (name or [""])[0] in row:
            return number
    raise AssertionError(f"{module} is in no room of the house: see ROOMS and FLOORS")


def room_of(module: str) -> str:
    return (module.split(".")[1:2] or [""])[0]


def upward(imports: list[Import]) -> list[str]:
    """Imports of a room above, or of another room on the same row."""
    found = []
    for one in imports:
        rooms = room_of(one.importer), room_of(one.imported)
        if rooms[0] != rooms[1]:
            wrong = height(one.importer) >= height(one.imported)
        elif rooms[0] in FLOORS and len(one.importer.split(".")) > 2:
            mine, other = height(one.importer, rooms[0]), height(one.imported, rooms[0])
            wrong = mine > other
        else:
            wrong = False
        if wrong:
            found.append(one.line)
    return found


def circles(imports: list[Import]) -> list[str]:
    """The imports that lie on a circle of modules."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        graph.setdefault(one.importer, set()).add(one.imported)
    reach = {name: _reachable(graph, name) for name in graph}
    return [one.line for one in imports if one.importer in reach.get(one.imported, ())]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = [*graph.get(start, ())]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(graph.get(name, ()))
    return seen


def test_every_module_is_in_a_room() -> None:
    for module in modules_of(REPOSITORY):
        height(module)
        if room_of(module) in FLOORS and len(module.split(".")) > 2:
            height(module, room_of(module))


def test_nothing_calls_upwards() -> None:
    assert upward(imports_of(REPOSITORY)) == []


def test_no_circle() -> None:
    assert circles(imports_of(REPOSITORY)) == []


def absent_places(root: Path) -> list[str]:
    """Modules of ours that comments and docstrings name as places (`network/observe`), and that are
    not there."""
    rooms = "|".join(sorted(name for row in ROOMS for name in row if name.strip("_")))
    named = re.compile(rf"(?<![\w/.-])(?:{rooms})(?:/[a-z_]+)+(?![\w/-]|\.\w)")
    package = root / "cni_repair"
    return [
        f"{path.relative_to(root)}: {place}"
        for path in sorted(package.rglob("*.py"))
        for place in named.findall(path.read_text(encoding="utf-8"))
        if not ((package / place).is_dir() or (package / f"{place}.py").exists())
    ]


def test_places_that_comments_name_are_there() -> None:
    assert absent_places(REPOSITORY) == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house: two rooms, and an import the right way."""
    for room in ("cli", "base", "cni"):
        (tmp_path / "cni_repair" / room).mkdir(parents=True)
    (tmp_path / "cni_repair/base/errors.py").write_text("class CniError: ...\n")
    (tmp_path / "cni_repair/cli/main.py").write_text(
        "from cni_repair.base.errors import CniError\n"
    )
    return tmp_path


def test_the_right_way_is_no_finding(house: Path) -> None:
    imports = imports_of(house)
    assert len(imports) == 1
    assert upward(imports) == circles(imports) == []


@pytest.mark.parametrize(
    "source",
    [
        "from cni_repair.cli.main import run\n",
        "from cni_repair.cli import main\n",
        "import cni_repair.cli.main\n",
        "def f():\n    from cni_repair.cli.main import run\n",
        "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from cni_repair.cli.main import Run\n",
    ],
)
def test_an_upward_import_is_found_with_its_line(house: Path, source: str) -> None:
    (house / "cni_repair/base/names.py").write_text(source)
    number = source.count("\n")
    line = source.splitlines()[-1].strip()
    assert upward(imports_of(house)) == [f"cni_repair/base/names.py:{number}: {line}"]


def test_a_neighbours_room_is_found(house: Path) -> None:
    (house / "cni_repair/demo").mkdir()
    (house / "cni_repair/demo/lab.py").write_text("")
    (house / "cni_repair/cni/add.py").write_text("from cni_repair.demo import lab\n")
    assert upward(imports_of(house)) == ["cni_repair/cni/add.py:1: from cni_repair.demo import lab"]


def test_a_circle_is_found_with_its_lines(house: Path) -> None:
    (house / "cni_repair/base/a.py").write_text("from cni_repair.base import b\n")
    (house / "cni_repair/base/b.py").write_text("from cni_repair.base import c\n")
    (house / "cni_repair/base/c.py").write_text("x = 1\nfrom cni_repair.base.a import b\n")
    assert circles(imports_of(house)) == [
        "cni_repair/base/a.py:1: from cni_repair.base import b",
        "cni_repair/base/b.py:1: from cni_repair.base import c",
        "cni_repair/base/c.py:2: from cni_repair.base.a import b",
    ]


def test_a_place_that_is_not_there_is_found(house: Path) -> None:
    source = "# See base/errors, cli/schema/x.json, other/place and base/gone.\n"
    (house / "cni_repair/base/a.py").write_text(source)
    assert absent_places(house) == ["cni_repair/base/a.py: base/gone"]
