"""What the seed's checkpoints do not say, taken from their network's configuration."""

from __future__ import annotations

from cni_repair.network.observe import link_named
from cni_repair.network.rtnetlink import Rtnetlink
from cni_repair.network.state import MACVLAN_MODES, HostLink
from cni_repair.node.inventory import SeedHints
from cni_repair.node.parents import wanted_vlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def seed_hints(masters: Sequence[str], vlan_id: int | None, mode: object, mtu: object) -> SeedHints:
    """The parents by the seed's own rule: the first of `masters` that exists now.

    None of them there yet: the first is waited for.
    """
    with Rtnetlink() as rtnl:
        links = [link for name in masters if (link := link_named(rtnl, name))]
    below = links[0] if links else HostLink(masters[0], 0, "", "", 0)
    vlan = (wanted_vlan(f"{below.name}.{vlan_id}", vlan_id),) if vlan_id is not None else ()
    return SeedHints(
        parents=(*vlan, below),
        mode=mode if mode in MACVLAN_MODES.values() and isinstance(mode, str) else "bridge",
        mtu=mtu if type(mtu) is int and mtu > 0 else 0,
    )
