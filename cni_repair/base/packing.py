"""Making the pack (see base/pack), where cni-repair is installed.

    python3 -X no_debug_ranges -m cni_repair.base.packing

What nobody asks for is left out of the code: docstrings, annotations of functions, and with that
option at which columns of a line an error came about. To read them took a twentieth of a REPAIR.
"""

from __future__ import annotations

import ast
import marshal
from pathlib import Path

from cni_repair.base.pack import FILE, HEAD, INIT, PACKAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from types import CodeType
    from typing import Any

    from cni_repair.base.pack import Index, Packed

# What ADD, DEL and REPAIR ask importlib for.
WAITED_FOR = (
    "cni_repair.cni.plugin",
    "cni_repair.cni.add",
    "cni_repair.node.capture",
    "cni_repair.cni.delete",
    "cni_repair.cni.repair",
)


def make() -> None:
    """Pack all modules of this package, as they are on disk."""
    sources = {_name_of(source): source for source in Path(PACKAGE).rglob("*.py")}
    trees = {name: ast.parse(source.read_bytes()) for name, source in sources.items()}
    imports = {name: _imports(tree.body, sources) for name, tree in trees.items()}
    late = {name: _imports(_inside_functions(tree), sources) for name, tree in trees.items()}
    runs = {name: _run(name, imports) for name in sorted(_firsts(imports, late))}
    data = bytearray()
    places = {}
    for names in _chunks(runs):
        chunk = {name: _packed(sources[name], trees[name]) for name in names}
        places.update(dict.fromkeys(names, _add(data, chunk)))
    index: Index = {
        first: _add(data, [(name, *places[name]) for name in names])
        for first, names in runs.items()
    }
    _write(index, data)


def _firsts(imports: Mapping[str, Sequence[str]], late: Mapping[str, Sequence[str]]) -> set[str]:
    """What importlib may be asked for first: what functions import; packages, for which it asks
    before what is in them; and what only an entry point names."""
    packages = {package for name in imports for package in _packages_of(name)}
    return packages.union(*late.values()) | imports.keys() - set().union(*imports.values())


def _chunks(runs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The modules that are read at once: those of which each run that pods wait for has all or
    none. What such a run does not need is read one by one. (Packages are asked for before what is
    in them: theirs is a chunk that is soon read.)"""
    packages = {
        package for names in runs.values() for name in names for package in _packages_of(name)
    }
    found: dict[tuple[str, ...], list[str]] = {}
    for name in dict.fromkeys(name for names in runs.values() for name in names):
        having = tuple(first for first in WAITED_FOR if name in runs.get(first, ()))
        chunk = having or (name,)
        found.setdefault(() if name in packages else chunk, []).append(name)
    return [*found.values()]


def _add(data: bytearray, value: Any) -> tuple[int, int]:
    """Where it begins and ends."""
    begin = len(data)
    data += marshal.dumps(value)
    return begin, len(data)


def _imports(statements: Iterable[ast.AST], ours: Container[str]) -> list[str]:
    """Which of our modules statements import, packages before what is in them."""
    found: dict[str, None] = {}
    for statement in statements:
        names = []
        if isinstance(statement, ast.ImportFrom) and statement.module is not None:
            names = [f"{statement.module}.{alias.name}" for alias in statement.names]
        elif isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        for name in names:
            found.update(dict.fromkeys([*_packages_of(name), name]))
    return [name for name in found if name in ours]


def _inside_functions(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from ast.walk(node)


def _packages_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _run(name: str, imports: Mapping[str, Sequence[str]]) -> list[str]:
    """A module and all that it imports, in the order in which they are run to the end."""
    begun: set[str] = set()
    order = []

    def visit(one: str) -> None:
        begun.add(one)
        for other in (*_packages_of(one), *imports[one]):
            if other not in begun:
                visit(other)
        order.append(one)

    visit(name)
    return order


def _packed(source: Path, tree: ast.Module) -> Packed:
    status = source.stat()
    below = str(source.relative_to(PACKAGE))
    return below, status.st_size, status.st_mtime_ns, _compiled(tree, source)


def _name_of(source: Path) -> str:
    below = source.relative_to(PACKAGE)
    parts = below.parent.parts if below.name == INIT else below.with_suffix("").parts
    return ".".join(["cni_repair", *parts])


def _compiled(tree: ast.Module, source: Path) -> CodeType:
    for node in ast.walk(tree):
        _drop_docstring(node)
        _drop_annotations(node)
    code: CodeType = compile(tree, str(source), "exec", dont_inherit=True)
    return code


def _drop_docstring(node: ast.AST) -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(node, kinds) or ast.get_docstring(node, clean=False) is None:
        return
    docstring = node.body.pop(0)
    if not node.body and not isinstance(node, ast.Module):
        node.body.append(ast.copy_location(ast.Pass(), docstring))


def _drop_annotations(node: ast.AST) -> None:
    """Those of a class stay: they are its fields (see frozen)."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node.returns = None
    elif isinstance(node, ast.arg):
        node.annotation = None


def _write(index: Index, data: bytearray) -> None:
    head = marshal.dumps(index)
    Path(FILE).write_bytes(len(head).to_bytes(HEAD, "little") + head + data)


if __name__ == "__main__":
    make()
