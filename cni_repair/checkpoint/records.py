"""How each record of a checkpoint is read: by the table of its noun (network/kernel)."""

from __future__ import annotations

from cni_repair.base.kinds import (
    Kind,
    Misfit,
    checked,
    flag,
    ifname,
    integer,
    ip_address,
    keyed,
    list_of,
    record_of,
    record_of_family,
)
from cni_repair.network.kernel import address as addresses
from cni_repair.network.kernel import link as links
from cni_repair.network.kernel import neighbour as neighbours
from cni_repair.network.kernel import route as routes
from cni_repair.network.kernel import rule as rules
from cni_repair.network.kernel.sysctl import STABLE_SECRET, SYSCTLS
from cni_repair.network.kernel.table import INT31, Table
from cni_repair.network.model import KINDS, NodeLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.base.kinds import Inner, Schema
    from cni_repair.network.model import PodLink

s31 = INT31
u64 = integer(0, (1 << 64) - 1)


def _by(table: Table) -> Kind:
    if table.of_family:
        return record_of_family(table.noun, table.readers, " ".join(table.of_family))
    return record_of(table.noun, table.readers)


def _check_mode(link: PodLink) -> None:
    if link.mode not in KINDS[link.kind]:
        raise Misfit(f".mode: expected one of {', '.join(KINDS[link.kind])}")


parent = _by(links.HOST)
pod_link = checked(_by(links.TABLE), _check_mode)
address = _by(addresses.TABLE)
route = _by(routes.TABLE)
rule = _by(rules.TABLE)
neighbour = _by(neighbours.TABLE)


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


def _read_setting(value: Any) -> str:
    digits = value.removeprefix("-") if isinstance(value, str) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 11):
        raise Misfit(": expected a number in a text")
    return str(value)


def _is_of_an_interface(key: str) -> bool:
    """Whether it may be in a newer version's list: net/<family>/conf/<ifname>/<name>."""
    family, _, name = key.partition("/")
    return family in ("ipv4", "ipv6") and bool(name) and _LETTERS.issuperset(name)


def _describe_sysctls(inner: Inner) -> Schema:
    # (Not one by one: they are a hundred.)
    return {
        "type": "object",
        "propertyNames": {"pattern": "^ipv[46]/[a-z0-9_]+$"},
        "properties": {STABLE_SECRET: inner(ip_address)},
        "patternProperties": {f"^({'|'.join(_NUMBERS)})$": inner(_SETTING)},
    }


_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_SETTING = Kind(_read_setting, lambda _: {"type": "string", "pattern": "^-?[0-9]{1,11}$"})
_NUMBERS = sorted(SYSCTLS - {STABLE_SECRET})
# The allow-list of what a pod may get back; others are kept as they are, and not applied.
_SYSCTLS = keyed(
    {**dict.fromkeys(_NUMBERS, _SETTING), STABLE_SECRET: ip_address}, _is_of_an_interface
)
sysctls = Kind(
    lambda value: tuple(_SYSCTLS.read(value).items()),
    _describe_sysctls,
    fields=_SYSCTLS.fields,
    newer=_is_of_an_interface,
)
