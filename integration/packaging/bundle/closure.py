"""Which modules a program can import: all that its code names, and what that names, in turn.

Told from the source, not from a run: what is imported late, or only when something fails, is there,
too. What no source names (plugins found by name) has to be given as a root.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.errors import RigError

_INIT = "__init__.py"


@dataclass(frozen=True)
class Library:
    """Directories that modules are looked for in, the first that has one gives it."""

    directories: Sequence[Path]
    left_out: Collection[str] = ()  # modules, with all below them

    def find(self, module: str) -> Path | None:
        """The file of a module, its source or a shared object; nothing for one that is built in."""
        below = module.replace(".", "/")
        for directory in self.directories:
            for found in (directory / below / _INIT, directory / f"{below}.py"):
                if found.is_file():
                    return found
            place = directory / below
            if place.parent.is_dir():
                for found in sorted(place.parent.glob(f"{place.name}.*.so")):
                    return found
        return None

    def modules_in(self, package: str) -> Iterator[str]:
        """A package's modules, all of them."""
        init = self.find(package)
        if init is None or init.name != _INIT:
            raise RigError(f"no package {package} in {', '.join(map(str, self.directories))}")
        for path in sorted(init.parent.rglob("*.py")):
            below = path.relative_to(init.parent).with_suffix("").parts
            yield ".".join([package, *(below[:-1] if path.name == _INIT else below)])

    def closure(self, roots: Iterable[str]) -> dict[str, Path]:
        """All that the roots can import, themselves included, by the names of modules."""
        found = dict[str, Path]()
        asked = set[str]()
        waiting = list(roots)
        while waiting:
            # A package is imported before what is in it.
            for name in _with_packages(waiting.pop()):
                if name in self.left_out:
                    break
                if name in asked:
                    continue
                asked.add(name)
                if path := self.find(name):
                    found[name] = path
                    waiting += imports(name, path)
        return found


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: length + 1]) for length in range(len(parts)))


def imports(module: str, path: Path) -> Iterator[str]:
    """What a module's code imports, wherever in it; a name taken from a package may be a module."""
    if path.suffix != ".py":
        return
    package = module if path.name == _INIT else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(package, node)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".")
    kept = above[: len(above) - node.level + 1]
    return ".".join([*kept, node.module] if node.module else kept)
