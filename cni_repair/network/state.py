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

IFA_F_NOPREFIXROUTE = 0x200

# include/uapi/linux/rtnetlink.h
RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL = 253, 254, 255
RTPROT_KERNEL = 2
RT_SCOPE_LINK = 253

# include/uapi/linux/fib_rules.h, without goto and its target nop: they make sense only among the
# rules around them.
RULE_ACTIONS = {1: "lookup", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
FR_ACT_TO_TBL = 1
FIB_RULE_INVERT = 0x2

# include/uapi/linux/neighbour.h
NTF_PROXY = 0x08
NUD_PERMANENT = 0x80

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
class Rule:
    """One policy rule of the pod's namespace; what is absent selects everything."""

    family: int  # 4 or 6
    priority: int
    src: str | None = None  # "10.9.0.5/32"
    dst: str | None = None
    iif: str | None = None
    oif: str | None = None
    tos: int = 0
    fwmark: int = 0
    fwmask: int = 0
    ip_proto: int = 0
    sport: tuple[int, int] | None = None  # first and last
    dport: tuple[int, int] | None = None
    uid_range: tuple[int, int] | None = None
    invert: bool = False  # applies to what the selectors do not match
    action: int = FR_ACT_TO_TBL
    table: int = 0
    suppress_prefixlength: int | None = None
    protocol: int = 0


@record
class Neighbour:
    """A permanent neighbour on the pod's interface, or an address that it answers for (proxy)."""

    family: int  # 4 or 6
    address: str
    mac: str | None = None  # None: a proxy entry
    flags: int = 0  # NTF_ROUTER, NTF_EXT_LEARNED
    protocol: int = 0

    @property
    def key(self) -> tuple[int, str, bool]:
        """What the kernel tells entries of one interface apart by."""
        return self.family, self.address, self.mac is None


@record
class LiveLink:
    """A link as found under the attachment's name in the pod, ours or not."""

    name: str
    link: PodLink
    up: bool
    carrier: bool
    master: int  # ifindex of the link below, in the namespace that `master_netnsid` names
    master_netnsid: int | None  # None: in the pod itself

    def is_over(self, netnsid: int | None) -> bool:
        """Whether it stands on a link of the namespace of that id."""
        return netnsid is not None and self.master_netnsid == netnsid


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
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    absent_routes: tuple[Route, ...] = ()  # see Attachment
    addresses_by_kernel: tuple[Address, ...] = ()  # link-local, or from router advertisements
    routes_by_kernel: tuple[str, ...] = ()  # the prefixes of those in the main table

    @property
    def over_node(self) -> bool:
        """Whether there is a link, and it stands on one of the node's."""
        return self.link is not None and self.link.is_over(self.host_netnsid)


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
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    # Routes that come with an address by themselves, and that somebody took away (as sbr does).
    absent_routes: tuple[Route, ...] = ()
