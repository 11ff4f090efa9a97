"""What the predecessor's records do not say, taken from their network's configuration."""

from __future__ import annotations

from cni_repair.checkpoint.inventory import LegacyHints
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.links import chain_from, link_named
from cni_repair.network.model import KIND_OF_MODE, HostLink
from cni_repair.uplink.ensure import wanted_vlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def legacy_hints(
    masters: Sequence[str], vlan_id: int | None, mode: object, mtu: object
) -> LegacyHints:
    """The parents by the predecessor's own rule: the first of `masters` that exists now.

    None of them there yet: the first is waited for.
    """
    with Rtnetlink() as rtnl:
        links = [link for name in masters if (link := link_named(rtnl, name))]
        # The master may be a VLAN device itself (eth0.3): what that stands on belongs to it.
        chain = chain_from(rtnl, links[0].ifindex) if links else ()
    chain = chain or (HostLink(masters[0], 0, "", "", 0),)
    vlan = (wanted_vlan(chain[0].name, vlan_id),) if vlan_id is not None else ()
    return LegacyHints(
        parents=(*vlan, *chain),
        mode=mode if isinstance(mode, str) and mode in KIND_OF_MODE else "bridge",
        mtu=mtu if type(mtu) is int and mtu > 0 else 0,
    )
