"""The steps of a repair in the node's own namespace: its VLANs.

Like all operations (see :mod:`~cni_repair.network.operations`) they do no I/O: they describe
themselves as the `iproute2` command that they equal, and make their own netlink message.
"""

from __future__ import annotations

import struct

from cni_repair.network import rtnetlink as nl
from cni_repair.network.state import IFF_UP, Vlan
from cni_repair.network.words import quoted, words
from cni_repair.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    NodeOperation: TypeAlias = "AddVlan | SetNodeLinkUp"

_NEW = nl.NLM_F_CREATE | nl.NLM_F_EXCL
_VLAN_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}


@record
class AddVlan:
    """Create a VLAN device on a link of the node."""

    name: str
    master: str
    vlan: Vlan
    mtu: int  # 0: the kernel takes the link's

    def command(self) -> str:
        protocol = _VLAN_PROTOCOLS.get(self.vlan.protocol, hex(self.vlan.protocol))
        return words(
            f"ip link add link {quoted(self.master)} name {quoted(self.name)}",
            f"mtu {self.mtu}" if self.mtu else "",
            "type vlan",
            f"protocol {protocol}" if self.vlan.protocol != 0x8100 else "",
            f"id {self.vlan.id}",
            "" if self.vlan.flags & 1 else "reorder_hdr off",
            "gvrp on" if self.vlan.flags & 2 else "",
            "loose_binding on" if self.vlan.flags & 4 else "",
            "mvrp on" if self.vlan.flags & 8 else "",
        )

    def message(self, master: int) -> nl.Message:
        """`master`: the ifindex of the link below."""
        data = (
            nl.attribute(nl.IFLA_VLAN_ID, self.vlan.id.to_bytes(2, "little"))
            + nl.attribute(nl.IFLA_VLAN_PROTOCOL, self.vlan.protocol.to_bytes(2, "big"))
            + nl.attribute(nl.IFLA_VLAN_FLAGS, struct.pack("=II", self.vlan.flags, 0xF))
        )
        attributes = (
            nl.text(nl.IFLA_IFNAME, self.name)
            + nl.u32(nl.IFLA_LINK, master)
            + (nl.u32(nl.IFLA_MTU, self.mtu) if self.mtu else b"")
            + nl.link_info("vlan", data)
        )
        return nl.Message(nl.RTM_NEWLINK, _NEW, nl.link_body(0, 0, 0, attributes))


@record
class SetNodeLinkUp:
    """Set a link of the node up."""

    name: str

    def command(self) -> str:
        return f"ip link set dev {quoted(self.name)} up"

    def message(self, ifindex: int) -> nl.Message:
        return nl.Message(nl.RTM_NEWLINK, 0, nl.link_body(ifindex, IFF_UP, IFF_UP, b""))
