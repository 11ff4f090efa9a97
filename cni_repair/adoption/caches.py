"""What others remember of attachments: libcni's result cache, Multus' scratch files, the records of
the predecessor plugin. They are only read; one bad file never stops the others.

<cache directory>/results/<network>-<container id>-<ifname>
    libcni (api.go, cachedInfo), for containerd, CRI-O, podman, the dockershims and Multus:
        {"kind": "cniCacheV1", "containerId", "config": <base64>, "ifName", "networkName",
         "netns"?, "cniArgs"?: [[key, value], …], "capabilityArgs"?, "result"?}
    Older versions (1.1, in containerd 1.6) write no netns, those before 0.8 only the Result.
<cache directory>/<container id>
    Multus (saveDelegates): its delegates, in the order in which it calls them:
        [{"Name", "ifnameRequest"?, "Bytes": <base64 configuration>, …}, …]
"""

from __future__ import annotations

import base64
import os
import re

from cni_repair.base import gotypes
from cni_repair.base import kinds as readers
from cni_repair.base.errors import DECODE, IO, CniError
from cni_repair.base.files import Untrusted, open_private, read_trusted
from cni_repair.base.frozen import frozen
from cni_repair.base.gotypes import respelled
from cni_repair.base.kinds import Misfit
from cni_repair.base.names import valid_id
from cni_repair.base.strictjson import load_configuration, load_object, loads
from cni_repair.checkpoint import legacy
from cni_repair.checkpoint.identity import process_of
from cni_repair.checkpoint.store import MAX_BYTES, Key, Store, is_legacy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cni_repair.base.kinds import Reader

    Parse = Callable[["File"], list["Remembered"]]

# libcni's default (containerd, CRI-O, podman), the dockershims' --cni-cache-dir, and Multus'
# cniDir, which is its delegates' cache, too.
CACHE_DIRS = ("/var/lib/cni", "/var/lib/cni/cache", "/var/lib/cni/multus")

# Runtimes give this name to a pod's first interface; Multus does not write it down.
_FIRST_IFNAME = "eth0"
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
# Names and ids may contain hyphens, but the ids that runtimes make all have this length.
_BARE_NAME = re.compile(r"(?P<network>.+)-(?P<id>[0-9a-f]{64})-(?P<ifname>.+)")


@frozen
class Remembered:
    """One attachment as one source remembers it; what that does not tell is empty."""

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
    """A file, or a directory, that is not used, and why."""

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
    """Everything in these cache directories, if they exist."""
    reading = _Reading()
    for directory in directories:
        reading.directory(f"{directory}/results", _is_entry, _entry)
        reading.directory(directory, _is_scratch, _scratch)
    return reading.found, reading.bad


def read_legacy(store: Store) -> tuple[list[Remembered], list[Unreadable]]:
    """The predecessor's records in a checkpoint directory."""
    reading = _Reading()
    reading.directory(store.directory, is_legacy, _legacy)
    return reading.found, reading.bad


def _is_entry(name: str) -> bool:
    """Leave out pods' loopback interfaces, for which go-cni keeps entries, too."""
    return not name.endswith("-lo")


def _is_scratch(name: str) -> bool:
    return _CONTAINER_ID.fullmatch(name) is not None


