"""The steps of a repair for the pod's interface itself."""

from __future__ import annotations

import errno

from cni_repair.base.frozen import frozen, replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.link import (
    TABLE,
    altname_of,
    as_given,
    changed_link,
    moved_link,
    new_link,
    up_link,
)
from cni_repair.network.kernel.sysctl import (
    BY_MESSAGE,
    addr_gen_mode_body,
    sysctl_body,
)
from cni_repair.network.model import DEFAULT_BCQUEUELEN, SETTABLE_FLAGS, Address, PodLink
from cni_repair.network.operations.address import AddAddress
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.iproute2 import inside, quoted, said, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Creation, Target

_NEW = rt.NLM_F_CREATE | rt.NLM_F_EXCL
_IPVLAN_FLAGS = {0: "bridge", 1: "private", 2: "vepa"}
_ADDR_GEN_MODES = {0: "eui64", 1: "none", 2: "stable_secret", 3: "random"}
_EUI64, _NO_LINK_LOCAL = 0, 1


@frozen
class AddPodLink(Operation):
    """Create the pod's interface, down, in its place, with its old index, name and MAC.

    One message does it, through a socket of the node that says where the link is to be
    (IFLA_NET_NS_FD). Kernels before 6.15 look first whether the node has a link of that index, or
    where no index is known of that name: EEXIST. The way round is two messages, which have the link
    moved: :meth:`temporary` and :meth:`move`. (A socket of the pod that names the master by the
    node's id there, IFLA_LINK_NETNSID, would do on no kernel what the node's does not, and before
    6.15 each link made so is moved, too: 20-32 ms a pod.)
    NLM_F_EXCL: without it the message would change whatever has that name or index.
    """

    ifname: str
    master: str
    link: PodLink  # ifindex 0: the kernel chooses

    @property
    def ifindex(self) -> int:
        return self.link.ifindex

    @property
    def over(self) -> str:
        return self.master

    @property
    def is_proved(self) -> bool:
        """A macvlan of what each kernel knows, in its old place. (Other names and flags are steps
        of their own.)"""
        link = self.link
        more = (link.group, link.num_tx_queues, link.num_rx_queues)
        usual = not any(more) and link.bcqueuelen in (0, DEFAULT_BCQUEUELEN)
        return usual and link.kind == "macvlan" and bool(link.ifindex and link.mac and link.mtu)

    @property
    def meanings(self) -> dict[int, str]:
        return {errno.ENODEV: f"the node's {self.master} went away meanwhile"}

    @property
    def creation(self) -> Creation:
        return self

    def describe(self, netns: str) -> str:
        link = self.link
        kind = words(f"netns {quoted(netns)}" if netns else "", f"type {link.kind}")
        made = said(TABLE, as_given(link), {"kind": kind, "mode": mode_words(link)})
        return words(f"ip link add link {quoted(self.master)} name {quoted(self.ifname)}", *made)

    def requests(self, target: Target) -> list[nl.Message]:
        """For a socket of the node."""
        netns = nl.s32(rt.IFLA_NET_NS_FD, target.netns)
        body = new_link(self.ifname, self.link, target.master, netns)
        return [nl.Message(rt.RTM_NEWLINK, _NEW, body)]

    def temporary(self, name: str, master: int) -> nl.Message:
        """Create it in the node, under a name that nothing else has; the kernel picks an index."""
        body = new_link(name, replace(self.link, ifindex=0), master)
        return nl.Message(rt.RTM_NEWLINK, _NEW, body)

    def move(self, ifindex: int, netns: int) -> nl.Message:
        """Give the temporary link its place: namespace (an open descriptor), name and index."""
        body = moved_link(ifindex, netns, self.ifname, self.link.ifindex)
        return nl.Message(rt.RTM_NEWLINK, 0, body)


def mode_words(link: PodLink) -> str:
    """What `ip link` has after the kind."""
    if link.kind == "ipvlan":
        return words(f"mode {link.mode}", _IPVLAN_FLAGS.get(link.flags, ""))
    return words(
        f"mode {link.mode}",
        "nopromisc" if link.flags & 1 and link.mode == "passthru" else "",
        "nodst" if link.flags & 2 else "",
    )


