"""The checkpoint document: how an attachment is written down and read back.

Reading builds the values that planning works with, and refuses whatever does not fit: a checkpoint
may come from a torn disk or a hostile hand. The published form is `schema/checkpoint.json`; the
tests hold the two together.
"""

from __future__ import annotations

import binascii
from _socket import AF_INET, AF_INET6, inet_pton

from cni_repair.checkpoint.identity import Identity
from cni_repair.checkpoint.store import Key
from cni_repair.errors import BAD_CHECKPOINT, CniError
from cni_repair.names import valid_id, valid_ifname
from cni_repair.network.observe import SYSCTLS
from cni_repair.network.state import (
    MACVLAN_MODES,
    Address,
    Attachment,
    HostLink,
    PodLink,
    Route,
    Vlan,
)
from cni_repair.record import asdict, record
from cni_repair.strictjson import dumps, load_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")
    Reader = Callable[[Any], Any]

SCHEMA_VERSION = 1
_UNSUMMED = "crc32:00000000"
_MAX_ENTRIES = 8192
_MAX_TEXT = 4096
_RTAX_MAX = 17  # RTAX_FASTOPEN_NO_COOKIE, include/uapi/linux/rtnetlink.h
_HEX = frozenset("0123456789abcdefABCDEF")


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


class _Misfit(ValueError):
    """A value that the document may not hold; the message begins with its path."""


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
    text = dumps({**document, "checksum": _UNSUMMED}) + "\n"
    before, _, after = text.rpartition(_UNSUMMED)
    return before + checksum(text.encode("ascii"), _UNSUMMED) + after


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
            raise _Misfit(f"it is the checkpoint of {checkpoint.key.name}")
    except (CniError, _Misfit) as error:
        raise CniError(BAD_CHECKPOINT, f"checkpoint {name} is not used", str(error)) from error
    return checkpoint


def _check_envelope(document: dict[str, Any], raw: bytes) -> None:
    version = document.get("schemaVersion")
    if type(version) is int and version > SCHEMA_VERSION:
        raise _Misfit(
            f"schemaVersion {version} is newer than this cni-repair ({SCHEMA_VERSION}): upgrade it"
        )
    if version != SCHEMA_VERSION or type(version) is not int:
        raise _Misfit(f"$.schemaVersion: expected {SCHEMA_VERSION}")
    sum_found = document.get("checksum")
    if not isinstance(sum_found, str) or not _is_checksum(sum_found, raw):
        raise _Misfit("$.checksum does not match: the file was changed or is damaged")


def _is_checksum(found: str, raw: bytes) -> bool:
    in_shape = len(found) == len(_UNSUMMED) and found.isascii()
    return in_shape and found == checksum(raw, found)


def _read(document: dict[str, Any]) -> Checkpoint:
    values = _fields(document, "$", _DOCUMENT)
    attachment = Attachment(
        ifname=values["ifname"],
        link=values["link"],
        parents=values["parents"],
        addresses=values["addresses"],
        routes=values["routes"],
        sysctls=values["sysctls"],
        follow_renamed_master=values["netconf"].get("followRenamedMaster") is True,
    )
    return Checkpoint(
        key=Key(values["containerId"], values["ifname"]),
        network=values["network"],
        pod=values["pod"],
        attached_at=values["attachedAt"],
        netns=values["netns"],
        netns_path=values["netns"].path,
        delegate=values["delegate"],
        netconf=values["netconf"],
        result=values["result"],
        attachment=attachment,
    )


def _plain(value: object) -> Any:
    """A record as JSON has it: lower camel case, without what is None; records inside alike."""
    if hasattr(type(value), "__annotations__"):
        return {
            camel(name): _plain(field) for name, field in asdict(value).items() if field is not None
        }
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


# --- readers: each takes a JSON value and gives ours, or raises _Misfit -------------------------


def _expected(what: str) -> _Misfit:
    return _Misfit(f": expected {what}")


def _integer(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _expected(f"an integer from {low} to {high}")
        return value

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value:
        raise _expected("a text")
    return value


def _named(value: Any) -> str:
    if not isinstance(value, str) or not valid_ifname(value):
        raise _expected("an interface name")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise _expected("letters, digits, '_', '.', '-', first a letter or digit")
    return value


def _one_of(*allowed: Any) -> Reader:
    def read(value: Any) -> Any:
        # 4.0 == 4 and True == 1, but not here
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise _expected(f"one of {', '.join(map(str, allowed))}")
        return value

    return read


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _expected("true or false")
    return value


def _mac(value: Any) -> str:
    octets = value.split(":") if isinstance(value, str) else []
    if len(octets) != 6 or any(len(octet) != 2 or not _HEX.issuperset(octet) for octet in octets):
        raise _expected("a MAC address")
    return str(value)


def _ip(value: Any) -> str:
    if not isinstance(value, str) or family_of(value) is None:
        raise _expected("an IP address")
    return value


def family_of(address: str) -> int | None:
    """4, 6, or None for what is no address."""
    for number, family in ((4, AF_INET), (6, AF_INET6)):
        try:
            inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return number
    return None


def _prefix(value: Any) -> str:
    address, _, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    family = family_of(address)
    longest = 32 if family == 4 else 128
    digits = length.isascii() and length.isdigit() and len(length) <= 3
    if family is None or not digits or int(length) > longest:
        raise _expected("an address with its prefix length")
    return str(value)


def _free_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _expected("an object")
    return value


def _sysctls(value: Any) -> tuple[tuple[str, str], ...]:
    for key, setting in _free_object(value).items():
        if key not in SYSCTLS:
            raise _Misfit(f": {key!r} is no sysctl that a pod may get back")
        digits = setting.removeprefix("-") if isinstance(setting, str) else ""
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 11):
            raise _Misfit(f".{key}: expected a number in a text")
    return tuple(value.items())


