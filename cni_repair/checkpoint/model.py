"""The checkpoint document: how an attachment is written down and read back.

Reading builds the values that planning works with, and refuses whatever does not fit: a checkpoint
may come from a torn disk or a hostile hand. The published form is `schema/checkpoint.json`; the
tests hold the two together.
"""

from __future__ import annotations

import binascii

from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.readers import (
    Misfit,
    altname,
    any_object,
    any_value,
    camel,
    flag,
    identifier,
    ifname,
    integer,
    ip_address,
    ip_prefix,
    list_of,
    mac,
    metrics,
    object_of,
    one_of,
    pair_of,
    record_of,
    record_of_family,
    some_of,
    sysctls,
    text,
)
from cni_repair.checkpoint.store import MAX_BYTES, Key
from cni_repair.errors import BAD_CHECKPOINT, CniError
from cni_repair.network.state import (
    KINDS,
    RULE_ACTIONS,
    Address,
    Attachment,
    Hop,
    HostLink,
    Neighbour,
    NodeLink,
    NodeLinks,
    PodLink,
    Route,
    Rule,
    Vlan,
)
from cni_repair.record import asdict, fields, record
from cni_repair.strictjson import dumps, load_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.readers import Reader

SCHEMA_VERSION = 1
_UNSUMMED = "crc32:00000000"


@record
class Pod:
    """What Kubernetes calls the pod (K8S_* of CNI_ARGS); empty where the caller did not say."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@record
class Checkpoint:
    """One attachment as it was committed."""

    key: Key
    network: str
    pod: Pod
    attached_at: int  # Unix time in milliseconds: the order in which a pod's interfaces were made
    netns: Identity | None  # None: the seed's checkpoints carry no identity
    netns_path: str
    delegate: str
    netconf: dict[str, Any]  # the configuration, without secrets
    result: dict[str, Any]  # the delegate's, as it came
    attachment: Attachment
    node_links: NodeLinks | None = None  # None: never looked at, or there was nothing


def encode(checkpoint: Checkpoint) -> str:
    """The document's text, with its checksum."""
    attachment = checkpoint.attachment
    document: dict[str, Any] = {
        "schemaVersion": SCHEMA_VERSION,
        "containerId": checkpoint.key.container_id,
        "ifname": checkpoint.key.ifname,
        "network": checkpoint.network,
        "pod": _plain(checkpoint.pod),
        "attachedAt": checkpoint.attached_at,
        "netns": _plain(checkpoint.netns),
        "delegate": checkpoint.delegate,
        "netconf": checkpoint.netconf,
        "result": checkpoint.result,
        "link": _plain(attachment.link),
        "parents": [_plain(parent) for parent in attachment.parents],
        "addresses": [_plain(address) for address in attachment.addresses],
        "routes": [_plain(route) for route in attachment.routes],
        "sysctls": dict(attachment.sysctls),
    }
    optional = {
        "rules": attachment.rules,
        "neighbours": attachment.neighbours,
        "absentRoutes": attachment.absent_routes,
    }
    late: dict[str, Any] = {
        "settled": attachment.settled or None,
        "addrGenMode": attachment.addr_gen_mode,
        "lifetimesAt": attachment.lifetimes_at or None,
    }
    document |= {key: value for key, value in late.items() if value is not None}
    for key, entries in optional.items():
        if entries:  # an older cni-repair can read what has none
            document[key] = [_plain(entry) for entry in entries]
    if checkpoint.node_links is not None:
        document["nodeLinks"] = _plain(checkpoint.node_links)
    line = dumps({**document, "checksum": _UNSUMMED}) + "\n"
    before, _, after = line.rpartition(_UNSUMMED)
    return before + checksum(line.encode("ascii"), _UNSUMMED) + after


def encode_checked(checkpoint: Checkpoint) -> str:
    """As :func:`encode`, sure that it can be read back: a pod has a say in labels, routes and its
    own name. Raises CniError (BAD_CHECKPOINT)."""
    document = encode(checkpoint)
    if len(document) > MAX_BYTES:
        raise CniError(
            BAD_CHECKPOINT,
            f"the checkpoint of {checkpoint.key.name} would be too large",
            f"{len(document)} bytes; at most {MAX_BYTES} are read back",
        )
    decode(document.encode("ascii"), f"{checkpoint.key.name}.json")
    return document


def checksum(raw: bytes, stands: str) -> str:
    """CRC-32 of a document's bytes, with zeros for the checksum that `stands` in it, as the last.

    Tells torn from whole, not good from evil: who can write here is root. Over the bytes as they
    are, since putting a document into a canonical form takes longer than repairing its pod.
    """
    before, _, after = raw.rpartition(stands.encode())
    return f"crc32:{binascii.crc32(before + _UNSUMMED.encode() + after):08x}"


def decode(raw: bytes, name: str) -> Checkpoint:
    """Read a checkpoint of ours; `name` is its file's, which must name the same attachment.

    Raises CniError (BAD_CHECKPOINT) that names the file, and the place in it.
    """
    try:
        document = load_object(raw, "the document")
        _check_envelope(document, raw)
        checkpoint = _read(document)
        if f"{checkpoint.key.name}.json" != name:
            raise Misfit(f"it is the checkpoint of {checkpoint.key.name}")
    except (CniError, Misfit) as error:
        raise CniError(BAD_CHECKPOINT, f"checkpoint {name} is not used", str(error)) from error
    return checkpoint


