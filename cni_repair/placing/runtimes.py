"""Where this node's container runtime looks for CNI plugins.

    python3 -m cni_repair.placing.runtimes [ROOT]

prints the directory, then the reason, then a line for each thing worth knowing.

containerd (config.go, resolveImports and mergeConfig; docs/cri/config.md): one file, and those that
it imports, each in the words of its own version; what comes later is put over what came before.
Version 1 calls the plugin `cri`, version 2 io.containerd.grpc.v1.cri, version 3
io.containerd.cri.v1.runtime; `bin_dir` became the list `bin_dirs` in containerd 2.1. k3s and rke2
write such a file for the containerd that they bring along. CRI-O (crio.conf.d(5)): crio.conf, then
the drop-ins by name; the last one that says anything is right.

Everything is looked up below a root, for who looks at a node from a container: a symbolic link
leads to where it leads on the node.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from pathlib import Path

from cni_repair.base.files import Untrusted, open_regular, read_all
from cni_repair.base.frozen import frozen
from cni_repair.cli.printable import one_line, say
from cni_repair.placing.below import real_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

DEFAULT = Path("/opt/cni/bin")  # containerd's, CRI-O's, and the CNI project's own
# Debian's containernetworking-plugins, Fedora's.
_USUAL = (DEFAULT, Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
_KNOWN_PLUGIN = "macvlan"
_MOST_FILES = 200  # of one runtime's configuration
_MOST_BYTES = 4 << 20

_V1, _V2, _V3 = "cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
# By the file's version: containerd 2 reads 2, too, and takes its names for those of 3.
_CRI_PLUGINS: dict[int, tuple[str, ...]] = {1: (_V1, _V2), 2: (_V2, _V3), 3: (_V3,)}
_CRI = frozenset({_V1, _V2, _V3})


@frozen
class Choice:
    """A directory, as the node itself names it, why it was taken, and what could not be used."""

    path: Path
    why: str
    notes: tuple[str, ...] = ()


@frozen
class _Runtime:
    """A runtime that may be on a node."""

    name: str
    socket: str  # there while it runs
    read: Callable[[_Node], _Said | None]


@frozen
class _Said:
    """What a runtime's configuration says of the directory: those to be searched, in this order."""

    directories: tuple[str, ...]
    file: str  # where it says so
    default: bool = False  # nothing does: it is the runtime's own


def plugin_directory(root: Path = Path("/")) -> Choice:
    """The directory below `root` that a plugin has to be in to be found by the runtime.

    By the configuration of a runtime that runs, else of one that is configured; then whichever
    usual directory has plugins; then the default.
    """
    node = _Node(root)
    said = [(one, found) for one in _by_running(node) if (found := one.read(node))]
    if said:
        runtime, found = said[0]
        path = node.best(found.directories)
        others = [
            f"{other.name} looks into {node.best(also.directories)} ({also.file})"
            for other, also in said[1:]
            if node.best(also.directories) != path
        ]
        why = f"the default of {runtime.name}" if found.default else f"{runtime.name} looks there"
        return Choice(path, f"{why} ({found.file})", (*node.notes, *others))
    for path in _USUAL:
        if node.exists(f"{path}/{_KNOWN_PLUGIN}"):
            return Choice(path, f"{_KNOWN_PLUGIN} is there", tuple(node.notes))
    return Choice(DEFAULT, "the runtimes' default", tuple(node.notes))


def _by_running(node: _Node) -> list[_Runtime]:
    return sorted(_RUNTIMES, key=lambda one: not node.exists(one.socket))  # stable


# --- the node's files -----------------------------------------------------------------------------


class _Node:
    """A node's files, seen below a root; what of them could not be used is noted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.notes = list[str]()

    def real(self, path: str) -> Path:
        return real_path(self._root, path)

    def exists(self, path: str) -> bool:
        try:
            return self.real(path).exists()
        except OSError:
            return False

    def best(self, directories: tuple[str, ...]) -> Path:
        """The first that is there and can be written to, else the first: a runtime makes it."""
        usable = (one for one in directories if self._is_usable(one))
        return Path(os.path.normpath(next(usable, directories[0])))

    def _is_usable(self, directory: str) -> bool:
        try:
            real = self.real(directory)
        except OSError:
            return False
        return real.is_dir() and os.access(real, os.W_OK)

    def document(self, path: str) -> dict[str, Any] | None:
        """A file's TOML; nothing where there is no such file, or where it cannot be used."""
        try:
            return _toml(_bytes_of(self.real(path)).decode())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, Untrusted, ValueError, RecursionError, ModuleNotFoundError) as error:
            reason = error.strerror if isinstance(error, OSError) else ""
            self.notes.append(f"{path} is not used: {one_line(reason or str(error))}")
            return None

    def matching(self, pattern: str) -> list[str]:
        """The node's paths that match a pattern, sorted, as Go's filepath.Glob has them."""
        found = [""]
        for part in [part for part in pattern.split("/") if part]:
            if any(char in part for char in "*?["):
                found = [
                    f"{above}/{name}" for above in found for name in self.names_in(above, part)
                ]
            else:
                found = [f"{above}/{part}" for above in found]
        return [path for path in found if self.exists(path)]

    def names_in(self, directory: str, pattern: str = "*") -> list[str]:
        try:
            names = os.listdir(self.real(directory or "/"))
        except OSError:
            return []
        return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern))


