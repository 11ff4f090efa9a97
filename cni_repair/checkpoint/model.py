"""The checkpoint document: how an attachment is written down and read back.

Reading builds the values that planning works with, and refuses whatever does not fit: a checkpoint
may come from a torn disk or a hostile hand. The published form, `schema/checkpoint.json`, is made
from the readers (:mod:`~cni_repair.checkpoint.schema`).

Across versions (install.sh keeps the one before, for a rollback):

- `schemaVersion` says what the known keys mean. It changes only if one of them changes its meaning,
  and a record with another one is refused.
- Keys that a reader does not know are kept as they are, and written back wherever what they belong
  to is still there. They are neither compared nor applied.
- `minReader` (absent: 1) is the least READER_VERSION that may repair by the record. A newer version
  writes it only if ignoring one of its keys would do harm; an older one refuses the record then.
  READER_VERSION 1 is 0.1.0, which refuses every key that it does not know; 2 keeps them.
"""

from __future__ import annotations

import binascii

from cni_repair.base.errors import BAD_CHECKPOINT, CniError
from cni_repair.base.frozen import asdict, fields, frozen, replace
from cni_repair.base.kinds import (
    Kind,
    Misfit,
    UnknownKey,
    any_object,
    any_value,
    camel,
    family_of,
    flag,
    identifier,
    ifname,
    integer,
    ip_address,
    list_of,
    mac,
    object_of,
    record_of,
    some_of,
    text,
)
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton
from cni_repair.base.strictjson import dumps, load_object
from cni_repair.checkpoint import records
from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.store import MAX_BYTES, NOT_USED, Key
from cni_repair.network.model import Attachment, NodeLinks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.unknown import Unknown

SCHEMA_VERSION = 1
READER_VERSION = 2
_UNSUMMED = "crc32:00000000"


@frozen
class Pod:
    """What Kubernetes calls the pod (K8S_* of CNI_ARGS); empty where the caller did not say."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@frozen
class GatewayMac:
    """Which MAC has answered for a gateway."""

    address: str
    mac: str


@frozen
class Checkpoint:
    """One attachment as it was committed."""

    key: Key
    network: str
    pod: Pod
    attached_at: int  # Unix time in milliseconds: the order in which a pod's interfaces were made
    netns: Identity | None  # None: the predecessor's records have no identity
    netns_path: str
    delegate: str
    netconf: dict[str, Any]  # the configuration, without secrets
    result: dict[str, Any]  # the delegate's, as it came
    attachment: Attachment
    node_links: NodeLinks | None = None  # None: never looked at, or there was nothing
    accepted_addresses: tuple[str, ...] = ()  # by an operator, beside those that IPAM gave
    gateway_macs: tuple[GatewayMac, ...] = ()  # as a snapshot saw them
    min_reader: int = 1
    unknown: tuple[Unknown, ...] = ()

    @property
    def announceable(self) -> frozenset[str]:
        """The addresses that the network may be told of: those that the delegate's Result names,
        which are IPAM's, and those that an operator accepted. Any other the pod may have given
        itself, its gateway's, say."""
        return frozenset((*_addresses_in(self.result), *self.accepted_addresses))


def _addresses_in(result: dict[str, Any]) -> list[str]:
    """As the kernel's are written. (checkpoint/result.py reads all of a Result, and imports what a
    repair has no time for.)"""
    ips = result.get("ips")
    found = []
    for entry in ips if isinstance(ips, list) else ():
        text = entry.get("address") if isinstance(entry, dict) else None
        address = text.partition("/")[0] if isinstance(text, str) else ""
        family = family_of(address)
        if family is not None:
            number = AF_INET6 if family == 6 else AF_INET
            found.append(inet_ntop(number, inet_pton(number, address)))
    return found


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
        "minReader": checkpoint.min_reader if checkpoint.min_reader > 1 else None,
    }
    document |= {key: value for key, value in late.items() if value is not None}
    if checkpoint.accepted_addresses:
        document["acceptedAddresses"] = [*checkpoint.accepted_addresses]
    if checkpoint.gateway_macs:
        document["gatewayMacs"] = [_plain(one) for one in checkpoint.gateway_macs]
    for key, entries in optional.items():
        if entries:  # an older cni-repair can read what has none
            document[key] = [_plain(entry) for entry in entries]
    if checkpoint.node_links is not None:
        document["nodeLinks"] = _plain(checkpoint.node_links)
    if checkpoint.unknown:
        from cni_repair.checkpoint.unknown import put_back

        for unknown in checkpoint.unknown:
            put_back(document, _values_of(checkpoint), unknown)
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
        raise CniError(BAD_CHECKPOINT, NOT_USED, f"{error} (file {name})") from error
    return checkpoint


