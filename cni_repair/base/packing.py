"""Making the pack (see base/pack), where cni-repair is installed.

    python3 -X no_debug_ranges -m cni_repair.base.packing

Docstrings, for which nobody asks, are left out; with that option, also at which columns of a line
an error came about. To read them took a twentieth of a REPAIR.
"""

from __future__ import annotations

import ast
import marshal
from pathlib import Path

from cni_repair.base.pack import FILE, HEAD, INIT, PACKAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    from cni_repair.base.pack import Index


def make() -> None:
    """Pack all modules of this package, as they are on disk."""
    index: Index = {}
    data = b""
    for source in sorted(Path(PACKAGE).rglob("*.py")):
        code = marshal.dumps(_compiled(source))
        status = source.stat()
        begin, end = len(data), len(data) + len(code)
        below = str(source.relative_to(PACKAGE))
        index[_name_of(source)] = below, status.st_size, status.st_mtime_ns, begin, end
        data += code
    _write(index, data)


def _name_of(source: Path) -> str:
    below = source.relative_to(PACKAGE)
    parts = below.parent.parts if below.name == INIT else below.with_suffix("").parts
    return ".".join(["cni_repair", *parts])


def _compiled(source: Path) -> CodeType:
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        _drop_docstring(node)
    code: CodeType = compile(tree, str(source), "exec", dont_inherit=True)
    return code


def _drop_docstring(node: ast.AST) -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(node, kinds) or ast.get_docstring(node, clean=False) is None:
        return
    docstring = node.body.pop(0)
    if not node.body and not isinstance(node, ast.Module):
        node.body.append(ast.copy_location(ast.Pass(), docstring))


def _write(index: Index, data: bytes) -> None:
    # Places count from the file's beginning, where the index itself is, whose size depends on
    # them: it gets more room than it can need.
    room = 2 * len(marshal.dumps(index))
    begin = HEAD + room
    placed = {
        name: (*about, begin + first, begin + last) for name, (*about, first, last) in index.items()
    }
    head = room.to_bytes(HEAD, "little") + marshal.dumps(placed).ljust(room, b"\0")
    Path(FILE).write_bytes(head + data)


if __name__ == "__main__":
    make()