def _bytes_of(path: Path) -> bytes:
    """A regular file's, if it is not too long. Raises OSError, Untrusted."""
    fd = open_regular(str(path))
    try:
        data = read_all(fd, _MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MOST_BYTES:  # its beginning alone may say something else
        raise Untrusted(f"it is longer than {_MOST_BYTES} bytes")
    return data


def _toml(text: str) -> dict[str, Any]:
    """Raises ValueError, RecursionError; ModuleNotFoundError by a Python 3.10 without tomli."""
    # (Import statements: the bundle has what these name.)
    if sys.version_info >= (3, 11):
        import tomllib as reader
    else:
        import tomli as reader  # type: ignore[import-not-found]
    document: dict[str, Any] = reader.loads(text)
    return document


# --- containerd -----------------------------------------------------------------------------------


def _containerd_at(main: str, drop_ins: str = "") -> Callable[[_Node], _Said | None]:
    """A reader of the configuration with this main file; without it, of the drop-ins alone."""

    def read(node: _Node) -> _Said | None:
        said: _Said | None = None
        document = node.document(main)
        for path, one in _with_imports(node, main, document, drop_ins):
            if _disables_cri(one):
                return None  # Docker's package: this containerd calls no plugins
            directories = _containerd_directories(one)
            if directories:
                said = _Said(directories, path)
        if said is None and document is not None:
            return _Said((str(DEFAULT),), f"{main} names no other", default=True)
        return said

    return read


def _with_imports(
    node: _Node, main: str, document: dict[str, Any] | None, drop_ins: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of a configuration with their paths, in the order in which they are merged."""
    pending: list[tuple[str, dict[str, Any] | None]] = [(main, document)]
    if document is None:
        pending = [(path, None) for path in node.matching(drop_ins)] if drop_ins else []
    loaded = set[str]()
    while pending and len(loaded) < _MOST_FILES:
        path, one = pending.pop(0)
        if path in loaded:
            continue
        loaded.add(path)
        one = node.document(path) if one is None else one
        if one is None:
            continue
        yield path, one
        pending += [(found, None) for found in _imports(node, path, one)]


def _imports(node: _Node, parent: str, document: dict[str, Any]) -> Iterator[str]:
    """The files that a file imports; relative ones are beside it."""
    for name in _texts(document.get("imports")):
        path = os.path.normpath(os.path.join(os.path.dirname(parent), name))
        if "*" in path:
            yield from node.matching(path)
        elif node.exists(path):
            yield path
        else:
            node.notes.append(f"{path} is not used: {parent} imports it, and there is no such file")


def _disables_cri(document: dict[str, Any]) -> bool:
    return not _CRI.isdisjoint(_texts(document.get("disabled_plugins")))


def _containerd_directories(document: dict[str, Any]) -> tuple[str, ...]:
    version = document.get("version", 1)
    names = _CRI_PLUGINS.get(version if isinstance(version, int) else 1, (_V3,))
    for name in names:
        cni = _table(document, "plugins", name, "cni")
        directories = _directories(cni.get("bin_dirs"), cni.get("bin_dir"))
        if directories:
            return directories
    return ()


# --- CRI-O ----------------------------------------------------------------------------------------

_CRIO, _CRIO_DROP_INS = "/etc/crio/crio.conf", "/etc/crio/crio.conf.d"


def _read_crio(node: _Node) -> _Said | None:
    said: _Said | None = None
    files = [_CRIO, *(f"{_CRIO_DROP_INS}/{name}" for name in node.names_in(_CRIO_DROP_INS))]
    documents = [(path, one) for path in files if (one := node.document(path)) is not None]
    for path, document in documents:
        network = _table(document, "crio", "network")
        # (`plugin_dir` is the name in versions before 1.14.)
        directories = _directories(network.get("plugin_dirs"), network.get("plugin_dir"))
        if directories:
            said = _Said(directories, path)
    if said is None and documents:
        return _Said((str(DEFAULT),), f"{documents[0][0]} names no other", default=True)
    return said


# --- values of any kind ---------------------------------------------------------------------------


def _table(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """A table within tables; an empty one where there is none."""
    here: Any = document
    for name in names:
        here = here.get(name) if isinstance(here, dict) else None
    return here if isinstance(here, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a list; none of anything else."""
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _directories(many: Any, single: Any) -> tuple[str, ...]:
    """The directories of the newer key, a list, else of the older one. (One with a NUL in its name
    there cannot be, and one with a newline is no runtime's.)"""
    texts = _texts(many) or _texts([single])
    return tuple(one for one in texts if one.startswith("/") and one.isprintable())


_K3S, _RKE2 = (
    f"/var/lib/rancher/{name}/agent/etc/containerd/config.toml" for name in ("k3s", "rke2")
)
_RUNTIMES = (
    _Runtime("k3s", "/run/k3s/containerd/containerd.sock", _containerd_at(_K3S)),
    _Runtime("rke2", "/run/k3s/containerd/containerd.sock", _containerd_at(_RKE2)),
    _Runtime(
        "containerd",
        "/run/containerd/containerd.sock",
        # From 2.2 on the default configuration imports these.
        _containerd_at("/etc/containerd/config.toml", "/etc/containerd/conf.d/*.toml"),
    ),
    _Runtime("CRI-O", "/run/crio/crio.sock", _read_crio),
)


def main(arguments: list[str]) -> int:
    """Print the directory below the root given, and each reason and note on a line of its own."""
    choice = plugin_directory(Path(arguments[0] if arguments else "/"))
    for line in (str(choice.path), choice.why, *choice.notes):
        say(one_line(line))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
