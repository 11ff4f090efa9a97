"""Importing this package's modules from one file, the pack, which install.sh makes.

To find, open, read and check a module's own files costs the interpreter about as much as to run it,
and REPAIR needs eighty, ADD more than forty. Measured (Debian
12, Python 3.11, whole processes, medians of 60, CPU time): REPAIR with nothing to do 20.6 ms
without the pack, 17.7 ms with it.

Nothing depends on the pack: where there is none (in a checkout), and where a module's source is not
the one that was packed (an engineer has changed it), modules come from their files as ever.

    python3 -m cni_repair.base.pack     makes it
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has the same, for 1 ms
from _frozen_importlib_external import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    # By module: its source's path in the package, size and time of change (ns), and where in the
    # pack its code begins and ends.
    Index = dict[str, tuple[str, int, int, int, int]]

_PACKAGE = __file__.rpartition("/base/")[0]
# Named after the interpreter, as byte code is: no other can read it. First the index's size
# (_HEAD bytes), then the index, then the modules' code.
_FILE = f"{_PACKAGE}/__pycache__/pack.{sys.implementation.cache_tag}"
_HEAD = 4
_INIT = "__init__.py"


def use() -> None:
    """From here on import from the pack what it has."""
    try:
        pack = os.open(_FILE, os.O_RDONLY | os.O_CLOEXEC)
        index = marshal.loads(os.read(pack, int.from_bytes(os.read(pack, _HEAD), "little")))
    except (OSError, EOFError, ValueError, TypeError):
        return  # none, or no good one
    sys.meta_path.insert(0, _Finder(pack, index))


class _Finder:
    """Finds a module in the pack if its source is still the packed one."""

    def __init__(self, pack: int, index: Index) -> None:
        self._pack = pack
        self._index = index

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = self._index.get(name)
        if found is None:
            return None
        below, size, changed, begin, end = found
        source = f"{_PACKAGE}/{below}"
        try:
            status = os.stat(source)
        except OSError:
            return None
        if (status.st_size, status.st_mtime_ns) != (size, changed):
            return None
        spec = ModuleSpec(name, _Loader(name, source, (self._pack, begin, end)), origin=source)
        spec.has_location = True
        if below.endswith(_INIT):
            spec.submodule_search_locations = [source[: -len(_INIT) - 1]]
        return spec


class _Loader(SourceFileLoader):
    """Has a module's code from its place in the pack; all else as of its file."""

    def __init__(self, name: str, source: str, place: tuple[int, int, int]) -> None:
        super().__init__(name, source)
        self._place = place

    def get_code(self, fullname: str) -> CodeType:
        pack, begin, end = self._place
        code: CodeType = marshal.loads(os.pread(pack, end - begin, begin))
        return code


# --- making it ------------------------------------------------------------------------------------


def make() -> None:
    """Pack all modules of this package, as they are on disk."""
    from pathlib import Path

    index: Index = {}
    codes = []
    at = 0
    for source in sorted(Path(_PACKAGE).rglob("*.py")):
        below = source.relative_to(_PACKAGE)
        parts = below.parent.parts if below.name == _INIT else below.with_suffix("").parts
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
    begin = _HEAD + room
    placed = {
        name: (*of, begin + first, begin + last) for name, (*of, first, last) in index.items()
    }
    with open(_FILE, "wb") as file:
        file.write(room.to_bytes(_HEAD, "little") + marshal.dumps(placed).ljust(room, b"\0"))
        file.writelines(codes)


if __name__ == "__main__":
    make()