def _metrics(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = _list(lambda pair: pair)(value)
    read_key, read = _integer(1, _RTAX_MAX), _integer(0, 0xFFFFFFFF)
    if len(pairs) > _RTAX_MAX or any(
        not isinstance(pair, list) or len(pair) != 2 for pair in pairs
    ):
        raise _expected("pairs of metric and value")
    return tuple((read_key(key), read(setting)) for key, setting in pairs)


def _list(entry: Reader) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > _MAX_ENTRIES:
            raise _expected(f"a list of at most {_MAX_ENTRIES} entries")
        return tuple(_at(f"[{index}]", entry, one) for index, one in enumerate(value))

    return read


def _some(entry: Reader) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        entries: tuple[Any, ...] = _list(entry)(value)
        if not entries:
            raise _expected("at least one entry")
        return entries

    return read


def _record_of(cls: type[T], readers: Mapping[str, Reader]) -> Callable[[Any], T]:
    """A reader of one of our records; a field with a default may be absent."""
    required = {camel(name) for name in readers if not hasattr(cls, name)}
    by_key = {camel(name): (name, reader) for name, reader in readers.items()}

    def read(value: Any) -> T:
        _check_keys(value, by_key.keys(), required)
        return cls(
            **{by_key[key][0]: _at(f".{key}", by_key[key][1], one) for key, one in value.items()}
        )

    return read


def _fields(value: Any, path: str, readers: Mapping[str, Reader]) -> dict[str, Any]:
    _check_keys(value, {*readers, "schemaVersion", "checksum"}, set(readers))
    return {key: _at(f"{path}.{key}", reader, value[key]) for key, reader in readers.items()}


def _check_keys(value: Any, known: Any, required: set[str]) -> None:
    if not isinstance(value, dict):
        raise _expected("an object")
    for key in value:
        if key not in known:
            raise _Misfit(f".{key}: unknown key")
    for key in sorted(required):
        if key not in value:
            raise _Misfit(f".{key}: missing")


def _at(path: str, reader: Reader, value: Any) -> Any:
    try:
        return reader(value)
    except _Misfit as error:
        raise _Misfit(f"{path}{error}") from error


def _same_family(cls: type[T], readers: Mapping[str, Reader], names: str) -> Callable[[Any], T]:
    """As :func:`_record_of`, for records whose addresses must be of the family that they say."""
    read_record = _record_of(cls, readers)

    def read(value: Any) -> T:
        made: Any = read_record(value)
        for name in names.split():
            text = getattr(made, name)
            if text is not None and family_of(text.partition("/")[0]) != made.family:
                raise _Misfit(f".{camel(name)}: expected an IPv{made.family} address")
        if made.family == 4 and getattr(made, "prefix", 0) > 32:
            raise _Misfit(".prefix: expected an integer from 0 to 32")
        return made  # type: ignore[no-any-return]

    return read


_U8 = _integer(0, 0xFF)
_U16 = _integer(0, 0xFFFF)
_U32 = _integer(0, 0xFFFFFFFF)
_S31 = _integer(0, 0x7FFFFFFF)
_U64 = _integer(0, (1 << 64) - 1)

_VLAN = _record_of(
    Vlan, {"id": _integer(1, 4094), "protocol": _one_of(0x8100, 0x88A8), "flags": _U32}
)
_PARENT = _record_of(
    HostLink,
    {
        "name": _named,
        "ifindex": _S31,
        "kind": _text,
        "mac": _text,
        "mtu": _S31,
        "flags": _U32,
        "lower": _S31,
        "permanent_mac": _text,
        "bus_address": _text,
        "vlan": _VLAN,
    },
)
_LINK = _record_of(
    PodLink,
    {
        "ifindex": _S31,
        "mac": _mac,
        "mtu": _S31,
        "kind": _one_of("macvlan"),
        "mode": _one_of(*(mode for mode in MACVLAN_MODES.values() if mode != "source")),
        "flags": _U16,
        "txqueuelen": _S31,
    },
)
_ADDRESS = _same_family(
    Address,
    {
        "family": _one_of(4, 6),
        "address": _ip,
        "prefix": _integer(0, 128),
        "broadcast": _ip,
        "scope": _U8,
        "label": _text,
        "flags": _U32,
        "valid": _U32,
        "preferred": _U32,
        "peer": _ip,
    },
    "address broadcast peer",
)
_ROUTE = _same_family(
    Route,
    {
        "family": _one_of(4, 6),
        "dst": _prefix,
        "gateway": _ip,
        "table": _U32,
        "metric": _U32,
        "scope": _U8,
        "type": _U8,
        "protocol": _U8,
        "prefsrc": _ip,
        "tos": _U8,
        "onlink": _flag,
        "metrics": _metrics,
    },
    "dst prefsrc",
)
_DOCUMENT: dict[str, Reader] = {
    "containerId": _id,
    "ifname": _named,
    "network": _id,
    "pod": _record_of(Pod, {"namespace": _text, "name": _text, "uid": _text}),
    "attachedAt": _integer(0, 1 << 53),
    "netns": _record_of(
        Identity,
        {
            "path": _text,
            "boot_id": _text,
            "dev": _U64,
            "ino": _U64,
            "cookie": _U64,
            "pid": _S31,
            "pid_start": _U64,
        },
    ),
    "delegate": _id,
    "netconf": _free_object,
    "result": _free_object,
    "link": _LINK,
    "parents": _some(_PARENT),
    "addresses": _list(_ADDRESS),
    "routes": _list(_ROUTE),
    "sysctls": _sysctls,
}
