"""Links: a pod's interface, and the node's links that it stands on."""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.kinds import altname, ifname, list_of, mac, one_of, record_of, text
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel import vlan
from cni_repair.network.kernel.sysctl import sysctls_in
from cni_repair.network.kernel.table import (
    AFTERWARDS,
    ALWAYS,
    AT_CREATION,
    INT31,
    NEVER,
    UINT16,
    UINT32,
    Field,
    Table,
)
from cni_repair.network.model import (
    DEFAULT_BCQUEUELEN,
    IFF_NOARP,
    IFF_RUNNING,
    IFF_UP,
    IPVLAN_MODES,
    KINDS,
    MACVLAN_MODES,
    SETTABLE_FLAGS,
    HostLink,
    PodLink,
    Vlan,
)

_SETTABLE = sum(SETTABLE_FLAGS.values())
_SKIP_STATISTICS = nl.u32(rt.IFLA_EXT_MASK, 1 << 3)  # RTEXT_FILTER_SKIP_STATS
_MACVLAN_NUMBERS = {name: number for number, name in MACVLAN_MODES.items()}
_IPVLAN_NUMBERS = {name: number for number, name in IPVLAN_MODES.items()}


def _alias_of(raw: bytes) -> str:
    """Of any bytes that a pod likes; what is no text a checkpoint cannot hold, nor a line show."""
    try:
        return raw.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return ""


def _alias(kind: int, alias: str) -> bytes:
    return nl.attribute(kind, nl.raw_string(alias))


_IN_HEADER = "struct ifinfomsg"
_MODE = {"wire": "both in IFLA_INFO_DATA, by the link's kind", "word": "after the kind"}
# In the order of `ip link add`.
TABLE = Table(
    PodLink,
    Field(
        "ifindex",
        INT31,
        word="index {}",
        set_=AT_CREATION,
        compared=NEVER,
        unsaid=(0,),
        because={"wire": _IN_HEADER, "compared": "who has it otherwise is said apart"},
    ),
    Field("mac", mac, rt.IFLA_ADDRESS, nl.MAC, "address {}", unsaid=("",)),
    Field("mtu", INT31, rt.IFLA_MTU, nl.U32, "mtu {}", unsaid=(0,)),
    Field("txqueuelen", INT31, rt.IFLA_TXQLEN, nl.U32, "txqueuelen {}"),
    Field("group", UINT32, rt.IFLA_GROUP, nl.U32, "group {}"),
    # Afterwards: what a master of today cannot do must not keep the pod from its interface, and a
    # new one takes no more than 65536 before it has a master.
    Field("gso_max_size", UINT32, rt.IFLA_GSO_MAX_SIZE, nl.U32, "gso_max_size {}",
        set_=AFTERWARDS, usual=65536, limit=rt.IFLA_TSO_MAX_SIZE, is_silent=True),
    Field("gso_max_segs", UINT32, rt.IFLA_GSO_MAX_SEGS, nl.U32, "gso_max_segs {}",
        set_=AFTERWARDS, usual=65535, limit=rt.IFLA_TSO_MAX_SEGS, is_silent=True),
    Field("gro_max_size", UINT32, rt.IFLA_GRO_MAX_SIZE, nl.U32, "gro_max_size {}",
        set_=AFTERWARDS, usual=65536, is_silent=True),
    Field("gso_ipv4_max_size", UINT32, rt.IFLA_GSO_IPV4_MAX_SIZE, nl.U32, "gso_ipv4_max_size {}",
        set_=AFTERWARDS, usual=65536, along=rt.IFLA_GSO_MAX_SIZE, is_silent=True),
    Field("gro_ipv4_max_size", UINT32, rt.IFLA_GRO_IPV4_MAX_SIZE, nl.U32, "gro_ipv4_max_size {}",
        set_=AFTERWARDS, usual=65536, along=rt.IFLA_GRO_MAX_SIZE, is_silent=True),
    Field("num_tx_queues", UINT32, rt.IFLA_NUM_TX_QUEUES, nl.U32, "numtxqueues {}",
        set_=AT_CREATION, usual=1, is_silent=True),
    Field("num_rx_queues", UINT32, rt.IFLA_NUM_RX_QUEUES, nl.U32, "numrxqueues {}",
        set_=AT_CREATION, usual=1, is_silent=True),
    Field(
        "kind",
        one_of(*KINDS),
        word="type {}",
        set_=AT_CREATION,
        compared=NEVER,
        because={"wire": "IFLA_INFO_KIND", "compared": "a link of another kind is foreign"},
    ),
    Field("mode", one_of(*(mode for modes in KINDS.values() for mode in modes)),
        compared=ALWAYS, because=_MODE),
    Field("flags", UINT16, compared=ALWAYS, because=_MODE),
    Field(
        "bcqueuelen",
        UINT32,
        rt.IFLA_MACVLAN_BC_QUEUE_LEN,
        nl.U32,
        "bcqueuelen {}",
        compared=ALWAYS,
        within="macvlan",
        is_silent=True,
        unsaid=(DEFAULT_BCQUEUELEN,),
    ),
    Field(
        "alias",
        text,
        rt.IFLA_IFALIAS,
        nl.Codec(_alias_of, _alias),
        "alias {}",
        set_=AFTERWARDS,
        compared=ALWAYS,
        is_silent=True,
    ),
    Field(
        "altnames",
        list_of(altname),
        set_=AFTERWARDS,
        compared=ALWAYS,
        because={"wire": "a list in IFLA_PROP_LIST", "word": "`ip link property`, one by one"},
    ),
    Field(
        "device_flags",
        UINT16,
        set_=AFTERWARDS,
        because={"wire": _IN_HEADER, "word": "a word for each: see SETTABLE_FLAGS"},
    ),
)  # fmt: skip

