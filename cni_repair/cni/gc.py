"""GC: delete the attachments that the runtime no longer has."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, REPAIR_FAILED, TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.gotypes import ATTACHMENT, respelled
from cni_repair.base.strictjson import dumps, load_object
from cni_repair.checkpoint.locks import Lock, names_in
from cni_repair.checkpoint.store import (
    COMMITTED,
    DELETING,
    INTENT,
    Key,
    Store,
    half_written,
    is_legacy,
)
from cni_repair.cni.delete import delete_locked
from cni_repair.cni.netconf import VALID_ATTACHMENTS, parse
from cni_repair.cni.version import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.cni.call import Call
    from cni_repair.cni.netconf import NetConf

_CAUSE = "the runtime does not have it any more"


@frozen
class _Stored:
    """What is on disk of an attachment."""

    key: Key
    phase: str
    netns: str  # its path
    pod: dict[str, str]  # who it is, as CNI_ARGS would say


def delete_stale(call: Call) -> tuple[str, int]:
    """Delete this network's attachments that the runtime does not list as valid, and free their
    addresses; then call the delegate. Prints nothing.

    Each one under its own lock and with a tombstone, as DEL does it.
    """
    conf = parse(call.stdin, tolerant=True)
    valid = valid_attachments(conf)
    failures = []
    for stored in _stored_of(conf):
        if stored.key not in valid:
            try:
                _delete(call, conf, stored)
            except CniError as error:
                failures.append(f"{stored.key.name}: {error}")
    _sweep(conf)
    pass_on(call, conf)
    if failures:
        raise CniError(REPAIR_FAILED, "some attachments could not be deleted", "; ".join(failures))
    return "", 0


def valid_attachments(conf: NetConf) -> set[Key]:
    """What is there by the runtime's word; all of it is read before anything is deleted.

    libcni says it under two keys. Where they differ, what either names is valid: a record too many
    does no harm. For the same reason null counts as no list, though an empty list in Go may become
    it: taking a missing list for an empty one would delete every pod's interface.
    """
    lists = {key: conf.rest[key] for key in VALID_ATTACHMENTS if conf.rest.get(key) is not None}
    if not lists:
        raise CniError(CONFIG, f"GC without {VALID_ATTACHMENTS[0]}", "the runtime must send it")
    return {key for name, listed in lists.items() for key in _keys(name, listed)}


def _keys(name: str, listed: object) -> list[Key]:
    if not isinstance(listed, list):
        raise _malformed(name, listed)
    return [_key(f"{name}[{index}]", entry) for index, entry in enumerate(listed)]


def _key(where: str, entry: object) -> Key:
    fields = respelled(entry, ATTACHMENT) if isinstance(entry, dict) else {}
    key = Key(fields.get("containerID", ""), fields.get("ifname", ""))
    if not all(isinstance(part, str) and part for part in (key.container_id, key.ifname)):
        raise _malformed(where, entry)
    return key


def _malformed(where: str, value: object) -> CniError:
    said = dumps(value)
    return CniError(
        CONFIG,
        f"GC: {where} is not understood, and nothing is deleted: {said[:200]}",
        'the runtime must send a list of {"containerID": …, "ifname": …}',
    )


def _stored_of(conf: NetConf) -> list[_Stored]:
    """All attachments of a network, and what an ADD or DEL that was killed has left of others; each
    once."""
    found: dict[Key, _Stored] = {}
    try:
        with Store(conf.checkpoint_dir) as store:
            for name in store.unfinished():
                phase = INTENT if name.endswith(INTENT) else DELETING
                found |= _read(store, name, phase, conf.name)
            for name in store.committed():
                if not is_legacy(name):
                    found |= _read(store, name, COMMITTED, conf.name)
    except FileNotFoundError:
        pass
    return list(found.values())


def _read(store: Store, name: str, phase: str, network: str) -> dict[Key, _Stored]:
    """One file, if it is the network's and can be read; no more of it than GC needs."""
    try:
        document = load_object(store.read(name), name)
    except (FileNotFoundError, CniError):
        return {}
    netns = document.get("netns")
    path = netns.get("path") if isinstance(netns, dict) else netns
    if document.get("network") != network or not isinstance(path, str):
        return {}
    container_id, _, ifname = name.removesuffix(phase).partition("@")
    key = Key(container_id, ifname)
    return {key: _Stored(key, phase, path, _pod_in(document))}


def _pod_in(document: dict[str, Any]) -> dict[str, str]:
    pod = document.get("pod")
    known = pod if isinstance(pod, dict) else {}
    return {f"K8S_POD_{part.upper()}": str(known.get(part, "")) for part in ("namespace", "name")}


def _sweep(conf: NetConf) -> None:
    """Remove what belongs to no attachment: a lock's file, or a file half written, may be all that
    is left of an ADD, DEL or GC that was killed at its beginning or its end.

    Of whichever network: neither says. What somebody works on is locked.
    """
    try:
        with Store(conf.checkpoint_dir) as store:
            for name in {*names_in(conf.run_dir), *half_written(store)}:
                container_id, _, ifname = name.partition("@")
                if ifname:
                    _forget(conf.run_dir, store, Key(container_id, ifname))
    except FileNotFoundError:
        pass


def _forget(run_dir: str, store: Store, key: Key) -> None:
    try:
        with Lock(run_dir, key.name, 0.0) as lock:
            if store.phase(key) is None:
                if lock.is_unfinished:
                    from cni_repair.node.detach import remove_temporary_link

                    remove_temporary_link(lock, key, "")
                store.remove(key)
                lock.forget()
    except CniError as error:
        if error.code != TRY_AGAIN:
            raise


def _delete(call: Call, conf: NetConf, stored: _Stored) -> None:
    key = stored.key
    environ = {**call.environ, "CNI_CONTAINERID": key.container_id, "CNI_IFNAME": key.ifname}
    call_of_one = replace(
        call,
        container_id=key.container_id,
        ifname=key.ifname,
        netns=stored.netns,
        args=stored.pod,
        environ=environ,
    )
    rest = {name: value for name, value in conf.rest.items() if name not in VALID_ATTACHMENTS}
    with Lock(conf.run_dir, key.name) as lock, Store(conf.checkpoint_dir) as store:
        if store.phase(key) == stored.phase:  # else an ADD or DEL ended while we waited for it
            delete_locked(call_of_one, replace(conf, rest=rest), store, lock, _CAUSE)
            lock.forget()
