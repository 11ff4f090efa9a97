"""The records of the predecessor plugin (12-character files), read as they are.

Before cni-repair there was a plugin, written for one site after one incident, that kept a file for
each pod, named after the first twelve characters of the container id. Nodes that change over to
cni-repair still have such files; we read them, and never write one.

    {"netns": "/proc/PID/ns/net", "podname": …, "sandbox": <container id>, "ifname": …, "result": …}

They tell neither the network namespace's identity nor the master, nor the link's mode and MTU. The
last three come from the network's configuration; without one, the attachment is skipped, and the
reason given.
"""

from __future__ import annotations

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.names import valid_id, valid_ifname
from cni_repair.base.strictjson import load_object
from cni_repair.checkpoint.model import Checkpoint, Pod
from cni_repair.checkpoint.store import Key
from cni_repair.network.model import KIND_OF_MODE, Address, Attachment, PodLink, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface
    from typing import Any

    from cni_repair.network.model import HostLink

_DEFAULT_METRIC = {4: 0, 6: 1024}  # IP6_RT_PRIO_USER, what the kernel makes of "no metric"


def decode(
    raw: bytes, name: str, parents: tuple[HostLink, ...], mode: str = "bridge", mtu: int = 0
) -> Checkpoint:
    """Read one of the predecessor's records; what it lacks comes from the caller.

    Raises CniError (BAD_CHECKPOINT) that names the file.
    """
    try:
        document = load_object(raw, "the document")
        return _read(document, name, parents, mode, mtu)
    except (CniError, ValueError) as error:
        raise CniError(BAD_CHECKPOINT, f"checkpoint {name} is not used", str(error)) from error


def _read(
    document: dict[str, Any], name: str, parents: tuple[HostLink, ...], mode: str, mtu: int
) -> Checkpoint:
    sandbox, ifname, netns = (_text(document, key) for key in ("sandbox", "ifname", "netns"))
    if not valid_id(sandbox) or not sandbox.startswith(name):
        raise ValueError(f"sandbox {sandbox!r} is not the one that the file is named after")
    if not valid_ifname(ifname):
        raise ValueError(f"ifname {ifname!r} is no interface name")
    result = document.get("result")
    if not isinstance(result, dict):
        raise ValueError("result: expected an object")
    attachment = attachment_in(result, ifname, parents, mode, mtu)
    if not attachment.link.mac:
        raise ValueError(f"result.interfaces: no MAC of {ifname}")
    return Checkpoint(
        key=Key(sandbox, ifname),
        network="",
        pod=Pod(name=_text(document, "podname")),
        attached_at=0,
        netns=None,
        netns_path=netns,
        delegate="macvlan",
        netconf={},
        result=result,
        attachment=attachment,
    )


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
    addresses = tuple(_addresses(result, ifname))
    return Attachment(
        ifname, link, parents, _as_listed(addresses), tuple(_routes(result, addresses))
    )


def _as_listed(addresses: tuple[tuple[Address, str | None], ...]) -> tuple[Address, ...]:
    """In the order of a dump, as other checkpoints have them: the kernel puts the newest IPv6
    address first; the Result has the order of adding."""
    made = [address for address, _ in addresses]
    ipv6 = [address for address in made if address.family == 6]
    return (*(address for address in made if address.family == 4), *reversed(ipv6))


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a text")
    return value


def _mac(result: dict[str, Any], ifname: str) -> str:
    for interface in _objects(result, "interfaces"):
        mac = interface.get("mac")
        if interface.get("name") == ifname and isinstance(mac, str):
            if len(bytes.fromhex(mac.replace(":", ""))) != 6:
                raise ValueError(f"result.interfaces: {mac!r} is no MAC address")
            return mac
    return ""


def _addresses(result: dict[str, Any], ifname: str) -> list[tuple[Address, str | None]]:
    """Each address with its gateway."""
    found = []
    interfaces = _objects(result, "interfaces")
    for entry in _objects(result, "ips"):
        if _is_of_another(entry.get("interface"), interfaces, ifname):
            continue
        one = _interface(entry.get("address"), "result.ips.address")
        # netlink.AddrAdd, which the macvlan plugin uses, derives the broadcast address.
        wide = one.version == 4 and one.network.prefixlen < 31
        address = Address(
            family=one.version,
            address=str(one.ip),
            prefix=one.network.prefixlen,
            broadcast=str(one.network.broadcast_address) if wide else None,
            label=ifname if one.version == 4 else None,
        )
        gateway = entry.get("gateway")
        found.append((address, str(_interface(gateway, "gateway").ip) if gateway else None))
    return found


def _is_of_another(index: object, interfaces: list[dict[str, Any]], ifname: str) -> bool:
    if not isinstance(index, int) or not 0 <= index < len(interfaces):
        return False
    return interfaces[index].get("name") != ifname


def _routes(
    result: dict[str, Any], addresses: tuple[tuple[Address, str | None], ...]
) -> list[Route]:
    """The Result's routes: one without a gateway goes by the first of its family
    (containernetworking/plugins, pkg/ipam: ConfigureIface); a repeated one counts once."""
    routes: dict[object, Route] = {}
    for entry in _objects(result, "routes"):
        network = _interface(entry.get("dst"), "result.routes.dst").network
        gateway = entry.get("gw") or next(
            (gw for address, gw in addresses if gw and address.family == network.version), None
        )
        route = Route(
            family=network.version,
            dst=str(network),
            gateway=str(_interface(gateway, "gw").ip) if gateway else None,
            metric=_DEFAULT_METRIC[network.version],
        )
        routes.setdefault(route.dst, route)
    return list(routes.values())


def _objects(result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = result.get(key) or []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"result.{key}: expected a list of objects")
    return value


def _interface(value: object, what: str) -> IPv4Interface | IPv6Interface:
    import ipaddress

    if not isinstance(value, str):
        raise ValueError(f"{what}: expected an address")
    if "%" in value:
        raise ValueError(f"{what}: {value!r} has a scope")
    return ipaddress.ip_interface(value)
