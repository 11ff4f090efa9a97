"""Whose a lost interface's addresses are by now.

A DEL that never came to cni-repair (it went to the bare plugin) frees them, and IPAM may give them
to another pod: to make the interface again would be to have them twice. host-local keeps one file
an address, named after it, with the container id and the interface's name (the id alone in old
ones; plugins/ipam/host-local/backend/disk): opening that is all it takes. Of another IPAM nothing
is known here.
"""

from __future__ import annotations

import fcntl
import os

from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.lightsocket import AF_INET, AF_INET6, inet_ntop, inet_pton
from cni_repair.base.names import short_id
from cni_repair.base.strictjson import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_repair.checkpoint.model import Checkpoint

_STORE = "/var/lib/cni/networks"  # where its configuration names no dataDir
_MAX_BYTES = 1024


@frozen
class Leases:
    """What is known of the addresses that IPAM gave to an attachment, and that its record has."""

    freed: tuple[str, ...] = ()  # nobody has them
    others: tuple[str, ...] = ()  # another attachment has them: in words, which
    unknown: tuple[str, ...] = ()  # IPAM cannot be asked
    store: str = ""


def leases_of(checkpoint: Checkpoint) -> Leases:
    """Ask host-local's store, where that gave the addresses."""
    addresses = given_addresses(checkpoint)
    store = store_of(checkpoint)
    if not store:
        return Leases(unknown=addresses)
    freed: list[str] = []
    others: list[str] = []
    unknown: list[str] = []
    for address in addresses:
        try:
            holder = _holder(store, address)
        except FileNotFoundError:
            (freed if os.path.isdir(store) else unknown).append(address)
        except OSError:
            unknown.append(address)
        else:
            if not holder:
                unknown.append(address)  # a file that a power cut left empty
            elif not _is_its(holder, checkpoint):
                others.append(
                    f"address {address} belongs to {_in_words(holder)} now ({store}/{address})"
                )
    return Leases(tuple(freed), tuple(others), tuple(unknown), store)


def reserved_by(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The files by which host-local's store still reserves the attachment's addresses."""
    store = store_of(checkpoint)
    addresses = given_addresses(checkpoint) if store else ()
    return tuple(f"{store}/{one}" for one in addresses if _is_reserved(checkpoint, store, one))


def _is_reserved(checkpoint: Checkpoint, store: str, address: str) -> bool:
    try:
        return _is_its(_holder(store, address), checkpoint)
    except OSError:
        return False


def _is_its(holder: list[str], checkpoint: Checkpoint) -> bool:
    container_id, ifname = checkpoint.key.container_id, checkpoint.key.ifname
    return holder in ([container_id], [container_id, ifname])


def remove_torn(netconf: dict[str, Any], network: str) -> None:
    """Remove the files of host-local's that name nobody: it was killed, or the power failed, after
    a file was made and before it was filled. It frees what names a container, and so never those.

    Under its own lock: what is empty then stays empty. Raises CniError (I/O).
    """
    store = _store(netconf, network)
    try:
        lock = os.open(f"{store}/lock", os.O_RDWR | os.O_CLOEXEC) if store else -1
    except FileNotFoundError:
        return
    if lock < 0:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(store):
            path = f"{store}/{name}"
            if _plain(name) and os.stat(path, follow_symlinks=False).st_size == 0:
                os.unlink(path)
    except OSError as error:
        raise CniError(
            IO, f"cannot clean up host-local's {store}", error.strerror or str(error)
        ) from error
    finally:
        os.close(lock)


def store_of(checkpoint: Checkpoint) -> str:
    """host-local's directory for the attachment's network; empty where it is not its IPAM."""
    netconf = checkpoint.netconf
    delegate = netconf.get("delegate")
    if isinstance(delegate, dict):
        netconf = {**netconf, **delegate}
    return _store(netconf, checkpoint.network)


def _store(netconf: dict[str, Any], network: str) -> str:
    ipam = netconf.get("ipam")
    if not isinstance(ipam, dict) or not network:
        return ""
    keys = {fold(key): value for key, value in ipam.items()}  # as Go reads them
    if keys.get("type") != "host-local":
        return ""
    directory = keys.get("datadir") or _STORE
    if not isinstance(directory, str) or not directory.startswith("/"):
        return ""
    return f"{directory.rstrip('/')}/{network}"


def given_addresses(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The addresses of the attachment's Result that its record still has. Others (of router
    advertisements, or added by the pod) are no affair of IPAM's."""
    recorded = {address.address for address in checkpoint.attachment.addresses}
    given = dict.fromkeys(_plain(one) for one in _of_result(checkpoint))
    return tuple(address for address in given if address in recorded)


def _of_result(checkpoint: Checkpoint) -> Iterator[object]:
    result = checkpoint.result
    interfaces = result.get("interfaces")
    for entry in _objects(result.get("ips")):
        place = entry.get("interface")
        if isinstance(interfaces, list) and type(place) is int and 0 <= place < len(interfaces):
            of = interfaces[place]
            if isinstance(of, dict) and of.get("name") != checkpoint.key.ifname:
                continue
        yield entry.get("address")
    for key in ("ip4", "ip6"):  # before CNI 0.3.0
        for entry in _objects([result.get(key)]):
            yield entry.get("ip")


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _plain(prefix: object) -> str:
    """The address of a prefix, as the kernel's are written here; empty where it is none."""
    text = prefix.partition("/")[0] if isinstance(prefix, str) else ""
    family = AF_INET6 if ":" in text else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, text))
    except (OSError, ValueError):
        return ""


def _holder(store: str, address: str) -> list[str]:
    """Container id and interface that the store names for an address (the id alone in an old file).

    Raises FileNotFoundError where it has none.
    """
    # O_NONBLOCK: a FIFO would wait for its writer.
    fd = os.open(f"{store}/{address}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, _MAX_BYTES).decode("utf-8", "replace").split()
    finally:
        os.close(fd)


def _in_words(holder: list[str]) -> str:
    container_id, *ifname = holder
    return " of ".join([*ifname[:1], f"container {short_id(container_id)}"])
