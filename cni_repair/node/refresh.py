"""Taking into a checkpoint what its attachment got since ADD."""

from __future__ import annotations

from cni_repair.base.frozen import replace
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.model import Checkpoint, GatewayMac, encode_checked
from cni_repair.network.kernel.sysctl import own_settings
from cni_repair.network.observe import read_defaults
from cni_repair.network.planning.address import as_verified
from cni_repair.network.planning.plan import DEGRADED, HEALTHY
from cni_repair.node.capture import with_seen
from cni_repair.node.context import in_pod
from cni_repair.node.verdict import observe_all, planned
from cni_repair.uplink.belongings import NodeRecords
from cni_repair.uplink.recorder import NodeRecorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.inventory import Entry
    from cni_repair.checkpoint.store import Store
    from cni_repair.network.apply import NamespacePair
    from cni_repair.network.observed import Observed
    from cni_repair.node.context import Node


def refresh(
    node: Node,
    store: Store,
    run_dir: str,
    entry: Entry,
    given_netns: str = "",
    recorder: NodeRecorder | None = None,
) -> bool:
    """Take what a healthy attachment got since ADD (from later plugins, from Multus) into its
    checkpoint; whether that changed it.

    What is not healthy any more, now that its lock is held, is left: a lost interface's emptiness
    never replaces a good record. A snapshot, which has a `recorder`, notes the MACs of the pod's
    gateways, too. Where `recorder` accepts the pod as it is, missing addresses and
    routes are taken for somebody's will (Multus moved the default route to another interface), and
    forgotten; addresses that IPAM did not give are announced from then on. Raises CniError where
    the record cannot be written; the older one stays whole then.
    """
    assert entry.checkpoint is not None
    with Lock(run_dir, entry.key.name) as lock:
        fresh = inventory.reread(store, entry, None)
        if fresh is None:
            lock.forget()
            return False
        if fresh.error is not None:
            raise fresh.error  # it could be read a moment ago
        if fresh.checkpoint is None or fresh.checkpoint.netns is None:
            return False
        recorded = fresh.checkpoint
        observed, defaults, macs = in_pod(
            node,
            recorded,
            given_netns,
            lambda pair: _look(pair, recorded, of_gateways=recorder is not None),
        )
        recorder = recorder or NodeRecorder(node.rtnl, NodeRecords(store, [fresh]))
        state = planned(recorded, observed, None).state
        if state != HEALTHY and not (recorder.accept and state == DEGRADED and _works(observed)):
            return False
        refreshed = _refreshed(recorded, observed, defaults)
        refreshed = _with_accepted(refreshed, recorder.accept)
        refreshed = _with_gateways(refreshed, macs, recorder.new_gateways)
        refreshed = recorder.noted(refreshed, observed.link.master if observed.link else 0)
        if refreshed == recorded:
            return False
        store.commit(refreshed.key, encode_checked(refreshed))
        recorder.committed(refreshed)
        return True


def _look(
    pair: NamespacePair, recorded: Checkpoint, of_gateways: bool
) -> tuple[Observed, dict[str, str], dict[str, str]]:
    """The interface, the sysctls of a new one, and the MACs that its gateways have just now."""
    observed, macs = observe_all(pair, recorded), {}
    if of_gateways and observed.link is not None:
        from cni_repair.network.reachability import gateways  # CHECK has no use for it

        addresses = gateways.gateways_of(recorded.attachment)[: gateways.MAX_GATEWAYS]
        macs = gateways.known_macs(pair.pod, observed.link.link.ifindex, addresses)
    return observed, read_defaults(recorded.key.ifname), macs


def _with_gateways(checkpoint: Checkpoint, macs: dict[str, str], new: bool) -> Checkpoint:
    """With the MACs that its gateways have; where another is recorded, only if it may be `new`:
    whoever answers while a gateway is away must not become it by itself."""
    known = {one.address: one.mac for one in checkpoint.gateway_macs}
    known = {**known, **macs} if new else {**macs, **known}
    gateways = {route.gateway for route in checkpoint.attachment.routes}
    kept = [GatewayMac(*one) for one in sorted(known.items()) if one[0] in gateways]
    return replace(checkpoint, gateway_macs=tuple(kept))


def _with_accepted(checkpoint: Checkpoint, accept: bool) -> Checkpoint:
    """With the addresses that an operator has accepted as the pod's own, as far as it has them
    still; `accept`: all that it has now."""
    given = replace(checkpoint, accepted_addresses=()).announceable
    accepted = [
        address.address
        for address in checkpoint.attachment.addresses
        if address.address not in given
        and (accept or address.address in checkpoint.accepted_addresses)
    ]
    return replace(checkpoint, accepted_addresses=tuple(dict.fromkeys(accepted)))


def _works(observed: Observed) -> bool:
    """Whether what is missing cannot be the work of a link that went down, or of a dead master."""
    return observed.link is not None and observed.link.up and observed.link.carrier


def _refreshed(checkpoint: Checkpoint, observed: Observed, defaults: dict[str, str]) -> Checkpoint:
    """The checkpoint of a healthy attachment with what later plugins gave it since ADD: MAC, MTU,
    sysctls, more addresses and routes, rules, neighbours."""
    assert observed.link is not None
    sysctls = own_settings(observed.link.sysctls, defaults)
    settled = replace(checkpoint.attachment, settled=True)
    observed = as_verified(settled, observed)  # what a repair does for the moment is nobody's will
    return replace(checkpoint, attachment=with_seen(settled, observed, sysctls))
