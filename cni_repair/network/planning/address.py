"""Planning the addresses of a pod's interface. Pure.

Until a record is settled (:class:`~cni_repair.network.model.Attachment`), entries are compared by
what tells them apart; from then on in full. What is there and not recorded is the pod's own.
"""

from __future__ import annotations

from cni_repair.base.frozen import fields, frozen, replace
from cni_repair.network.kernel.address import IFA_F_NODAD, IFAPROT_KERNEL_LL, TABLE, link_local_of
from cni_repair.network.kernel.sysctl import (
    ACCEPT_DAD,
    ADDR_GEN_MODE,
    DAD_TRANSMITS,
    DISABLE_IPV6,
)
from cni_repair.network.kernel.table import SETTLED
from cni_repair.network.model import FOREVER, IFF_NOARP, RT_SCOPE_LINK, Address, Attachment
from cni_repair.network.observed import Observed
from cni_repair.network.operations.address import AddAddress, ChangeAddress
from cni_repair.network.planning.linklocal import EUI64, makes_eui64

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
    there = {one.key: one for one in _all(observed)}
    missing = [one for one in desired.addresses if one.key not in there]
    name = desired.ifname
    drifts = [
        AddressDrift(f"address {one.address}/{one.prefix} is missing", AddAddress(name, one))
        for one in as_made(missing)
    ]
    if desired.settled:
        wanted = [_as_found(one, there.get(one.key)) for one in desired.addresses]
        changed = [one for one in wanted if _differs(one, there.get(one.key))]
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
    if any(one.address == address for one in _all(observed)):
        return []
    made = _kernels_link_local(address)
    return [AddressDrift(f"address {address}/64 is missing", AddAddress(desired.ifname, made))]


def _kernels_link_local(address: str) -> Address:
    return Address(6, address, 64, scope=RT_SCOPE_LINK, proto=IFAPROT_KERNEL_LL)


def as_made(addresses: Iterable[Address]) -> list[Address]:
    """The order in which to add addresses, to have the kernel list them as they were recorded.

    It lists IPv4 addresses as they came, the primary first, but puts an IPv6 address before the
    others of its scope (ipv6_link_dev_addr); source address selection takes the first of equals.
    """
    by_family: dict[int, list[Address]] = {4: [], 6: []}
    for address in addresses:
        by_family[address.family].append(address)
    return by_family[4] + by_family[6][::-1]


# --- detection of duplicates ----------------------------------------------------------------------
#
# The kernel lets an IPv6 address be used one or two seconds after it was added (RFC 4862, 5.4). Of
# a lost interface they were in use until it was lost. They are added with `nodad`, which lets them
# be used at once; the question is asked beside their traffic (repair/detection), and with its
# answer the flag goes.


def is_detected_beside(desired: Attachment, observed: Observed) -> bool:
    """Whether the addresses of a lost interface are better made usable at once: there are some, and
    the kernel would make them wait."""
    link = desired.link
    flags = link.usual_flags if link.device_flags is None else link.device_flags
    accepts = _begins_with(desired, observed, ACCEPT_DAD)
    waits = not flags & IFF_NOARP and accepts.isdigit() and accepts != "0"
    return waits and any(one.family == 6 for one in desired.addresses)


def added_at_once(desired: Attachment, observed: Observed) -> list[AddressDrift]:
    """The addresses of a lost interface, usable at once."""
    name = desired.ifname
    drifts = []
    for wanted in as_made(desired.addresses):
        made = _unquestioned(wanted)
        drifts.append(AddressDrift("", AddAddress(name, made)))
        if made != wanted and not _is_asked(desired, observed):
            drifts.append(AddressDrift("", ChangeAddress(name, wanted, made)))
    return drifts


def link_local_at_once(desired: Attachment, observed: Observed) -> Address | None:
    """The link-local address that the kernel would make of a lost interface's MAC, usable at once;
    None where it would make none, or another one."""
    link = desired.link
    mode = _begins_with(desired, observed, ADDR_GEN_MODE)
    is_off = _begins_with(desired, observed, DISABLE_IPV6) != "0"
    address = link_local_of(link.mac)
    if not address or link.inherits_mac or desired.addr_gen_mode is not None:
        return None
    if mode != EUI64 or is_off or not _is_asked(desired, observed):
        return None
    if any(one.address == address for one in desired.addresses):
        return None
    return _unquestioned(_kernels_link_local(address))


def unverified(desired: Attachment, observed: Observed) -> tuple[Address, ...]:
    """The addresses, without the flag, that a repair made usable at once, and of which it is not
    known yet that nobody else has them: maybe it was interrupted."""
    if not any(one.flags & IFA_F_NODAD for one in _all(observed)):
        return ()
    wanted = {one.key: one for one in desired.addresses}
    if observed.link is not None and desired.addr_gen_mode is None:
        own = _kernels_link_local(link_local_of(observed.link.link.mac))
        wanted.setdefault(own.key, own)
    return tuple(
        replace(one, flags=one.flags & ~IFA_F_NODAD)
        for one in _all(observed)
        if one.key in wanted and _is_unverified(wanted[one.key], one)
    )


def as_verified(desired: Attachment, observed: Observed) -> Observed:
    """What was observed, as it will be once the unverified addresses are verified."""
    plain = {one.key: one.flags for one in unverified(desired, observed)}

    def verified(found: Address) -> Address:
        return replace(found, flags=plain.get(found.key, found.flags))

    return replace(
        observed,
        addresses=tuple(map(verified, observed.addresses)),
        addresses_by_kernel=tuple(map(verified, observed.addresses_by_kernel)),
    )


def _is_unverified(wanted: Address, found: Address) -> bool:
    return found.family == 6 and bool(found.flags & ~wanted.flags & IFA_F_NODAD)


def _as_found(wanted: Address, found: Address | None) -> Address:
    """An address as it should be; what is found usable at once stays so until it is verified."""
    if found is None or not _is_unverified(wanted, found):
        return wanted
    return _unquestioned(wanted)


def _unquestioned(address: Address) -> Address:
    return replace(address, flags=address.flags | IFA_F_NODAD) if address.family == 6 else address


def _is_asked(desired: Attachment, observed: Observed) -> bool:
    """Whether the pod wants anybody to be asked."""
    return _begins_with(desired, observed, DAD_TRANSMITS) != "0"


def _begins_with(desired: Attachment, observed: Observed, key: str) -> str:
    """A sysctl that the interface will have; empty where it is not known."""
    return dict(desired.sysctls).get(key) or dict(observed.begins_with).get(key, "")


def _all(observed: Observed) -> tuple[Address, ...]:
    return (*observed.addresses_by_kernel, *observed.addresses)


# --- changes --------------------------------------------------------------------------------------


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
