"""How each record of a checkpoint is read: by the table of its noun (network/kernel)."""

from __future__ import annotations

from cni_repair.base.kinds import (
    Kind,
    Misfit,
    any_object,
    checked,
    family_of,
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


def _read_sysctls(value: Any) -> tuple[tuple[str, str], ...]:
    for key, setting in any_object.read(value).items():
        if key not in SYSCTLS:
            raise Misfit(f": {key!r} is no sysctl that a pod may get back")
        if key == STABLE_SECRET:
            if not isinstance(setting, str) or family_of(setting) is None:
                raise Misfit(f".{key}: expected an IP address")
            continue
        digits = setting.removeprefix("-") if isinstance(setting, str) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 11):
            raise Misfit(f".{key}: expected a number in a text")
    return tuple(value.items())


def _describe_sysctls(inner: Inner) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"enum": sorted(SYSCTLS)},
        "properties": {STABLE_SECRET: inner(ip_address)},
        "additionalProperties": {"type": "string", "pattern": "^-?[0-9]{1,11}$"},
    }


sysctls = Kind(_read_sysctls, _describe_sysctls)
