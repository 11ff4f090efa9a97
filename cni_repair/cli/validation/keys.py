"""The keys that network configurations have, and what somebody meant who wrote another one.

A key of the wrapped plugin's that is not known here is no fault: newer plugins have more. So only
what is near to a known key is told.
"""

from __future__ import annotations

import difflib

from cni_repair.base.names import OWN_TYPE
from cni_repair.cni.netconf import KEYS, SYNONYMS

# SPEC, "Plugin configuration objects", and "Network configuration format".
_OF_EVERY_PLUGIN = (
    "cniVersion", "name", "type", "ipam", "dns", "args", "capabilities", "runtimeConfig",
    "prevResult", "ipMasq",
)  # fmt: skip
OF_LISTS = (
    "cniVersion", "cniVersions", "name", "plugins", "disableCheck", "disableGC",
    "loadOnlyInlinedPlugins", "args",  # the last is podman's: labels and options
)  # fmt: skip
OURS = (*KEYS, *SYNONYMS)
OF_DELEGATES = {
    "macvlan": ("master", "mode", "mtu", "mac", "linkInContainer", "bcqueuelen"),
    "ipvlan": ("master", "mode", "mtu", "linkInContainer"),
}
OF_IPAM = {
    "host-local": (
        "type", "subnet", "rangeStart", "rangeEnd", "gateway", "ranges", "routes", "dataDir",
        "resolvConf",
    ),
    "static": ("type", "addresses", "routes", "dns"),
    "dhcp": ("type", "daemonSocketPath", "request", "provide", "priority"),
}  # fmt: skip
OF_RANGES = ("subnet", "rangeStart", "rangeEnd", "gateway")
OF_ROUTES = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")
OF_ADDRESSES = ("address", "gateway")
# Plugins that make other interfaces than macvlan and ipvlan, or none: REPAIR could not help.
NOT_RESTORABLE = (
    "bridge", "ptp", "host-device", "vlan", "dummy", "loopback", "tap", "macvtap", "sriov", "ovs",
    "tuning", "portmap", "bandwidth", "firewall", "sbr", "vrf", "multus", "flannel", "calico",
)  # fmt: skip
DELEGATES = (*OF_DELEGATES, *NOT_RESTORABLE)
IPAMS = (*OF_IPAM, "whereabouts", "calico-ipam", "spiderpool", "kube-ovn", "azure-vnet-ipam")
# Others' words for what we have.
_ALIASES = {
    "vlan": "vlanId", "vlantag": "vlanId", "vid": "vlanId", "parent": "master", "device": "master",
    "interface": "master", "uplink": "master", "cidr": "subnet", "range": "subnet", "via": "gw",
    "gateway": "gw", "destination": "dst", "ip": "address", "checkpointdirectory": "checkpointDir",
    "plugin": "delegate", "timeout": "masterTimeout", "macvlanmode": "mode", "ipvlanmode": "mode",
}  # fmt: skip
_NEAR = 0.75  # of difflib's ratio: `vlan` and `vlanId` are at 0.8


def of_plugin(delegate: str) -> tuple[str, ...]:
    """The keys of an entry of ours that wraps this plugin."""
    return (*OURS, *_OF_EVERY_PLUGIN, *OF_DELEGATES.get(delegate, ()))


def is_comment(key: str) -> bool:
    return key.startswith(("_", "#", "//"))


def near(word: str, known: tuple[str, ...]) -> str:
    """The known word that was likely meant by an unknown one; empty where none is near."""
    plain = {_plain(one): SYNONYMS.get(one, one) for one in known}
    wanted = _plain(word)
    if wanted in plain:
        return plain[wanted]
    if _ALIASES.get(wanted) in known:
        return _ALIASES[wanted]
    return next((plain[one] for one in difflib.get_close_matches(wanted, plain, 1, _NEAR)), "")


def meant(word: str, known: tuple[str, ...]) -> str:
    """The remedy that names it."""
    found = near(word, known)
    return f"did you mean {found!r}?" if found else ""


def is_like_ours(kind: object) -> bool:
    """Whether a plugin type is ours, misspelt."""
    return isinstance(kind, str) and kind != OWN_TYPE and bool(near(kind, (OWN_TYPE,)))


def _plain(word: str) -> str:
    return word.casefold().replace("_", "").replace("-", "")
