"""ADD: the delegate's, with a checkpoint of what it made.

What only a clean-up needs is imported by it: the delegate cannot start before the imports here.
"""

from __future__ import annotations

import os

from cni_repair.base.errors import ENVIRONMENT, EXISTS, CniError
from cni_repair.base.strictjson import dumps, load_object
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import COMMITTED, Key, Store
from cni_repair.cni import delegate
from cni_repair.cni.master import ensure_master
from cni_repair.cni.netconf import NetConf, parse
from cni_repair.netlink.netns import NoNetns, open_netns, open_own, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.cni.skel import Call
    from cni_repair.node.capture import Prepared


def add(call: Call) -> tuple[str, int]:
    """Attach: intent, delegate, checkpoint. The delegate's Result is printed as it came.

    Any failure after the delegate was started runs its DEL: nothing stays behind.
    """
    conf = parse(call.stdin)
    key = Key(call.container_id, call.ifname)
    delegate.find(conf.delegate, call.environ.get("CNI_PATH", ""))
    netns = _open_pod(call.netns)
    try:
        with (
            Store(conf.checkpoint_dir, create=True) as store,
            Lock(conf.run_dir, key.name) as lock,
        ):
            _clear_the_way(call, conf, store, key, lock)
            master = ensure_master(conf)
            store.write_intent(key, _intent(call, conf))
            return _attach(call, conf, store, key, lock, master, netns), 0
    finally:
        os.close(netns)


def _open_pod(path: str) -> int:
    try:
        netns = open_netns(path)
    except NoNetns as error:
        raise CniError(
            ENVIRONMENT, f"CNI_NETNS {path}: no network namespace", error.details
        ) from error
    own = open_own()
    mine = same_netns(netns, own)
    os.close(own)
    if mine:
        os.close(netns)
        raise CniError(ENVIRONMENT, f"CNI_NETNS {path} is the node's own network namespace")
    return netns


def _clear_the_way(call: Call, conf: NetConf, store: Store, key: Key, lock: Lock) -> None:
    """Clean up after an ADD or DEL that was killed; refuse to attach twice.

    The delegate's ADD over a living attachment would fail, and its clean-up would then free the
    living one's address.
    """
    phase = store.phase(key)
    if phase == COMMITTED and _is_alive(store, key):
        raise CniError(
            EXISTS,
            f"{key.ifname} of container {key.container_id} is attached already",
            "the runtime must DEL it first; to bring a lost interface back, use REPAIR",
        )
    if phase is not None:
        from cni_repair.cni.delete import delete_locked

        delete_locked(call, conf, store, key, lock)


def _is_alive(store: Store, key: Key) -> bool:
    """False where the record cannot be read or its namespace is gone: ADD can harm nothing."""
    from cni_repair.checkpoint.identity import identity_in, still_stands

    name = key.name + COMMITTED
    try:
        recorded = identity_in(load_object(store.read(name), name))
    except CniError:
        return False
    own = open_own()
    try:
        return recorded is not None and still_stands(recorded, own)
    finally:
        os.close(own)


def _intent(call: Call, conf: NetConf) -> str:
    return dumps(
        {
            "containerId": call.container_id,
            "ifname": call.ifname,
            "netns": call.netns,
            "network": conf.name,
        }
    )


def _attach(
    call: Call, conf: NetConf, store: Store, key: Key, lock: Lock, master: str | None, netns: int
) -> str:
    prepared: list[Prepared] = []
    try:
        output = delegate.call(
            conf.delegate,
            call.environ,
            conf.for_delegate(master),
            meanwhile=lambda: prepared.append(_prepare(key.ifname, netns)),
            keep_open=lock.fd,
        )
        result = load_object(output, f"the Result of plugin {conf.delegate}")
        from cni_repair.node.capture import OpenNetns, capture

        pod = OpenNetns(call.netns, netns)
        store.commit(key, capture(key, pod, call.args, conf, result, prepared[0]))
    except BaseException as error:
        _roll_back(call, conf, store, key, lock, error)
        raise
    return output.decode("utf-8").strip()


def _prepare(ifname: str, netns: int) -> Prepared:
    """Do, while the delegate works, what will be needed after it: the imports take almost as long
    as it does."""
    from cni_repair.node.capture import prepare

    return prepare(ifname, netns)


def _roll_back(
    call: Call, conf: NetConf, store: Store, key: Key, lock: Lock, cause: BaseException
) -> None:
    from cni_repair.cni.delete import delete_locked

    try:
        delete_locked(call, conf, store, key, lock)
        lock.forget()
    except CniError as error:
        # A plugin that was killed may have left its link: the record stays, and the runtime's DEL
        # or the next ADD cleans up. Otherwise the link is gone, and nothing is left to remember.
        if not isinstance(error, delegate.TimedOut):
            store.remove(key)
            lock.forget()
        if isinstance(cause, CniError):
            cause.details = f"{cause.details}; clean-up failed, too: {error}".lstrip("; ")
