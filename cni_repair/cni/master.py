"""Which link of the node the delegate gets as its master; its VLAN is created where missing."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, TRY_AGAIN, CniError
from cni_repair.base.lightsocket import if_nametoindex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.netconf import NetConf


def uplink(conf: NetConf) -> str | None:
    """The first of the configuration's masters that exists; None where none does.

    Without a `master`, it is the device of the default route, as for the macvlan plugin.
    """
    candidates = conf.masters or _default_route_devices()
    return next((name for name in candidates if _exists(name)), None)


def _default_route_devices() -> tuple[str, ...]:
    from cni_repair.base.procfs import default_route_devices  # most configurations name a master

    return default_route_devices()


def missing_uplink(conf: NetConf) -> CniError:
    """The error where :func:`uplink` found nothing."""
    if conf.masters:
        return CniError(TRY_AGAIN, f"no master exists: {', '.join(conf.masters)}")
    return CniError(TRY_AGAIN, "no master configured, and the node has no default route")


def ensure_master(conf: NetConf) -> str | None:
    """The delegate's master, ready for use; None where none is configured and none is found: the
    delegate reports that.

    The default route's device is named, too: Debian 13's build of the macvlan plugin does not find
    it.
    """
    below = uplink(conf)
    if below is None and conf.vlan_id is None and not conf.masters:
        return None
    if below is None:
        raise missing_uplink(conf)
    if conf.vlan_id is None:
        return below
    from cni_repair.uplink.ensure import ensure_vlan

    return ensure_vlan(conf.run_dir, below, conf.master_over(below), conf.vlan_id)


def likely_master(conf: NetConf) -> str | None:
    """The name of the delegate's master, whether it exists or not; creates nothing (for DEL)."""
    below = uplink(conf) or next(iter(conf.masters), None)
    if below is None and conf.vlan_id is not None:
        raise CniError(CONFIG, "vlanId without a master, and the node has no default route")
    return conf.master_over(below) if below else None


def _exists(name: str) -> bool:
    try:
        if_nametoindex(name)
    except OSError:
        return False
    return True
