"""The documents that CNI's programs decode into Go's structs: a field takes a key in any case.

Where such a document comes in from outside, its keys are respelled, and from there on looked up as
everywhere. Keys of maps (`capabilities`, `args`, a list of plugins as libcni takes it) stay: there
Go tells cases apart, too. Two keys that differ in nothing but case are refused (strictjson).
"""

from __future__ import annotations

from cni_repair.base.strictjson import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Fields = dict[str, Any]  # by the names that the struct's tags give: the fields inside, or _ANY

_ANY: Fields = {}  # no struct: its keys stay as they are


def _fields(*names: str, **inside: Fields) -> Fields:
    return {**dict.fromkeys(names, _ANY), **inside}


_DNS = _fields("nameservers", "domain", "search", "options")
_ROUTE = _fields("dst", "gw", "mtu", "advmss", "priority", "table", "scope")
_OF_FAMILY = _fields("ip", "gateway", routes=_ROUTE)  # of a Result before CNI 0.3.0

# containernetworking/cni, pkg/types/{020,040,100}
RESULT = _fields(
    "cniVersion",
    interfaces=_fields("name", "mac", "mtu", "sandbox", "socketPath", "pciID"),
    ips=_fields("version", "interface", "address", "gateway"),
    routes=_ROUTE,
    dns=_DNS,
    ip4=_OF_FAMILY,
    ip6=_OF_FAMILY,
)
ERROR = _fields("cniVersion", "code", "msg", "details")  # pkg/types, Error
ATTACHMENT = _fields("containerID", "ifname")  # pkg/types, GCAttachment
# A plugin's: pkg/types, NetConf; and what the macvlan and ipvlan plugins, and host-local, add.
CONFIGURATION = _fields(
    "cniVersion", "name", "type", "capabilities", "args", "runtimeConfig",
    "master", "mode", "mtu", "mac", "linkInContainer",
    ipam=_fields("type", "dataDir"), dns=_DNS, prevResult=RESULT,
)  # fmt: skip
# libcni's cache (api.go, cachedInfo), and Multus' (pkg/types, DelegateNetConf)
CACHED = _fields(
    "kind", "containerId", "config", "ifName", "networkName", "netns", "cniArgs", "capabilityArgs",
    result=RESULT,
)  # fmt: skip
DELEGATE = _fields("Name", "ifnameRequest", "Bytes")


def respelled(value: Any, fields: Fields) -> Any:
    """The value, a struct or a list of them, with the keys that its fields take as these spell
    them."""
    if isinstance(value, list):
        return [respelled(entry, fields) for entry in value]
    if not isinstance(value, dict) or not fields:
        return value
    names = {fold(name): name for name in fields}
    read: Fields = {}
    for key, held in value.items():
        name = str(names.get(fold(key), key))
        read[name] = respelled(held, fields.get(name, _ANY))
    return read


def field_of(value: Any, name: str) -> Any:
    """What one field of a struct takes from an object; None where there is nothing for it."""
    if not isinstance(value, dict):
        return None
    folded = fold(name)
    return next((held for key, held in value.items() if fold(key) == folded), None)
