"""Planning a pod's interface itself: making it, its attributes, its sysctls, the way up. Pure."""

from __future__ import annotations

from cni_repair.network.kernel.link import TABLE, LiveLink
from cni_repair.network.kernel.sysctl import ADDR_GEN_MODE, STABLE_SECRET
from cni_repair.network.kernel.table import AFTERWARDS, ALWAYS, AT_CREATION, SETTLED
from cni_repair.network.model import SETTABLE_FLAGS, Address, Attachment, HostLink, PodLink
from cni_repair.network.operations.iproute2 import quoted
from cni_repair.network.operations.link import (
    AddAltname,
    AddPodLink,
    SetAddrGenMode,
    SetLink,
    SetSysctl,
    SetUp,
    SetUpWithLinkLocal,
)
from cni_repair.network.planning.drift import Drift

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_repair.network.kernel.table import Field
    from cni_repair.network.operations.base import Operation

_NO_LINK_LOCAL = "1"  # IN6_ADDR_GEN_MODE_NONE
# How findings call an attribute.
_NAMES = {"mac": "MAC", "mtu": "MTU", "mode": "mode"}
# What a pod turned on for itself takes nothing from it.
_MAY_BE_ON = {"promisc", "allmulticast"}
# What a pod's first qdisc makes of a queue of no length (qdisc_create: DEFAULT_TX_QUEUE_LEN).
_BY_A_QDISC = ("txqueuelen", 0, 1000)

# What a new link gets by a message of its own each.
_AFTERWARDS = [
    (row.name, TABLE.unsaid(row))
    for row in TABLE.rows
    if row.set_ == AFTERWARDS and row.attribute is not None
]


# --- a link that is gone --------------------------------------------------------------------------


def making(
    desired: Attachment, link: PodLink, master: HostLink | None, link_local: Address | None = None
) -> list[Operation]:
    """Create the interface and bring it up, with all that is the link's own.

    `link`: as it is to be made; its index may not be free any more. `link_local`: to be used as
    soon as it is up.
    """
    name = desired.ifname
    over = master or desired.parents[0]  # it may have another name now
    steps: list[Operation] = [AddPodLink(name, over.name, link)]
    if link.mode == "passthru" and link.mac and master is not None and master.mac != link.mac:
        # It gets its master's MAC, and later shares every change with it (macvlan_set_mac_address).
        steps.append(SetLink(name, "mac", link))
    given = vars(link)
    steps += [
        SetLink(name, what, link) for what, unsaid in _AFTERWARDS if given[what] not in unsaid
    ]
    steps += [AddAltname(name, altname) for altname in link.altnames]
    if link.device_flags is not None:
        odd = link.device_flags ^ link.usual_flags
        steps += [SetLink(name, what, link) for what, flag in SETTABLE_FLAGS.items() if odd & flag]
    *steps_up, up = bringing_up(desired)
    if link_local is not None:
        up = SetUpWithLinkLocal(name, link_local)
    return [*steps, *steps_up, up]


def bringing_up(desired: Attachment, live: LiveLink | None = None) -> list[Operation]:
    """Sysctls first: accept_ra or disable_ipv6 would come too late after `up`.

    `live`: a link that is there, but down: maybe one that a repair left half-made.
    """
    there = dict(live.sysctls) if live else {}
    wanted = dict(sorted(desired.sysctls, key=_secret_first))
    if desired.addr_gen_mode is not None:
        wanted[ADDR_GEN_MODE] = _NO_LINK_LOCAL
    return [
        *(
            SetSysctl(desired.ifname, key, value)
            for key, value in wanted.items()
            if there.get(key) != value
        ),
        SetUp(desired.ifname),
    ]


def _secret_first(sysctl: tuple[str, str]) -> tuple[bool, str]:
    """Setting the secret changes the way of making addresses (addrconf_sysctl_stable_secret)."""
    return sysctl[0] != STABLE_SECRET, sysctl[0]


def link_locals_as_before(desired: Attachment) -> list[Operation]:
    """After the way up, and the recorded link-local addresses: the kernel may make them again."""
    if desired.addr_gen_mode is None:
        return []
    return [SetAddrGenMode(desired.ifname, desired.addr_gen_mode)]


# --- a link that is there -------------------------------------------------------------------------


def link_drifts(desired: Attachment, live: LiveLink, master: HostLink | None) -> list[Drift]:
    """What is wrong with the link itself, but for being down."""
    drifts = [*_field_drifts(ALWAYS, desired, live, master)]
    if desired.settled:
        drifts += _field_drifts(SETTLED, desired, live, master)
    if desired.settled and live.up:
        drifts += _sysctl_drifts(desired, live)
    return drifts


def _field_drifts(
    when: str, desired: Attachment, live: LiveLink, master: HostLink | None
) -> Iterator[Drift]:
    """By the link's table."""
    wanted, found = vars(desired.link), vars(live.link)
    for row, silent, special in _COMPARED[when]:
        had, has = wanted[row.name], found[row.name]
        if had == has:
            continue
        if special is not None:
            yield from special(desired, live, master)
        elif had not in silent and (row.name, had, has) != _BY_A_QDISC:
            yield _drift(desired, live, row)


