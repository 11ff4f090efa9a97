"""What a configuration says of addresses: for the plugins that are known here, as they read it."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from cni_repair.base.frozen import frozen
from cni_repair.base.gotypes import respelled
from cni_repair.cli.validation import keys
from cni_repair.cli.validation.findings import Finding, error, near_keys, note, warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from cni_repair.cli.validation.machine import Machine
    from cni_repair.cni.netconf import NetConf

_ROOM = 2  # bits that are no part of the network's prefix: host-local refuses fewer


def check_ipam(path: str, conf: NetConf, machine: Machine) -> Iterator[Finding]:
    """All that is to be said of `ipam`, which `path` leads to."""
    ipam = conf.rest.get("ipam")
    kind = conf.ipam_type
    if not ipam:
        yield warning(path, "there is none: pods get no address", "name an IPAM plugin")
    elif not kind:
        remedy = 'add "type": "host-local"' if set(ipam) & set(keys.OF_RANGES) else "add a type"
        yield warning(path, "has no type, and is not read: pods get no address", remedy)
    else:
        yield from _type(path, kind, machine)
        yield from near_keys(path, ipam, keys.OF_IPAM.get(kind, tuple(ipam)), kind)
        ipam = _as_read(ipam, keys.OF_IPAM.get(kind, ()))
        if kind == "host-local":
            yield from _host_local(path, ipam, conf)
        elif kind == "static":
            yield from _static(path, ipam, conf)
        if kind in keys.OF_IPAM:
            yield from _lists(path, ipam)
            yield from _routes(path, ipam)


def _as_read(value: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """With the keys that the IPAM plugin, in Go, reads in any case as it spells them."""
    read: dict[str, Any] = respelled(value, {name: {} for name in known})
    return read


def _type(path: str, kind: str, machine: Machine) -> Iterator[Finding]:
    if kind not in keys.IPAMS and keys.near(kind, keys.IPAMS):
        remedy = keys.meant(kind, keys.IPAMS)
        yield warning(f"{path}.type", f"{kind!r} is not an IPAM plugin that is known here", remedy)
    if not machine.has_plugin(kind):
        yield note(
            f"{path}.type", f"no plugin {kind} on this machine", "on the node there must be one"
        )


def _host_local(path: str, ipam: dict[str, Any], conf: NetConf) -> Iterator[Finding]:
    if not ipam.get("ranges") and not ipam.get("subnet") and not _is_told(conf, "ipRanges"):
        yield warning(
            path, "has neither ranges nor a subnet: no address to give", "add one of them"
        )
    if ipam.get("subnet"):
        yield from _range(path, ipam)
    for place, entry in _entries(path, ipam, "ranges"):
        if isinstance(entry, dict):
            yield error(place, "is not a list of ranges", "write [[{…}]]: one list for each family")
        elif not isinstance(entry, list) or not entry:
            yield error(place, "is not a list of ranges", 'write [{"subnet": …}]')
        else:
            yield from _set_of_ranges(place, entry)


def _set_of_ranges(path: str, ranges: list[Any]) -> Iterator[Finding]:
    families = set()
    for number, entry in enumerate(ranges):
        place = f"{path}[{number}]"
        entry = yield from _read_entry(_RANGE, place, entry)
        if entry:
            yield from _range(place, entry)
            families.add(":" in str(entry["subnet"]))
    if len(families) > 1:
        yield error(path, "has ranges of both families", "write a list for each: [[{…}], [{…}]]")


def _static(path: str, ipam: dict[str, Any], conf: NetConf) -> Iterator[Finding]:
    if not ipam.get("addresses") and not _is_told(conf, "ips"):
        yield warning(
            path,
            "has no addresses: only a runtime that sends some with each pod can use it",
            'add addresses, or "capabilities": {"ips": true} beside ipam',
        )
    for place, entry in _entries(path, ipam, "addresses"):
        entry = yield from _read_entry(_STATIC_ADDRESS, place, entry)
        if entry:
            yield from _values(place, entry, {"address": _PREFIX, "gateway": _ADDRESS})


@frozen
class _Entry:
    """What each entry of a list is to be."""

    keys: tuple[str, ...]
    what: str
    needed: str  # the key that it cannot be without
    lack: str
    remedy: str


_RANGE = _Entry(
    keys.OF_RANGES, "a range", "subnet", "is not a range: it has no subnet", 'write {"subnet": …}'
)
_STATIC_ADDRESS = _Entry(
    keys.OF_ADDRESSES, "an address", "address", "has no address", 'write {"address": "10.9.0.5/24"}'
)
_ROUTE = _Entry(
    keys.OF_ROUTES, "a route", "dst", "has no destination", 'write {"dst": "0.0.0.0/0"}'
)


def _read_entry(
    kind: _Entry, path: str, entry: object
) -> Generator[Finding, None, dict[str, Any] | None]:
    """An entry as it is read; None where it is not of that kind, which is said."""
    if isinstance(entry, dict):
        yield from near_keys(path, entry, kind.keys, kind.what)
        read = _as_read(entry, kind.keys)
        if read.get(kind.needed):
            return read
    yield error(path, kind.lack, kind.remedy)
    return None


def _is_told(conf: NetConf, capability: str) -> bool:
    """Whether a runtime tells it with each pod, by one of the ways that there are."""
    args = conf.rest.get("args")
    ways = [conf.rest.get("capabilities"), conf.rest.get("runtimeConfig")]
    ways.append(args.get("cni") if isinstance(args, dict) else None)
    return any(isinstance(way, dict) and way.get(capability) for way in ways)


def _routes(path: str, ipam: dict[str, Any]) -> Iterator[Finding]:
    for place, entry in _entries(path, ipam, "routes"):
        entry = yield from _read_entry(_ROUTE, place, entry)
        if entry:
            yield from _route(place, entry)


def _route(path: str, entry: dict[str, Any]) -> Iterator[Finding]:
    wrong = list(_values(path, entry, {"dst": _PREFIX, "gw": _ADDRESS}))
    yield from wrong
    if not wrong:
        given = ip_interface(entry["dst"])
        # (Of IPv6 the kernel cuts them off.)
        if given.version == 4 and given.ip != given.network.network_address:
            said = f"{given} is an address, not a destination"
            yield error(f"{path}.dst", said, f"write {given.network}")


def _lists(path: str, ipam: dict[str, Any]) -> Iterator[Finding]:
    for key in ("ranges", "addresses", "routes"):
        if ipam.get(key) is not None and not isinstance(ipam[key], list):
            yield error(f"{path}.{key}", "is not a list", "write [ … ] around it")


def _entries(path: str, document: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """(path, entry) of a list; none where it is something else, which :func:`_lists` tells."""
    value = document.get(key)
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        yield f"{path}.{key}[{index}]", entry


# --- values --------------------------------------------------------------------------------------


def _range(path: str, entry: dict[str, Any]) -> Iterator[Finding]:
    """What host-local refuses of a range (its range.go, Canonicalize)."""
    wrong = list(_values(path, entry, _OF_A_RANGE))
    yield from wrong
    if wrong or not entry.get("subnet"):
        return
    given = ip_interface(entry["subnet"])
    network = given.network
    if given.ip != network.network_address:
        said = f"{given} is an address, not a subnet"
        yield error(f"{path}.subnet", said, f"write {network}")
    elif network.max_prefixlen - network.prefixlen < _ROOM:
        yield error(f"{path}.subnet", f"{network} has no room for a pod", "give a larger one")
    ends = [key for key in ("rangeStart", "rangeEnd") if entry.get(key)]
    for key in ends:
        if ip_address(entry[key]) not in network:
            yield error(f"{path}.{key}", f"{entry[key]} is not in {network}", "give one that is")
            return
    if len(ends) > 1 and int(ip_address(entry[ends[0]])) > int(ip_address(entry[ends[1]])):
        yield error(f"{path}.rangeEnd", "is before rangeStart", "exchange them")


def _values(path: str, entry: dict[str, Any], forms: dict[str, _Form]) -> Iterator[Finding]:
    for key, form in forms.items():
        value = entry.get(key)
        if value is None or value == "":
            continue
        try:
            if not isinstance(value, str):
                raise ValueError
            form.read(value)
        except ValueError:
            remedy = f"write it as {form.example}"
            yield error(f"{path}.{key}", f"{value!r} is not {form.name}", remedy)


def _with_length(text: str) -> object:
    """As Go reads it (net.ParseCIDR), which takes neither a netmask nor nothing for the length."""
    if not text.partition("/")[2].isdigit():
        raise ValueError
    return ip_interface(text)


@frozen
class _Form:
    """What a text has to be; `read` raises ValueError where it is not."""

    name: str
    example: str
    read: Callable[[str], object]


_ADDRESS = _Form("an address", "10.9.0.1", ip_address)
_PREFIX = _Form("an address with a prefix length", "10.9.0.0/24", _with_length)
_OF_A_RANGE = {
    "subnet": _PREFIX, "rangeStart": _ADDRESS, "rangeEnd": _ADDRESS, "gateway": _ADDRESS,
}  # fmt: skip
