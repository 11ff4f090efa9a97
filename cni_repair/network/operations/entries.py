"""The steps of a repair that give a pod's interface its addresses, neighbours, routes and rules.

Operations are frozen values without I/O: see :mod:`~cni_repair.network.operations.link`.
"""

from __future__ import annotations

import struct

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.lightsocket import inet_pton
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.address import encode, encode_key
from cni_repair.network.model import (
    FIB_RULE_INVERT,
    FOREVER,
    FR_ACT_TO_TBL,
    IFA_F_MCAUTOJOIN,
    NTF_PROXY,
    NUD_PERMANENT,
    RULE_ACTIONS,
    Address,
    Neighbour,
    Rule,
)
from cni_repair.network.operations.iproute2 import SCOPES, inside, ip, quoted, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from cni_repair.network.operations.link import Target
    from cni_repair.network.operations.route import AddRoute, DropRoute

    Addition: TypeAlias = (
        "AddAddress | ChangeAddress | SetNeighbour | AddRoute | DropRoute | AddRule"
    )

_NEW = rt.NLM_F_CREATE | rt.NLM_F_EXCL
_NEIGHBOUR_FLAGS = {0x10: "extern_learn", 0x80: "router"}
_ADDRESS_FLAGS = {
    0x02: "nodad", 0x10: "home", 0x100: "mngtmpaddr", 0x200: "noprefixroute", 0x400: "autojoin",
}  # fmt: skip


@frozen
class AddAddress:
    """Give the pod's interface one address."""

    ifname: str
    address: Address

    @property
    def steps(self) -> tuple[AddAddress | DropAddress, ...]:
        """The messages, one each.

        The kernel's own socket is still in the group of an address that went with its link
        (`autojoin`; inetdev_destroy does not leave it), and cannot join again on the same index: an
        address of the group that is deleted makes it leave.
        """
        if not self.address.flags & IFA_F_MCAUTOJOIN:
            return (self,)
        flags = self.address.flags & ~IFA_F_MCAUTOJOIN
        plain = replace(self.address, flags=flags)
        return AddAddress(self.ifname, plain), DropAddress(self.ifname, plain), self

    def command(self, netns: str) -> str:
        return "; ".join(step.alone(netns) for step in self.steps)

    def alone(self, netns: str) -> str:
        """The command of this step only."""
        return f"{inside(netns)} ip address add {self.words}"

    @property
    def words(self) -> str:
        """The address as `ip address add` has it."""
        a = self.address
        flags = [word for bit, word in _ADDRESS_FLAGS.items() if a.flags & bit]
        return words(
            _with_peer(a),
            f"broadcast {a.broadcast}" if a.broadcast else "",
            f"label {quoted(a.label)}" if a.label and a.label != self.ifname else "",
            f"scope {SCOPES.get(a.scope, a.scope)}" if a.scope else "",
            f"valid_lft {_lifetime(a.valid)} preferred_lft {_lifetime(a.preferred)}"
            if a.valid != FOREVER or a.preferred != FOREVER
            else "",
            f"metric {a.metric}" if a.metric else "",
            # (Its origin, IFA_PROTO, has no word before iproute2 6.3.)
            *flags,
            f"dev {quoted(self.ifname)}",
        )

    def message(self, where: Target, flags: int = _NEW) -> nl.Message:
        body = encode(self.address, where.ifindex)
        return nl.Message(rt.RTM_NEWADDR, flags, body)


def _with_peer(a: Address) -> str:
    return f"{a.address} peer {a.peer}/{a.prefix}" if a.peer else f"{a.address}/{a.prefix}"


@frozen
class DropAddress:
    """Take one address away: half of :class:`ChangeAddress`."""

    ifname: str
    address: Address

    def alone(self, netns: str) -> str:
        """The command of this step only."""
        return self.command(netns)

    def command(self, netns: str) -> str:
        dev = f"dev {quoted(self.ifname)}"
        return f"{inside(netns)} ip address del {_with_peer(self.address)} {dev}"

    def message(self, where: Target) -> nl.Message:
        body = encode_key(self.address, where.ifindex)
        return nl.Message(rt.RTM_DELADDR, 0, body)


@frozen
class ChangeAddress:
    """Make an address what it was: it is there, with another broadcast address, label, flags …

    The kernel changes little of an address that is there (inet_rtm_newaddr: metric and
    lifetimes; inet6_addr_modify: not the prefix): for the rest it has to go for a moment, and what
    goes along with it (later addresses of its prefix, routes from it) is found missing then.
    """

    ifname: str
    address: Address
    found: Address  # as it is

    @property
    def steps(self) -> tuple[DropAddress | SetAddress | AddAddress, ...]:
        """The messages, one each."""
        if self._in_place():
            return (SetAddress(self.ifname, self.address),)
        add = AddAddress(self.ifname, self.address)
        return DropAddress(self.ifname, self.found), *add.steps

    def command(self, netns: str) -> str:
        return "; ".join(step.alone(netns) for step in self.steps)

    def _in_place(self) -> bool:
        wanted, found = self.address, self.found
        if wanted.family == 6:
            return wanted.prefix == found.prefix
        kept = replace(
            found,
            metric=wanted.metric,
            valid=wanted.valid,
            preferred=wanted.preferred,
        )
        return kept.fixed == wanted.fixed