_WAITED_FOR = {"word": "not made, but waited for", "compared": "see uplink/plan.py"}
_LEFT_TO_OTHERS = {"word": "its owner's to set", "compared": "its owner's to set"}
HOST = Table(
    HostLink,
    Field("name", ifname, rt.IFLA_IFNAME, nl.TEXT, "name {}", set_=AT_CREATION,
        because={"compared": "it is looked up by that"}, compared=NEVER),
    Field("ifindex", INT31, set_=NEVER, compared=NEVER,
        because={"wire": _IN_HEADER, **_LEFT_TO_OTHERS}),
    Field("kind", text, set_=NEVER, compared=NEVER,
        because={"wire": "IFLA_INFO_KIND", **_WAITED_FOR}),
    Field("mac", text, rt.IFLA_ADDRESS, nl.MAC, "address {}", set_=AT_CREATION, unsaid=("",),
        because={"compared": "its owner's to set"}, compared=NEVER),
    Field("mtu", INT31, rt.IFLA_MTU, nl.U32, "mtu {}", set_=AT_CREATION, unsaid=(0,),
        because={"compared": "its owner's to set"}, compared=NEVER),
    Field("flags", UINT32, set_=NEVER, compared=NEVER,
        because={"wire": _IN_HEADER, **_LEFT_TO_OTHERS}),
    Field("lower", INT31, set_=AT_CREATION, compared=NEVER,
        because={"wire": "IFLA_LINK, if that is in the node", "word": "link, by name",
                 "compared": "see uplink/plan.py"}),
    Field("permanent_mac", text, rt.IFLA_PERM_ADDRESS, nl.MAC, set_=NEVER, compared=NEVER,
        because=_WAITED_FOR),
    Field("bus_address", text, rt.IFLA_PARENT_DEV_NAME, nl.TEXT, set_=NEVER, compared=NEVER,
        because=_WAITED_FOR),
    Field("vlan", record_of(Vlan, vlan.TABLE.readers), set_=AT_CREATION, compared=NEVER,
        because={"wire": "IFLA_INFO_DATA", "word": "type vlan", "compared": "see uplink/plan.py"}),
    Field("altnames", list_of(altname), set_=AFTERWARDS, compared=NEVER,
        because={"wire": "a list in IFLA_PROP_LIST", "word": "`ip link property`, one by one",
                 "compared": "it is looked up by them, too"}),
)  # fmt: skip


# --- asking ---------------------------------------------------------------------------------------


def link_request(name: str = "", ifindex: int = 0) -> nl.Message:
    """Asks for the link of that name, be it an altname, or index."""
    # The kernel looks for altnames under either attribute (rtnl_dev_get), but IFLA_IFNAME holds no
    # longer ones than a link's first name can be.
    kind = rt.IFLA_IFNAME if is_short(name) else rt.IFLA_ALT_IFNAME
    attributes = _SKIP_STATISTICS + (nl.text(kind, name) if name else b"")
    return nl.Message(rt.RTM_GETLINK, 0, nl.link_body(ifindex, 0, 0, attributes))


def is_short(name: str) -> bool:
    """Whether a link may have it as its first name (IFNAMSIZ); altnames may be longer."""
    return len(nl.raw_string(name)) <= 15


def links_request(kind: str = "") -> nl.Message:
    """Asks for a dump of all links, or of those of a kind."""
    info = nl.link_info(kind, b"") if kind else b""
    return nl.Message(rt.RTM_GETLINK, 0, nl.link_body(0, 0, 0, _SKIP_STATISTICS + info))


