"""The steps of a repair: frozen values that describe themselves and make their own netlink message.

Nothing here does I/O. Each operation reads as the `iproute2` command that it equals
(:meth:`command`), and becomes one message (:meth:`message`), sent through a socket of the namespace
that it works in: the pod's. Here are those for the link itself; see
:mod:`~cni_repair.network.operations.entries` for what it carries, and
:mod:`~cni_repair.uplink.operations` for the node's own links.
"""

from __future__ import annotations

import struct

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.lightsocket import AF_INET, AF_INET6
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.sysctl import BY_MESSAGE
from cni_repair.network.model import (
    DEFAULT_BCQUEUELEN,
    IFF_UP,
    IPVLAN_MODES,
    MACVLAN_MODES,
    SETTABLE_FLAGS,
    PodLink,
)
from cni_repair.network.operations.iproute2 import inside, quoted, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from cni_repair.network.operations.entries import Addition

    LinkOperation: TypeAlias = (
        "AddPodLink | SetLink | AddAltname | SetSysctl | SetAddrGenMode | SetUp"
    )
    PodOperation: TypeAlias = "LinkOperation | Addition"

_NEW = rt.NLM_F_CREATE | rt.NLM_F_EXCL
_MACVLAN_NUMBERS = {name: number for number, name in MACVLAN_MODES.items()}
_IPVLAN_NUMBERS = {name: number for number, name in IPVLAN_MODES.items()}
_IPVLAN_FLAGS = {0: "bridge", 1: "private", 2: "vepa"}
_ADDR_GEN_MODES = {0: "eui64", 1: "none", 2: "stable_secret", 3: "random"}
_NUMBERS = {"mtu": rt.IFLA_MTU, "txqueuelen": rt.IFLA_TXQLEN, "group": rt.IFLA_GROUP}


@frozen
class Target:
    """What a pod's messages need to know that only the moment tells (indices and ids)."""

    ifindex: int  # of the pod's interface
    master: int  # of the node's link below it
    node_netnsid: int | None  # by which id the pod's namespace knows the node's
    links: tuple[tuple[str, int], ...] = ()  # the pod's other links that its routes go through


@frozen
class AddPodLink:
    """Create the pod's interface, down, in its place, with its old index, name and MAC.

    One message does it, through a socket of the pod that names the master by the node's id there
    (IFLA_LINK_NETNSID). Kernels before 6.15 make the link in the master's namespace first and move
    it then: a node that has an eth0 of its own, or a link of that index, makes that EEXIST. The
    way round is two messages through a socket of the node: :meth:`temporary` and :meth:`move`.
    NLM_F_EXCL: without it the message would change whatever has that name or index.
    """

    ifname: str
    master: str
    link: PodLink  # ifindex 0: the kernel chooses

    def command(self, netns: str) -> str:
        return words(
            f"ip link add link {quoted(self.master)} name {quoted(self.ifname)}",
            f"index {self.link.ifindex}" if self.link.ifindex else "",
            f"address {self.link.mac}" if _takes_mac(self.link) else "",
            f"mtu {self.link.mtu}" if self.link.mtu else "",
            f"txqueuelen {self.link.txqueuelen}",
            f"group {self.link.group}" if self.link.group else "",
            f"netns {quoted(netns)}" if netns else "",
            f"type {self.link.kind}",
            _kind_words(self.link),
        )

    def message(self, where: Target) -> nl.Message:
        assert where.node_netnsid is not None
        netnsid = nl.attribute(rt.IFLA_LINK_NETNSID, struct.pack("=i", where.node_netnsid))
        attributes = nl.text(rt.IFLA_IFNAME, self.ifname) + netnsid + self._made_of(where.master)
        return nl.Message(rt.RTM_NEWLINK, _NEW, nl.link_body(self.link.ifindex, 0, 0, attributes))

    def temporary(self, name: str, master: int) -> nl.Message:
        """Create it in the node, under a name that nothing else has; the kernel picks an index."""
        attributes = nl.text(rt.IFLA_IFNAME, name) + self._made_of(master)
        return nl.Message(rt.RTM_NEWLINK, _NEW, nl.link_body(0, 0, 0, attributes))

    def move(self, ifindex: int, netns: int) -> nl.Message:
        """Give the temporary link its place: namespace (an open descriptor), name and index.

        IFLA_NEW_IFINDEX is known since 5.13; an older kernel ignores it and chooses the index.
        """
        attributes = nl.u32(rt.IFLA_NET_NS_FD, netns) + nl.text(rt.IFLA_IFNAME, self.ifname)
        if self.link.ifindex:
            attributes += nl.u32(rt.IFLA_NEW_IFINDEX, self.link.ifindex)
        return nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(ifindex, 0, 0, attributes))

    def _made_of(self, master: int) -> bytes:
        link = self.link
        return (
            nl.u32(rt.IFLA_LINK, master)
            + (nl.attribute(rt.IFLA_ADDRESS, nl.raw_mac(link.mac)) if _takes_mac(link) else b"")
            + (nl.u32(rt.IFLA_MTU, link.mtu) if link.mtu else b"")
            + nl.u32(rt.IFLA_TXQLEN, link.txqueuelen)
            + (nl.u32(rt.IFLA_GROUP, link.group) if link.group else b"")
            + nl.link_info(link.kind, _kind_data(link))
        )


