"""How each record of a checkpoint is read: by the table of its noun (network/kernel)."""

from __future__ import annotations

from cni_repair.base.kinds import (
    Misfit,
    as_described,
    describe,
    exactly,
    flag,
    ifname,
    integer,
    ip_address,
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

    from cni_repair.base.kinds import Reader
    from cni_repair.network.model import PodLink

s31 = INT31
u64 = integer(0, (1 << 64) - 1)


def _by(table: Table) -> Reader:
    if table.of_family:
        return record_of_family(table.noun, table.readers, " ".join(table.of_family))
    return record_of(table.noun, table.readers)


parent = _by(links.HOST)
_LINK = _by(links.TABLE)
address = _by(addresses.TABLE)
route = _by(routes.TABLE)
rule = _by(rules.TABLE)
neighbour = _by(neighbours.TABLE)


def _pod_link(value: Any) -> PodLink:
    link: PodLink = _LINK(value)
    if link.mode not in KINDS[link.kind]:
        raise Misfit(f".mode: expected one of {', '.join(KINDS[link.kind])}")
    return link


pod_link = as_described(_pod_link, _LINK)
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
