"""What others remember of attachments: libcni's result cache, Multus' scratch files, the seed's
checkpoints. Read only; one bad file never stops the others.

<cache directory>/results/<network>-<container id>-<ifname>
    libcni (api.go, cachedInfo), for containerd, CRI-O, podman, the dockershims and Multus:
        {"kind": "cniCacheV1", "containerId", "config": <base64>, "ifName", "networkName",
         "netns"?, "cniArgs"?: [[key, value], …], "capabilityArgs"?, "result"?}
    without netns where libcni is older (containerd 1.6's 1.1), the bare Result before 0.8.
<cache directory>/<container id>
    Multus (saveDelegates): what it delegated to, in the order of calling, as
        [{"Name", "ifnameRequest"?, "Bytes": <base64 configuration>, …}, …]
"""

from __future__ import annotations

import base64
import os
import re
import stat

from cni_repair.base import kinds
from cni_repair.base.errors import DECODE, IO, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.kinds import Misfit
from cni_repair.base.names import valid_id
from cni_repair.base.strictjson import load_object, loads
from cni_repair.checkpoint import legacy as seed
from cni_repair.checkpoint.store import MAX_BYTES, Key, Store, is_legacy
from cni_repair.network.model import HostLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cni_repair.base.kinds import Reader

    Parse = Callable[["File"], list["Remembered"]]

# libcni's own default (containerd, CRI-O, podman), the dockershims' --cni-cache-dir, and Multus'
# cniDir, which is its delegates' cache as well.
CACHE_DIRS = ("/var/lib/cni", "/var/lib/cni/cache", "/var/lib/cni/multus")

# Kubelet's runtimes call the first interface so; Multus does not write down what it was called.
_FIRST_IFNAME = "eth0"
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
# Names and ids may hold hyphens; the ids that runtimes make are of one length.
_BARE_NAME = re.compile(r"(?P<network>.+)-(?P<id>[0-9a-f]{64})-(?P<ifname>.+)")
_ANY_MASTER = (HostLink("any", 0, "", "", 0),)


@frozen
class Remembered:
    """One attachment as others remember it; what they do not say is empty."""

    file: str
    key: Key
    written_at: int  # Unix time in milliseconds
    network: str
    netns: str
    plugins: tuple[dict[str, Any], ...]  # their configurations, as the runtime handed them over
    args: dict[str, str]  # CNI_ARGS
    result: dict[str, Any]


@frozen
class Unreadable:
    """A file, or a directory, that says nothing to us."""

    file: str
    error: CniError


@frozen
class File:
    """A file as it was read."""

    path: str
    raw: bytes
    written_at: int

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def read_caches(directories: Iterable[str]) -> tuple[list[Remembered], list[Unreadable]]:
    """All that these cache directories remember; those that do not exist remember nothing."""
    reading = _Reading()
    for directory in directories:
        reading.directory(f"{directory}/results", _is_entry, _entry)
        reading.directory(directory, _is_scratch, _scratch)
    return reading.found, reading.bad


def read_legacy(store: Store) -> tuple[list[Remembered], list[Unreadable]]:
    """The seed's checkpoints in a checkpoint directory."""
    reading = _Reading()
    reading.directory(store.directory, is_legacy, _seed)
    return reading.found, reading.bad


def _is_entry(name: str) -> bool:
    """Not a pod's loopback: go-cni keeps an entry of it, too."""
    return not name.endswith("-lo")


def _is_scratch(name: str) -> bool:
    return _CONTAINER_ID.fullmatch(name) is not None