@frozen
class SetAddress:
    """Change in place what the kernel changes of an address: half of :class:`ChangeAddress`."""

    ifname: str
    address: Address

    def alone(self, netns: str) -> str:
        """The command of this step only."""
        return f"{inside(netns)} ip address replace {AddAddress(self.ifname, self.address).words}"

    def command(self, netns: str) -> str:
        return self.alone(netns)

    def message(self, where: Target) -> nl.Message:
        add = AddAddress(self.ifname, self.address)
        return add.message(where, rt.NLM_F_CREATE | rt.NLM_F_REPLACE)


@frozen
class SetNeighbour:
    """Make a permanent neighbour, or a proxy entry.

    `replace`, for the pod's traffic may be quicker: what it learned by itself meanwhile gives way.
    """

    ifname: str
    neighbour: Neighbour

    def command(self, netns: str) -> str:
        n = self.neighbour
        return words(
            f"{inside(netns)} ip neigh replace",
            f"{n.address} lladdr {n.mac} nud permanent" if n.mac else f"proxy {n.address}",
            *(word for bit, word in _NEIGHBOUR_FLAGS.items() if n.flags & bit),
            f"dev {quoted(self.ifname)}",
            f"protocol {n.protocol}" if n.protocol else "",
        )

    def message(self, where: Target) -> nl.Message:
        n = self.neighbour
        family = nl.NUMBERS[n.family]
        attributes = (
            nl.attribute(rt.NDA_DST, inet_pton(family, n.address))
            + (nl.attribute(rt.NDA_LLADDR, bytes.fromhex(n.mac.replace(":", ""))) if n.mac else b"")
            + (nl.attribute(rt.NDA_PROTOCOL, bytes([n.protocol])) if n.protocol else b"")
        )
        state, proxy = (NUD_PERMANENT, 0) if n.mac else (0, NTF_PROXY)
        body = nl.neighbour_body(family, where.ifindex, state, n.flags | proxy, attributes)
        return nl.Message(rt.RTM_NEWNEIGH, rt.NLM_F_CREATE | rt.NLM_F_REPLACE, body)


@frozen
class AddRule:
    """Add one policy rule to the pod's namespace."""

    rule: Rule

    @property
    def words(self) -> str:
        """The rule as `ip rule` has it, without priority and origin."""
        r = self.rule
        return words(
            "not" if r.invert else "",
            f"from {r.src or 'all'}",
            f"to {r.dst}" if r.dst else "",
            f"tos {r.tos:#x}" if r.tos else "",
            f"fwmark {r.fwmark:#x}/{r.fwmask:#x}" if r.fwmark or r.fwmask else "",
            f"iif {quoted(r.iif)}" if r.iif else "",
            f"oif {quoted(r.oif)}" if r.oif else "",
            f"uidrange {_range(r.uid_range)}" if r.uid_range else "",
            f"ipproto {r.ip_proto}" if r.ip_proto else "",
            f"sport {_range(r.sport)}" if r.sport else "",
            f"dport {_range(r.dport)}" if r.dport else "",
            RULE_ACTIONS[r.action],
            str(r.table) if r.action == FR_ACT_TO_TBL else "",
            f"suppress_prefixlength {r.suppress_prefixlength}"
            if r.suppress_prefixlength is not None
            else "",
        )

    def command(self, netns: str) -> str:
        r = self.rule
        return words(
            f"{inside(netns)} {ip(r.family)} rule add",
            self.words,
            f"table {r.table}" if r.action != FR_ACT_TO_TBL and r.table else "",
            f"priority {r.priority}",
            f"protocol {r.protocol}" if r.protocol else "",
        )

    def message(self, where: Target) -> nl.Message:
        r = self.rule
        family = nl.NUMBERS[r.family]
        attributes = nl.u32(rt.FRA_PRIORITY, r.priority) + nl.u32(rt.FRA_TABLE, r.table)
        to, to_length = (r.dst or "/0").split("/")
        source, source_length = (r.src or "/0").split("/")
        for kind, address in ((rt.FRA_DST, to), (rt.FRA_SRC, source)):
            attributes += nl.attribute(kind, inet_pton(family, address)) if address else b""
        for kind, name in ((rt.FRA_IIFNAME, r.iif), (rt.FRA_OIFNAME, r.oif)):
            attributes += nl.text(kind, name) if name else b""
        if r.fwmark or r.fwmask:
            attributes += nl.u32(rt.FRA_FWMARK, r.fwmark) + nl.u32(rt.FRA_FWMASK, r.fwmask)
        if r.suppress_prefixlength is not None:
            attributes += nl.u32(rt.FRA_SUPPRESS_PREFIXLEN, r.suppress_prefixlength)
        for kind, number in ((rt.FRA_IP_PROTO, r.ip_proto), (rt.FRA_PROTOCOL, r.protocol)):
            attributes += nl.attribute(kind, bytes([number])) if number else b""
        for kind, ports in ((rt.FRA_SPORT_RANGE, r.sport), (rt.FRA_DPORT_RANGE, r.dport)):
            attributes += nl.attribute(kind, struct.pack("=HH", *ports)) if ports else b""
        if r.uid_range:
            attributes += nl.attribute(rt.FRA_UID_RANGE, struct.pack("=II", *r.uid_range))
        flags = FIB_RULE_INVERT if r.invert else 0
        body = nl.rule_body(
            family, int(to_length), int(source_length), r.tos, r.table, r.action, flags, attributes
        )
        return nl.Message(rt.RTM_NEWRULE, _NEW, body)


def _range(ends: tuple[int, int]) -> str:
    return f"{ends[0]}-{ends[1]}"


def _lifetime(seconds: int) -> str:
    return "forever" if seconds == FOREVER else str(seconds)
