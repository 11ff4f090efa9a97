"""Policy rules: a namespace's, and telling which belong to one interface.

A rule outlives the interface that it names ("[detached]"): what a repair adds are those that
somebody took away since.
"""

from __future__ import annotations

import struct

from cni_repair.base.kinds import flag, ifname, integer, ip_prefix, one_of, pair_of
from cni_repair.base.lightsocket import inet_ntop
from cni_repair.base.names import valid_ifname
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.network.kernel.address import network_of
from cni_repair.network.kernel.table import ALWAYS, UINT8, UINT32, Field, Table
from cni_repair.network.model import (
    FR_ACT_TO_TBL,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    Address,
    Route,
    Rule,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_RULES = 4096

# include/uapi/linux/fib_rules.h, without goto and its target nop: they make sense only among the
# rules around them.
RULE_ACTIONS = {1: "lookup", 6: "blackhole", 7: "unreachable", 8: "prohibit"}

_INVERT = 0x2  # FIB_RULE_INVERT
_KNOWN_FLAGS = _INVERT | 0x1 | 0x8 | 0x10  # the kernel's own; iif, oif detached
_NONE = 0xFFFFFFFF
_RT_TABLE_DEFAULT = 253
# FRA_SPORT_MASK, FRA_DPORT_MASK: since 6.15 told of every rule for a single port, all bits set
_PORT_MASKS = {28: b"\xff\xff", 29: b"\xff\xff"}
_BUILT_IN = {0, _RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL}


def _pair_by(form: str) -> nl.Codec:
    pair = struct.Struct(form)
    return nl.Codec(pair.unpack, lambda kind, ends: nl.attribute(kind, pair.pack(*ends)))


_PORTS = _pair_by("=HH")
_IN_HEADER = "struct fib_rule_hdr"
_PREFIX = {"wire": "its length in struct fib_rule_hdr"}
_MARK = {"word": "mark and mask in one"}
TABLE = Table(
    Rule,
    Field(
        "family", one_of(4, 6), compared=ALWAYS, because={"wire": _IN_HEADER, "word": "ip, ip -6"}
    ),
    Field(
        "invert", flag, word=lambda _: "not", compared=ALWAYS, because={"wire": "FIB_RULE_INVERT"}
    ),
    Field("src", ip_prefix, word="from {}", compared=ALWAYS, of_family=True, because=_PREFIX),
    Field("dst", ip_prefix, word="to {}", compared=ALWAYS, of_family=True, because=_PREFIX),
    Field("tos", UINT8, word="tos {:#x}", compared=ALWAYS, because={"wire": _IN_HEADER}),
    Field("fwmark", UINT32, rt.FRA_FWMARK, nl.U32, compared=ALWAYS, because=_MARK),
    Field("fwmask", UINT32, rt.FRA_FWMASK, nl.U32, compared=ALWAYS, because=_MARK),
    Field("iif", ifname, rt.FRA_IIFNAME, nl.TEXT, "iif {}", compared=ALWAYS),
    Field("oif", ifname, rt.FRA_OIFNAME, nl.TEXT, "oif {}", compared=ALWAYS),
    Field(
        "uid_range",
        pair_of(0, 0xFFFFFFFF),
        rt.FRA_UID_RANGE,
        _pair_by("=II"),
        "uidrange {0[0]}-{0[1]}",
        compared=ALWAYS,
    ),
    Field("ip_proto", UINT8, rt.FRA_IP_PROTO, nl.U8, "ipproto {}", compared=ALWAYS),
    Field(
        "sport",
        pair_of(1, 0xFFFF),
        rt.FRA_SPORT_RANGE,
        _PORTS,
        "sport {0[0]}-{0[1]}",
        compared=ALWAYS,
    ),
    Field(
        "dport",
        pair_of(1, 0xFFFF),
        rt.FRA_DPORT_RANGE,
        _PORTS,
        "dport {0[0]}-{0[1]}",
        compared=ALWAYS,
    ),
    Field(
        "action",
        one_of(*RULE_ACTIONS),
        compared=ALWAYS,
        because={"wire": _IN_HEADER, "word": "with the table that it looks up"},
    ),
    Field(
        "suppress_prefixlength",
        integer(0, 128),
        rt.FRA_SUPPRESS_PREFIXLEN,
        nl.U32,
        "suppress_prefixlength {}",
        compared=ALWAYS,
    ),
    Field(
        "table",
        UINT32,
        rt.FRA_TABLE,
        nl.U32,
        "table {}",
        always_sent=True,
        compared=ALWAYS,
    ),
    Field("priority", UINT32, rt.FRA_PRIORITY, nl.U32, "priority {}", compared=ALWAYS),
    Field("protocol", UINT8, rt.FRA_PROTOCOL, nl.U8, "protocol {}", compared=ALWAYS),
)
_CARRIED = {row.attribute for row in TABLE.rows} | {rt.FRA_DST, rt.FRA_SRC, rt.FRA_PAD}


def encode(rule: Rule) -> bytes:
    """What RTM_NEWRULE says of a rule."""
    attributes = TABLE.encode(rule)
    if bool(rule.fwmark) != bool(rule.fwmask):
        # A mark without a mask would be compared in all bits (fib_nl2rule).
        attributes += nl.u32(rt.FRA_FWMASK if rule.fwmark else rt.FRA_FWMARK, 0)
    dst, dst_length = _ends(rt.FRA_DST, rule.dst)
    src, src_length = _ends(rt.FRA_SRC, rule.src)
    flags = _INVERT if rule.invert else 0
    family, table = nl.NUMBERS[rule.family], nl.short_table(rule.table)
    header = (family, dst_length, src_length, rule.tos, table, rule.action, flags)
    return nl.rule_body(header, attributes + dst + src)


def _ends(kind: int, prefix: str | None) -> tuple[bytes, int]:
    if prefix is None:
        return b"", 0
    address, _, length = prefix.partition("/")
    return nl.ip(kind, address), int(length)


def rules_request() -> nl.Message:
    """Asks for a dump of the namespace's rules."""
    return nl.Message(rt.RTM_GETRULE, 0, nl.rule_body((0,) * 7, b""))


@nl.decoder
def rules_in(bodies: Iterable[bytes]) -> tuple[Rule, ...]:
    """The rules of a dump, but for those that a checkpoint cannot hold."""
    found = (decode(body) for body in bodies)
    return tuple(dict.fromkeys(rule for rule in found if rule is not None))


def decode(body: bytes) -> Rule | None:
    """One rule of a dump; None for one of another family (multicast routing has some), and for one
    with a selector or action that we cannot give back: half a rule would catch other packets."""
    (family, to, source, tos, table, action, flags), attributes = nl.unpack_rule(body)
    more = attributes.items() - _PORT_MASKS.items()
    if any(kind not in _CARRIED for kind, _ in more):
        return None
    if family not in nl.FAMILIES or action not in RULE_ACTIONS or flags & ~_KNOWN_FLAGS:
        return None
    values: dict[str, Any] = {"priority": 0, **TABLE.decode(attributes)}
    if not all(values[name] is None or valid_ifname(values[name]) for name in ("iif", "oif")):
        return None  # no interface can have that name
    if values["suppress_prefixlength"] == _NONE:
        values["suppress_prefixlength"] = None
    values["family"] = nl.FAMILIES[family]
    values["src"] = _prefix(family, attributes.get(rt.FRA_SRC), source)
    values["dst"] = _prefix(family, attributes.get(rt.FRA_DST), to)
    values["tos"] = tos
    values["invert"] = bool(flags & _INVERT)
    values["action"] = action
    if rt.FRA_TABLE not in attributes:
        values["table"] = table
    return Rule(**values)


def _prefix(family: int, raw: bytes | None, length: int) -> str | None:
    """As the rule has it: host bits that do not count stay."""
    return None if raw is None else f"{inet_ntop(family, raw)}/{length}"


# --- whose they are -------------------------------------------------------------------------------


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