# --- reading --------------------------------------------------------------------------------------


@nl.decoder
def name_in(body: bytes) -> str:
    """The name of a link."""
    return nl.string_of(nl.unpack_link(body)[2][rt.IFLA_IFNAME])


def names_in(attributes: dict[int, bytes]) -> tuple[str, ...]:
    """All that the kernel finds a link by: its first name, then its altnames."""
    return (nl.string_of(attributes.get(rt.IFLA_IFNAME, b"")), *_altnames(attributes))


@nl.decoder
def host_link(body: bytes) -> HostLink:
    """A link of the node, as the kernel shows it."""
    ifindex, flags, attributes = nl.unpack_link(body)
    _check_complete(attributes)
    kind, data = _info(attributes)
    values = HOST.decode(attributes)
    values.setdefault("mac", "")
    values["ifindex"] = ifindex
    values["kind"] = kind
    values["flags"] = flags & (IFF_UP | _running(flags, attributes))
    values["altnames"] = _altnames(attributes)
    # An index in another namespace says nothing in this one.
    if rt.IFLA_LINK in attributes and rt.IFLA_LINK_NETNSID not in attributes:
        values["lower"] = nl.u32_of(attributes[rt.IFLA_LINK])
    if kind == "vlan":
        values["vlan"] = vlan.decode(data)
    return HostLink(**values)


def _check_complete(attributes: dict[int, bytes]) -> None:
    if not {rt.IFLA_IFNAME, rt.IFLA_MTU} <= attributes.keys():
        raise ValueError("a link without a name or an MTU")


def _running(flags: int, attributes: dict[int, bytes]) -> int:
    """IFF_RUNNING, where it is so. A new link has that flag, too, until linkwatch has worked: its
    operstate is unknown (netif_oper_up), though it is told already that there is no carrier."""
    return flags & IFF_RUNNING if attributes.get(rt.IFLA_CARRIER) != b"\0" else 0


@frozen
class LiveLink:
    """A link as found under the attachment's name in the pod, ours or not."""

    name: str
    link: PodLink
    up: bool
    carrier: bool
    master: int  # ifindex of the link below, in the namespace that `master_netnsid` names
    master_netnsid: int | None  # None: in the pod itself
    sysctls: tuple[tuple[str, str], ...] = ()  # the allow-listed ones, as they are

    @property
    def answers_arp(self) -> bool:
        """Not an ipvlan of mode l3, which its neighbours reach by routes."""
        return not (self.link.device_flags or 0) & IFF_NOARP

    def is_over(self, netnsid: int | None) -> bool:
        """Whether it stands on a link of the namespace of that id."""
        return netnsid is not None and self.master_netnsid == netnsid


@nl.decoder
def live_link(body: bytes, sysctls: bool = True) -> LiveLink:
    """A pod's interface, as the kernel shows it; `sysctls`: whether those of one that is up are
    wanted."""
    ifindex, flags, attributes = nl.unpack_link(body)
    up = bool(flags & IFF_UP)
    netnsid = attributes.get(rt.IFLA_LINK_NETNSID)
    return LiveLink(
        name=nl.string_of(attributes[rt.IFLA_IFNAME]),
        link=_pod_link(ifindex, flags, attributes),
        up=up,
        carrier=bool(_running(flags, attributes)),
        master=nl.u32_of(attributes.get(rt.IFLA_LINK, b"")),
        master_netnsid=nl.s32_of(netnsid) if netnsid else None,
        sysctls=sysctls_in(attributes.get(rt.IFLA_AF_SPEC, b"")) if sysctls or not up else (),
    )


def _pod_link(ifindex: int, flags: int, attributes: dict[int, bytes]) -> PodLink:
    _check_complete(attributes)
    kind, data = _info(attributes)
    values = TABLE.decode(attributes)
    TABLE.decode_own(values, kind, data)
    values.setdefault("mac", "")
    values.setdefault("txqueuelen", 0)
    values["ifindex"] = ifindex
    values["kind"] = kind
    values["mode"], values["flags"] = _mode(kind, data)
    values["device_flags"] = flags & _SETTABLE
    values["altnames"] = _altnames(attributes)
    return PodLink(**values)


def _altnames(attributes: dict[int, bytes]) -> tuple[str, ...]:
    if rt.IFLA_PROP_LIST not in attributes:
        return ()
    names = nl.entries_of(attributes[rt.IFLA_PROP_LIST])
    return tuple(nl.string_of(raw) for number, raw in names if number == rt.IFLA_ALT_IFNAME)


