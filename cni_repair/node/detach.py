"""Taking a pod's interface away, where the delegate could not, or was killed in making it."""

from __future__ import annotations

from cni_repair.base.closeable import close_fd
from cni_repair.netlink.netns import entered, open_netns, open_own
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.apply import delete_link, remove_temporary, temporary_name
from cni_repair.network.links import links_like_pods
from cni_repair.network.observe import observe_pod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.checkpoint.locks import Lock
    from cni_repair.checkpoint.store import Key

_MAX_LINKS = 4096  # of a pod
# What the plugins call a link until it has its name: this, and eight such digits
# (ip.RandomVethName() of containernetworking).
_ON_ITS_WAY, _DIGITS = "veth", frozenset("0123456789abcdef")


def remove_link(path: str, ifname: str) -> None:
    """Delete a pod's interface if it stands on a link of the node; anything else is not ours."""

    def remove(rtnl: Rtnetlink, own: int) -> None:
        observed = observe_pod(rtnl, own, ifname, link_only=True)
        live = observed.link
        if live and live.name == ifname and observed.over_node:
            delete_link(rtnl, live.link.ifindex)

    _inside(path, remove)


def remove_half_made(path: str, ifname: str) -> None:
    """Delete the link that a plugin was killed in making, before it was called `ifname`. Over a
    link of the node only the node can make one, and this one is in use by nobody yet."""

    def remove(rtnl: Rtnetlink, own: int) -> None:
        node = observe_pod(rtnl, own, ifname, link_only=True).host_netnsid
        for live in links_like_pods(rtnl, _MAX_LINKS):
            if _is_on_its_way(live.name) and live.is_over(node) and not live.up:
                delete_link(rtnl, live.link.ifindex)

    _inside(path, remove)


def remove_temporary_link(lock: Lock, key: Key, netns: str) -> None:
    """Remove what a repair that was killed has left of a link on its way into the pod, as the
    attachment's lock notes it (network/apply): in the node, or in the namespace at a path, where
    that is given."""
    name = temporary_name(key.name)
    with Rtnetlink() as node:
        remove_temporary(node, name)
    if netns:
        _inside(netns, lambda pod, _: remove_temporary(pod, name))
    lock.note_unfinished(False)


def _is_on_its_way(name: str) -> bool:
    digits = name.removeprefix(_ON_ITS_WAY)
    return len(digits) == len(name) - 4 == 8 and _DIGITS.issuperset(digits)


def _inside(path: str, work: Callable[[Rtnetlink, int], None]) -> None:
    """Work with a socket of the namespace at a path, and the node's open namespace."""
    own = open_own()
    netns = open_netns(path)
    try:
        with entered(netns, own):
            rtnl = Rtnetlink()
        with rtnl:
            work(rtnl, own)
    finally:
        close_fd(netns)
        close_fd(own)
