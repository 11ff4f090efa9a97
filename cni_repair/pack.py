"""Makes the pack that :mod:`cni_repair.packed` imports from: `python3 -m cni_repair.pack`."""

from __future__ import annotations

import marshal
from importlib.machinery import SourceFileLoader
from pathlib import Path

from cni_repair.packed import FILE, HEAD, INIT, PACKAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.packed import Index


def make() -> None:
    """Pack all modules of this package, as they are on disk."""
    index: Index = {}
    codes = []
    at = 0
    for source in sorted(Path(PACKAGE).rglob("*.py")):
        below = source.relative_to(PACKAGE)
        parts = below.parent.parts if below.name == INIT else below.with_suffix("").parts
        name = ".".join(["cni_repair", *parts])
        status = source.stat()
        code = marshal.dumps(SourceFileLoader(name, str(source)).get_code(name))
        index[name] = str(below), status.st_size, status.st_mtime_ns, at, at + len(code)
        codes.append(code)
        at += len(code)
    _write(index, codes)


def _write(index: Index, codes: list[bytes]) -> None:
    # Places count from the file's beginning, where the index itself is, whose size depends on
    # them: it gets more room than it can need.
    room = 2 * len(marshal.dumps(index))
    begin = HEAD + room
    placed = {
        name: (*of, begin + first, begin + last) for name, (*of, first, last) in index.items()
    }
    with open(FILE, "wb") as file:
        file.write(room.to_bytes(HEAD, "little") + marshal.dumps(placed).ljust(room, b"\0"))
        file.writelines(codes)


if __name__ == "__main__":
    make()
