"""Planning the node's side: whether an attachment's master can be used, and what it takes. Pure."""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.network.kernel.link import is_short
from cni_repair.network.model import HostLink
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.operations.link import AddAltname
from cni_repair.uplink.operations import AddVlan, SetNodeLinkUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cni_repair.network.operations.base import Operation

READY = "ready"
MISSING = "missing"
RENAMED = "renamed"
REFUSED = "refused"


@frozen
class ParentPlan:
    """Whether an attachment's master can be used, and what it takes."""

    # READY (after the operations), MISSING (wait for it), RENAMED (likewise: udev may not be done),
    # REFUSED (its name is another's)
    state: str
    reason: str = ""
    operations: tuple[Operation, ...] = ()
    # What somebody has to do to the node's links, a line each; empty where the link is missing.
    remedy: tuple[str, ...] = ()
    at: str = ""  # the recorded name of the link that the remedy is about

    @property
    def afterwards(self) -> str:
        """What follows the reason, where a repair cannot go on."""
        if self.state == REFUSED:
            return f"nothing was changed; {'; '.join(self.remedy)}; then repair again"
        return "then repair again" if self.remedy else "repair again once it is there"


def plan_parents(chain: tuple[HostLink, ...], present: Mapping[str, HostLink]) -> ParentPlan:
    """What it takes to have the recorded master again.

    `chain` is the master and what it stands on, as recorded; `present` what the kernel finds by
    those names now, maybe under other ones. Hardware and bonds are the distribution's: they are
    waited for, never made.
    """
    operations: list[Operation] = []
    below: HostLink | None = None  # as it is, or will be once it is made
    was_below: HostLink | None = None  # as it was recorded
    for wanted in reversed(chain):
        found = present.get(wanted.name)
        mismatch = found and _mismatch(wanted, found, below, present)
        if found is not None and mismatch:
            remedy = _freeing_the_name(wanted, found)
            return ParentPlan(REFUSED, mismatch, remedy=remedy, at=wanted.name)
        missing = None if found else _why_not_made(wanted, below)
        if missing is not None:
            return missing
        if found is None and below is not None and wanted.vlan is not None:
            mtu = wanted.mtu if wanted.mtu != below.mtu else 0
            mac = _own_mac(wanted, was_below)
            operations.append(AddVlan(wanted.name, below.name, wanted.vlan, mtu, mac))
            operations += [AddAltname(wanted.name, name) for name in wanted.altnames]
            found = replace(wanted, ifindex=0, mtu=mtu or below.mtu, flags=0)
        # A VLAN over a link that is down cannot be set up (ENETDOWN); it follows that link up by
        # itself (vlan_device_event). Hardware is set up by whoever configures it.
        startable = wanted.vlan is not None and below is not None and below.up
        if found is not None and below is not None and startable and not found.up:
            operations.append(SetNodeLinkUp(found.name))
            found = replace(found, flags=below.flags)
        below, was_below = found, wanted
    return ParentPlan(READY, _why_down(chain, present), tuple(operations))


def _why_not_made(wanted: HostLink, below: HostLink | None) -> ParentPlan | None:
    """The verdict where a link is not there and cannot be made, or not yet; None where it can."""
    if wanted.vlan is None or below is None:
        return ParentPlan(MISSING, f"the node's master {wanted.name} does not exist")
    if wanted.mtu > below.mtu:
        # Who configures the card may not be done: a driver comes back with its own default.
        command = f"ip link set dev {quoted(below.name)} mtu {wanted.mtu}"
        return ParentPlan(
            MISSING,
            f"{below.name} has MTU {below.mtu}, {wanted.name} over it had {wanted.mtu}: {command}",
            remedy=(command,),
            at=below.name,
        )
    if not is_short(wanted.name):
        return ParentPlan(
            REFUSED,
            f"{wanted.name} is too long for a link's name (at most 15 bytes): make this VLAN"
            f" of {below.name} under a shorter one; it is used whatever its name is",
            remedy=(f"make that VLAN of {below.name} under a shorter name",),
            at=wanted.name,
        )
    return None


def _own_mac(wanted: HostLink, was_below: HostLink | None) -> str:
    """A VLAN's MAC if somebody gave it one: else it has that of the link below, and follows it."""
    known = was_below is not None and was_below.mac
    return wanted.mac if known and wanted.mac != known else ""


def _why_down(chain: tuple[HostLink, ...], present: Mapping[str, HostLink]) -> str:
    """A word on hardware that nobody has set up yet: that is not ours to do."""
    card = present.get(chain[-1].name)
    if card is None or card.up:
        return ""
    return f"the node's {card.name} is down: ip link set dev {quoted(card.name)} up"


def same_card(wanted: HostLink, links: Iterable[HostLink]) -> HostLink | None:
    """The link that is the recorded card, whatever its name: by its permanent MAC, else by its PCI
    address; None where it is not there, or the record knows neither."""
    if wanted.kind or not (wanted.permanent_mac or wanted.bus_address):
        return None
    for link in links:
        if not link.kind and not _other_hardware(wanted, link):
            if link.permanent_mac and link.permanent_mac == wanted.permanent_mac:
                return link
            if link.bus_address and link.bus_address == wanted.bus_address:
                return link
    return None


