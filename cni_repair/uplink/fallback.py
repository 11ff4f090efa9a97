"""`fallbackMaster`: pods may move to another of their configuration's masters.

Never silently, and never on its own: the recorded master is waited for first, and only a pod that
lost its interface is given one over another uplink.
"""

from __future__ import annotations

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.names import valid_link_name
from cni_repair.checkpoint.model import encode_checked
from cni_repair.network.links import chain_from, link_named
from cni_repair.network.model import HostLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.checkpoint.store import Store
    from cni_repair.netlink.socket import Rtnetlink


def other_masters(checkpoint: Checkpoint) -> list[str]:
    """The links that the attachment may stand on instead of the recorded one, in the order of its
    configuration's masters; none where it does not say `fallbackMaster`."""
    if checkpoint.netconf.get("fallbackMaster") is not True:
        return []
    uplink = _uplink(checkpoint)
    return [name for name in _masters(checkpoint.netconf) if name not in uplink.names]


def others_in_words(checkpoint: Checkpoint) -> str:
    """The masters that the attachment may move to, in their order; empty where there are none."""
    vlan_id = _vlan_id(checkpoint)
    suffix = "" if vlan_id is None else f".{vlan_id}"
    return ", then ".join(f"{name}{suffix}" for name in other_masters(checkpoint))


def _uplink(checkpoint: Checkpoint) -> HostLink:
    """The recorded link that the configuration's `master` named."""
    recorded = checkpoint.attachment.parents
    return recorded[0] if _vlan_id(checkpoint) is None else recorded[:2][-1]


def _vlan_id(checkpoint: Checkpoint) -> int | None:
    netconf = checkpoint.netconf
    vlan_id: int | None = netconf.get("vlanId", netconf.get("vlanID"))
    return vlan_id


def _chain_over(checkpoint: Checkpoint, link: HostLink) -> tuple[HostLink, ...]:
    """The chain of parents where `link` takes the uplink's place; a VLAN over it keeps the recorded
    id, protocol and flags.

    Of the link itself nothing counts but the name: it is not the recorded card.
    """
    below = HostLink(link.name, 0, "", "", 0)
    vlan_id, vlan = _vlan_id(checkpoint), checkpoint.attachment.parents[0]
    if vlan_id is None:
        return (below,)
    # Its MTU is the new uplink's: that one's may be smaller.
    named = replace(vlan, name=f"{link.name}.{vlan_id}", altnames=(), ifindex=0, mtu=0)
    return named, below


def _masters(netconf: dict[str, Any]) -> list[str]:
    """The names that `master`, and the predecessor's `master2`, list (the rule of cni/netconf.py,
    which checked them at ADD)."""
    masters: list[str] = []
    for value in (netconf.get("master"), netconf.get("master2")):
        names = value if isinstance(value, list) else [value]
        masters += [name for name in names if isinstance(name, str) and valid_link_name(name)]
    return masters


def moved_to_another_master(
    checkpoint: Checkpoint,
    master_of: Callable[[tuple[HostLink, ...]], HostLink | None],
    rtnl: Rtnetlink,
) -> tuple[Checkpoint, HostLink] | None:
    """The checkpoint over the first other master that may be used and is there, and that master;
    None if none is. `master_of` makes one ready, if it can."""
    for name in other_masters(checkpoint):
        link = link_named(rtnl, name)
        if link is None or link.name in _uplink(checkpoint).names:
            continue
        master = master_of(_chain_over(checkpoint, link))
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
