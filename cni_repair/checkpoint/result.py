"""The interface that a Result tells of, as the macvlan and ipvlan plugins make it.

Both hand their Result to ConfigureIface (containernetworking/plugins, pkg/ipam), and print it when
that has succeeded. So what stands in a Result can be done again in the same way:

- A route without `gw` goes by the first gateway of its family among the addresses. It is the
  gateway's own family that counts, not that of the address which it stands beside.
- A gateway of 0.0.0.0 or :: is none. But it is a gateway that was given: no other takes its place.
- Several routes to one destination are all added (RouteAddEcmp, since 1.0.0). Of IPv4 the kernel
  puts a later one before the earlier ones; of IPv6 those with a gateway become one multipath route.
- `priority`, `table` and `scope` (CNI 1.1) are taken over. A plugin that does not know them does
  not print them. `mtu` and `advmss` of a route are printed and never applied (up to 1.9.1).
"""

from __future__ import annotations

from cni_repair.base.frozen import frozen, replace
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop
from cni_repair.netlink.codec import raw_mac
from cni_repair.network.model import (
    KIND_OF_MODE,
    RT_SCOPE_LINK,
    RT_SCOPE_SITE,
    RT_TABLE_MAIN,
    Address,
    Attachment,
    PodLink,
    Route,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Interface, IPv6Interface
    from typing import Any

    from cni_repair.network.model import HostLink

_DEFAULT_METRIC = {4: 0, 6: 1024}  # IP6_RT_PRIO_USER, what the kernel makes of "no metric"
_ANY = ("0.0.0.0", "::")
_ALL = {4: "0.0.0.0/0", 6: "::/0"}
# Of IPv6 the kernel takes an address's scope from its first ten bits (ipv6_addr_scope).
_SCOPES_6 = {0xFE80 >> 6: RT_SCOPE_LINK, 0xFEC0 >> 6: RT_SCOPE_SITE}


@frozen
class _Given:
    """An entry of `ips`."""

    address: Address
    gateway: str | None


def attachment_in(
    result: dict[str, Any], ifname: str, parents: tuple[HostLink, ...], mode: str, mtu: int
) -> Attachment:
    """The interface that a plugin's Result speaks of; its `mac` is empty where that names none.

    Raises ValueError for what is no Result.
    """
    link = PodLink(
        ifindex=0,
        mac=_mac(result, ifname),
        mtu=mtu,
        kind=KIND_OF_MODE[mode],
        mode=mode,
        flags=0,
        txqueuelen=0,
    )
    given = _given(result, ifname)
    addresses = _as_listed(one.address for one in given)
    return Attachment(ifname, link, parents, addresses, _routes(result, given))


def default_routes_of(result: dict[str, Any], ifname: str) -> dict[str, Route]:
    """A default route by the gateway of each address that has one. Raises ValueError for what is no
    Result."""
    return {
        one.address.address: _route({"dst": _ALL[one.address.family], "gw": one.gateway}, [])
        for one in _given(result, ifname)
        if _is_of(one.gateway, one.address.family) and one.gateway not in _ANY
    }


def _mac(result: dict[str, Any], ifname: str) -> str:
    for interface in _objects(result, "interfaces"):
        mac = interface.get("mac")
        if interface.get("name") == ifname and isinstance(mac, str):
            if len(raw_mac(mac)) != 6:
                raise ValueError(f"result.interfaces: {mac!r} is no MAC address")
            return mac
    return ""


# --- addresses ------------------------------------------------------------------------------------


def _given(result: dict[str, Any], ifname: str) -> list[_Given]:
    interfaces = _objects(result, "interfaces")
    found = []
    for entry in _objects(result, "ips"):
        if not _is_of_another(entry.get("interface"), interfaces, ifname):
            address = _address(_interface(entry.get("address"), "result.ips.address"), ifname)
            found.append(_Given(address, _gateway(entry.get("gateway"), "result.ips.gateway")))
    return found


def _is_of_another(index: object, interfaces: list[dict[str, Any]], ifname: str) -> bool:
    if not isinstance(index, int) or not 0 <= index < len(interfaces):
        return False
    return interfaces[index].get("name") != ifname


def _address(given: IPv4Interface | IPv6Interface, ifname: str) -> Address:
    length = given.network.prefixlen
    if given.version == 6:
        scope = _SCOPES_6.get(int(given.ip) >> 118, 0)
        return Address(6, _text(given), length, scope=scope)
    # netlink.AddrAdd, which the plugins use, derives the broadcast address.
    broadcast = str(given.network.broadcast_address) if length < 31 else None
    return Address(4, _text(given), length, broadcast=broadcast, label=ifname)


def _as_listed(made: Iterable[Address]) -> tuple[Address, ...]:
    """In the order of a dump, as other checkpoints have them: the kernel puts the newest IPv6
    address first; the Result has the order of adding."""
    addresses = list(made)
    ipv6 = [address for address in addresses if address.family == 6]
    return (*(address for address in addresses if address.family == 4), *reversed(ipv6))


# --- routes ---------------------------------------------------------------------------------------


def _routes(result: dict[str, Any], given: list[_Given]) -> tuple[Route, ...]:
    """The Result's routes, those of one place in the kernel's order."""
    places: dict[object, list[Route]] = {}
    for entry in _objects(result, "routes"):
        route = _route(entry, given)
        place = places.setdefault(route.slot, [])
        # The kernel refuses a route that is there. (So the plugin prints no such Result; others'
        # plugins may have left out the second.)
        if route in place:
            continue
        place.insert(0 if route.family == 4 else len(place), route)
    return tuple(route for place in places.values() for route in _siblings(place))


def _siblings(place: list[Route]) -> list[Route]:
    """Of IPv6, routes with a gateway become next hops of one (rt6_qualify_for_ecmp). One without
    that came between them is hidden by them: no dump shows it (fib6_dump_node goes on after the
    last of them), so that no other record has it, either."""
    ways = [n for n, route in enumerate(place) if route.family == 6 and route.gateway is not None]
    if len(ways) < 2:
        return place
    return [
        replace(route, shared=route.gateway is not None)
        for n, route in enumerate(place)
        if n in ways or not ways[0] < n < ways[-1]
    ]


def _route(entry: dict[str, Any], given: list[_Given]) -> Route:
    dst = _interface(entry.get("dst"), "result.routes.dst").network
    family = dst.version
    gateway = _gateway(entry.get("gw"), "result.routes.gw")
    if gateway is None:
        gateway = next((one.gateway for one in given if _is_of(one.gateway, family)), None)
    if gateway in _ANY:
        gateway = None
    if gateway is not None and family == 6 and ":" not in gateway:
        raise ValueError(f"result.routes: {dst} is IPv6, and its gateway {gateway} is not")
    return Route(
        family=family,
        dst=f"{inet_ntop(AF_INET6 if family == 6 else AF_INET, dst.network_address.packed)}"
        f"/{dst.prefixlen}",
        gateway=gateway,
        metric=_number(entry, "priority", 0xFFFFFFFF) or _DEFAULT_METRIC[family],
        table=_number(entry, "table", 0xFFFFFFFF) or RT_TABLE_MAIN,
        scope=_number(entry, "scope", 0xFF) if family == 4 else 0,  # IPv6 routes have none
    )


def _is_of(gateway: str | None, family: int) -> bool:
    return gateway is not None and (":" in gateway) == (family == 6)


# --- values ---------------------------------------------------------------------------------------


def _objects(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = result.get(key) or []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"result.{key}: expected a list of objects")
    return value


def _number(entry: dict[str, Any], key: str, most: int) -> int:
    """0 where it is absent, or null."""
    value = entry.get(key)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"result.routes.{key}: expected a number from 0 to {most}")
    return value