class _Reading:
    """What was found so far, and what was of no use."""

    def __init__(self) -> None:
        self.found: list[Remembered] = []
        self.bad: list[Unreadable] = []

    def directory(self, path: str, wanted: Callable[[str], bool], parse: Parse) -> None:
        """Read the files with names that are wanted; only then others may not write there."""
        try:
            opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            self._is_bad(path, IO, f"cannot read {path}", error.strerror or str(error))
            return
        try:
            names = sorted(filter(wanted, os.listdir(opened)))
            why = _why_distrusted(os.fstat(opened))
            if names and why:
                self._is_bad(path, IO, f"directory {path} is not trusted", why)
                return
            for name in names:
                self._file(opened, f"{path}/{name}", name, parse)
        finally:
            os.close(opened)

    def _file(self, directory: int, path: str, name: str, parse: Parse) -> None:
        remedy = "if its pod is gone, remove the file"
        try:
            self.found += parse(_read(directory, path, name))
        except FileNotFoundError:
            pass  # its DEL was quicker
        except Misfit as error:
            self._is_bad(path, DECODE, f"{path} is not used", f"{error}; {remedy}")
        except CniError as error:
            self._is_bad(path, error.code, error.msg, f"{error.details}; {remedy}")

    def _is_bad(self, path: str, code: int, msg: str, details: str) -> None:
        self.bad.append(Unreadable(path, CniError(code, msg, details)))


def _why_distrusted(status: os.stat_result) -> str:
    if status.st_uid != os.geteuid():
        return f"it belongs to uid {status.st_uid}, not {os.geteuid()}"
    if status.st_mode & 0o022:
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})"
    return ""


