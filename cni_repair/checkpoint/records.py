"""How each record of a checkpoint is read: its fields, and what they may hold."""

from __future__ import annotations

from cni_repair.base.kinds import (
    Misfit,
    altname,
    as_described,
    describe,
    exactly,
    flag,
    ifname,
    integer,
    ip_address,
    ip_prefix,
    list_of,
    mac,
    metrics,
    one_of,
    pair_of,
    record_of,
    record_of_family,
    text,
)
from cni_repair.network.kernel.sysctl import STABLE_SECRET, SYSCTLS
from cni_repair.network.model import (
    KINDS,
    RULE_ACTIONS,
    Address,
    Hop,
    HostLink,
    Neighbour,
    NodeLink,
    PodLink,
    Route,
    Rule,
    Vlan,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_U8 = integer(0, 0xFF)
_U16 = integer(0, 0xFFFF)
_U32 = integer(0, 0xFFFFFFFF)
s31 = integer(0, 0x7FFFFFFF)
u64 = integer(0, (1 << 64) - 1)

_MAP = list_of(pair_of(0, 0xFFFFFFFF))
vlan = record_of(
    Vlan,
    {
        "id": integer(1, 4094),
        "protocol": one_of(0x8100, 0x88A8),
        "flags": _U32,
        "egress": _MAP,
        "ingress": _MAP,
    },
)
parent = record_of(
    HostLink,
    {
        "name": ifname,
        "ifindex": s31,
        "kind": text,
        "mac": text,
        "mtu": s31,
        "flags": _U32,
        "lower": s31,
        "permanent_mac": text,
        "bus_address": text,
        "vlan": vlan,
    },
)
_LINK = record_of(
    PodLink,
    {
        "ifindex": s31,
        "mac": mac,
        "mtu": s31,
        "kind": one_of(*KINDS),
        "mode": one_of(*(mode for modes in KINDS.values() for mode in modes)),
        "flags": _U16,
        "txqueuelen": s31,
        "alias": text,
        "altnames": list_of(altname),
        "group": _U32,
        "bcqueuelen": _U32,
        "device_flags": _U16,
    },
)


def _pod_link(value: Any) -> PodLink:
    link = _LINK(value)
    if link.mode not in KINDS[link.kind]:
        raise Misfit(f".mode: expected one of {', '.join(KINDS[link.kind])}")
    return link


pod_link = as_described(_pod_link, _LINK)


address = record_of_family(
    Address,
    {
        "family": one_of(4, 6),
        "address": ip_address,
        "prefix": integer(0, 128),
        "broadcast": ip_address,
        "scope": _U8,
        "label": text,
        "flags": _U32,
        "valid": _U32,
        "preferred": _U32,
        "peer": ip_address,
        "metric": _U32,
        "proto": _U8,
    },
    "address broadcast peer",
)
_HOP = record_of(
    Hop,
    {
        "ifname": ifname,
        "gateway": ip_address,
        "weight": integer(1, 256),
        "onlink": flag,
        "realm": _U32,
    },
)
route = record_of_family(
    Route,
    {
        "family": one_of(4, 6),
        "dst": ip_prefix,
        "gateway": ip_address,
        "table": _U32,
        "metric": _U32,
        "scope": _U8,
        "type": _U8,
        "protocol": _U8,
        "prefsrc": ip_address,
        "tos": _U8,
        "onlink": flag,
        "metrics": metrics,
        "src": ip_prefix,
        "congctl": text,
        "realm": _U32,
        "pref": _U8,
        "hops": list_of(_HOP),
        "weight": integer(1, 256),
        "shared": flag,
        "expires": _U32,
    },
    "dst prefsrc src",
)
rule = record_of_family(
    Rule,
    {
        "family": one_of(4, 6),
        "priority": _U32,
        "src": ip_prefix,
        "dst": ip_prefix,
        "iif": ifname,
        "oif": ifname,
        "tos": _U8,
        "fwmark": _U32,
        "fwmask": _U32,
        "ip_proto": _U8,
        "sport": pair_of(1, 0xFFFF),
        "dport": pair_of(1, 0xFFFF),
        "uid_range": pair_of(0, 0xFFFFFFFF),
        "invert": flag,
        "action": one_of(*RULE_ACTIONS),
        "table": _U32,
        "suppress_prefixlength": integer(0, 128),
        "protocol": _U8,
    },
    "src dst",
)
neighbour = record_of_family(
    Neighbour,
    {
        "family": one_of(4, 6),
        "address": ip_address,
        "mac": mac,
        "flags": one_of(0x00, 0x10, 0x80, 0x90),
        "protocol": _U8,
    },
    "address",
)
node_link = record_of(
    NodeLink,
    {
        "name": ifname,
        "addresses": list_of(address),
        "routes": list_of(route),
        "shim": pod_link,
        "master": ifname,
        "up": flag,
    },
)


def _setting(value: Any) -> str:
    digits = value.removeprefix("-") if isinstance(value, str) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 11):
        raise Misfit(": expected a number in a text")
    return str(value)


_NUMBER = describe(_setting, {"type": "string", "pattern": "^-?[0-9]{1,11}$"}, "setting")
_read_sysctls: Any = exactly(
    {key: ip_address if key == STABLE_SECRET else _NUMBER for key in sorted(SYSCTLS)}
)


def _sysctls(value: Any) -> tuple[tuple[str, str], ...]:
    return tuple(_read_sysctls(value).items())


def _is_of_an_interface(key: str) -> bool:
    """Whether it may be in a newer version's list: net/<family>/conf/<ifname>/<name>."""
    family, _, name = key.partition("/")
    return family in ("ipv4", "ipv6") and _NAME.issuperset(name) and bool(name)


_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
# The allow-list: others are kept as they are, and not applied.
sysctls = describe(
    _sysctls,
    {**_read_sysctls.schema, "propertyNames": {"pattern": "^ipv[46]/[a-z0-9_]+$"}},
    "sysctls",
    _read_sysctls.keys,
    newer=_is_of_an_interface,
)
