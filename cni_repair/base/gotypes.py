"""The documents that CNI's programs decode into Go's structs: a field takes a key in any case, and
values of its own type.

Where such a document comes in from outside, its keys are respelled, and from there on looked up as
everywhere. Keys of maps (`capabilities`, `args`, a list of plugins as libcni takes it) stay: there
Go tells cases apart, too. Two keys that differ in nothing but case are refused (strictjson).
"""

from __future__ import annotations

from cni_repair.base.strictjson import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # A struct: its fields by the names in their tags. A list: of what it holds.
    Type = str | dict[str, "Type"] | list["Type"]
    Fields = dict[str, Any]

TEXT, NUMBER, ANY = "a text", "an integer", "anything"
FLAGS, OBJECT = "an object of true and false", "an object"  # maps


def _texts(*names: str) -> Fields:
    return dict.fromkeys(names, TEXT)


_DNS = {"nameservers": [TEXT], "domain": TEXT, "search": [TEXT], "options": [TEXT]}
_ROUTE = {
    **_texts("dst", "gw"),
    **dict.fromkeys(("mtu", "advmss", "priority", "table", "scope"), NUMBER),
}
_OF_FAMILY = {**_texts("ip", "gateway"), "routes": [_ROUTE]}  # of a Result before CNI 0.3.0

# containernetworking/cni, pkg/types/{020,040,100}
RESULT: Fields = {
    "cniVersion": TEXT,
    "interfaces": [{**_texts("name", "mac", "sandbox", "socketPath", "pciID"), "mtu": NUMBER}],
    "ips": [{**_texts("version", "address", "gateway"), "interface": NUMBER}],
    "routes": [_ROUTE],
    "dns": _DNS,
    "ip4": _OF_FAMILY,
    "ip6": _OF_FAMILY,
}
ERROR: Fields = {**_texts("cniVersion", "msg", "details"), "code": NUMBER}  # pkg/types, Error
ATTACHMENT: Fields = _texts("containerID", "ifname")  # pkg/types, GCAttachment
# What any plugin reads of its configuration: pkg/types, NetConf.
OF_EVERY_PLUGIN: Fields = {
    **_texts("cniVersion", "name", "type"),
    "capabilities": FLAGS,
    "ipam": _texts("type"),
    "dns": _DNS,
    "prevResult": OBJECT,
}
# And the macvlan and ipvlan plugins, and host-local, as far as anything is looked up here.
CONFIGURATION: Fields = {
    **OF_EVERY_PLUGIN,
    **dict.fromkeys(("args", "runtimeConfig", "master", "mode", "mtu", "mac"), ANY),
    "linkInContainer": ANY,
    "ipam": {**_texts("type", "dataDir")},
}
# libcni's cache (api.go, cachedInfo), and Multus' (pkg/types, DelegateNetConf)
CACHED: Fields = {
    **_texts("kind", "containerId", "config", "ifName", "networkName", "netns"),
    "cniArgs": [[TEXT]],
    "capabilityArgs": OBJECT,
    "result": RESULT,
}
DELEGATE: Fields = dict.fromkeys(("Name", "ifnameRequest", "Bytes"), ANY)

_INT64 = 1 << 63
_FLAG_TYPES = {bool, type(None)}


def respelled(value: Any, kind: Type) -> Any:
    """The value with the keys that structs take as these spell them."""
    if isinstance(kind, list):
        kind = kind[0]
    if isinstance(value, list):
        return [respelled(entry, kind) for entry in value]
    if not isinstance(value, dict) or not isinstance(kind, dict):
        return value
    names = {fold(name): name for name in kind}
    read: Fields = {}
    for key, held in value.items():
        name = str(names.get(fold(key), key))
        read[name] = respelled(held, kind.get(name, ANY))
    return read


def field_of(value: Any, name: str) -> Any:
    """What one field of a struct takes from an object; None where there is nothing for it."""
    if not isinstance(value, dict):
        return None
    folded = fold(name)
    return next((held for key, held in value.items() if fold(key) == folded), None)


def misfit(value: Any, kind: Type) -> str:
    """Where a respelled value is not what Go decodes, and what it decodes there: "ips[0].address:
    expected a text"; empty where all is.

    (null is nothing, whatever the type.)
    """
    if value is None or kind == ANY:
        return ""
    if isinstance(kind, dict):
        return _misfit_in(value, kind) if isinstance(value, dict) else ": expected an object"
    if isinstance(kind, list):
        return _misfit_of(value, kind[0]) if isinstance(value, list) else ": expected a list"
    if kind == FLAGS and isinstance(value, dict):
        wrong = (name for name, able in value.items() if type(able) not in _FLAG_TYPES)
        return next((f".{name}: expected true or false" for name in wrong), "")
    return "" if _IS_ONE[kind](value) else f": expected {kind}"


def _misfit_in(value: Fields, kind: Fields) -> str:
    for key, inside in kind.items():
        why = misfit(value.get(key), inside)
        if why:
            return f".{key}{why}"
    return ""


def _misfit_of(value: list[Any], kind: Type) -> str:
    for place, entry in enumerate(value):
        why = misfit(entry, kind)
        if why:
            return f"[{place}]{why}"
    return ""


def _is_number(value: Any) -> bool:
    return type(value) is int and -_INT64 <= value < _INT64


_IS_ONE: dict[str, Callable[[Any], bool]] = {
    TEXT: lambda value: isinstance(value, str),
    NUMBER: _is_number,
    FLAGS: lambda value: False,  # what is an object has been looked into
    OBJECT: lambda value: isinstance(value, dict),
}
