"""The steps of a repair in the node's own namespace: its VLANs, its shims, what is on both.

Like all operations (see :mod:`~cni_repair.network.operations.link`) they do no I/O: they describe
themselves as the `iproute2` command that they equal, and make their own netlink message.
"""

from __future__ import annotations

import struct

from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.model import IFF_UP, PodLink, Vlan
from cni_repair.network.operations.iproute2 import quoted, words
from cni_repair.network.operations.link import AddPodLink, Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from cni_repair.network.operations.entries import AddAddress
    from cni_repair.network.operations.route import AddRoute

    NodeOperation: TypeAlias = "AddVlan | AddShim | SetNodeLinkUp | AddToNode"

_NEW = rt.NLM_F_CREATE | rt.NLM_F_EXCL
_VLAN_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
_ALWAYS_KNOWN = 0xF  # VLAN_FLAG_REORDER_HDR, GVRP, LOOSE_BINDING, MVRP
_BRIDGE_BINDING = 0x10


@frozen
class AddVlan:
    """Create a VLAN device on a link of the node."""

    name: str
    master: str
    vlan: Vlan
    mtu: int  # 0: the kernel takes the link's
    mac: str = ""  # empty: the link's, and it follows that

    def command(self) -> str:
        vlan = self.vlan
        protocol = _VLAN_PROTOCOLS.get(vlan.protocol, hex(vlan.protocol))
        return words(
            f"ip link add link {quoted(self.master)} name {quoted(self.name)}",
            f"address {self.mac}" if self.mac else "",
            f"mtu {self.mtu}" if self.mtu else "",
            "type vlan",
            f"protocol {protocol}" if vlan.protocol != 0x8100 else "",
            f"id {vlan.id}",
            "" if vlan.flags & 1 else "reorder_hdr off",
            "gvrp on" if vlan.flags & 2 else "",
            "loose_binding on" if vlan.flags & 4 else "",
            "mvrp on" if vlan.flags & 8 else "",
            "bridge_binding on" if vlan.flags & _BRIDGE_BINDING else "",
            _map_words("egress-qos-map", vlan.egress),
            _map_words("ingress-qos-map", vlan.ingress),
        )

    def message(self, master: int) -> nl.Message:
        """`master`: the ifindex of the link below."""
        vlan = self.vlan
        # Kernels before 5.6 refuse bridge_binding, even if it is to be off.
        mask = _ALWAYS_KNOWN | (vlan.flags & _BRIDGE_BINDING)
        data = (
            nl.attribute(rt.IFLA_VLAN_ID, vlan.id.to_bytes(2, "little"))
            + nl.attribute(rt.IFLA_VLAN_PROTOCOL, vlan.protocol.to_bytes(2, "big"))
            + nl.attribute(rt.IFLA_VLAN_FLAGS, struct.pack("=II", vlan.flags, mask))
            + _map_attribute(rt.IFLA_VLAN_EGRESS_QOS, vlan.egress)
            + _map_attribute(rt.IFLA_VLAN_INGRESS_QOS, vlan.ingress)
        )
        attributes = (
            nl.text(rt.IFLA_IFNAME, self.name)
            + nl.u32(rt.IFLA_LINK, master)
            + (nl.attribute(rt.IFLA_ADDRESS, nl.raw_mac(self.mac)) if self.mac else b"")
            + (nl.u32(rt.IFLA_MTU, self.mtu) if self.mtu else b"")
            + nl.link_info("vlan", data)
        )
        return nl.Message(rt.RTM_NEWLINK, _NEW, nl.link_body(0, 0, 0, attributes))


def _map_words(name: str, pairs: tuple[tuple[int, int], ...]) -> str:
    return " ".join([name, *(f"{one}:{other}" for one, other in pairs)]) if pairs else ""


def _map_attribute(kind: int, pairs: tuple[tuple[int, int], ...]) -> bytes:
    entries = [nl.attribute(rt.IFLA_VLAN_QOS_MAPPING, struct.pack("=II", *one)) for one in pairs]
    return nl.attribute(kind, b"".join(entries)) if entries else b""


@frozen
class AddShim:
    """Create a link like the pods' in the node's own namespace, down."""

    name: str
    master: str
    link: PodLink

    def command(self) -> str:
        return self._as_pods().command("")

    def message(self, master: int) -> nl.Message:
        """`master`: the ifindex of the link below."""
        return self._as_pods().temporary(self.name, master)

    def _as_pods(self) -> AddPodLink:
        return AddPodLink(self.name, self.master, self.link)


@frozen
class SetNodeLinkUp:
    """Set a link of the node up."""

    name: str

    def command(self) -> str:
        return f"ip link set dev {quoted(self.name)} up"

    def message(self, ifindex: int) -> nl.Message:
        return nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(ifindex, IFF_UP, IFF_UP, b""))


@frozen
class AddToNode:
    """Give a link of the node one address, or one route."""

    step: AddAddress | AddRoute

    @property
    def name(self) -> str:
        return self.step.ifname

    def command(self) -> str:
        return self.step.command("").strip()

    def message(self, ifindex: int) -> nl.Message:
        return self.step.message(Target(ifindex, 0, 0))
