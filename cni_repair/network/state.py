"""What the kernel can be asked to hold: plain values, compared field by field.

They stand in checkpoints (desired) and come from netlink (observed); planning compares the two.
Numbers are the kernel's own (ifindex, flags, scope, table, protocol, lifetimes in seconds);
addresses and MACs are text in their usual form.
"""

from __future__ import annotations

from cni_repair.record import record

# enum macvlan_mode, include/uapi/linux/if_link.h
MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}

FOREVER = 0xFFFFFFFF

# include/uapi/linux/if_addr.h
IFA_F_DADFAILED = 0x08
IFA_F_TENTATIVE = 0x40
IFA_F_PERMANENT = 0x80
# What the kernel reports but nobody configures: secondary/temporary (derived from the order),
# dadfailed, deprecated (derived from the lifetime), tentative, permanent (likewise).
IFA_DERIVED = 0x01 | IFA_F_DADFAILED | 0x20 | IFA_F_TENTATIVE | IFA_F_PERMANENT

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_RUNNING = 0x40


@record
class Vlan:
    """A VLAN device's own attributes (IFLA_INFO_DATA of kind vlan)."""

    id: int
    protocol: int = 0x8100
    flags: int = 0x1  # VLAN_FLAG_REORDER_HDR, the kernel's default


@record
class HostLink:
    """A link of the node's own namespace: a pod's master, or what that stands on."""

    name: str
    ifindex: int
    kind: str  # "vlan", "bond", "veth" …; "" for hardware
    mac: str
    mtu: int
    flags: int = 0
    lower: int = 0  # ifindex of the link below, 0 where it stands on nothing
    permanent_mac: str | None = None
    bus_address: str | None = None  # of the PCI device, e.g. 0000:00:03.0
    vlan: Vlan | None = None

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def carrier(self) -> bool:
        return bool(self.flags & IFF_RUNNING)


@record
class PodLink:
    """The pod's interface."""

    ifindex: int
    mac: str
    mtu: int
    kind: str
    mode: str
    flags: int  # IFLA_MACVLAN_FLAGS
    txqueuelen: int


@record
class Address:
    """One address of the pod's interface."""

    family: int  # 4 or 6
    address: str
    prefix: int
    broadcast: str | None = None
    scope: int = 0
    label: str | None = None
    flags: int = 0  # as configured: without IFA_DERIVED
    valid: int = FOREVER
    preferred: int = FOREVER
    peer: str | None = None

    @property
    def key(self) -> tuple[int, str, int]:
        """What tells two addresses of one interface apart."""
        return self.family, self.address, self.prefix


@record
class Route:
    """One route through the pod's interface."""

    family: int  # 4 or 6
    dst: str  # "0.0.0.0/0" for the default route
    gateway: str | None = None
    table: int = 254
    metric: int = 0
    scope: int = 0
    type: int = 1
    protocol: int = 3
    prefsrc: str | None = None
    tos: int = 0
    onlink: bool = False
    metrics: tuple[tuple[int, int], ...] = ()  # (RTAX_*, value): mtu, advmss, …

    @property
    def key(self) -> tuple[object, ...]:
        """What the kernel tells routes through one link apart by."""
        return self.family, self.table, self.dst, self.tos, self.metric, self.gateway, self.type


@record
class LiveLink:
    """A link as found under the attachment's name in the pod, ours or not."""

    name: str
    link: PodLink
    up: bool
    carrier: bool
    master: int  # ifindex of the link below, in the namespace that `master_netnsid` names
    master_netnsid: int | None  # None: in the pod itself


@record
class Observed:
    """What one look at a pod's namespace found."""

    host_netnsid: int | None  # by which id the pod knows the node's namespace
    link: LiveLink | None
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    tentative: tuple[str, ...] = ()  # addresses that duplicate detection still looks at
    dadfailed: tuple[str, ...] = ()  # … and those that it found taken
    ifindex_taken_by: str | None = None  # where the link is gone: who has its ifindex now


@record
class Attachment:
    """The desired state of one pod interface, as the checkpoint remembers it."""

    ifname: str
    link: PodLink  # ifindex or mtu 0, mac "": not known, the kernel chooses
    parents: tuple[HostLink, ...]  # the master first, then what it stands on
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    sysctls: tuple[tuple[str, str], ...] = ()
    follow_renamed_master: bool = False  # use the recorded card under whatever name it has now