def _takes_mac(link: PodLink) -> bool:
    return bool(link.mac) and not link.inherits_mac


def _kind_words(link: PodLink) -> str:
    """What `ip link` has after the kind."""
    if link.kind == "ipvlan":
        return f"mode {link.mode} {_IPVLAN_FLAGS.get(link.flags, '')}"
    return words(
        f"mode {link.mode}",
        "nopromisc" if link.flags & 1 and link.mode == "passthru" else "",
        "nodst" if link.flags & 2 else "",
        f"bcqueuelen {link.bcqueuelen}" if _has_own_queue(link) else "",
    )


def _kind_data(link: PodLink) -> bytes:
    """IFLA_INFO_DATA."""
    if link.kind == "ipvlan":
        return nl.attribute(
            rt.IFLA_IPVLAN_MODE, _IPVLAN_NUMBERS[link.mode].to_bytes(2, "little")
        ) + nl.attribute(rt.IFLA_IPVLAN_FLAGS, link.flags.to_bytes(2, "little"))
    data = nl.u32(rt.IFLA_MACVLAN_MODE, _MACVLAN_NUMBERS[link.mode])
    data += nl.attribute(rt.IFLA_MACVLAN_FLAGS, link.flags.to_bytes(2, "little"))
    if _has_own_queue(link):
        data += nl.u32(rt.IFLA_MACVLAN_BC_QUEUE_LEN, link.bcqueuelen)
    return data


def _has_own_queue(link: PodLink) -> bool:
    return link.bcqueuelen not in (0, DEFAULT_BCQUEUELEN)


@frozen
class SetLink:
    """Give the pod's interface one of its attributes back: `what` of `link`.

    `what`: mac, mtu, txqueuelen, alias, group, mode (with its flags), bcqueuelen, or one of
    SETTABLE_FLAGS.
    """

    ifname: str
    what: str
    link: PodLink

    @property
    def flushes_neighbours(self) -> bool:
        """The kernel forgets them then, permanent ones too (neigh_changeaddr; arp_netdev_event)."""
        return self.what in ("mac", "arp")

    def command(self, netns: str) -> str:
        set_it = f"{inside(netns)} ip link set dev {quoted(self.ifname)}"
        return f"{set_it} {self._words()}"  # not `words`: an alias may have any blanks

    def _words(self) -> str:
        link = self.link
        if self.what in SETTABLE_FLAGS:
            return f"{self.what} {'on' if self.is_on() else 'off'}"
        if self.what in ("mode", "bcqueuelen"):
            mode = _kind_words(replace(link, bcqueuelen=0))
            queue = f"bcqueuelen {link.bcqueuelen}"
            return f"type {link.kind} {mode if self.what == 'mode' else queue}"
        if self.what == "mac":
            return f"address {link.mac}"
        return f"{self.what} {quoted(str(getattr(link, self.what)))}"

    def message(self, where: Target) -> nl.Message:
        flag = SETTABLE_FLAGS.get(self.what, 0)
        flags = (self.link.device_flags or 0) & flag
        body = nl.link_body(where.ifindex, flags, flag, self._attributes())
        return nl.Message(rt.RTM_NEWLINK, 0, body)

    def _attributes(self) -> bytes:
        link = self.link
        if self.what == "mac":
            return nl.attribute(rt.IFLA_ADDRESS, nl.raw_mac(link.mac))
        if self.what == "alias":
            return nl.attribute(rt.IFLA_IFALIAS, nl.raw_string(link.alias))
        if self.what == "mode":
            return nl.link_info(link.kind, _kind_data(replace(link, bcqueuelen=0)))
        if self.what == "bcqueuelen":
            queue = nl.u32(rt.IFLA_MACVLAN_BC_QUEUE_LEN, link.bcqueuelen)
            return nl.link_info(link.kind, queue)
        if self.what in _NUMBERS:
            return nl.u32(_NUMBERS[self.what], getattr(link, self.what))
        return b""

    def is_on(self) -> bool:
        """`arp on` is the absence of IFF_NOARP."""
        is_set = bool((self.link.device_flags or 0) & SETTABLE_FLAGS[self.what])
        return is_set != (self.what == "arp")


