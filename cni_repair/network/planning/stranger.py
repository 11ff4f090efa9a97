"""What can be done about a link that has the name of a pod's interface, and is not it. Pure."""

from __future__ import annotations

from cni_repair.network.operations.iproute2 import inside, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.kernel.link import LiveLink


def remedy(ifname: str, stranger: LiveLink, netns: str) -> str:
    """How to look at it, and what makes way for the recorded interface, as commands for people: it
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
