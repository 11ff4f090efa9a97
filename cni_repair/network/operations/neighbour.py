"""The step of a repair for the neighbours of a pod's interface."""

from __future__ import annotations

from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.neighbour import TABLE, encode
from cni_repair.network.model import Neighbour
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.iproute2 import inside, quoted, said, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Target


@frozen
class SetNeighbour(Operation):
    """Make a permanent neighbour, or a proxy entry.

    `replace`, for the pod's traffic may be quicker: what it learned by itself meanwhile gives way.
    """

    ifname: str
    neighbour: Neighbour

    def describe(self, netns: str) -> str:
        address, flags = self.neighbour.address, self.neighbour.flags
        own = {
            "address": address if self.neighbour.mac else f"proxy {address}",
            "flags": words(TABLE.said("flags", flags), f"dev {quoted(self.ifname)}"),
        }
        return words(f"{inside(netns)}ip neigh replace", *said(TABLE, self.neighbour, own))

    def requests(self, target: Target) -> list[nl.Message]:
        body = encode(self.neighbour, target.ifindex)
        return [nl.Message(rt.RTM_NEWNEIGH, rt.NLM_F_CREATE | rt.NLM_F_REPLACE, body)]