def _mode(kind: str, data: dict[int, bytes]) -> tuple[str, int]:
    """The mode of a link of one of the KINDS, and its flags; empty and 0 for others."""
    if kind == "macvlan":
        mode = MACVLAN_MODES.get(nl.u32_of(data.get(rt.IFLA_MACVLAN_MODE, b"")), "unknown")
        return mode, nl.u32_of(data.get(rt.IFLA_MACVLAN_FLAGS, b""))
    if kind == "ipvlan":
        mode = IPVLAN_MODES.get(nl.u32_of(data.get(rt.IFLA_IPVLAN_MODE, b"")), "unknown")
        return mode, nl.u32_of(data.get(rt.IFLA_IPVLAN_FLAGS, b""))
    return "", 0


def _info(attributes: dict[int, bytes]) -> tuple[str, dict[int, bytes]]:
    info = nl.attributes_of(attributes.get(rt.IFLA_LINKINFO, b""))
    kind = nl.string_of(info.get(rt.IFLA_INFO_KIND, b""))
    return kind, nl.attributes_of(info.get(rt.IFLA_INFO_DATA, b""))


# --- writing --------------------------------------------------------------------------------------


def new_link(ifname: str, link: PodLink, master: int, more: bytes = b"") -> bytes:
    """What RTM_NEWLINK says of a link to be made over the master of that index; with its own index,
    where that is known. `more`: attributes beside."""
    plain = as_given(link)
    own = _mode_data(link) + TABLE.encode(link, link.kind)
    attributes = (
        nl.text(rt.IFLA_IFNAME, ifname)
        + nl.u32(rt.IFLA_LINK, master)
        + more
        + TABLE.encode(plain)
        + nl.link_info(link.kind, own)
    )
    return nl.link_body(link.ifindex, 0, 0, attributes)


def as_given(link: PodLink) -> PodLink:
    """Without what a link of its kind is not given: it has its master's MAC."""
    return replace(link, mac="") if link.inherits_mac else link


def changed_link(ifindex: int, what: str, link: PodLink) -> bytes:
    """What RTM_NEWLINK says to give the link of that index `what` of `link`: one of its fields, the
    mode with its flags, or one of SETTABLE_FLAGS."""
    if what in SETTABLE_FLAGS:
        flag = SETTABLE_FLAGS[what]
        return nl.link_body(ifindex, (link.device_flags or 0) & flag, flag, b"")
    if what == "mode":
        return nl.link_body(ifindex, 0, 0, nl.link_info(link.kind, _mode_data(link)))
    attribute = TABLE.encode_field(what, getattr(link, what))
    if TABLE.by_name[what].within:
        attribute = nl.link_info(link.kind, attribute)
    return nl.link_body(ifindex, 0, 0, attribute)


def moved_link(ifindex: int, netns: int, ifname: str, new_ifindex: int) -> bytes:
    """What RTM_NEWLINK says to move a link into a namespace (an open descriptor), under its name
    and index there; 0: the kernel chooses.

    IFLA_NEW_IFINDEX is known since 5.13; an older kernel ignores it and chooses the index.
    """
    attributes = nl.u32(rt.IFLA_NET_NS_FD, netns) + nl.text(rt.IFLA_IFNAME, ifname)
    if new_ifindex:
        attributes += nl.u32(rt.IFLA_NEW_IFINDEX, new_ifindex)
    return nl.link_body(ifindex, 0, 0, attributes)


def altname_of(ifindex: int, name: str) -> bytes:
    """What RTM_NEWLINKPROP says of one more name."""
    # Younger than NLA_F_NESTED (2019), this attribute must say that it has others inside.
    kind = rt.IFLA_PROP_LIST | rt.NLA_F_NESTED
    return nl.link_body(ifindex, 0, 0, nl.attribute(kind, nl.text(rt.IFLA_ALT_IFNAME, name)))


def up_link(ifindex: int) -> bytes:
    """What RTM_NEWLINK says to set a link up."""
    return nl.link_body(ifindex, IFF_UP, IFF_UP, b"")


def _mode_data(link: PodLink) -> bytes:
    if link.kind == "ipvlan":
        mode = nl.u16(rt.IFLA_IPVLAN_MODE, _IPVLAN_NUMBERS[link.mode])
        return mode + nl.u16(rt.IFLA_IPVLAN_FLAGS, link.flags)
    mode = nl.u32(rt.IFLA_MACVLAN_MODE, _MACVLAN_NUMBERS[link.mode])
    return mode + nl.u16(rt.IFLA_MACVLAN_FLAGS, link.flags)