def same_device(wanted: HostLink, found: HostLink | None) -> bool:
    """Whether a link at the recorded index is the recorded one. A bond, a bridge, a veth has no
    permanent MAC; but the kernel gives that index to no other link until the node is rebooted, and
    records of before that are stale."""
    return found is not None and bool(wanted.kind) and found.kind == wanted.kind


def is_recorded_card(wanted: HostLink, found: HostLink) -> bool:
    """Whether nothing speaks against a link that has one of the recorded card's names."""
    return not _other_hardware(wanted, found)


def same_vlan(wanted: HostLink, below: HostLink, devices: Iterable[HostLink]) -> HostLink | None:
    """The device that is the wanted VLAN of the link `below`, whatever its name: the kernel allows
    no second one of that id and protocol (vlan_check_real_dev)."""
    assert wanted.vlan is not None
    identity = wanted.vlan.id, wanted.vlan.protocol, below.ifindex
    for device in devices:
        vlan = device.vlan
        if vlan is not None and (vlan.id, vlan.protocol, device.lower) == identity:
            return device
    return None


def renamed(wanted: HostLink, found: HostLink) -> ParentPlan:
    """The verdict where the recorded card is there under another name, and that is not allowed.

    To name it back, it would have to be set down, with all other pods on it; an altname does not
    disturb them.
    """
    command = f"ip link property add dev {quoted(found.name)} altname {quoted(wanted.name)}"
    what = "it" if wanted.kind else "its card"
    return ParentPlan(
        RENAMED,
        f"the node's master {wanted.name} does not exist; {what} is called {found.name} now:"
        f" {command}",
        remedy=(command,),
        at=wanted.name,
    )


def _freeing_the_name(wanted: HostLink, found: HostLink) -> tuple[str, ...]:
    """What to do about a link that has the name of another one. It is somebody's: what for, they
    know."""
    name = quoted(found.name)
    look = f"look at that link: ip -d link show dev {name}"
    if found.name != wanted.name:
        command = f"ip link property del dev {name} altname {quoted(wanted.name)}"
        return look, f"take that name from it: {command}"
    rename = f"rename it: ip link set dev {name} down; ip link set dev {name} name NAME"
    if wanted.vlan is not None and found.kind:
        return look, f"if nothing needs it, remove it: ip link del dev {name}", f"else {rename}"
    return look, rename


def _mismatch(
    wanted: HostLink,
    found: HostLink,
    below: HostLink | None,
    present: Mapping[str, HostLink],
) -> str:
    """Why the link that bears a recorded name must not be used; empty where it may be."""
    name = _shown(wanted, found)
    if wanted.vlan is None:
        return _other_hardware(wanted, found)
    if found.vlan is None:
        return (
            f"{name} exists, but it is a {found.kind or 'hardware'} link, not VLAN {wanted.vlan.id}"
        )
    if found.vlan.id != wanted.vlan.id:
        return f"{name} exists with VLAN id {found.vlan.id}, not {wanted.vlan.id}"
    if found.vlan.protocol != wanted.vlan.protocol:
        return (
            f"{name} exists with VLAN protocol {found.vlan.protocol:#06x},"
            f" not {wanted.vlan.protocol:#06x}"
        )
    # (What the lowest of the chain stands on is not known: another namespace has it.)
    if below is not None and found.lower != below.ifindex:
        names = {link.ifindex: link.name for link in present.values()}
        over = names.get(found.lower, f"link {found.lower}")
        return f"{name} exists over {over}, not over {below.name}"
    return ""


def _shown(wanted: HostLink, found: HostLink) -> str:
    """The recorded name, with the first name of a link that has it as an altname."""
    if wanted.name == found.name:
        return wanted.name
    return f"{wanted.name} (another name of {found.name})"


def _other_hardware(wanted: HostLink, found: HostLink) -> str:
    """Names move between cards (renamed masters); a permanent MAC or a PCI address does not."""
    name = _shown(wanted, found)
    # Without an index nothing was recorded but the name (the predecessor's records).
    if wanted.ifindex and wanted.kind != found.kind:
        return (
            f"the node's {name} is a {found.kind or 'hardware'} link now,"
            f" it was a {wanted.kind or 'hardware'} link"
        )
    if wanted.permanent_mac and found.permanent_mac:
        if wanted.permanent_mac != found.permanent_mac:
            return (
                f"the node's {name} is another card now: permanent MAC {found.permanent_mac},"
                f" it was {wanted.permanent_mac}"
            )
    elif wanted.bus_address and found.bus_address and wanted.bus_address != found.bus_address:
        return (
            f"the node's {name} is another card now: at {found.bus_address},"
            f" it was at {wanted.bus_address}"
        )
    return ""
