"""The steps of a repair for the addresses of a pod's interface."""

from __future__ import annotations

import errno

from cni_repair.base.frozen import frozen, replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.address import IFA_F_MCAUTOJOIN, TABLE, encode, encode_key
from cni_repair.network.model import FOREVER, Address
from cni_repair.network.operations.base import Operation
from cni_repair.network.operations.iproute2 import inside, quoted, said, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.network.operations.base import Target


@frozen
class AddAddress(Operation):
    """Give the interface one address."""

    ifname: str
    address: Address

    @property
    def is_proved(self) -> bool:
        """An IPv4 one that stays. (Of IPv6, duplicate detection has the last word.)"""
        address = self.address
        plain = address.valid == address.preferred == FOREVER and not address.flags
        return plain and address.family == 4 and not address.metric

    @property
    def steps(self) -> tuple[AddAddress | DropAddress, ...]:
        """The kernel's own socket is still in the group of an address that went with its link
        (`autojoin`; inetdev_destroy does not leave it), and cannot join again on the same index: an
        address of the group that is deleted makes it leave."""
        if not self.address.flags & IFA_F_MCAUTOJOIN:
            return (self,)
        flags = self.address.flags & ~IFA_F_MCAUTOJOIN
        plain = replace(self.address, flags=flags)
        return AddAddress(self.ifname, plain), DropAddress(self.ifname, plain), self

    def describe(self, netns: str) -> str:
        return "; ".join(step.alone(netns) for step in self.steps)

    def alone(self, netns: str) -> str:
        """The command of this step only."""
        return words(f"{inside(netns)}ip address add", address_words(self.ifname, self.address))

    def requests(self, target: Target) -> list[nl.Message]:
        body = encode(self.address, target.ifindex)
        return [nl.Message(rt.RTM_NEWADDR, rt.NLM_F_CREATE | rt.NLM_F_EXCL, body)]


def address_words(ifname: str, address: Address) -> str:
    """The address as `ip address add` has it."""
    own = {"address": _with_peer(address), "valid": _lifetimes(address)}
    if address.label and address.label != ifname:
        own["label"] = f"label {quoted(address.label)}"
    return words(*said(TABLE, address, own), f"dev {quoted(ifname)}")


def _with_peer(address: Address) -> str:
    if address.peer:
        return f"{address.address} peer {address.peer}/{address.prefix}"
    return f"{address.address}/{address.prefix}"


def _lifetimes(address: Address) -> str:
    if address.valid == address.preferred == FOREVER:
        return ""
    valid, preferred = (
        "forever" if seconds == FOREVER else seconds
        for seconds in (address.valid, address.preferred)
    )
    return f"valid_lft {valid} preferred_lft {preferred}"


@frozen
class DropAddress(Operation):
    """Take one address away: half of :class:`ChangeAddress`."""

    ifname: str
    address: Address

    tolerated = frozenset({errno.ESRCH, errno.EADDRNOTAVAIL})

    def alone(self, netns: str) -> str:
        """The command of this step only."""
        return self.describe(netns)

    def describe(self, netns: str) -> str:
        dev = f"dev {quoted(self.ifname)}"
        return f"{inside(netns)}ip address del {_with_peer(self.address)} {dev}"

    def requests(self, target: Target) -> list[nl.Message]:
        return [nl.Message(rt.RTM_DELADDR, 0, encode_key(self.address, target.ifindex))]


@frozen
class ChangeAddress(Operation):
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
        if self._in_place():
            return (SetAddress(self.ifname, self.address),)
        add = AddAddress(self.ifname, self.address)
        return DropAddress(self.ifname, self.found), *add.steps

    def describe(self, netns: str) -> str:
        return "; ".join(step.alone(netns) for step in self.steps)

    def requests(self, target: Target) -> list[nl.Message]:
        return [message for step in self.steps for message in step.requests(target)]

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
class SetAddress(Operation):
    """Change in place what the kernel changes of an address: half of :class:`ChangeAddress`."""

    ifname: str
    address: Address

    def alone(self, netns: str) -> str:
        """The command of this step only."""
        new = address_words(self.ifname, self.address)
        return words(f"{inside(netns)}ip address replace", new)

    def describe(self, netns: str) -> str:
        return self.alone(netns)

    def requests(self, target: Target) -> list[nl.Message]:
        body = encode(self.address, target.ifindex)
        return [nl.Message(rt.RTM_NEWADDR, rt.NLM_F_CREATE | rt.NLM_F_REPLACE, body)]
