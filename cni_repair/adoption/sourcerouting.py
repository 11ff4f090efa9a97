"""What the sbr plugin made of an interface's routes: told from the Result, and from sbr's rules, as
they stay in the pod when the interface goes. Pure.

sbr (containernetworking/plugins, plugins/meta/sbr) prints the Result that it was given. But to each
address it gives a table and a rule, `from ADDRESS lookup TABLE`; to that table a default route by
the address's gateway. Then it moves all the interface's routes out of the main table, the kernel's
own, too: into each table whose address's network holds their gateway or source, and into every
table if they have neither.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from cni_repair.base.frozen import replace
from cni_repair.network.kernel.address import prefix_routes
from cni_repair.network.model import RT_TABLE_MAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_repair.network.model import Address, Attachment, Route, Rule


def moved_by_sbr(
    said: Attachment, defaults: Mapping[str, Route], rules: tuple[Rule, ...]
) -> Attachment:
    """The attachment with its routes where sbr put them; without them where no rule tells of it.

    `said` is what the Result tells, `defaults` the routes by its addresses' gateways.
    """
    own = prefix_routes(said.addresses)
    moved: dict[object, Route] = {}
    for address in said.addresses:
        table = _table_of(address, rules)
        if table:
            default = defaults.get(address.address)
            copied = [route for route in (*own, *said.routes) if _belongs(route, address)]
            # (As RouteReplace does it, the last one of a place stays.)
            for route in (*([default] if default else []), *copied):
                there = replace(route, table=table)
                moved[there.slot] = there
    elsewhere = [route for route in said.routes if route.table != RT_TABLE_MAIN]
    return replace(said, routes=(*elsewhere, *moved.values()), absent_routes=tuple(own))


def _table_of(address: Address, rules: tuple[Rule, ...]) -> int:
    """0 where no rule of this source is there (any more)."""
    source = f"{address.address}/{32 if address.family == 4 else 128}"
    return next((rule.table for rule in rules if rule.src == source), 0)


def _belongs(route: Route, address: Address) -> bool:
    if route.table != RT_TABLE_MAIN:
        return False
    network = ip_interface(f"{address.address}/{address.prefix}").network
    ends = [end for end in (route.gateway, route.prefsrc) if end]
    return not ends or any(ip_address(end) in network for end in ends)
