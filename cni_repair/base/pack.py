"""Importing this package's modules from one file, the pack, which install.sh makes.

To find, open, read and check a module's own files costs the interpreter about as much as to run it,
and importlib's way to one a third of that; REPAIR needs ninety modules, ADD fifty. So the pack
knows what each import statement will have run, and that is run before importlib goes on: in one
loop, and most of it read at once, in chunks. Measured (Debian 12, Python 3.11, CPU time of REPAIR
with nothing to do): 20.6 ms without a pack, 17.7 ms with the modules in it one by one; of what they
took, 12.0 ms, chunks and loop left 9.4 ms (best of 60).

Nothing depends on the pack: where there is none (in a checkout), and where a module's source is not
the one that was packed (an engineer has changed it), modules come from their files as ever.

    python3 -X no_debug_ranges -m cni_repair.base.packing       makes it
"""

from __future__ import annotations

import _thread
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery has the same, for 1 ms
from _frozen_importlib_external import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    # Where something begins and ends, behind the index.
    Place = tuple[int, int]
    # Of each module that importlib is asked for: where its run is.
    Index = dict[str, Place]
    # All that a module imports, each after what it imports itself, and the module last; with the
    # place of the chunk that it is in.
    Run = list[tuple[str, int, int]]
    # By name, each module's source (its path in the package, size, time of change in ns) and code.
    Packed = tuple[str, int, int, CodeType]
    Chunk = dict[str, Packed]

PACKAGE = __file__.rpartition("/base/")[0]
# Named after the interpreter, as byte code is: no other can read it. First the index's size
# (HEAD bytes), then the index, then runs and chunks.
FILE = f"{PACKAGE}/__pycache__/pack.{sys.implementation.cache_tag}"
HEAD = 4
INIT = "__init__.py"


def use() -> None:
    """From here on import from the pack what it has."""
    try:
        pack = os.open(FILE, os.O_RDONLY | os.O_CLOEXEC)
        size = int.from_bytes(os.read(pack, HEAD), "little")
        index = marshal.loads(os.read(pack, size))
        whole = os.fstat(pack).st_size == HEAD + size + max(end for _, end in index.values())
    except (OSError, EOFError, ValueError, TypeError, AttributeError):
        return  # none, or no good one
    if whole:
        sys.meta_path.insert(0, _Finder(pack, HEAD + size, index))


class _Finder:
    """Finds a module in the pack if its source is still the packed one."""

    def __init__(self, pack: int, start: int, index: Index) -> None:
        self._pack = pack
        self._start = start
        self._index = index

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = self._index.get(name)
        if place is None:
            return None
        run: Run = self._read(*place)
        # importlib has locks, so that no other thread sees a module that is half loaded.
        if _thread._count():
            del run[:-1]
        read: Chunk = {}
        for other, begin, end in run:
            if other in sys.modules and other != name:
                continue
            if other not in read:
                read |= self._read(begin, end)
            if other != name:
                _load(other, read[other])
        return _spec(name, read[name])

    def _read(self, begin: int, end: int) -> Any:
        return marshal.loads(os.pread(self._pack, end - begin, self._start + begin))


def _load(name: str, packed: Packed) -> None:
    """Do as importlib would for an import statement, in a third of the time."""
    package, _, last = name.rpartition(".")
    spec = _spec(name, packed)
    if spec is None or package not in sys.modules:
        return  # it is not as packed, or its package is not: the statement shall find it
    module: Any = type(sys)(name)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__file__ = spec.origin
    module.__package__ = spec.parent
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules[name] = module
    try:
        exec(packed[-1], module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    setattr(sys.modules[package], last, module)


def _spec(name: str, packed: Packed) -> ModuleSpec | None:
    """None where the source is not the one that was packed."""
    below, size, changed, code = packed
    source = f"{PACKAGE}/{below}"
    try:
        status = os.stat(source)
    except OSError:
        return None
    if (status.st_size, status.st_mtime_ns) != (size, changed):
        return None
    spec = ModuleSpec(name, _Loader(name, source, code), origin=source)
    spec.has_location = True
    if below.endswith(INIT):
        spec.submodule_search_locations = [source[: -len(INIT) - 1]]
    return spec


class _Loader(SourceFileLoader):
    """Has a module's code from the pack; all else as of its file."""

    def __init__(self, name: str, source: str, code: CodeType) -> None:
        super().__init__(name, source)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code
