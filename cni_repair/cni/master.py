"""Which link of the node the delegate gets as its master; its VLAN is created where missing.

Masters are found as the kernel finds them, by altnames, too. The delegate gets the first name: not
every plugin takes an altname, and none one of more than 15 bytes.
"""

from __future__ import annotations

import errno
import fcntl

from cni_repair.base import lightsocket as socket
from cni_repair.base.errors import MASTER_REFUSED, TRY_AGAIN, CniError
from cni_repair.base.names import valid_ifname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.netconf import NetConf

# They take the default route's device where their configuration names no master.
_TAKE_THE_DEFAULT_ROUTE = ("macvlan", "ipvlan")
_SIOCGIFNAME, _SIOCGIFINDEX = 0x8910, 0x8933  # include/uapi/linux/sockios.h
_IFREQ, _NAME = 40, 16  # bytes of struct ifreq, and of the name that it begins with


def uplink(conf: NetConf) -> str | None:
    """The first name of the first of the configuration's masters that exists; None where none does.

    Without a `master`, it is the device of the default route, as for the macvlan plugin.
    """
    if conf.masters:
        return next(filter(None, map(first_name, conf.masters)), None)
    from cni_repair.uplink.defaultroute import default_route_device  # most name a master

    return default_route_device()


def missing_uplink(conf: NetConf) -> CniError:
    """The error where :func:`uplink` found nothing."""
    if conf.masters:
        return CniError(TRY_AGAIN, f"no master exists: {', '.join(conf.masters)}")
    return CniError(
        TRY_AGAIN,
        "no master configured, and the node has no default route",
        "name one (`master`), or give the node a default route, IPv4 or IPv6",
    )


def why_no_master(conf: NetConf) -> CniError | None:
    """Why ADD would find no master; None where it would. Changes nothing. Code 11 where it is away,
    and may come back by itself."""
    below = uplink(conf)
    if below is None:
        return missing_uplink(conf) if _needs_uplink(conf) else None
    if conf.vlan_id is None:
        return None
    from cni_repair.uplink.ensure import look_for_vlan
    from cni_repair.uplink.plan import MISSING, READY, RENAMED

    try:
        plan, _ = look_for_vlan(below, conf.vlan_id)
    except CniError as error:
        return error  # it has just gone
    if plan.state == READY:
        return None
    return CniError(TRY_AGAIN if plan.state in (MISSING, RENAMED) else MASTER_REFUSED, plan.reason)


def ensure_master(conf: NetConf) -> str | None:
    """The delegate's master, ready for use; None where none is configured and none is found, and
    the delegate may need none.

    The default route's device is named, too: Debian 13's build of the macvlan plugin does not find
    it.
    """
    if not conf.masters and conf.vlan_id is None and _follows_a_plugin(conf):
        return None
    below = uplink(conf)
    if below is None and not _needs_uplink(conf):
        return None
    if below is None:
        from cni_repair.cni.absence import note_away  # rare

        note_away(conf)
        raise missing_uplink(conf)
    if conf.vlan_id is None:
        return below
    from cni_repair.uplink.ensure import ensure_vlan

    return ensure_vlan(conf.run_dir, below, conf.vlan_id)


def _needs_uplink(conf: NetConf) -> bool:
    is_named = bool(conf.masters) or conf.vlan_id is not None
    return is_named or conf.delegate in _TAKE_THE_DEFAULT_ROUTE


def _follows_a_plugin(conf: NetConf) -> bool:
    """Whether the delegate takes the interface that the plugin before it in a chain has made."""
    return conf.delegate == "ipvlan" and "prevResult" in conf.rest


def likely_master(conf: NetConf) -> str | None:
    """The name of the delegate's master, whether it exists or not, if it can be told; creates
    nothing, and fails never (for DEL)."""
    try:
        below = uplink(conf)
    except (CniError, OSError):
        below = None
    below = below or next(iter(conf.masters), None)
    return conf.master_over(below) if below else None


def first_name(name: str) -> str | None:
    """The first name of the link that the kernel finds by that name; None where it finds none."""
    if not valid_ifname(name):
        return _first_name_of_long(name)
    # (Not socket.if_nametoindex: of its failures it does not say which they are, and a link that
    # could not be asked for would pass for one that is not there.)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        found = fcntl.ioctl(sock, _SIOCGIFINDEX, name.encode().ljust(_IFREQ, b"\0"))
        named = fcntl.ioctl(sock, _SIOCGIFNAME, found)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    finally:
        sock.close()
    return named[:_NAME].partition(b"\0")[0].decode("ascii", "surrogateescape")


def _first_name_of_long(name: str) -> str | None:
    # struct ifreq has no room for an altname of more than 15 bytes.
    from cni_repair.netlink.socket import Rtnetlink
    from cni_repair.network.links import link_named

    with Rtnetlink() as rtnl:
        link = link_named(rtnl, name)
    return link.name if link else None
