"""What the kernel can be asked to hold: plain values, compared field by field.

They stand in checkpoints (desired) and come from netlink (observed); planning compares the two.
Numbers are the kernel's own (ifindex, flags, scope, table, protocol, lifetimes in seconds);
addresses and MACs are text in their usual form.
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace

# enum macvlan_mode, include/uapi/linux/if_link.h
MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
IPVLAN_MODES = {0: "l2", 1: "l3", 2: "l3s"}
# What a delegate may make over a link of the node, and REPAIR again: the kind of link, its modes.
# (`source` needs a list of MACs beside it, which no CNI plugin sets.)
KINDS = {
    "macvlan": tuple(mode for mode in MACVLAN_MODES.values() if mode != "source"),
    "ipvlan": tuple(IPVLAN_MODES.values()),
}
KIND_OF_MODE = {mode: kind for kind, modes in KINDS.items() for mode in modes}

# How the names of links begin that a repair has made, and that are on their way into a pod.
TEMPORARY = "cnirep"

FOREVER = 0xFFFFFFFF

# include/uapi/linux/rtnetlink.h
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTPROT_KERNEL, RTPROT_STATIC = 2, 4
RT_SCOPE_SITE, RT_SCOPE_LINK = 200, 253
RTN_UNICAST = 1

FR_ACT_TO_TBL = 1  # include/uapi/linux/fib_rules.h

# include/uapi/linux/if.h
IFF_UP = 0x1
IFF_RUNNING = 0x40
# Those that somebody sets (`ip link set … promisc on`), as the kernel tells them of a link:
# dev_get_flags() leaves out the promiscuity that it or a packet socket asked for.
IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST, IFF_DYNAMIC = (
    0x80,
    0x100,
    0x200,
    0x1000,
    0x8000,
)
SETTABLE_FLAGS = {
    "promisc": IFF_PROMISC,
    "allmulticast": IFF_ALLMULTI,
    "arp": IFF_NOARP,
    "multicast": IFF_MULTICAST,
    "dynamic": IFF_DYNAMIC,
}

# macvlan's bc_queue_len_req where nobody asks for another (drivers/net/macvlan.c)
DEFAULT_BCQUEUELEN = 1000


@frozen
class Vlan:
    """A VLAN device's own attributes (IFLA_INFO_DATA of kind vlan)."""

    id: int
    protocol: int = 0x8100
    flags: int = 0x1  # VLAN_FLAG_REORDER_HDR, the kernel's default
    egress: tuple[tuple[int, int], ...] = ()  # (a packet's priority, that of its frame), sorted
    ingress: tuple[tuple[int, int], ...] = ()  # (a frame's priority, that of its packet), sorted


@frozen
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
    altnames: tuple[str, ...] = ()  # other names that the kernel finds it by

    def __hash__(self) -> int:
        return hash(self.name)  # a repair looks chains of these up several times a pod

    @property
    def names(self) -> tuple[str, ...]:
        """All that the kernel finds it by."""
        return (self.name, *self.altnames)

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def carrier(self) -> bool:
        return bool(self.flags & IFF_RUNNING)


@frozen
class PodLink:
    """The pod's interface."""

    ifindex: int
    mac: str
    mtu: int
    kind: str
    mode: str
    flags: int  # IFLA_MACVLAN_FLAGS, IFLA_IPVLAN_FLAGS
    txqueuelen: int
    alias: str = ""
    altnames: tuple[str, ...] = ()
    group: int = 0
    bcqueuelen: int = 0  # macvlan's; 0: not known
    device_flags: int | None = None  # those of SETTABLE_FLAGS; None: not known
    # None: what a new link has by itself, or not known
    gso_max_size: int | None = None
    gso_max_segs: int | None = None
    gro_max_size: int | None = None
    gso_ipv4_max_size: int | None = None
    gro_ipv4_max_size: int | None = None
    num_tx_queues: int | None = None
    num_rx_queues: int | None = None

    @property
    def inherits_mac(self) -> bool:
        """Whether it has its master's MAC, whatever it is given (ipvlan_link_new)."""
        return self.kind == "ipvlan"

    @property
    def usual_flags(self) -> int:
        """The `device_flags` of a new link of this kind (macvlan_setup, ipvlan_set_port_mode)."""
        l3 = self.kind == "ipvlan" and self.mode in ("l3", "l3s")
        return IFF_MULTICAST | (IFF_NOARP if l3 else 0)


