"""Policy rules: reading a namespace's, and telling which belong to one interface.

A rule outlives the interface that it names ("[detached]"): what a repair adds are those that
somebody took away since.
"""

from __future__ import annotations

import struct

from cni_repair.base.lightsocket import inet_ntop
from cni_repair.base.names import valid_ifname
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import NotSupported, Rtnetlink
from cni_repair.network.model import (
    FIB_RULE_INVERT,
    FR_ACT_TO_TBL,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RULE_ACTIONS,
    Address,
    Route,
    Rule,
)
from cni_repair.network.prefixes import network_of

MAX_RULES = 4096

_KNOWN_FLAGS = FIB_RULE_INVERT | 0x1 | 0x8 | 0x10  # the kernel's own; iif, oif detached
_NONE = 0xFFFFFFFF

_CARRIED = {
    rt.FRA_DST, rt.FRA_SRC, rt.FRA_IIFNAME, rt.FRA_OIFNAME, rt.FRA_PRIORITY, rt.FRA_FWMARK,
    rt.FRA_FWMASK, rt.FRA_SUPPRESS_PREFIXLEN, rt.FRA_TABLE, rt.FRA_PAD, rt.FRA_UID_RANGE,
    rt.FRA_PROTOCOL, rt.FRA_IP_PROTO, rt.FRA_SPORT_RANGE, rt.FRA_DPORT_RANGE,
}  # fmt: skip
# FRA_SPORT_MASK, FRA_DPORT_MASK: since 6.15 told of every rule for a single port, all bits set
_PORT_MASKS = {28: b"\xff\xff", 29: b"\xff\xff"}
_BUILT_IN = {0, RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL}


def read_rules(rtnl: Rtnetlink) -> tuple[Rule, ...]:
    """The rules of the socket's namespace, but for those that a checkpoint cannot hold."""
    request = nl.Message(rt.RTM_GETRULE, 0, nl.rule_body(0, 0, 0, 0, 0, 0, 0, b""))
    try:
        bodies = rtnl.dump(request, MAX_RULES, "rules")
    except NotSupported:
        return ()  # CONFIG_IP_MULTIPLE_TABLES is not set
    found = (rule_in(body) for body in bodies)
    return tuple(dict.fromkeys(rule for rule in found if rule is not None))


def concerning(
    ifname: str,
    addresses: tuple[Address, ...],
    routes: tuple[Route, ...],
    rules: tuple[Rule, ...],
) -> tuple[Rule, ...]:
    """Those of the rules that concern the interface: that name it, begin at one of its addresses,
    or lead to a table in which it has routes."""
    tables = {(route.family, route.table) for route in routes}
    # By prefix length: a pod may have a thousand addresses, and thousands of rules.
    lengths = {(rule.family, _length(rule.src)) for rule in rules if rule.src is not None}
    networks = {
        network_of(address.address, length)
        for address in addresses
        for family, length in lengths
        if family == address.family
    }
    return tuple(
        rule
        for rule in rules
        if ifname in (rule.iif, rule.oif) or _leads_to(rule, tables) or _begins_at(rule, networks)
    )


def _leads_to(rule: Rule, tables: set[tuple[int, int]]) -> bool:
    known = (rule.family, rule.table) in tables and rule.table not in _BUILT_IN
    return known and rule.action == FR_ACT_TO_TBL


def _begins_at(rule: Rule, networks: set[str]) -> bool:
    """(A rule keeps host bits that do not count.)"""
    if rule.src is None:
        return False
    base, _, length = rule.src.partition("/")
    return network_of(base, int(length)) in networks


def _length(prefix: str) -> int:
    return int(prefix.partition("/")[2])


def rule_in(body: bytes) -> Rule | None:
    """One rule of a dump; None for one of another family (multicast routing has some), and for one
    with a selector or action that we cannot give back: half a rule would catch other packets."""
    (family, to, source, tos, table, action, flags), attributes = nl.unpack_rule(body)
    more = attributes.items() - _PORT_MASKS.items()
    if any(kind not in _CARRIED for kind, _ in more):
        return None
    if family not in nl.FAMILIES or action not in RULE_ACTIONS or flags & ~_KNOWN_FLAGS:
        return None
    iif, oif = (_name(attributes.get(kind)) for kind in (rt.FRA_IIFNAME, rt.FRA_OIFNAME))
    if not all(name is None or valid_ifname(name) for name in (iif, oif)):
        return None  # no interface can have that name
    suppressed = _u32(attributes, rt.FRA_SUPPRESS_PREFIXLEN, _NONE)
    return Rule(
        family=nl.FAMILIES[family],
        priority=_u32(attributes, rt.FRA_PRIORITY),
        src=_prefix(family, attributes.get(rt.FRA_SRC), source),
        dst=_prefix(family, attributes.get(rt.FRA_DST), to),
        iif=iif,
        oif=oif,
        tos=tos,
        fwmark=_u32(attributes, rt.FRA_FWMARK),
        fwmask=_u32(attributes, rt.FRA_FWMASK),
        ip_proto=_u8(attributes, rt.FRA_IP_PROTO),
        sport=_pair("=HH", attributes.get(rt.FRA_SPORT_RANGE)),
        dport=_pair("=HH", attributes.get(rt.FRA_DPORT_RANGE)),
        uid_range=_pair("=II", attributes.get(rt.FRA_UID_RANGE)),
        invert=bool(flags & FIB_RULE_INVERT),
        action=action,
        table=_u32(attributes, rt.FRA_TABLE, table),
        suppress_prefixlength=None if suppressed == _NONE else suppressed,
        protocol=_u8(attributes, rt.FRA_PROTOCOL),
    )


def _u8(attributes: dict[int, bytes], kind: int) -> int:
    return attributes.get(kind, b"\0")[0]


def _u32(attributes: dict[int, bytes], kind: int, default: int = 0) -> int:
    raw = attributes.get(kind)
    return default if raw is None else int.from_bytes(raw, "little")


def _name(raw: bytes | None) -> str | None:
    return None if raw is None else nl.string_of(raw)


def _prefix(family: int, raw: bytes | None, length: int) -> str | None:
    """As the rule has it: host bits that do not count stay."""
    return None if raw is None else f"{inet_ntop(family, raw)}/{length}"


def _pair(form: str, raw: bytes | None) -> tuple[int, int] | None:
    if raw is None:
        return None
    first, last = struct.unpack(form, raw)
    return first, last
