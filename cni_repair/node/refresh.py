"""Taking into a checkpoint what its attachment got since ADD."""

from __future__ import annotations

from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.model import Checkpoint, encode_checked
from cni_repair.errors import CniError
from cni_repair.network.observe import read_sysctls
from cni_repair.node import inventory
from cni_repair.node.look import in_pod, observe
from cni_repair.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.state import Observed
    from cni_repair.node.inventory import Entry
    from cni_repair.node.look import Node


def refresh(node: Node, store: Store, run_dir: str, entry: Entry, given_netns: str) -> None:
    """Take what a healthy attachment got since ADD (from later plugins, from Multus) into its
    checkpoint. A disk that cannot be written to loses nothing: the older record stays."""
    assert entry.checkpoint is not None
    with Lock(run_dir, entry.key.name):
        fresh = inventory.reread(store, entry, None)
        if fresh is None or fresh.checkpoint is None or fresh.checkpoint.netns is None:
            return
        recorded = fresh.checkpoint
        observed, sysctls = in_pod(
            node,
            recorded,
            given_netns,
            lambda sides: (observe(sides, recorded), read_sysctls(recorded.key.ifname)),
        )
        now = _refreshed(recorded, observed, sysctls)
        if now != recorded:
            try:
                store.commit(now.key, encode_checked(now))
            except CniError:
                return  # the older record is whole, and CHECK's verdict does not depend on it


def _refreshed(
    checkpoint: Checkpoint, observed: Observed, sysctls: tuple[tuple[str, str], ...]
) -> Checkpoint:
    """The checkpoint of a healthy attachment with what later plugins gave it since ADD: MAC, MTU,
    sysctls, more addresses and routes."""
    assert observed.link is not None
    attachment = replace(
        checkpoint.attachment,
        link=observed.link.link,
        addresses=observed.addresses,
        routes=observed.routes,
        sysctls=sysctls,
    )
    return replace(checkpoint, attachment=attachment)