@frozen
class SetLink(Operation):
    """Give the pod's interface one of its attributes back: `what` of `link`.

    `what`: a field that netlink has an attribute for, "mode" (with its flags), or one of
    SETTABLE_FLAGS.
    """

    ifname: str
    what: str
    link: PodLink

    @property
    def flushes_neighbours_of(self) -> str:
        """neigh_changeaddr(); arp_netdev_event()"""
        return self.ifname if self.what in ("mac", "arp") else ""

    def describe(self, netns: str) -> str:
        return f"{inside(netns)}ip link set dev {quoted(self.ifname)} {self._words()}"

    def _words(self) -> str:
        link = self.link
        if self.what in SETTABLE_FLAGS:
            return f"{self.what} {'on' if self.is_on() else 'off'}"
        if self.what == "mode":
            return f"type {link.kind} {mode_words(link)}"
        row = TABLE.by_name[self.what]
        value = getattr(link, self.what)
        text = TABLE.said(row.name, quoted(value) if isinstance(value, str) else value)
        return f"type {link.kind} {text}" if row.within else text

    def requests(self, target: Target) -> list[nl.Message]:
        body = changed_link(target.ifindex, self.what, self.link)
        return [nl.Message(rt.RTM_NEWLINK, 0, body)]

    def is_on(self) -> bool:
        """`arp on` is the absence of IFF_NOARP."""
        is_set = bool((self.link.device_flags or 0) & SETTABLE_FLAGS[self.what])
        return is_set != (self.what == "arp")


@frozen
class AddAltname(Operation):
    """Give the pod's interface one more name."""

    ifname: str
    altname: str

    def describe(self, netns: str) -> str:
        return words(
            f"{inside(netns)}ip link property add dev {quoted(self.ifname)}",
            f"altname {quoted(self.altname)}",
        )

    def requests(self, target: Target) -> list[nl.Message]:
        body = altname_of(target.ifindex, self.altname)
        return [nl.Message(rt.RTM_NEWLINKPROP, _NEW, body)]


@frozen
class SetSysctl(Operation):
    """Set one of the interface's own sysctls: in a file below /proc/sys/net, or by a message, which
    travels with the link's others (the macvlan plugin sets `arp_notify` for every pod)."""

    ifname: str
    key: str  # "ipv4/arp_notify"
    value: str

    @property
    def is_proved(self) -> bool:
        return self.file is None

    @property
    def file(self) -> tuple[str, str, str] | None:
        return None if self.key in BY_MESSAGE else (self.key, self.ifname, self.value)

    def requests(self, target: Target) -> list[nl.Message]:
        if self.file is not None:
            return []
        return [nl.Message(rt.RTM_NEWLINK, 0, sysctl_body(target.ifindex, self.key, self.value))]

    def describe(self, netns: str) -> str:
        name = self.key.replace("/", f"/conf/{self.ifname}/")
        return f"{inside(netns)}sysctl -q -w {quoted(f'net/{name}={self.value}')}"


@frozen
class SetAddrGenMode(Operation):
    """Set how link-local addresses are made from now on.

    The sysctl of that name would make one at once, beside those that are there already
    (addrconf_sysctl_addr_gen_mode); the netlink attribute does not (inet6_set_link_af).
    """

    ifname: str
    mode: int  # enum in6_addr_gen_mode, include/uapi/linux/if_link.h

    def describe(self, netns: str) -> str:
        name = _ADDR_GEN_MODES.get(self.mode, str(self.mode))
        return f"{inside(netns)}ip link set dev {quoted(self.ifname)} addrgenmode {name}"

    def requests(self, target: Target) -> list[nl.Message]:
        return [nl.Message(rt.RTM_NEWLINK, 0, addr_gen_mode_body(target.ifindex, self.mode))]


@frozen
class SetUp(Operation):
    """Set the pod's interface up."""

    ifname: str

    is_vital = True
    is_proved = True

    @property
    def meanings(self) -> dict[int, str]:
        # macvlan_open(): macvlan_addr_busy()
        what = "another interface over this master has the same MAC"
        return {errno.EADDRINUSE: f"{what}: cni-repair help on-call finds it"}

    def describe(self, netns: str) -> str:
        return f"{inside(netns)}ip link set dev {quoted(self.ifname)} up"

    def requests(self, target: Target) -> list[nl.Message]:
        return [nl.Message(rt.RTM_NEWLINK, 0, up_link(target.ifindex))]


@frozen
class SetUpWithLinkLocal(Operation):
    """Set the pod's interface up, with the link-local address that the kernel makes of its MAC.

    The kernel would make the same one, and let nobody use it before it has looked for duplicates.
    So it is kept from making it for that moment; all four messages travel together.
    """

    ifname: str
    address: Address

    @property
    def steps(self) -> tuple[SetAddrGenMode | SetUp | AddAddress, ...]:
        return (
            SetAddrGenMode(self.ifname, _NO_LINK_LOCAL),
            SetUp(self.ifname),
            AddAddress(self.ifname, self.address),
            SetAddrGenMode(self.ifname, _EUI64),
        )

    def describe(self, netns: str) -> str:
        return "; ".join(step.describe(netns) for step in self.steps)

    def requests(self, target: Target) -> list[nl.Message]:
        return [message for step in self.steps for message in step.requests(target)]
