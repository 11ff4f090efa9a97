"""An entry of cni-repair in a configuration: what ADD would refuse, and what nobody meant."""

from __future__ import annotations

import posixpath
import re

from cni_repair.base.errors import CniError
from cni_repair.base.names import OWN_TYPE
from cni_repair.cli.validation import keys
from cni_repair.cli.validation.findings import Finding, error, near_keys, note, warning
from cni_repair.cli.validation.ipam import check_ipam
from cni_repair.cni import netconf
from cni_repair.network.model import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.cli.validation.machine import Machine
    from cni_repair.cni.netconf import NetConf

# Of six bytes, as Go reads it (net.ParseMAC).
_MAC = re.compile(
    r"[0-9a-f]{2}([:-])([0-9a-f]{2}\1){4}[0-9a-f]{2}|([0-9a-f]{4}\.){2}[0-9a-f]{4}", re.IGNORECASE
)
_OBJECTS = {
    "dns": '{"nameservers": ["10.9.0.53"]}',
    "capabilities": '{"mac": true}',
    "runtimeConfig": "nothing: the runtime does",
    "args": '{"cni": {…}}',
}
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
        *(check_ipam(f"{path}.ipam", conf, machine) if "ipam" not in refused else ()),
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
        if colon and named.partition(".")[0] in document:
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
    yield from near_keys(path, plugin, known, of)
    given = plugin.get("delegate")
    if isinstance(given, dict):
        yield from near_keys(f"{path}.delegate", given, known, kind)
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
    if kind in KINDS:
        given = plugin.get("delegate")
        theirs = given if isinstance(given, dict) else {}
        for key, value in conf.rest.items():
            at = f"{where if key in theirs else path}.{key}"
            yield from _value(at, key, value, kind)


def _value(path: str, key: str, value: object, kind: str) -> Iterator[Finding]:
    """What macvlan and ipvlan refuse of a value. (null is what is not there.)"""
    if key == "mode":
        yield from _mode(path, kind, value)
    elif key == "mtu" and not _is_mtu(value):
        remedy = "write a number from 68 to 65535, without quotes: 1500"
        yield error(path, f"{value!r} is not an MTU", remedy)
    elif key == "mac" and kind == "macvlan" and not _is_mac(value):
        yield error(path, f"{value!r} is not a MAC address", "write it as 02:00:00:12:34:56")
    elif key in _OBJECTS and value is not None and not isinstance(value, dict):
        yield error(path, "is not an object", f"write {_OBJECTS[key]}")
    elif key == "capabilities" and isinstance(value, dict):
        for name, able in value.items():
            if able is not None and type(able) is not bool:
                yield error(f"{path}.{name}", f"{able!r} is not true or false", "write true")


def _is_mtu(value: object) -> bool:
    """0: the master's; else what the kernel takes (ETH_MIN_MTU, ETH_MAX_MTU)."""
    return value is None or (type(value) is int and (value == 0 or 68 <= value <= 65535))


def _is_mac(value: object) -> bool:
    """Of one interface, not of a group (is_valid_ether_addr)."""
    if value is None or value == "":
        return True
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        return False
    return not int(value[1], 16) & 1 and bool(set(value) - set("0:-."))


def _mode(path: str, kind: str, mode: object) -> Iterator[Finding]:
    modes = KINDS[kind]
    if mode is None or mode == "" or mode in modes:
        return
    remedy = keys.meant(mode, modes) if isinstance(mode, str) else ""
    yield error(
        path,
        f"{mode!r} is not a mode of {kind} ({', '.join(modes)})",
        remedy or "write one of them",
    )