@frozen
class AddAltname:
    """Give the pod's interface one more name."""

    ifname: str
    altname: str

    def command(self, netns: str) -> str:
        return words(
            f"{inside(netns)} ip link property add dev {quoted(self.ifname)}",
            f"altname {quoted(self.altname)}",
        )

    def message(self, where: Target) -> nl.Message:
        # Younger than NLA_F_NESTED (2019), this attribute must say that it has others inside.
        kind = rt.IFLA_PROP_LIST | rt.NLA_F_NESTED
        names = nl.attribute(kind, nl.text(rt.IFLA_ALT_IFNAME, self.altname))
        body = nl.link_body(where.ifindex, 0, 0, names)
        return nl.Message(rt.RTM_NEWLINKPROP, _NEW, body)


@frozen
class SetSysctl:
    """Set one of the interface's own sysctls: in a file below /proc/sys/net, or by a message, which
    travels with the link's others (the macvlan plugin sets `arp_notify` for every pod)."""

    ifname: str
    key: str  # "ipv4/arp_notify"
    value: str

    @property
    def path(self) -> str:
        family, _, name = self.key.partition("/")
        return f"/proc/sys/net/{family}/conf/{self.ifname}/{name}"

    @property
    def has_message(self) -> bool:
        return self.key in BY_MESSAGE

    def message(self, where: Target) -> nl.Message:
        value = nl.attribute(BY_MESSAGE[self.key], struct.pack("=i", int(self.value)))
        family = nl.attribute(AF_INET, nl.attribute(rt.IFLA_INET_CONF, value))
        body = nl.link_body(where.ifindex, 0, 0, nl.attribute(rt.IFLA_AF_SPEC, family))
        return nl.Message(rt.RTM_NEWLINK, 0, body)

    def command(self, netns: str) -> str:
        name = self.key.replace("/", f"/conf/{self.ifname}/")
        return f"{inside(netns)} sysctl -q -w {quoted(f'net/{name}={self.value}')}"


@frozen
class SetAddrGenMode:
    """Set how link-local addresses are made from now on.

    The sysctl of that name would make one at once, beside those that are there already
    (addrconf_sysctl_addr_gen_mode); the netlink attribute does not (inet6_set_link_af).
    """

    ifname: str
    mode: int  # enum in6_addr_gen_mode, include/uapi/linux/if_link.h

    def command(self, netns: str) -> str:
        name = _ADDR_GEN_MODES.get(self.mode, str(self.mode))
        return f"{inside(netns)} ip link set dev {quoted(self.ifname)} addrgenmode {name}"

    def message(self, where: Target) -> nl.Message:
        mode = nl.attribute(rt.IFLA_INET6_ADDR_GEN_MODE, bytes([self.mode]))
        families = nl.attribute(rt.IFLA_AF_SPEC, nl.attribute(AF_INET6, mode))
        return nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(where.ifindex, 0, 0, families))


@frozen
class SetUp:
    """Set the pod's interface up."""

    ifname: str

    def command(self, netns: str) -> str:
        return f"{inside(netns)} ip link set dev {quoted(self.ifname)} up"

    def message(self, where: Target) -> nl.Message:
        return nl.Message(rt.RTM_NEWLINK, 0, nl.link_body(where.ifindex, IFF_UP, IFF_UP, b""))
