"""The network configurations of this node that name our plugin, wherever a runtime or Multus reads
them. They are only read.

What libcni reads (conf.go, ConfFiles): the files of a directory that end in .conf, .conflist and
.json. Below it are those of Multus (multus.d) and of nerdctl (a directory for each namespace); a
configuration of Multus names more. Definitions in the API server cannot be seen from a node.
"""

from __future__ import annotations

import os
import stat

from cni_repair.base.errors import IO, CniError
from cni_repair.base.files import Untrusted, read_all
from cni_repair.base.frozen import frozen
from cni_repair.base.gotypes import field_of
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.strictjson import MAX_BYTES, load_configuration, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

# The runtimes' default, and that of Multus' confDir.
CONF_DIRS = ("/etc/cni/net.d", "/etc/cni/multus/net.d")

_EXTENSIONS = (".conf", ".conflist", ".json")
_MULTUS_BELOW = "multus.d"
_DEFAULT_WRAPPED = "macvlan"
# Keys of Multus, and ours.
_NAMES_DIRECTORY = ("confDir", "cniConfigDir", "multusAutoconfigDir")
_NAMES_NETWORKS = ("clusterNetwork", "defaultNetworks")  # by name, or by the path of a file
_NAMES_CACHE = ("cniDir",)
_NAMES_RECORDS = ("checkpointDir", "checkDir")


@frozen
class Naming:
    """A file in which at least one plugin is ours, and the plugins that these wrap."""

    file: str
    wrapped: tuple[str, ...]


@frozen
class Unreadable:
    """A file, or a directory, of which nobody can tell whether it names us, and why."""

    file: str
    why: str


@frozen
class Found:
    """What the configurations say."""

    naming: tuple[Naming, ...]
    unreadable: tuple[Unreadable, ...]
    cache_dirs: tuple[str, ...]  # named by a configuration of Multus
    checkpoint_dirs: tuple[str, ...]  # named by a configuration of ours


def read_configurations(directories: Iterable[str]) -> Found:
    """Everything in these directories, as far as they exist, and in what Multus names there."""
    reading = _Reading()
    for directory in directories:
        reading.directory(directory)
    return Found(
        tuple(reading.naming),
        tuple(reading.unreadable),
        tuple(reading.cache_dirs),
        tuple(reading.checkpoint_dirs),
    )


def plugins_of(document: Any) -> list[dict[str, Any]]:
    """The configurations in a document whose plugin is ours: in a list of plugins, among the
    delegates of Multus or of another plugin that calls plugins, or alone. Pure."""
    return [found for found in _objects(document) if OWN_TYPE in _called_by(found)]


def _called_by(configuration: dict[str, Any]) -> list[Any]:
    return [field_of(configuration, "type"), field_of(configuration, "delegate")]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, at whatever depth."""
    if isinstance(value, dict):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _objects(part)


def _wrapped_by(configuration: dict[str, Any]) -> str:
    delegate = field_of(configuration, "delegate")
    if isinstance(delegate, dict):
        delegate = field_of(delegate, "type")
    named = isinstance(delegate, str) and delegate not in ("", OWN_TYPE)
    return str(delegate) if named else _DEFAULT_WRAPPED


def _paths(document: Any, names: tuple[str, ...]) -> list[str]:
    """The absolute paths that stand under keys of these names, alone or in a list."""
    found = []
    for configuration in _objects(document):
        for name in names:
            value = field_of(configuration, name)
            texts = value if isinstance(value, list) else [value]
            found += [text for text in texts if isinstance(text, str) and text.startswith("/")]
    return found


class _Reading:
    """What was found so far; no file is read twice."""

    def __init__(self) -> None:
        self.naming: list[Naming] = []
        self.unreadable: list[Unreadable] = []
        self.cache_dirs: list[str] = []
        self.checkpoint_dirs: list[str] = []
        self._seen: set[str] = set()

    def directory(self, path: str, *, strict: bool = True) -> None:
        """Read a directory and those below it.

        A file that is no JSON counts where a runtime would read it (`strict`). Elsewhere it may be
        of any program: it counts if it has our name in it.
        """
        if self._is_known(path):
            return
        try:
            names = sorted(os.listdir(path))
        except FileNotFoundError:
            return
        except OSError as error:
            self.unreadable.append(Unreadable(path, error.strerror or str(error)))
            return
        for name in names:
            file = f"{path}/{name}"
            if os.path.isdir(file):
                if not os.path.islink(file):
                    self.directory(file, strict=name == _MULTUS_BELOW)
            elif name.endswith(_EXTENSIONS):
                self.file(file, strict)

    def file(self, path: str, strict: bool) -> None:
        if self._is_known(path):
            return
        raw = b""
        try:
            raw = _read(path)
            # What is no object no runtime takes, and it names nobody.
            is_object = raw.lstrip().startswith(b"{")
            load = load_configuration if is_object else loads
            self._document(path, load(raw, path))
        except CniError as error:
            if strict or OWN_TYPE.encode() in raw:
                self.unreadable.append(Unreadable(path, error.details or error.msg))

    def _document(self, path: str, document: Any) -> None:
        ours = plugins_of(document)
        if ours:
            self.naming.append(Naming(path, tuple(sorted({_wrapped_by(one) for one in ours}))))
            self.checkpoint_dirs += _paths(ours, _NAMES_RECORDS)
        self.cache_dirs += _paths(document, _NAMES_CACHE)
        for directory in _paths(document, _NAMES_DIRECTORY):
            self.directory(directory)
        for network in _paths(document, _NAMES_NETWORKS):
            if os.path.isdir(network):
                self.directory(network)
            elif os.path.exists(network):
                self.file(network, strict=True)

    def _is_known(self, path: str) -> bool:
        real = os.path.realpath(path)
        known = real in self._seen
        self._seen.add(real)
        return known


def _read(path: str) -> bytes:
    """A configuration's bytes: by way of links, too, as a runtime reads it. Raises CniError."""
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CniError(IO, f"cannot read {path}", "it is not a regular file")
            return read_all(fd, MAX_BYTES + 1)
        finally:
            os.close(fd)
    except Untrusted as error:
        raise CniError(IO, f"cannot read {path}", str(error)) from error
    except OSError as error:
        raise CniError(IO, f"cannot read {path}", error.strerror or str(error)) from error
