"""An entry of cni-repair in a configuration: what ADD would refuse, and what nobody meant."""

from __future__ import annotations

import posixpath

from cni_repair.base.errors import CniError
from cni_repair.base.names import OWN_TYPE
from cni_repair.cli.validation import keys
from cni_repair.cli.validation.findings import Finding, error, note, warning
from cni_repair.cni import netconf
from cni_repair.network.model import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.cli.validation.machine import Machine
    from cni_repair.cni.netconf import NetConf

_NAMED = {"cniVersion": "1.0.0", "name": "any"}


def check_plugin(path: str, plugin: dict[str, Any], machine: Machine) -> list[Finding]:
    """All that is to be said of an entry; `path` leads to it."""
    refused = _refusals(plugin)
    said = [finding.at(path) for finding in refused.values()]
    if "name" not in plugin:
        said.append(error(f"{path}.name", "there is none", "give the network a name"))
    # The others are looked at as if those were not there.
    plugin = {key: value for key, value in plugin.items() if key not in refused}
    sound = {**_NAMED, **plugin}
    together = _refusal(sound, "")
    if together:
        return [*said, together.at(path), *_unknown_keys(path, plugin, _kind_of(plugin))]
    conf = netconf.check(sound)
    return [
        *said,
        *_unknown_keys(path, plugin, conf.delegate),
        *_version(path, plugin, refused),
        *_masters(path, plugin, conf, machine),
        *_directories(path, conf),
        *_delegate(path, plugin, conf, machine),
        *_ipam(f"{path}.ipam", conf, machine),
    ]


# --- what ADD refuses ----------------------------------------------------------------------------


def _refusals(plugin: dict[str, Any]) -> dict[str, Finding]:
    """What netconf refuses of each key. It stops at the first, so it sees one at a time."""
    found = {key: _refusal({**_NAMED, key: value}, key) for key, value in plugin.items()}
    return {key: finding for key, finding in found.items() if finding is not None}


def _refusal(document: dict[str, Any], key: str) -> Finding | None:
    """What is wrong with a document that has this key, but for those that it must have; or, of
    none, with all of it."""
    if key == "fallbackMaster" and document[key] is True:
        return None  # it is about other keys
    try:
        netconf.check(document)
    except CniError as refused:
        said = refused.details or refused.msg
        named, colon, rest = said.partition(": ")
        if colon and named in document:
            return error(f".{named}", rest)
        return error(f".{key}" if key else "", said)
    return None


# --- what nobody meant ---------------------------------------------------------------------------


def _kind_of(plugin: dict[str, Any]) -> str:
    given = plugin.get("delegate")
    kind = given.get("type") if isinstance(given, dict) else given
    return kind if isinstance(kind, str) else netconf.DEFAULT_DELEGATE


def _unknown_keys(path: str, plugin: dict[str, Any], kind: str) -> Iterator[Finding]:
    known = keys.of_plugin(kind)
    of = f"{OWN_TYPE} or {kind}"
    yield from _near_keys(path, plugin, known, of)
    given = plugin.get("delegate")
    if isinstance(given, dict):
        yield from _near_keys(f"{path}.delegate", given, known, kind)
    misplaced = [key for key in _unknown(plugin, known) if key in _KEYS_OF_IPAM]
    for key in misplaced:
        said = f"not a key of {of}: nobody reads it"
        yield warning(f"{path}.{key}", said, f"move it into ipam: ipam.{key}")
    others = set(_unknown(plugin, known)) - set(misplaced)
    if others:
        yield note(path, f"passed on to {kind} unchecked: {', '.join(sorted(others))}")


def _unknown(document: dict[str, Any], known: tuple[str, ...]) -> list[str]:
    """The keys that are neither known nor near to one."""
    return [
        key
        for key in document
        if key not in known and not keys.is_comment(key) and not keys.near(key, known)
    ]


def _near_keys(
    path: str, document: dict[str, Any], known: tuple[str, ...], of: str
) -> Iterator[Finding]:
    for key in document:
        meant = "" if key in known or keys.is_comment(key) else keys.near(key, known)
        if meant:
            said = f"not a key of {of}: nobody reads it"
            yield warning(f"{path}.{key}", said, f"did you mean {meant!r}?")


_KEYS_OF_IPAM = {key for known in keys.OF_IPAM.values() for key in known} - {"type", "dns"}


def _version(path: str, plugin: dict[str, Any], refused: dict[str, Finding]) -> Iterator[Finding]:
    if not plugin.get("cniVersion") and "cniVersion" not in refused:
        yield note(
            f"{path}.cniVersion",
            "there is none: read as 0.1.0, which has no CHECK, and one address of a family at most",
            "write 1.0.0, if the runtime can",
        )


def _masters(
    path: str, plugin: dict[str, Any], conf: NetConf, machine: Machine
) -> Iterator[Finding]:
    path = f"{path}.master"
    if not conf.masters:
        if "master" in plugin and plugin["master"] is not None:
            yield warning(
                path, "names no link: the default route's is used", "name it, or remove the key"
            )
        return
    for master in conf.masters:
        if conf.vlan_id is not None and master.endswith(f".{conf.vlan_id}"):
            yield warning(
                path,
                f"pods would get VLAN {conf.vlan_id} within it: {conf.master_over(master)}",
                f"write {master.rpartition('.')[0]!r}, the link below the VLAN",
            )
    if len(set(conf.masters)) < len(conf.masters):
        yield warning(path, "names a link twice", "name each once")
    if not any(map(machine.has_link, conf.masters)):
        names = " or ".join(conf.masters)
        yield note(path, f"no link {names} on this machine", "on the node there must be one")