def _check_envelope(document: dict[str, Any], raw: bytes) -> None:
    version = document.get("schemaVersion")
    if type(version) is int and version > SCHEMA_VERSION:
        raise Misfit(
            f"schemaVersion {version} is newer than this cni-repair ({SCHEMA_VERSION}): upgrade it"
        )
    if version != SCHEMA_VERSION or type(version) is not int:
        raise Misfit(f"$.schemaVersion: expected {SCHEMA_VERSION}")
    least = document.get("minReader", 1)
    if type(least) is int and least > READER_VERSION:
        raise Misfit(
            f"minReader {least} is newer than this cni-repair ({READER_VERSION}): upgrade it"
        )
    sum_found = document.get("checksum")
    if not isinstance(sum_found, str) or not _is_checksum(sum_found, raw):
        raise Misfit("$.checksum does not match: the file was changed or is damaged")


def _is_checksum(found: str, raw: bytes) -> bool:
    in_shape = len(found) == len(_UNSUMMED) and found.isascii()
    return in_shape and found == checksum(raw, found)


def _read(document: dict[str, Any]) -> Checkpoint:
    try:
        try:
            return _checkpoint(DOCUMENT.read(document))
        except UnknownKey:  # rare: only then the whole document is gone through for more of them
            from cni_repair.checkpoint.unknown import Unknown, named, without_unknown

            known, places = without_unknown(DOCUMENT, document)
            checkpoint = _checkpoint(DOCUMENT.read(known))
    except Misfit as error:
        raise Misfit(f"${error}") from error
    values = _values_of(checkpoint)
    unknown = [Unknown(named(values, path), value) for path, value in places]
    return replace(checkpoint, unknown=tuple(unknown))


def _checkpoint(values: dict[str, Any]) -> Checkpoint:
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
        accepted_addresses=values.get("accepted_addresses", ()),
        gateway_macs=values.get("gateway_macs", ()),
        min_reader=values.get("min_reader", 1),
    )


def _values_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The values that the document's keys stand for."""
    values = {**asdict(checkpoint.attachment), **asdict(checkpoint)}
    return {camel(name): value for name, value in values.items()}


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


_REQUIRED: dict[str, Kind] = {
    # These two are checked before (_check_envelope).
    "schema_version": Kind(any_value.read, lambda _: {"const": SCHEMA_VERSION}),
    "checksum": Kind(
        any_value.read, lambda _: {"type": "string", "pattern": "^crc32:[0-9a-f]{8}$"}
    ),
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
            "dev": records.u64,
            "ino": records.u64,
            "cookie": records.u64,
            "pid": records.s31,
            "pid_start": records.u64,
        },
    ),
    "delegate": identifier,
    "netconf": any_object,
    "result": any_object,
    "link": records.pod_link,
    "parents": some_of(records.parent),
    "addresses": list_of(records.address),
    "routes": list_of(records.route),
    "sysctls": records.sysctls,
}
# Absent, too, from what an older cni-repair wrote.
_OPTIONAL: dict[str, Kind] = {
    "rules": list_of(records.rule),
    "neighbours": list_of(records.neighbour),
    "absent_routes": list_of(records.route),
    "settled": flag,
    "addr_gen_mode": integer(0, 3),
    "lifetimes_at": integer(0, 1 << 53),
    "min_reader": integer(1, 1 << 31),
    "accepted_addresses": list_of(ip_address),
    "gateway_macs": list_of(record_of(GatewayMac, {"address": ip_address, "mac": mac})),
    "node_links": record_of(
        NodeLinks, {"seen_at": integer(0, 1 << 53), "links": list_of(records.node_link)}
    ),
}
DOCUMENT = object_of({**_REQUIRED, **_OPTIONAL}, _REQUIRED)
_OF_ATTACHMENT = [name for name in fields(Attachment) if name in {**_REQUIRED, **_OPTIONAL}]
