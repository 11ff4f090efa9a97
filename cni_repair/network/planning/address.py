"""Planning the addresses of a pod's interface. Pure.

Until a record is settled (:class:`~cni_repair.network.model.Attachment`), entries are compared by
what tells them apart; from then on in full. What is there and not recorded is the pod's own.
"""

from __future__ import annotations

from cni_repair.base.frozen import fields, frozen
from cni_repair.network.kernel.address import TABLE, link_local_of
from cni_repair.network.kernel.table import SETTLED
from cni_repair.network.model import (
    FOREVER,
    IFAPROT_KERNEL_LL,
    RT_SCOPE_LINK,
    Address,
    Attachment,
    Observed,
)
from cni_repair.network.operations.address import AddAddress, ChangeAddress
from cni_repair.network.planning.linklocal import makes_eui64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of the record.
_COMPARED = [name for name in fields(Address) if TABLE.by_name[name].compared == SETTLED]


@frozen
class AddressDrift:
    """An address that is missing or wrong, and the step that puts it right."""

    finding: str
    step: AddAddress | ChangeAddress


def address_drifts(desired: Attachment, observed: Observed) -> list[AddressDrift]:
    """Addresses that are missing, in the order in which to add them; and changed ones."""
    there = {one.key: one for one in (*observed.addresses_by_kernel, *observed.addresses)}
    missing = [one for one in desired.addresses if one.key not in there]
    name = desired.ifname
    drifts = [
        AddressDrift(f"address {one.address}/{one.prefix} is missing", AddAddress(name, one))
        for one in as_made(missing)
    ]
    if desired.settled:
        changed = [one for one in desired.addresses if _differs(one, there.get(one.key))]
        drifts += [
            AddressDrift(_changes(one, there[one.key]), ChangeAddress(name, one, there[one.key]))
            for one in changed
        ]
        drifts += _link_local_gaps(desired, observed)
    return drifts


def _link_local_gaps(desired: Attachment, observed: Observed) -> list[AddressDrift]:
    """The link-local address that the kernel made of the recorded MAC, and somebody deleted.

    It is in no record, as a new link gets it by itself: see Attachment.addr_gen_mode.
    """
    live = observed.link
    if live is None or desired.addr_gen_mode is not None or not makes_eui64(live):
        return []
    address = link_local_of(desired.link.mac)
    if any(one.address == address for one in (*observed.addresses_by_kernel, *observed.addresses)):
        return []
    made = Address(6, address, 64, scope=RT_SCOPE_LINK, proto=IFAPROT_KERNEL_LL)
    return [AddressDrift(f"address {address}/64 is missing", AddAddress(desired.ifname, made))]


def as_made(addresses: Iterable[Address]) -> list[Address]:
    """The order in which to add addresses, to have the kernel list them as they were recorded.

    It lists IPv4 addresses as they came, the primary first, but puts an IPv6 address before the
    others of its scope (ipv6_link_dev_addr); source address selection takes the first of equals.
    """
    by_family: dict[int, list[Address]] = {4: [], 6: []}
    for address in addresses:
        by_family[address.family].append(address)
    return by_family[4] + by_family[6][::-1]


def _differs(wanted: Address, found: Address | None) -> bool:
    return found is not None and wanted.fixed != found.fixed


def _changes(wanted: Address, found: Address) -> str:
    """What became of an address, in words."""
    parts = [
        f"{name} {_value(found, name)}, it had {_value(wanted, name)}"
        for name in _COMPARED
        if _fixed(found, name) != _fixed(wanted, name)
    ]
    return f"address {wanted.address}/{wanted.prefix} has {'; '.join(parts)}"


def _fixed(address: Address, name: str) -> object:
    """A field, as far as it does not change by itself."""
    value = getattr(address, name)
    return value == FOREVER if name in ("valid", "preferred") else value


def _value(address: Address, name: str) -> str:
    value = getattr(address, name)
    if name == "flags":
        return hex(value)
    return "for ever" if value == FOREVER else str(value or "none")
