"""Importing this package's modules from one file, the pack, which install.sh makes.

To find, open, read and check a module's own files costs the interpreter about as much as to run it,
and REPAIR needs ninety, ADD fifty. Measured (Debian 12, Python 3.11, whole processes, CPU time):
REPAIR with nothing to do 20.6 ms without the pack, 17.7 ms with it (medians of 60); 25.2 ms with
docstrings and columns in it, 24.1 ms without (medians of 150, on a slower day).

Nothing depends on the pack: where there is none (in a checkout), and where a module's source is not
the one that was packed (an engineer has changed it), modules come from their files as ever.

    python3 -X no_debug_ranges -m cni_repair.base.packing       makes it
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

PACKAGE = __file__.rpartition("/base/")[0]
# Named after the interpreter, as byte code is: no other can read it. First the index's size
# (HEAD bytes), then the index, then the modules' code.
FILE = f"{PACKAGE}/__pycache__/pack.{sys.implementation.cache_tag}"
HEAD = 4
INIT = "__init__.py"


def use() -> None:
    """From here on import from the pack what it has."""
    try:
        pack = os.open(FILE, os.O_RDONLY | os.O_CLOEXEC)
        index = marshal.loads(os.read(pack, int.from_bytes(os.read(pack, HEAD), "little")))
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
        source = f"{PACKAGE}/{below}"
        try:
            status = os.stat(source)
        except OSError:
            return None
        if (status.st_size, status.st_mtime_ns) != (size, changed):
            return None
        spec = ModuleSpec(name, _Loader(name, source, (self._pack, begin, end)), origin=source)
        spec.has_location = True
        if below.endswith(INIT):
            spec.submodule_search_locations = [source[: -len(INIT) - 1]]
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