def _check_envelope(document: dict[str, Any], raw: bytes) -> None:
    version = document.get("schemaVersion")
    if type(version) is int and version > SCHEMA_VERSION:
        raise Misfit(
            f"schemaVersion {version} is newer than this cni-repair ({SCHEMA_VERSION}): upgrade it"
        )
    if version != SCHEMA_VERSION or type(version) is not int:
        raise Misfit(f"$.schemaVersion: expected {SCHEMA_VERSION}")
    sum_found = document.get("checksum")
    if not isinstance(sum_found, str) or not _is_checksum(sum_found, raw):
        raise Misfit("$.checksum does not match: the file was changed or is damaged")


def _is_checksum(found: str, raw: bytes) -> bool:
    in_shape = len(found) == len(_UNSUMMED) and found.isascii()
    return in_shape and found == checksum(raw, found)


def _read(document: dict[str, Any]) -> Checkpoint:
    try:
        values = _DOCUMENT(document)
    except Misfit as error:
        raise Misfit(f"${error}") from error
    attachment = Attachment(
        follow_renamed_master=values["netconf"].get("followRenamedMaster") is True,
        **{name: values[name] for name in _OF_ATTACHMENT if name in values},
    )
    return Checkpoint(
        key=Key(values["container_id"], values["ifname"]),
        network=values["network"],
        pod=values["pod"],
        attached_at=values["attached_at"],
        netns=values["netns"],
        netns_path=values["netns"].path,
        delegate=values["delegate"],
        netconf=values["netconf"],
        result=values["result"],
        attachment=attachment,
        node_links=values.get("node_links"),
    )


def _plain(value: object) -> Any:
    """A record as JSON has it: lower camel case, without what says nothing; records inside alike.

    What has its default's value is left out: an older cni-repair may not know the field.
    """
    cls = type(value)
    if hasattr(cls, "__annotations__"):
        return {
            camel(name): _plain(field)
            for name, field in asdict(value).items()
            if not (hasattr(cls, name) and getattr(cls, name) == field)
        }
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


_U8 = integer(0, 0xFF)
_U16 = integer(0, 0xFFFF)
_U32 = integer(0, 0xFFFFFFFF)
_S31 = integer(0, 0x7FFFFFFF)
_U64 = integer(0, (1 << 64) - 1)

_MAP = list_of(pair_of(0, 0xFFFFFFFF))
_VLAN = record_of(
    Vlan,
    {
        "id": integer(1, 4094),
        "protocol": one_of(0x8100, 0x88A8),
        "flags": _U32,
        "egress": _MAP,
        "ingress": _MAP,
    },
)
_PARENT = record_of(
    HostLink,
    {
        "name": ifname,
        "ifindex": _S31,
        "kind": text,
        "mac": text,
        "mtu": _S31,
        "flags": _U32,
        "lower": _S31,
        "permanent_mac": text,
        "bus_address": text,
        "vlan": _VLAN,
    },
)
_LINK = record_of(
    PodLink,
    {
        "ifindex": _S31,
        "mac": mac,
        "mtu": _S31,
        "kind": one_of(*KINDS),
        "mode": one_of(*(mode for modes in KINDS.values() for mode in modes)),
        "flags": _U16,
        "txqueuelen": _S31,
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


_ADDRESS = record_of_family(
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
_ROUTE = record_of_family(
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
_RULE = record_of_family(
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
_NEIGHBOUR = record_of_family(
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
_NODE_LINK = record_of(
    NodeLink,
    {
        "name": ifname,
        "addresses": list_of(_ADDRESS),
        "routes": list_of(_ROUTE),
        "shim": _pod_link,
        "master": ifname,
        "up": flag,
    },
)
_REQUIRED: dict[str, Reader] = {
    "schema_version": any_value,  # see _check_envelope
    "checksum": any_value,
    "container_id": identifier,
    "ifname": ifname,
    "network": identifier,
    "pod": record_of(Pod, {"namespace": text, "name": text, "uid": text}),
    "attached_at": integer(0, 1 << 53),
    "netns": record_of(
        Identity,
        {
            "path": text,
            "boot_id": text,
            "dev": _U64,
            "ino": _U64,
            "cookie": _U64,
            "pid": _S31,
            "pid_start": _U64,
        },
    ),
    "delegate": identifier,
    "netconf": any_object,
    "result": any_object,
    "link": _pod_link,
    "parents": some_of(_PARENT),
    "addresses": list_of(_ADDRESS),
    "routes": list_of(_ROUTE),
    "sysctls": sysctls,
}
# Absent, too, from what an older cni-repair wrote.
_OPTIONAL: dict[str, Reader] = {
    "rules": list_of(_RULE),
    "neighbours": list_of(_NEIGHBOUR),
    "absent_routes": list_of(_ROUTE),
    "settled": flag,
    "addr_gen_mode": integer(0, 3),
    "lifetimes_at": integer(0, 1 << 53),
    "node_links": record_of(
        NodeLinks, {"seen_at": integer(0, 1 << 53), "links": list_of(_NODE_LINK)}
    ),
}
_DOCUMENT = object_of({**_REQUIRED, **_OPTIONAL}, _REQUIRED)
_OF_ATTACHMENT = [name for name in fields(Attachment) if name in {**_REQUIRED, **_OPTIONAL}]
