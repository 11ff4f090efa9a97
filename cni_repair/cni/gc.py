"""GC: delete the attachments that the runtime no longer has."""

from __future__ import annotations

from cni_repair.base.errors import CONFIG, REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.strictjson import load_object
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import COMMITTED, DELETING, INTENT, Key, Store, is_legacy
from cni_repair.cni.delete import delete_locked
from cni_repair.cni.netconf import parse
from cni_repair.cni.version import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.call import Call
    from cni_repair.cni.netconf import NetConf

_VALID = "cni.dev/valid-attachments"


@frozen
class _Stored:
    """What is on disk of an attachment."""

    key: Key
    phase: str
    netns: str  # its path


def delete_stale(call: Call) -> tuple[str, int]:
    """Delete this network's attachments that are not in `cni.dev/valid-attachments`, and free their
    addresses; then call the delegate. Prints nothing.

    Each one under its own lock and with a tombstone, as DEL does it.
    """
    conf = parse(call.stdin, tolerant=True)
    valid = _valid_attachments(conf)
    failures = []
    for stored in _stored_of(conf):
        if stored.key not in valid:
            try:
                _delete(call, conf, stored)
            except CniError as error:
                failures.append(f"{stored.key.name}: {error}")
    pass_on(call, conf)
    if failures:
        raise CniError(REPAIR_FAILED, "some attachments could not be deleted", "; ".join(failures))
    return "", 0


def _valid_attachments(conf: NetConf) -> set[Key]:
    listed = conf.document.get(_VALID)
    if not isinstance(listed, list):
        # Taking a missing list for an empty one would delete every pod's record.
        raise CniError(CONFIG, f"GC without {_VALID}", "the runtime must send it")
    return {
        Key(str(entry.get("containerID")), str(entry.get("ifname")))
        for entry in listed
        if isinstance(entry, dict)
    }


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
    return {key: _Stored(key, phase, path)}


def _delete(call: Call, conf: NetConf, stored: _Stored) -> None:
    key = stored.key
    environ = {**call.environ, "CNI_CONTAINERID": key.container_id, "CNI_IFNAME": key.ifname}
    call_of_one = replace(
        call,
        container_id=key.container_id,
        ifname=key.ifname,
        netns=stored.netns,
        environ=environ,
    )
    rest = {name: value for name, value in conf.rest.items() if name != _VALID}
    with Lock(conf.run_dir, key.name) as lock, Store(conf.checkpoint_dir) as store:
        if store.phase(key) == stored.phase:  # else an ADD or DEL ended while we waited for it
            delete_locked(call_of_one, replace(conf, rest=rest), store, lock)
            lock.forget()
