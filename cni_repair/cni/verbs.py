"""CHECK, STATUS, GC and VERSION. (ADD, DEL and REPAIR have modules of their own: their imports
count.)

Each verb takes a Call and gives (the document to print, the exit status).
"""

from __future__ import annotations

from cni_repair.base.errors import (
    CONFIG,
    DAMAGED,
    LIMITED_CONNECTIVITY,
    NOT_AVAILABLE,
    REPAIR_FAILED,
    CniError,
)
from cni_repair.base.frozen import replace
from cni_repair.base.strictjson import dumps, load_object
from cni_repair.checkpoint import inventory
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import COMMITTED, DELETING, INTENT, Key, Store, is_legacy
from cni_repair.cni import delegate
from cni_repair.cni.delete import delete_locked
from cni_repair.cni.legacy_hints import hints_of
from cni_repair.cni.master import likely_master, missing_uplink, uplink
from cni_repair.cni.netconf import DEFAULT_DELEGATE, OWN_TYPE, VERSIONS, NetConf, parse
from cni_repair.cni.repair import options_of, raise_unless_healthy
from cni_repair.node.context import Node
from cni_repair.node.examine import examine
from cni_repair.node.refresh import refresh
from cni_repair.repair.scheduler import repair as repair_entries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.cni.skel import Call


def check(call: Call) -> tuple[str, int]:
    """CHECK: the delegate's, then our own comparison with the checkpoint.

    With `repairOnCheck`, what is lost or degraded is repaired first. An attachment without a
    checkpoint (made before cni-repair came) has the delegate's verdict alone. What later plugins
    gave a healthy attachment since ADD is taken into its checkpoint.
    """
    conf = parse(call.stdin)
    key = Key(call.container_id, call.ifname)
    try:
        with Store(conf.checkpoint_dir) as store, Node() as node:
            entry = inventory.read_one(store, key, hints_of(conf))
            if entry is not None and conf.repair_on_check:
                repair_entries(node, store, [entry], options_of(call, conf))
            _delegate_check(call, conf)
            if entry is not None:
                (report,) = examine(node, [entry], call.netns)
                raise_unless_healthy(report, DAMAGED)
                _refresh(call, conf, node, store, entry)
    except FileNotFoundError:  # no checkpoint directory
        _delegate_check(call, conf)
    return "", 0


def _refresh(call: Call, conf: NetConf, node: Node, store: Store, entry: inventory.Entry) -> None:
    try:
        refresh(node, store, conf.run_dir, entry, call.netns)
    except CniError:
        pass  # the older record is whole, and CHECK's verdict does not depend on the newer one


def _delegate_check(call: Call, conf: NetConf) -> None:
    delegate.call(conf.delegate, call.environ, conf.for_delegate(likely_master(conf)))


def status(call: Call) -> tuple[str, int]:
    """STATUS: 50 while no master exists, 51 if pods of the network have lost theirs with it."""
    conf = parse(call.stdin)
    if uplink(conf) is None and (conf.masters or conf.vlan_id is not None):
        missing = missing_uplink(conf)
        code = LIMITED_CONNECTIVITY if _has_attachments(conf) else NOT_AVAILABLE
        raise CniError(code, missing.msg, missing.details)
    if VERSIONS[-1] in _delegate_versions(conf.delegate, call):
        delegate.call(conf.delegate, call.environ, conf.for_delegate(likely_master(conf)))
    return "", 0


def _has_attachments(conf: NetConf) -> bool:
    try:
        with Store(conf.checkpoint_dir) as store:
            return bool(inventory.read_all(store, hints_of(conf), conf.name))
    except FileNotFoundError:
        return False


def version(call: Call) -> tuple[str, int]:
    """VERSION: what the delegate and we both support."""
    asked = load_object(call.stdin, "the VERSION request") if call.stdin.strip() else {}
    wrapped = asked.get("delegate", DEFAULT_DELEGATE)
    kind = wrapped.get("type", DEFAULT_DELEGATE) if isinstance(wrapped, dict) else wrapped
    theirs = _delegate_versions(str(kind), call)
    supported = [one for one in VERSIONS if one in theirs] or list(VERSIONS)
    named = asked.get("cniVersion")
    spoken = named if named in VERSIONS else supported[-1]
    return dumps({"cniVersion": spoken, "supportedVersions": supported}), 0