@frozen
class Address:
    """One address of the pod's interface."""

    family: int  # 4 or 6
    address: str
    prefix: int
    broadcast: str | None = None
    scope: int = 0
    label: str | None = None
    flags: int = 0  # as configured: without what the kernel adds
    valid: int = FOREVER
    preferred: int = FOREVER
    peer: str | None = None
    metric: int = 0  # of the route that comes with it; 0: the kernel's choice
    proto: int = 0  # IFA_PROTO

    @property
    def key(self) -> tuple[object, ...]:
        """What the kernel tells addresses of one interface apart by (find_matching_ifa,
        ipv6_get_ifaddr)."""
        if self.family == 6:
            return 6, self.address
        return 4, self.address, self.prefix, self.peer

    @property
    def is_limited(self) -> bool:
        return self.valid != FOREVER or self.preferred != FOREVER

    @property
    def fixed(self) -> tuple[object, ...]:
        """All of it that does not change by itself, as a lifetime does that is not for ever; but
        for its origin, which does nothing."""
        return (
            self.prefix,
            self.broadcast,
            self.scope,
            self.label,
            self.flags,
            self.peer,
            self.metric,
            self.valid == FOREVER,
            self.preferred == FOREVER,
        )


@frozen
class Hop:
    """One of the next hops of an IPv4 multipath route."""

    ifname: str
    gateway: str | None = None
    weight: int = 1
    onlink: bool = False
    realm: int = 0


@frozen
class Route:
    """One route through the pod's interface.

    An IPv4 multipath route is one route, with `hops`, and goes as a whole when one of its links
    goes. Of an IPv6 one each hop is a route of its own to the kernel (a sibling), and so it is
    here: `shared`.
    """

    family: int  # 4 or 6
    dst: str  # "0.0.0.0/0" for the default route
    gateway: str | None = None
    table: int = 254
    metric: int = 0
    scope: int = 0
    type: int = RTN_UNICAST
    protocol: int = 3
    prefsrc: str | None = None
    tos: int = 0
    onlink: bool = False
    metrics: tuple[tuple[int, int], ...] = ()  # (RTAX_*, value): mtu, advmss, …
    src: str | None = None  # of IPv6: only for packets from this prefix
    congctl: str | None = None  # RTAX_CC_ALGO
    realm: int = 0  # RTA_FLOW
    pref: int = 0  # ICMPV6_ROUTER_PREF_*
    hops: tuple[Hop, ...] = ()
    weight: int = 1
    shared: bool = False
    expires: int = 0  # seconds; IPv6's alone. 0: never

    @property
    def slot(self) -> tuple[object, ...]:
        """What an exclusive new route must differ in from all others."""
        return self.family, self.table, self.dst, self.src, self.tos, self.metric

    @property
    def key(self) -> tuple[object, ...]:
        """What the kernel tells routes through one link apart by."""
        return *self.slot, self.gateway, self.type, self.hops

    @property
    def fixed(self) -> Route:
        """What does not change by itself: time passes, and whether there are other next hops is
        for their own links to say."""
        if self.shared or self.expires:
            return replace(self, shared=False, expires=min(self.expires, 1))
        return self


@frozen
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


@frozen
class Neighbour:
    """A permanent neighbour on the pod's interface, or an address that it answers for (proxy)."""

    family: int  # 4 or 6
    address: str
    mac: str | None = None  # None: a proxy entry
    flags: int = 0  # NTF_ROUTER, NTF_EXT_LEARNED
    protocol: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """What the kernel tells entries of one interface apart by."""
        return self.family, self.address, self.mac is None


@frozen
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
    # Taken after ADD (by CHECK, snapshot, adopt): later plugins had done their work by then, and
    # what an interface that is there has otherwise now was changed since.
    settled: bool = False
    # Where the link-local addresses are not those that the kernel would make: they stand among the
    # addresses, and this is the way of making them (IFLA_INET6_ADDR_GEN_MODE) to go back to.
    addr_gen_mode: int | None = None
    lifetimes_at: int = 0  # seconds since boot: when addresses and routes had these lifetimes

    @property
    def has_lifetimes(self) -> bool:
        """Whether any of its addresses or routes ends by itself."""
        return any(one.is_limited for one in self.addresses) or any(
            one.expires for one in self.routes
        )


@frozen
class NodeLink:
    """What the node has of its own on a link that a repair makes: on a VLAN of the pods' masters,
    or on a shim, a link like the pods' in the node's own namespace, by which it talks to them."""

    name: str
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    shim: PodLink | None = None  # None: a VLAN
    master: str = ""  # of a shim: the link that it stands on
    up: bool = True  # of a shim; a VLAN is set up with the link that it stands on


@frozen
class NodeLinks:
    """What the node had so at one time."""

    seen_at: int  # Unix time in milliseconds: of several records the newest counts
    links: tuple[NodeLink, ...] = ()