def _directories(path: str, conf: NetConf) -> Iterator[Finding]:
    if posixpath.normpath(conf.run_dir) == posixpath.normpath(conf.checkpoint_dir):
        yield warning(
            f"{path}.runDir",
            f"is checkpointDir, {conf.run_dir}, too: locks would lie among the records",
            "remove the key: the default is /run/cni-repair",
        )


def _delegate(
    path: str, plugin: dict[str, Any], conf: NetConf, machine: Machine
) -> Iterator[Finding]:
    kind = conf.delegate
    where = f"{path}.delegate"
    if kind in keys.NOT_RESTORABLE:
        yield error(
            where,
            f"{kind} makes no macvlan or ipvlan interface, and nothing else can be brought back",
            "name macvlan or ipvlan, or use the plugin without cni-repair",
        )
    elif kind not in keys.DELEGATES and keys.near(kind, keys.DELEGATES):
        near = keys.near(kind, keys.DELEGATES)
        only = " Only macvlan and ipvlan interfaces can be brought back"
        remedy = f"did you mean {near!r}?{only if near in keys.NOT_RESTORABLE else ''}"
        yield warning(where, f"{kind!r} is not a plugin that is known here", remedy)
    if not machine.has_plugin(kind):
        yield note(where, f"no plugin {kind} on this machine", "on the node there must be one")
    given = plugin.get("delegate")
    beside = f"{where}.%s" if isinstance(given, dict) else f"{path}.%s"
    mode_at, mtu_at = (
        (beside if isinstance(given, dict) and key in given else f"{path}.%s") % key
        for key in ("mode", "mtu")
    )
    yield from _mode(mode_at, kind, conf.rest.get("mode"))
    mtu = conf.rest.get("mtu")
    if kind in KINDS and mtu is not None and (type(mtu) is not int or mtu < 0):
        yield error(mtu_at, f"{mtu!r} is not an MTU", "write a number without quotes: 1500")


def _mode(path: str, kind: str, mode: object) -> Iterator[Finding]:
    modes = KINDS.get(kind)
    if modes is None or mode is None or mode == "" or mode in modes:
        return
    remedy = keys.meant(mode, modes) if isinstance(mode, str) else ""
    yield error(
        path,
        f"{mode!r} is not a mode of {kind} ({', '.join(modes)})",
        remedy or "write one of them",
    )


# --- addresses -----------------------------------------------------------------------------------


def _ipam(path: str, conf: NetConf, machine: Machine) -> Iterator[Finding]:
    ipam = conf.rest.get("ipam")
    if ipam is not None and not isinstance(ipam, dict):
        yield error(path, "is not an object", 'write {"type": "host-local", …}')
        return
    kind = conf.ipam_type
    if not ipam:
        yield warning(path, "there is none: pods get no address", "name an IPAM plugin")
    elif not kind:
        remedy = 'add "type": "host-local"' if set(ipam) & set(keys.OF_RANGES) else "add a type"
        yield warning(path, "has no type, and is not read: pods get no address", remedy)
    else:
        yield from _ipam_type(path, kind, machine)
        yield from _near_keys(path, ipam, keys.OF_IPAM.get(kind, tuple(ipam)), kind)
        if kind in keys.OF_IPAM:
            yield from _lists_of_ipam(path, ipam, kind)


def _ipam_type(path: str, kind: str, machine: Machine) -> Iterator[Finding]:
    if kind not in keys.IPAMS and keys.near(kind, keys.IPAMS):
        remedy = keys.meant(kind, keys.IPAMS)
        yield warning(f"{path}.type", f"{kind!r} is not an IPAM plugin that is known here", remedy)
    if not machine.has_plugin(kind):
        yield note(
            f"{path}.type", f"no plugin {kind} on this machine", "on the node there must be one"
        )


def _lists_of_ipam(path: str, ipam: dict[str, Any], kind: str) -> Iterator[Finding]:
    if kind == "host-local" and not ipam.get("ranges") and not ipam.get("subnet"):
        yield warning(
            path, "has neither ranges nor a subnet: no address to give", "add one of them"
        )
    for index, entry in enumerate(_list(ipam, "ranges")):
        place = f"{path}.ranges[{index}]"
        if isinstance(entry, dict):
            yield error(place, "is not a list of ranges", "write [[{…}]]: one list for each family")
        for number, inner in enumerate(entry if isinstance(entry, list) else ()):
            yield from _entry(f"{place}[{number}]", inner, keys.OF_RANGES, "a range")
    for index, entry in enumerate(_list(ipam, "routes")):
        yield from _entry(f"{path}.routes[{index}]", entry, keys.OF_ROUTES, "a route")
    for index, entry in enumerate(_list(ipam, "addresses")):
        yield from _entry(f"{path}.addresses[{index}]", entry, keys.OF_ADDRESSES, "an address")


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    return value if isinstance(value, list) else []


def _entry(path: str, entry: Any, known: tuple[str, ...], of: str) -> Iterator[Finding]:
    if isinstance(entry, dict):
        yield from _near_keys(path, entry, known, of)
