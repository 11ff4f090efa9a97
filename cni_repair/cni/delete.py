"""DEL: idempotent, and it frees the address whatever is left of netns, link and master."""

from __future__ import annotations

import os

from cni_repair.base.errors import CniError
from cni_repair.base.strictjson import load_object
from cni_repair.checkpoint.identity import Identity, identity_in, still_stands
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import COMMITTED, Key, Store
from cni_repair.cni import delegate
from cni_repair.cni.master import likely_master
from cni_repair.cni.netconf import NetConf, parse
from cni_repair.netlink.netns import NoNetns, open_netns, open_own, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.skel import Call


def delete(call: Call) -> tuple[str, int]:
    """Detach; prints nothing."""
    conf = parse(call.stdin)
    key = Key(call.container_id, call.ifname)
    with Lock(conf.run_dir, key.name) as lock:
        try:
            with Store(conf.checkpoint_dir) as store:
                delete_locked(call, conf, store, key, lock)
        except FileNotFoundError:  # no directory: nothing was ever attached through us
            _detach(call, conf, _safe_netns(call.netns), lock)
        lock.forget()
    return "", 0


def delete_locked(call: Call, conf: NetConf, store: Store, key: Key, lock: Lock) -> None:
    """Detach one attachment whose lock the caller holds.

    The tombstone comes first: whoever finds it does not repair what is being taken apart.
    """
    netns = _netns_of_record(call, store, key)
    trouble = None
    if store.phase(key) is not None:
        try:
            store.tombstone(key)
        except CniError as error:
            trouble = error  # a read-only disk: the pod goes all the same, and its address with it
    _detach(call, conf, netns, lock)
    if trouble is not None:
        raise trouble
    store.remove(key)


def _netns_of_record(call: Call, store: Store, key: Key) -> str:
    """CNI_NETNS if it still is the pod's; otherwise empty: the delegate then frees the address
    alone.

    The path of a dead pod may lead to another pod by now, or to the node (kubernetes #100648): its
    eth0 is not ours to delete.
    """
    netns = _safe_netns(call.netns)
    if not netns:
        return ""
    recorded = _recorded_identity(store, key.name + COMMITTED)
    if recorded is None:
        # Nothing to compare with, say for the second DEL of a pod: but what if it is another's?
        return "" if _is_anothers(store, key, netns) else netns
    own = open_own()
    try:
        return netns if still_stands(recorded, own, netns) else ""
    finally:
        os.close(own)


def _is_anothers(store: Store, key: Key, path: str) -> bool:
    """Whether a committed attachment of the same ifname lives in the namespace at `path`."""
    own = open_own()
    try:
        for name in store.committed():
            if name.endswith(f"@{key.ifname}{COMMITTED}") and name != key.name + COMMITTED:
                recorded = _recorded_identity(store, name)
                if recorded is not None and still_stands(recorded, own, path):
                    return True
    finally:
        os.close(own)
    return False


def _recorded_identity(store: Store, name: str) -> Identity | None:
    """Of all the checkpoint only the identity: DEL has no use, and no time, for the rest."""
    try:
        return identity_in(load_object(store.read(name), name))
    except (FileNotFoundError, CniError):
        return None


def _safe_netns(path: str) -> str:
    """The path where it leads to a network namespace that is not the node's; else empty."""
    try:
        netns = open_netns(path) if path else -1
    except NoNetns:
        return ""
    if netns < 0:
        return ""
    own = open_own()
    try:
        return "" if same_netns(netns, own) else path
    finally:
        os.close(own)
        os.close(netns)


def _detach(call: Call, conf: NetConf, netns: str, lock: Lock) -> None:
    environ = {**call.environ, "CNI_COMMAND": "DEL", "CNI_NETNS": netns}
    netconf = conf.for_delegate(likely_master(conf))
    try:
        delegate.call(conf.delegate, environ, netconf, keep_open=lock.fd)
    except (delegate.NotFound, delegate.TimedOut):
        raise
    except CniError:
        # The macvlan plugin (1.1.1) looks the master up before anything else, and leaks the address
        # where there is none. What counts is what is left, not what it said: the link must be gone,
        # then the IPAM plugin's own DEL frees the address.
        if netns:
            from cni_repair.node.detach import remove_link

            remove_link(netns, call.ifname)
        if conf.ipam_type:
            delegate.call(conf.ipam_type, environ, netconf, keep_open=lock.fd)