def _drift(desired: Attachment, live: LiveLink, row: Field) -> Drift:
    name, wanted = desired.ifname, desired.link
    had, has = (_value(row, link) for link in (wanted, live.link))
    finding = f"{name} has {_NAMES.get(row.name, row.name)} {has}, it had {had}"
    if row.set_ == AT_CREATION:
        return Drift(f"{finding}: only a new pod gets that back", None)
    return Drift(finding, SetLink(name, row.name, wanted))


def _value(row: Field, link: PodLink) -> object:
    value = getattr(link, row.name)
    if row.usual is not None:
        return row.usual if value is None else value
    return value or "none"


def _mode_drifts(desired: Attachment, live: LiveLink, _: HostLink | None) -> Iterator[Drift]:
    """The mode; a record that does not know its ifindex (the predecessor plugin's) does not know it
    either."""
    wanted, found, name = desired.link, live.link, desired.ifname
    finding = f"{name} has mode {found.mode}, it had {wanted.mode}"
    if wanted.ifindex and "passthru" in (wanted.mode, found.mode):
        # macvlan_changelink(): EINVAL
        yield Drift(f"{finding}: only a new pod gets that back", None)
    elif wanted.ifindex:
        yield Drift(finding, SetLink(name, "mode", wanted))


def _mode_flag_drifts(desired: Attachment, live: LiveLink, _: HostLink | None) -> Iterator[Drift]:
    """The flags of the mode, which are set with it."""
    wanted, found, name = desired.link, live.link, desired.ifname
    if wanted.ifindex and wanted.mode == found.mode:
        finding = f"{name} has {wanted.kind} flags {found.flags}, it had {wanted.flags}"
        yield Drift(finding, SetLink(name, "mode", wanted))


def _altname_drifts(desired: Attachment, live: LiveLink, _: HostLink | None) -> Iterator[Drift]:
    name = desired.ifname
    for altname in desired.link.altnames:
        if altname not in live.link.altnames:
            yield Drift(f"altname {altname} of {name} is missing", AddAltname(name, altname))


def _mac_drifts(desired: Attachment, live: LiveLink, _: HostLink | None) -> Iterator[Drift]:
    wanted = desired.link.mac.lower()
    if wanted and not desired.link.inherits_mac and wanted != live.link.mac:
        yield _drift(desired, live, TABLE.by_name["mac"])


def _mtu_drifts(desired: Attachment, live: LiveLink, master: HostLink | None) -> Iterator[Drift]:
    wanted, name = desired.link.mtu, desired.ifname
    if not wanted:
        return
    if master is not None and wanted > master.mtu:
        # macvlan_device_event() took the pod's down together with the master's, and never up.
        yield Drift(
            f"{name} has MTU {live.link.mtu}, it had {wanted}: its master {master.name} has"
            f" {master.mtu}: ip link set dev {quoted(master.name)} mtu {wanted},"
            " then cni-repair repair again",
            None,
        )
    else:
        yield _drift(desired, live, TABLE.by_name["mtu"])


def _flag_drifts(desired: Attachment, live: LiveLink, _: HostLink | None) -> Iterator[Drift]:
    name, wanted, found = desired.ifname, desired.link, live.link.device_flags
    if wanted.device_flags is None or found is None:
        return
    for what, flag in SETTABLE_FLAGS.items():
        differs = (wanted.device_flags ^ found) & flag
        if differs and not (what in _MAY_BE_ON and found & flag):
            step = SetLink(name, what, wanted)
            now = "off" if step.is_on() else "on"
            yield Drift(f"{name} has {what} {now}", step)


# What is more than one value against another.
_SPECIAL = {
    "mode": _mode_drifts,
    "flags": _mode_flag_drifts,
    "altnames": _altname_drifts,
    "mac": _mac_drifts,
    "mtu": _mtu_drifts,
    "device_flags": _flag_drifts,
}
# Each row, the recorded values that say nothing, and what is special about it.
_COMPARED = {
    when: tuple(
        (row, TABLE.unsaid(row)[:1] if row.is_silent else (), _SPECIAL.get(row.name))
        for row in TABLE.compared(when)
    )
    for when in (ALWAYS, SETTLED)
}


def _sysctl_drifts(desired: Attachment, live: LiveLink) -> Iterator[Drift]:
    name, there = desired.ifname, dict(live.sysctls)
    wanted = dict(desired.sysctls)
    if desired.addr_gen_mode is not None:
        wanted[ADDR_GEN_MODE] = str(desired.addr_gen_mode)
    for key, value in wanted.items():
        found = there.get(key, value)
        if found != value:
            family, _, leaf = key.partition("/")
            step: Operation = SetSysctl(name, key, value)
            if key == ADDR_GEN_MODE:
                step = SetAddrGenMode(name, int(value))
            yield Drift(f"sysctl net/{family}/conf/{name}/{leaf} is {found}, it was {value}", step)
