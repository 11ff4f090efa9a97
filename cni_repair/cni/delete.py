"""DEL: idempotent, and it frees the address whatever is left of namespace, link and master."""

from __future__ import annotations

from cni_repair.base import log
from cni_repair.base.closeable import close_fd
from cni_repair.base.errors import CniError
from cni_repair.base.files import unlink_if_there
from cni_repair.base.names import title_of
from cni_repair.checkpoint.identity import recorded_identity, still_stands
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import (
    COMMITTED,
    DELETING,
    INTENT,
    Key,
    Store,
    tombstone_in,
)
from cni_repair.cni import delegate, interface
from cni_repair.cni.call import pod_of
from cni_repair.cni.master import likely_master
from cni_repair.cni.netconf import NetConf, parse
from cni_repair.netlink.netns import NoNetns, open_netns, open_own, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.identity import Identity
    from cni_repair.cni.call import Call


def delete(call: Call) -> tuple[str, int]:
    """Detach; prints nothing."""
    conf = parse(call.stdin, tolerant=True)
    with Lock(conf.run_dir, Key(call.container_id, call.ifname).name) as lock:
        try:
            with Store(conf.checkpoint_dir) as store:
                delete_locked(call, conf, store, lock)
        except FileNotFoundError:  # no directory: nothing was ever attached by cni-repair
            _detach(call, conf, _safe_netns(call.netns), lock)
        lock.forget()
    return "", 0


def delete_locked(call: Call, conf: NetConf, store: Store, lock: Lock, cause: str = "") -> None:
    """Detach one attachment whose lock the caller holds; `cause`: why, where no DEL asked for it.

    The tombstone comes first: nobody repairs what has one. A disk that cannot be written is in the
    way of nothing: the pod is detached and its address freed, and the tombstone stays, wherever it
    is, for the next DEL, ADD or GC to clear.
    """
    key = Key(call.container_id, call.ifname)
    netns = _verified_netns(call, store, key)
    phase = store.phase(key)
    is_here = phase is None or _bury(store, conf.run_dir, key)
    if lock.is_unfinished:
        from cni_repair.node.detach import remove_temporary_link

        remove_temporary_link(lock, key, netns)
    _detach(call, conf, netns, lock, cause)
    if phase in (INTENT, DELETING):
        _remove_half_made(call, conf, netns)
    try:
        store.remove(key)
    except CniError as error:
        log.failure(f"the record of {_title(call)} stays, beside a tombstone", error)
        return
    if is_here:
        unlink_if_there(tombstone_in(conf.run_dir, key))


def _remove_half_made(call: Call, conf: NetConf, netns: str) -> None:
    """What the plugins of an ADD leave, and no DEL of theirs finds, where they are killed with us
    (as a control group is)."""
    from cni_repair.node.detach import remove_half_made
    from cni_repair.node.leases import remove_torn

    if netns:
        remove_half_made(netns, call.ifname)
    remove_torn(conf.rest, conf.name)


def _bury(store: Store, run_dir: str, key: Key) -> bool:
    """Put the tombstone; whether it is with the record. Raises CniError where there can be none."""
    try:
        store.tombstone(key)
    except CniError:
        from cni_repair.checkpoint.tombstones import put

        put(run_dir, store, key)
        return False
    return True


def _verified_netns(call: Call, store: Store, key: Key) -> str:
    """CNI_NETNS if it still is the pod's; otherwise empty, and the delegate only frees the address.

    The path of a dead pod may lead to another pod by now, or to the node (kubernetes #100648),
    whose eth0 we must not delete.
    """
    netns = _safe_netns(call.netns)
    if not netns:
        return ""
    recorded = _recorded(store, key)
    if recorded is None:
        # There is nothing to compare with, as at the second DEL of a pod. Is it another pod's?
        return "" if _is_anothers(store, key, netns) else netns
    own = open_own()
    try:
        return netns if still_stands(recorded, own, netns) else ""
    finally:
        close_fd(own)


def _recorded(store: Store, key: Key) -> Identity | None:
    """The identity in the attachment's own record; None where there is none that can be read: a
    bad block, too, is not to keep an address for ever."""
    try:
        return recorded_identity(store, key.name + COMMITTED)
    except CniError:
        return None


def _is_anothers(store: Store, key: Key, path: str) -> bool:
    """Whether another committed attachment of the same ifname is in the namespace at `path`."""
    own = open_own()
    try:
        for name in store.committed():
            if name.endswith(f"@{key.ifname}{COMMITTED}") and name != key.name + COMMITTED:
                recorded = recorded_identity(store, name)
                if recorded is not None and still_stands(recorded, own, path):
                    return True
    finally:
        close_fd(own)
    return False


def _safe_netns(path: str) -> str:
    """The path where it leads to a network namespace other than the node's; else empty."""
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
        close_fd(own)
        close_fd(netns)


def _title(call: Call) -> str:
    return title_of(pod_of(call.args), call.container_id, call.ifname)


def _detach(call: Call, conf: NetConf, netns: str, lock: Lock, cause: str = "") -> None:
    reason = _call_plugins(call, conf, netns, lock)
    log.event(
        "deleted",
        f"deleted {_title(call)}" + (f": {cause}" if cause else ""),
        CNI_CONTAINERID=call.container_id,
        IFNAME=call.ifname,
        POD=pod_of(call.args),
        NETWORK=conf.name,
        CAUSE=cause,
        REASON=reason,
    )


def _call_plugins(call: Call, conf: NetConf, netns: str, lock: Lock) -> str:
    """Have the interface removed and the address freed; why the delegate alone could not do it, or
    empty."""
    if netns and conf.ipam_type:
        # The plugin frees the address, and then takes the interface away. Killed in between, it
        # would leave a pod that answers for an address which is the next pod's already. (To set it
        # down only would cost one more of the kernel's grace periods: 12 ms.)
        interface.remove(netns, call.ifname)
    environ = {**call.environ, "CNI_COMMAND": "DEL", "CNI_NETNS": netns}
    netconf = conf.for_delegate(likely_master(conf))
    try:
        delegate.call(conf.delegate, environ, netconf, keep_open=lock.fd)
    except (delegate.NotFound, delegate.TimedOut):
        raise
    except CniError as error:
        # The macvlan plugin (1.1.1) looks for the master before all else, and where there is none,
        # it fails and leaks the address. Its answer does not count: the link must be gone, then
        # the IPAM plugin's own DEL frees the address.
        if netns:
            from cni_repair.node.detach import remove_link

            remove_link(netns, call.ifname)
        if conf.ipam_type:
            delegate.call(conf.ipam_type, environ, netconf, keep_open=lock.fd)
        return f"plugin {conf.delegate}: {error}; what it left was cleaned up"
    return ""