def _gateway(value: object, what: str) -> str | None:
    """None where it is absent or empty, which Go takes for the same."""
    return _text(_interface(value, what)) if value else None


def _text(address: IPv4Interface | IPv6Interface) -> str:
    """As the kernel's are written: Python writes ::102:304 for ::1.2.3.4."""
    return inet_ntop(AF_INET6 if address.version == 6 else AF_INET, address.ip.packed)


def _interface(value: object, what: str) -> IPv4Interface | IPv6Interface:
    """An address, with a prefix or without; one that is IPv4 within IPv6 as IPv4, as Go has it."""
    import ipaddress

    if not isinstance(value, str):
        raise ValueError(f"{what}: expected an address")
    if "%" in value:
        raise ValueError(f"{what}: {value!r} has a scope")
    given = ipaddress.ip_interface(value)
    mapped = given.ip.ipv4_mapped if isinstance(given, ipaddress.IPv6Interface) else None
    if mapped is None:
        return given
    length = given.network.prefixlen
    # ::ffff:10.9.0.5/120 is 10.9.0.5/24; Go hands on a length that IPv4 may have as it is.
    length = length if length <= 32 else length - 96
    if length < 0:
        raise ValueError(f"{what}: {value!r} is IPv4, and its prefix is not")
    return ipaddress.IPv4Interface((mapped, length))