class _Reading:
    """What was found so far, and what is not used."""

    def __init__(self) -> None:
        self.found: list[Remembered] = []
        self.bad: list[Unreadable] = []

    def directory(self, path: str, wanted: Callable[[str], bool], parse: Parse) -> None:
        """Read the files whose names are wanted, but only in a directory that can be trusted."""
        try:
            opened = open_private(path, last_may_be_link=True)
        except FileNotFoundError:
            return
        except OSError as error:
            self._is_bad(path, IO, f"cannot read {path}", error.strerror or str(error))
            return
        except Untrusted as error:
            if _has(path, wanted):
                self._is_bad(path, IO, f"directory {path} is not trusted", str(error))
            return
        try:
            for name in sorted(filter(wanted, os.listdir(opened))):
                self._file(opened, f"{path}/{name}", name, parse)
        finally:
            os.close(opened)

    def _file(self, directory: int, path: str, name: str, parse: Parse) -> None:
        remedy = _remedy(name)
        try:
            self.found += parse(_read(directory, path, name))
        except FileNotFoundError:
            pass  # its DEL came first
        except Misfit as error:
            self._is_bad(path, DECODE, f"{path} is not used", f"{error}; {remedy}")
        except CniError as error:
            self._is_bad(path, error.code, error.msg, f"{error.details}; {remedy}")

    def _is_bad(self, path: str, code: int, msg: str, details: str) -> None:
        self.bad.append(Unreadable(path, CniError(code, msg, details)))


def _has(directory: str, wanted: Callable[[str], bool]) -> bool:
    try:
        return any(map(wanted, os.listdir(directory)))
    except OSError:
        return True  # which had better be told


def _remedy(name: str) -> str:
    """What to do about an entry that is not used: that its pod lives, or does not, is not said by
    the file, but by whether the container that its name tells has processes."""
    named = _CONTAINER_ID.search(name)
    pid = process_of(named[0]) if named else None
    if pid is not None:
        return f"its pod lives (PID {pid}): have it made anew"
    if named is None:
        return "whether its pod lives cannot be told: ask the runtime"
    return (
        f"no process is in a cgroup of its container {named[0][:12]}; if the runtime does not know"
        " it, either, the file is a leftover"
    )