def _delegate_versions(kind: str, call: Call) -> list[Any]:
    """What the delegate says that it supports; empty where it cannot be asked."""
    if kind == OWN_TYPE:
        return []
    environ = {**call.environ, "CNI_COMMAND": "VERSION"}
    try:
        answer = delegate.call(kind, environ, {"cniVersion": VERSIONS[-2]})
        versions = load_object(answer, "its VERSION answer").get("supportedVersions")
    except CniError:
        return []
    return versions if isinstance(versions, list) else []


def gc(call: Call) -> tuple[str, int]:
    """GC: delete what is not in `cni.dev/valid-attachments`, with its address; then the delegate's.

    Only this network's attachments, and only by their own lock and tombstone, as DEL does it.
    """
    conf = parse(call.stdin)
    valid = _valid_attachments(conf)
    failures = []
    for key, (phase, netns) in _attachments_of(conf).items():
        if key not in valid:
            try:
                _delete_stale(call, conf, key, phase, netns)
            except CniError as error:
                failures.append(f"{key.name}: {error}")
    if VERSIONS[-1] in _delegate_versions(conf.delegate, call):
        delegate.call(conf.delegate, call.environ, conf.for_delegate(likely_master(conf)))
    if failures:
        raise CniError(REPAIR_FAILED, "some attachments could not be deleted", "; ".join(failures))
    return "", 0


def _valid_attachments(conf: NetConf) -> set[Key]:
    listed = conf.document.get("cni.dev/valid-attachments")
    if not isinstance(listed, list):
        # Taking a missing list for an empty one would delete every pod's record.
        raise CniError(CONFIG, "GC without cni.dev/valid-attachments", "the runtime must send it")
    return {
        Key(str(entry.get("containerID")), str(entry.get("ifname")))
        for entry in listed
        if isinstance(entry, dict)
    }


def _attachments_of(conf: NetConf) -> dict[Key, tuple[str, str]]:
    """(phase, netns path) of all that is recorded of a network, by attachment: also what an ADD or
    DEL that was killed has left."""
    found: dict[Key, tuple[str, str]] = {}
    try:
        with Store(conf.checkpoint_dir) as store:
            for name in store.unfinished():
                phase = INTENT if name.endswith(INTENT) else DELETING
                found |= _record_of(store, name, phase, conf.name)
            for name in store.committed():
                if not is_legacy(name):
                    found |= _record_of(store, name, COMMITTED, conf.name)
    except FileNotFoundError:
        pass
    return found


def _record_of(store: Store, name: str, phase: str, network: str) -> dict[Key, tuple[str, str]]:
    """One record, if it is the network's and can be read; read no further than GC needs."""
    try:
        record = load_object(store.read(name), name)
    except (FileNotFoundError, CniError):
        return {}
    netns = record.get("netns")
    path = netns.get("path") if isinstance(netns, dict) else netns
    if record.get("network") != network or not isinstance(path, str):
        return {}
    container_id, _, ifname = name.removesuffix(phase).partition("@")
    return {Key(container_id, ifname): (phase, path)}


def _delete_stale(call: Call, conf: NetConf, key: Key, phase: str, netns: str) -> None:
    environ = {**call.environ, "CNI_CONTAINERID": key.container_id, "CNI_IFNAME": key.ifname}
    rest = {k: v for k, v in conf.rest.items() if k != "cni.dev/valid-attachments"}
    one = replace(
        call, container_id=key.container_id, ifname=key.ifname, netns=netns, environ=environ
    )
    with Lock(conf.run_dir, key.name) as lock, Store(conf.checkpoint_dir) as store:
        if store.phase(key) == phase:  # else an ADD or DEL ended while we waited for it
            delete_locked(one, replace(conf, rest=rest), store, key, lock)
            lock.forget()
