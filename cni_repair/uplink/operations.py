"""The steps of a repair in the node's own namespace: its VLANs, its shims, and setting them up.

What they carry is given to them by the same steps as to a pod's interface (network/operations).
"""

from __future__ import annotations

import errno

from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel import vlan as vlans
from cni_repair.network.kernel.link import HOST, up_link
from cni_repair.network.model import PodLink, Vlan
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.iproute2 import inside, quoted, said, words
from cni_repair.network.operations.link import AddPodLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Target

_NEW = rt.NLM_F_CREATE | rt.NLM_F_EXCL


@frozen
class AddVlan(Operation):
    """Create a VLAN device on a link of the node."""

    name: str
    master: str
    vlan: Vlan
    mtu: int  # 0: the kernel takes the link's
    mac: str = ""  # empty: the link's, and it follows that

    is_vital = True

    @property
    def ifname(self) -> str:
        return self.name

    @property
    def over(self) -> str:
        return self.master

    @property
    def unsupported(self) -> tuple[str, str]:
        cannot = f"this kernel cannot make VLAN devices ({self.name})"
        return cannot, "load the module 8021q (CONFIG_VLAN_8021Q)"

    def describe(self, netns: str) -> str:
        return words(
            f"{inside(netns)}ip link add link {quoted(self.master)}",
            *said(HOST, self, {"kind": "", "lower": "", "vlan": ""}),
            "type vlan",
            *said(vlans.TABLE, self.vlan, {}),
        )

    def requests(self, target: Target) -> list[nl.Message]:
        attributes = (
            HOST.encode(self)
            + nl.u32(rt.IFLA_LINK, target.master)
            + nl.link_info("vlan", vlans.encode(self.vlan))
        )
        return [nl.Message(rt.RTM_NEWLINK, _NEW, nl.link_body(0, 0, 0, attributes))]


@frozen
class AddShim(Operation):
    """Create a link like the pods' in the node's own namespace, down."""

    ifname: str
    master: str
    link: PodLink

    is_vital = True

    @property
    def over(self) -> str:
        return self.master

    def describe(self, netns: str) -> str:
        return self._as_pods().describe(netns)

    def requests(self, target: Target) -> list[nl.Message]:
        return [self._as_pods().temporary(self.ifname, target.master)]

    def _as_pods(self) -> AddPodLink:
        return AddPodLink(self.ifname, self.master, self.link)


@frozen
class SetNodeLinkUp(Operation):
    """Set a link of the node up."""

    ifname: str

    is_vital = True
    # The link below went down again; a VLAN follows it up by itself.
    tolerated = frozenset({errno.ENETDOWN})

    def describe(self, netns: str) -> str:
        return f"{inside(netns)}ip link set dev {quoted(self.ifname)} up"

    def requests(self, target: Target) -> list[nl.Message]:
        return [nl.Message(rt.RTM_NEWLINK, 0, up_link(target.ifindex))]
