"""ADD: the delegate's, with a record of what it made.

The delegate can only start after the imports here: what is needed later, or only for a clean-up, is
imported where it is needed.
"""

from __future__ import annotations

from cni_repair.base.closeable import close_fd
from cni_repair.base.errors import (
    DECODE,
    ENVIRONMENT,
    EXISTS,
    IO,
    SYSTEM_ERRORS,
    CniError,
    DelegateError,
    of_system,
)
from cni_repair.base.gotypes import RESULT, misfit, respelled
from cni_repair.base.names import title_of
from cni_repair.base.strictjson import dumps, load_object
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import COMMITTED, Key, Store
from cni_repair.cni import delegate
from cni_repair.cni.call import pod_of
from cni_repair.cni.master import ensure_master
from cni_repair.cni.netconf import NetConf, parse
from cni_repair.netlink.netns import NoNetns, open_netns, open_own, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.cni.call import Call
    from cni_repair.node.capture import Prepared


def add(call: Call) -> tuple[str, int]:
    """Attach: intent, delegate, record. The delegate's Result is printed as it came.

    If anything fails after the delegate was started, its DEL is run: nothing stays behind.
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
            _clear_the_way(call, conf, store, lock)
            netconf = conf.for_delegate(ensure_master(conf))
            store.write_intent(key, _intent(call, conf))
            try:
                return _attach(call, conf, netconf, store, lock, netns), 0
            except BaseException as error:
                _roll_back(call, conf, store, lock, error)
                raise
    finally:
        close_fd(netns)


def _open_pod(path: str) -> int:
    try:
        netns = open_netns(path)
    except NoNetns as error:
        raise CniError(
            ENVIRONMENT, f"CNI_NETNS {path}: no network namespace", error.details
        ) from error
    own = open_own()
    is_own = same_netns(netns, own)
    close_fd(own)
    if is_own:
        close_fd(netns)
        raise CniError(ENVIRONMENT, f"CNI_NETNS {path} is the node's own network namespace")
    return netns


def _clear_the_way(call: Call, conf: NetConf, store: Store, lock: Lock) -> None:
    """Clean up after an ADD or DEL that was killed; refuse to attach twice.

    Over a living attachment the delegate's ADD would fail, and its clean-up would then free the
    living one's address.
    """
    key = Key(call.container_id, call.ifname)
    phase = store.phase(key)
    if phase == COMMITTED and _is_alive(store, key) and not _is_deleted(store, key, conf):
        raise CniError(
            EXISTS,
            f"{key.ifname} of container {key.container_id} is attached already",
            "the runtime must DEL it first; to bring a lost interface back, use REPAIR",
        )
    if phase is not None or lock.is_unfinished:
        from cni_repair.cni.delete import delete_locked

        delete_locked(call, conf, store, lock, "an ADD or DEL of it did not come to its end")


def _is_alive(store: Store, key: Key) -> bool:
    """Whether a committed attachment's namespace still exists.

    False where its record cannot be used: ADD can harm nothing then.
    """
    from cni_repair.checkpoint.identity import recorded_identity, still_stands

    recorded = recorded_identity(store, key.name + COMMITTED)
    own = open_own()
    try:
        return recorded is not None and still_stands(recorded, own)
    finally:
        close_fd(own)


def _is_deleted(store: Store, key: Key, conf: NetConf) -> bool:
    """Whether a DEL came while its record could not be removed."""
    from cni_repair.checkpoint.tombstones import is_deleted

    return is_deleted(conf.run_dir, key, store.read(key.name + COMMITTED))


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
    call: Call, conf: NetConf, netconf: dict[str, object], store: Store, lock: Lock, netns: int
) -> str:
    """Run the delegate, and commit the record of what it made; what the delegate printed."""
    key = Key(call.container_id, call.ifname)
    prepared: list[Prepared] = []
    output = delegate.call(
        conf.delegate,
        call.environ,
        netconf,
        meanwhile=lambda: prepared.append(_prepare(key, call.netns, netns)),
        keep_open=lock.fd,
    )
    result = _result_in(output, conf.delegate)
    from cni_repair.node.capture import Configuration, capture

    configuration = Configuration(
        conf.name, conf.delegate, conf.document, conf.follow_renamed_master
    )
    store.fulfil(key, capture(prepared[0], call.args, configuration, result))
    _log_added(call, conf, netconf, result)
    return output.decode("utf-8").strip()


def _result_in(output: bytes, plugin: str) -> dict[str, Any]:
    """The Result as the runtime, in Go, reads it. Raises CniError where that would not take it."""
    result: dict[str, Any] = respelled(
        load_object(output, f"the Result of plugin {plugin}"), RESULT
    )
    why = misfit(result, RESULT)
    if why:
        raise CniError(DECODE, f"what plugin {plugin} has printed is no Result", f"${why}")
    return result


def _log_added(
    call: Call, conf: NetConf, netconf: dict[str, object], result: dict[str, object]
) -> None:
    from cni_repair.base import log

    ips = result.get("ips")
    ips = ips if isinstance(ips, list) else []
    addresses = [str(ip["address"]) for ip in ips if isinstance(ip, dict) and "address" in ip]
    pod = pod_of(call.args)
    title = title_of(pod, call.container_id, call.ifname)
    log.event(
        "added",
        f"added {title}: {' '.join(addresses) or 'no address'}",
        CNI_CONTAINERID=call.container_id,
        IFNAME=call.ifname,
        POD=pod,
        NETWORK=conf.name,
        MASTER=str(netconf.get("master", "")),
        ADDRESSES=" ".join(addresses),
    )


def _prepare(key: Key, path: str, netns: int) -> Prepared:
    """Do what can be done while the delegate works: the imports take almost as long as it does."""
    import cni_repair.base.log  # noqa: F401 - for when it is done
    from cni_repair.node.capture import OpenNetns, prepare

    return prepare(key, OpenNetns(path, netns))


def _roll_back(call: Call, conf: NetConf, store: Store, lock: Lock, cause: BaseException) -> None:
    from cni_repair.cni.delete import delete_locked

    try:
        delete_locked(call, conf, store, lock, "its ADD failed")
        lock.forget()
    except CniError as error:
        # A plugin that was killed, or could not be called, may have left its link: the files stay,
        # and the runtime's DEL or the next ADD cleans up. Otherwise the link is gone, and there is
        # nothing to remember.
        refused = error.code == IO and not isinstance(error, DelegateError)
        if not refused and not isinstance(error, delegate.TimedOut):
            store.remove(Key(call.container_id, call.ifname))
            lock.forget()
        _add_to(cause, error)
    except SYSTEM_ERRORS as error:  # the files stay, for the same reason
        _add_to(cause, of_system(error))


def _add_to(cause: BaseException, failure: CniError) -> None:
    if isinstance(cause, CniError):
        cause.details = f"{cause.details}; clean-up failed, too: {failure}".lstrip("; ")
