"""`fallbackMaster`: pods may move to another of their configuration's masters.

Never silently, and never on its own: the recorded master is waited for first, and only a pod that
lost its interface is given one over another uplink.
"""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import valid_ifname
from cni_repair.checkpoint.model import encode_checked
from cni_repair.network.model import HostLink
from cni_repair.network.observe import chain_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.netlink.socket import Rtnetlink


def other_chains(checkpoint: Checkpoint) -> list[tuple[HostLink, ...]]:
    """The chains of parents that the attachment may have instead of the recorded one, in the order
    of its configuration's masters; none where it does not say `fallbackMaster`.

    A VLAN over another uplink keeps the recorded id, protocol and flags; of the uplink itself
    nothing is known but the name.
    """
    if checkpoint.netconf.get("fallbackMaster") is not True:
        return []
    recorded = checkpoint.attachment.parents
    vlan_id = checkpoint.netconf.get("vlanId", checkpoint.netconf.get("vlanID"))
    chains = []
    for name in _masters(checkpoint.netconf):
        below = HostLink(name, 0, "", "", 0)
        chain: tuple[HostLink, ...] = (below,)
        if vlan_id is not None:
            chain = (_same_vlan(recorded[0], f"{name}.{vlan_id}"), below)
        if chain[0].name != recorded[0].name and valid_ifname(chain[0].name):
            chains.append(chain)
    return chains


def _same_vlan(vlan: HostLink, name: str) -> HostLink:
    # Its MTU is the new uplink's: that one's may be smaller.
    return replace(vlan, name=name, ifindex=0, mtu=0)


def _masters(netconf: dict[str, Any]) -> list[str]:
    """The names that `master`, and the predecessor's `master2`, list (the rule of cni/netconf.py,
    which checked them at ADD)."""
    masters: list[str] = []
    for value in (netconf.get("master"), netconf.get("master2")):
        names = value if isinstance(value, list) else [value]
        masters += [name for name in names if isinstance(name, str) and valid_ifname(name)]
    return masters


def moved_to_another_master(
    checkpoint: Checkpoint,
    master_of: Callable[[tuple[HostLink, ...]], HostLink | None],
    rtnl: Rtnetlink,
) -> tuple[Checkpoint, HostLink] | None:
    """The checkpoint over the first other master that may be used and is there, and that master;
    None if none is. `master_of` makes one ready, if it can."""
    for chain in other_chains(checkpoint):
        master = master_of(chain)
        if master is not None:
            parents = chain_from(rtnl, master.ifindex)
            attachment = replace(checkpoint.attachment, parents=parents)
            return replace(checkpoint, attachment=attachment), master
    return None


@frozen
class CommittedMove:
    """What became of the record of a pod that was moved."""

    note: str  # for the report
    raw: bytes = b""  # the record as written; empty where it could not be


def commit_move(store: Store, recorded: Checkpoint, moved: Checkpoint) -> CommittedMove:
    """Write down over which master the pod is now. Its lock is held."""
    former = recorded.attachment.parents[0].name
    note = f"moved to {moved.attachment.parents[0].name}: {former} did not come back"
    note += " (fallbackMaster)"
    try:
        text = encode_checked(moved)
        store.commit(moved.key, text)
    except CniError as error:
        return CommittedMove(f"{note}; its checkpoint still names {former}: {error}")
    return CommittedMove(note, text.encode("ascii"))
