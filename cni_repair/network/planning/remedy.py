"""What somebody has to do in a pod, as commands for people: no repair does it. Pure."""

from __future__ import annotations

from cni_repair.network.operations.iproute2 import inside, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.link import LiveLink
    from cni_repair.network.model import Address


def for_stranger(ifname: str, stranger: LiveLink, netns: str) -> str:
    """How to look at a link that has the interface's name, and is not it, and what makes way: it
    may be what the pod works with by now."""
    here, name = inside(netns), quoted(stranger.name)
    look = f"look inside: {here}ip -d link"
    if stranger.name != ifname:
        take = f"{here}ip link property del dev {name} altname {quoted(ifname)}"
        return f"{look}; if nothing needs it by that name, take that name away: {take}"
    if not stranger.link.kind:
        # What a driver has made cannot be deleted (no rtnl_link_ops.dellink).
        down, change = (
            f"{here}ip link set dev {name} down",
            f"{here}ip link set dev {name} name NAME",
        )
        return f"{look}; if nothing needs it, rename it: {down}; {change}"
    remove = f"{here}ip link del dev {name}"
    if stranger.master_netnsid is not None:
        return f"{look}; unless it is the pod's network by now, remove it: {remove}"
    return f"{look}; if nothing needs it, remove it: {remove}"


def for_dadfailed(live: LiveLink, address: Address, netns: str) -> str:
    """What has the kernel ask again: it does so of an address that is added, and of no other (the
    repair that finds it missing adds it)."""
    delete = f"{inside(netns)}ip -6 addr del {address.address}/{address.prefix}"
    return (
        f"once nobody else has {address.address} (cni-repair verify --duplicates):"
        f" {delete} dev {quoted(live.name)}; cni-repair repair --all"
    )