def _read(directory: int, path: str, name: str) -> File:
    try:
        raw, status = read_trusted(name, MAX_BYTES, directory)
    except Untrusted as error:
        raise CniError(IO, f"{path} is not used", str(error)) from error
    return File(path, raw, status.st_mtime_ns // 1_000_000)


# --- libcni ---------------------------------------------------------------------------------------


def _entry(file: File) -> list[Remembered]:
    document = load_object(file.raw, file.path)
    cached = respelled(document, gotypes.CACHED)
    # This is how libcni tells them apart.
    if cached.get("kind") == "cniCacheV1":
        return [_v1(file, cached)]
    return [_bare(file, respelled(document, gotypes.RESULT))]


def _v1(file: File, document: dict[str, Any]) -> Remembered:
    key = Key(
        _get(document, "containerId", readers.identifier), _get(document, "ifName", readers.ifname)
    )
    network = _get(document, "networkName", readers.identifier)
    if file.name != f"{network}-{key.container_id}-{key.ifname}":
        raise Misfit(f"it is the entry of {network}-{key.container_id}-{key.ifname}")
    netns = _get(document, "netns", readers.text, "")
    result = _get(document, "result", lambda value: _modern(value, key.ifname, netns), {})
    plugins = _get(document, "config", _plugins, "")
    return Remembered(
        file=file.path,
        key=key,
        written_at=file.written_at,
        network=network,
        netns=netns or _sandbox_in(result, key.ifname),
        plugins=plugins,
        args={**_get(document, "cniArgs", _args, []), **_mac_asked_for(document, plugins)},
        result=result,
    )


def _mac_asked_for(document: dict[str, Any], plugins: tuple[dict[str, Any], ...]) -> dict[str, str]:
    """The MAC that the runtime asked for as a capability, which wins over that of CNI_ARGS. Only
    plugins that say they have it are told (libcni, injectRuntimeConfig)."""
    mac = _get(document, "capabilityArgs", readers.any_object, {}).get("mac")
    able = [plugin.get("capabilities") for plugin in plugins]
    is_told = any(isinstance(one, dict) and one.get("mac") is True for one in able)
    return {"MAC": mac} if is_told and isinstance(mac, str) and mac else {}


def _bare(file: File, document: dict[str, Any]) -> Remembered:
    """Only a Result: the file's name tells whose it is."""
    if not {"interfaces", "ips", "ip4", "ip6"} & document.keys():
        raise Misfit("it is neither a cache entry of libcni nor a Result")
    named = _BARE_NAME.fullmatch(file.name)
    if named is None or not valid_id(named["network"]):
        raise Misfit("its name does not tell the network, the container id and the ifname")
    ifname = readers.ifname(named["ifname"])
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
    """The netns that a Result names for an interface: older libcni writes it nowhere else."""
    for interface in _get(result, "interfaces", readers.list_of(readers.any_object), []):
        sandbox: str = _get(interface, "sandbox", readers.text, "")
        if interface.get("name") == ifname and sandbox:
            return sandbox
    return ""


def _get(document: dict[str, Any], key: str, read: Reader, default: Any = None) -> Any:
    """A value of an object, or the default where it is absent, or null (which is Go's empty)."""
    value = document.get(key)
    try:
        return read(default if value is None else value)
    except Misfit as error:
        raise Misfit(f"$.{key}{str(error).removeprefix('$')}") from error
    except CniError as error:
        raise Misfit(f"$.{key}: {error}") from error


def _plugins(value: Any) -> tuple[dict[str, Any], ...]:
    """The plugins of a base64-encoded configuration, with the list's name and version."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        raise Misfit(": expected base64") from error
    if not raw:
        return ()
    document = load_configuration(raw, "the configuration")
    if "plugins" not in document:
        return (respelled(document, gotypes.CONFIGURATION),)
    shared = {key: document[key] for key in ("cniVersion", "name") if key in document}
    plugins: tuple[dict[str, Any], ...] = _get(
        document, "plugins", readers.list_of(readers.any_object), ()
    )
    return tuple({**respelled(plugin, gotypes.CONFIGURATION), **shared} for plugin in plugins)


def _args(value: Any) -> dict[str, str]:
    pairs = readers.list_of(readers.list_of(readers.text))(value)
    if any(len(pair) != 2 for pair in pairs):
        raise Misfit(": expected pairs of key and value")
    return dict(pairs)


def _modern(value: Any, ifname: str, netns: str) -> dict[str, Any]:
    """A Result, of CNI 0.2.0 or before in the form that all later versions share."""
    result: dict[str, Any] = readers.any_object(value)
    if not {"ip4", "ip6"} & result.keys():
        return result
    ips, routes = [], []
    for key, version in (("ip4", "4"), ("ip6", "6")):
        family = _get(result, key, readers.any_object, {})
        if family:
            gateway = {"gateway": family["gateway"]} if family.get("gateway") else {}
            ips.append({"version": version, "interface": 0, "address": family.get("ip"), **gateway})
            routes += _get(family, "routes", readers.list_of(readers.any_object), [])
    return {
        "cniVersion": "0.3.1",
        "interfaces": [{"name": ifname, "sandbox": netns}],
        "ips": ips,
        "routes": routes,
        "dns": _get(result, "dns", readers.any_object, {}),
    }


# --- Multus ---------------------------------------------------------------------------------------


def _scratch(file: File) -> list[Remembered]:
    document = respelled(loads(file.raw, file.path), gotypes.DELEGATE)
    delegates = readers.list_of(readers.any_object)(document)
    return [_delegate(file, index, delegate) for index, delegate in enumerate(delegates)]


def _delegate(file: File, index: int, document: dict[str, Any]) -> Remembered:
    # As Multus' getIfname(): the requested name; else the runtime's for the first, net1, net2, …
    place = f"net{index}" if index else _FIRST_IFNAME
    ifname = _get(document, "ifnameRequest", readers.ifname, place)
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


# --- the predecessor plugin -----------------------------------------------------------------------


def _legacy(file: File) -> list[Remembered]:
    checkpoint = legacy.decode(file.raw, file.name, legacy.ANY_MASTER)
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