def _read(directory: int, path: str, name: str) -> File:
    try:
        # O_NONBLOCK: a FIFO must not hang us.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CniError(IO, f"cannot open {path}", error.strerror or str(error)) from error
    try:
        status = os.fstat(fd)
        why = _why_distrusted(status)
        if not stat.S_ISREG(status.st_mode):
            why = "it is no regular file"
        elif status.st_size > MAX_BYTES:
            why = f"{status.st_size} bytes; at most {MAX_BYTES} are read"
        if why:
            raise CniError(IO, f"{path} is not used", why)
        with os.fdopen(os.dup(fd), "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CniError(IO, f"cannot read {path}", error.strerror or str(error)) from error
    finally:
        os.close(fd)
    return File(path, raw, status.st_mtime_ns // 1_000_000)


# --- libcni ---------------------------------------------------------------------------------------


def _entry(file: File) -> list[Remembered]:
    document = load_object(file.raw, file.path)
    # As libcni tells them apart.
    return [_v1(file, document) if document.get("kind") == "cniCacheV1" else _bare(file, document)]


def _v1(file: File, document: dict[str, Any]) -> Remembered:
    key = Key(
        _get(document, "containerId", kinds.identifier), _get(document, "ifName", kinds.ifname)
    )
    network = _get(document, "networkName", kinds.identifier)
    if file.name != f"{network}-{key.container_id}-{key.ifname}":
        raise Misfit(f"it is the entry of {network}-{key.container_id}-{key.ifname}")
    netns = _get(document, "netns", kinds.text, "")
    result = _get(document, "result", lambda value: _modern(value, key.ifname, netns), {})
    return Remembered(
        file=file.path,
        key=key,
        written_at=file.written_at,
        network=network,
        netns=netns or _sandbox_in(result, key.ifname),
        plugins=_get(document, "config", _plugins, ""),
        args=_get(document, "cniArgs", _args, []),
        result=result,
    )


def _bare(file: File, document: dict[str, Any]) -> Remembered:
    """A Result alone: whose it is says the file's name."""
    if not {"interfaces", "ips", "ip4", "ip6"} & document.keys():
        raise Misfit("it is neither a cache entry of libcni nor a Result")
    named = _BARE_NAME.fullmatch(file.name)
    if named is None or not valid_id(named["network"]):
        raise Misfit("its name does not tell the network, the container id and the ifname")
    ifname = kinds.ifname(named["ifname"])
    result = _modern(document, ifname, "")
    return Remembered(
        file=file.path,
        key=Key(named["id"], ifname),
        written_at=file.written_at,
        network=named["network"],
        netns=_sandbox_in(result, ifname),
        plugins=(),
        args={},
        result=result,
    )


def _sandbox_in(result: dict[str, Any], ifname: str) -> str:
    """The netns that a Result says an interface is in (older libcni writes none beside it)."""
    for interface in _get(result, "interfaces", kinds.list_of(kinds.any_object), []):
        sandbox: str = _get(interface, "sandbox", kinds.text, "")
        if interface.get("name") == ifname and sandbox:
            return sandbox
    return ""


def _get(document: dict[str, Any], key: str, read: Reader, default: Any = None) -> Any:
    """A value; the default stands for one that is absent, or null (Go's way to say empty)."""
    value = document.get(key)
    try:
        return read(default if value is None else value)
    except Misfit as error:
        raise Misfit(f"$.{key}{str(error).removeprefix('$')}") from error
    except CniError as error:
        raise Misfit(f"$.{key}: {error}") from error


def _plugins(value: Any) -> tuple[dict[str, Any], ...]:
    """The plugins of a base64-encoded configuration; a list gives them its name and version."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise Misfit(": expected base64") from error
    if not raw:
        return ()
    document = load_object(raw, "the configuration")
    if "plugins" not in document:
        return (document,)
    shared = {key: document[key] for key in ("cniVersion", "name") if key in document}
    plugins: tuple[dict[str, Any], ...] = _get(
        document, "plugins", kinds.list_of(kinds.any_object), ()
    )
    return tuple({**plugin, **shared} for plugin in plugins)


def _args(value: Any) -> dict[str, str]:
    pairs = kinds.list_of(kinds.list_of(kinds.text))(value)
    if any(len(pair) != 2 for pair in pairs):
        raise Misfit(": expected pairs of key and value")
    return dict(pairs)


def _modern(value: Any, ifname: str, netns: str) -> dict[str, Any]:
    """A Result of CNI 0.2.0 or before in the form that all later versions share."""
    result: dict[str, Any] = kinds.any_object(value)
    if not {"ip4", "ip6"} & result.keys():
        return result
    ips, routes = [], []
    for key, version in (("ip4", "4"), ("ip6", "6")):
        one = _get(result, key, kinds.any_object, {})
        if one:
            gateway = {"gateway": one["gateway"]} if one.get("gateway") else {}
            ips.append({"version": version, "interface": 0, "address": one.get("ip"), **gateway})
            routes += _get(one, "routes", kinds.list_of(kinds.any_object), [])
    return {
        "cniVersion": "0.3.1",
        "interfaces": [{"name": ifname, "sandbox": netns}],
        "ips": ips,
        "routes": routes,
        "dns": _get(result, "dns", kinds.any_object, {}),
    }


# --- Multus ---------------------------------------------------------------------------------------


def _scratch(file: File) -> list[Remembered]:
    delegates = kinds.list_of(kinds.any_object)(loads(file.raw, file.path))
    return [_delegate(file, index, one) for index, one in enumerate(delegates)]


def _delegate(file: File, index: int, document: dict[str, Any]) -> Remembered:
    # getIfname(): as requested, else the caller's for the first, else by its place.
    place = f"net{index}" if index else _FIRST_IFNAME
    ifname = _get(document, "ifnameRequest", kinds.ifname, place)
    plugins = _get(document, "Bytes", _plugins, "")
    names = [plugin.get("name") for plugin in plugins]
    return Remembered(
        file=file.path,
        key=Key(file.name, ifname),
        written_at=file.written_at,
        network=next((name for name in names if isinstance(name, str) and valid_id(name)), ""),
        netns="",
        plugins=plugins,
        args={},
        result={},
    )


# --- the seed -------------------------------------------------------------------------------------


def _seed(file: File) -> list[Remembered]:
    checkpoint = seed.decode(file.raw, file.name, _ANY_MASTER)
    return [
        Remembered(
            file=file.path,
            key=checkpoint.key,
            written_at=file.written_at,
            network="",
            netns=checkpoint.netns_path,
            plugins=(),
            args={"K8S_POD_NAME": checkpoint.pod.name} if checkpoint.pod.name else {},
            result=checkpoint.result,
        )
    ]
