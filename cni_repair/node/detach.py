"""Taking a pod's interface away, where the delegate could not."""

from __future__ import annotations

from cni_repair.base.closeable import close_fd
from cni_repair.netlink.netns import entered, open_netns, open_own
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.apply import delete_link
from cni_repair.network.observe import observe_pod


def remove_link(path: str, ifname: str) -> None:
    """Delete a pod's interface if it stands on a link of the node; anything else is not ours."""
    own = open_own()
    netns = open_netns(path)
    try:
        with entered(netns, own):
            rtnl = Rtnetlink()
        with rtnl:
            observed = observe_pod(rtnl, own, ifname, link_only=True)
            live = observed.link
            if live and live.name == ifname and observed.over_node:
                delete_link(rtnl, live.link.ifindex)
    finally:
        close_fd(netns)
        close_fd(own)
