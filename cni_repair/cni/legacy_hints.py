"""What the predecessor's records lack, taken from a network configuration (see legacy)."""

from __future__ import annotations

from cni_repair.node.hints import legacy_hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import LegacyHints
    from cni_repair.cni.netconf import NetConf

# What the plugins themselves take where their configuration names none.
_DEFAULT_MODES = {"macvlan": "bridge", "ipvlan": "l2"}


def hints_of(conf: NetConf | None) -> LegacyHints | None:
    """None without a configuration, or where it names no master."""
    if conf is None or not conf.masters:
        return None
    mode = conf.rest.get("mode") or _DEFAULT_MODES.get(conf.delegate)
    return legacy_hints(conf.masters, conf.vlan_id, mode, conf.rest.get("mtu"))
