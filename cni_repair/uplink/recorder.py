"""Remembering, in the pods' checkpoints, what the node has of its own over their masters."""

from __future__ import annotations

import time

from cni_repair.base.errors import CniError
from cni_repair.base.frozen import replace
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.links import chain_from
from cni_repair.network.model import HostLink, NodeLinks
from cni_repair.uplink.belongings import names_of
from cni_repair.uplink.comparison import present_links
from cni_repair.uplink.plan_belongings import is_same_chain
from cni_repair.uplink.read import read_node_links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.model import Checkpoint
    from cni_repair.network.model import NodeLink
    from cni_repair.uplink.belongings import Names, NodeRecords


class NodeRecorder:
    """One pass over the node's side; each chain is looked at once for all its pods."""

    def __init__(
        self,
        rtnl: Rtnetlink,
        records: NodeRecords,
        accept: bool = False,
        new_gateways: bool = False,
    ) -> None:
        """`accept`: what is missing now is not to come back any more. `new_gateways`: a gateway
        that has another MAC now is meant to."""
        self.accept = accept
        self.new_gateways = new_gateways
        self._rtnl = rtnl
        self._records = records
        self._looks: dict[Names, NodeLinks] = {}
        self._troubles: dict[Names, str] = {}

    def noted(self, checkpoint: Checkpoint, master: int) -> Checkpoint:
        """The checkpoint of a healthy attachment over the link of index `master`, with its parents
        as they are, and what the node has over them.

        It is the same one where it says so already, and no newer one says otherwise. A shim that is
        gone stays remembered, unless that is accepted: it may have gone with the pods' interfaces,
        and this may be a pod that came between that and the repair.
        """
        recorded = checkpoint.attachment.parents
        chain = chain_from(self._rtnl, master)
        if not is_same_chain(chain, recorded):
            return checkpoint
        if [*map(_lasting, recorded)] != [*map(_lasting, chain)]:
            checkpoint = replace(
                checkpoint, attachment=replace(checkpoint.attachment, parents=chain)
            )
        look = self._look(chain)
        if not self.accept:
            look = replace(look, links=(*look.links, *self._gone_shims(chain)))
        own = checkpoint.node_links.links if checkpoint.node_links else ()
        if {*own} == {*look.links} == {*self._records.of(chain)}:
            return checkpoint
        return replace(checkpoint, node_links=look)

    def committed(self, checkpoint: Checkpoint) -> None:
        """Take notice of a checkpoint that was just written."""
        self._records.committed(checkpoint)

    def trouble(self, chain: tuple[HostLink, ...]) -> str:
        """Why the node's side over a chain is not remembered, said once; empty where it is."""
        return self._troubles.pop(names_of(chain), "")

    def _gone_shims(self, chain: tuple[HostLink, ...]) -> list[NodeLink]:
        shims = [link for link in self._records.of(chain) if link.shim is not None]
        present = present_links(self._rtnl, {shim.name for shim in shims})
        return [shim for shim in shims if shim.name not in present]

    def _look(self, chain: tuple[HostLink, ...]) -> NodeLinks:
        """What the node has now. What cannot be remembered counts as nothing: an older record must
        not stand for it."""
        names = names_of(chain)
        if names not in self._looks:
            look = NodeLinks(time.time_ns() // 1_000_000)
            try:
                with Rtnetlink() as rtnl:  # of no use any more once there was too much
                    look = replace(look, links=read_node_links(rtnl, chain))
            except CniError as error:
                self._troubles[names] = str(error)
            self._looks[names] = look
        return self._looks[names]


def _lasting(link: HostLink) -> HostLink:
    """Without what changes by itself, and is not given back."""
    return replace(link, ifindex=0, lower=0, flags=0)
