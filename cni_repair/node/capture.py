"""Turning a live attachment into a checkpoint."""

from __future__ import annotations

import time

from cni_repair.base.errors import CONFIG, TRY_AGAIN, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.base.procfs import boot_id
from cni_repair.checkpoint import model
from cni_repair.checkpoint.identity import Identity, identify
from cni_repair.checkpoint.redact import redact
from cni_repair.netlink.netns import entered, open_own
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.kernel.link import LiveLink
from cni_repair.network.kernel.sysctl import own_settings
from cni_repair.network.links import chain_from
from cni_repair.network.model import KINDS, Attachment, HostLink
from cni_repair.network.observe import observe_pod, read_defaults, read_secret
from cni_repair.network.observed import Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_repair.checkpoint.store import Key
    from cni_repair.network.model import Address


@frozen
class Configuration:
    """What a record keeps of an attachment's network configuration."""

    network: str
    delegate: str
    document: dict[str, Any]  # as it came
    follow_renamed_master: bool


@frozen
class OpenNetns:
    """A pod's network namespace: open, and the path that led to it."""

    path: str
    fd: int


@frozen
class Prepared:
    """What :func:`capture` needs that is there before the interface is."""

    key: Key
    netns: OpenNetns
    own: int  # the node's namespace
    defaults: dict[str, str]  # the sysctls that a new link begins with


def prepare(key: Key, netns: OpenNetns) -> Prepared:
    """Look, while the delegate works, at what is there."""
    boot_id()  # which is remembered
    own = open_own()
    with entered(netns.fd, own):
        return Prepared(key, netns, own, read_defaults(key.ifname))


def capture(
    prepared: Prepared,
    args: dict[str, str],
    configuration: Configuration,
    result: dict[str, Any],
) -> str:
    """The record's document of an attachment that the delegate just made.

    Raises CniError where what the delegate made is not an interface that REPAIR could bring back.
    """
    key, netns = prepared.key, prepared.netns
    with Rtnetlink() as node:
        seen = see(key.ifname, netns, prepared.own, node, defaults=prepared.defaults)
    made = _made(key.ifname, configuration.delegate, seen, result)
    checkpoint = model.Checkpoint(
        key=key,
        network=configuration.network,
        pod=pod_of(args),
        attached_at=time.time_ns() // 1_000_000,
        netns=seen.identity,
        netns_path=netns.path,
        delegate=configuration.delegate,
        netconf=kept(configuration.document),
        result=result,
        attachment=attachment_of(key.ifname, seen, made, configuration.follow_renamed_master),
    )
    return model.encode_checked(checkpoint)


def _made(ifname: str, delegate: str, seen: Seen, result: dict[str, Any]) -> LiveLink:
    live = seen.observed.link
    over_node = seen.observed.over_node
    if (over_node and not seen.parents) or (live is None and _names(result, ifname)):
        raise CniError(
            TRY_AGAIN,
            f"{ifname} went away with its master while it was attached",
            "the runtime tries again",
        )
    if live is None or not restorable(live) or not over_node:
        made = f"a {live.link.kind or 'hardware'} link {live.link.mode}" if live else "no link"
        raise CniError(
            CONFIG,
            f"plugin {delegate} made {made} as {ifname}",
            "cni-repair can bring back macvlan and ipvlan interfaces over links of the node only",
        )
    return live


def _names(result: dict[str, Any], ifname: str) -> bool:
    """Whether a Result (CNI 0.3 and later) has an interface of that name in the pod."""
    links = result.get("interfaces")
    return isinstance(links, list) and any(
        isinstance(link, dict) and link.get("name") == ifname and link.get("sandbox")
        for link in links
    )


def restorable(live: LiveLink) -> bool:
    """Whether it is of a kind, and in a mode, that REPAIR can make."""
    return live.link.mode in KINDS.get(live.link.kind, ())


@frozen
class Seen:
    """One look at an attachment's interface, and at the namespace that it is in."""

    observed: Observed
    sysctls: tuple[tuple[str, str], ...]
    identity: Identity
    parents: tuple[HostLink, ...]  # what it stands on, if that is the node's


def see(
    ifname: str,
    netns: OpenNetns,
    own: int,
    node: Rtnetlink,
    around: Callable[[Rtnetlink, Observed, str], Observed] | None = None,
    defaults: dict[str, str] | None = None,
) -> Seen:
    """Look; `own` and `node` are the node's namespace, and a socket in it.

    `around` looks at what is around the interface, too: right after ADD there is nothing yet.
    `defaults` are those of the namespace, where they were read before there was the interface.
    """
    with entered(netns.fd, own):
        pod = Rtnetlink()
        if defaults is None:
            defaults = read_defaults(ifname)
        else:
            defaults = {**defaults, **dict(read_secret(ifname))}
    with pod:
        observed = observe_pod(pod, own, ifname)
        if around is not None and observed.over_node:
            observed = around(pod, observed, ifname)
        live = observed.link
        parents = chain_from(node, live.master) if live and observed.over_node else ()
        sysctls = own_settings(live.sysctls, defaults) if live else ()
        return Seen(observed, sysctls, identify(netns.path, netns.fd, pod.sock), parents)


def attachment_of(
    ifname: str, seen: Seen, live: LiveLink, follow_renamed: bool, settled: bool = False
) -> Attachment:
    """What is to be remembered of an interface that is there."""
    blank = Attachment(
        ifname=ifname,
        link=live.link,
        parents=seen.parents,
        addresses=(),
        routes=(),
        follow_renamed_master=follow_renamed,
        settled=settled,
    )
    return with_seen(blank, seen.observed, seen.sysctls)


def with_seen(
    attachment: Attachment, observed: Observed, sysctls: tuple[tuple[str, str], ...]
) -> Attachment:
    """The attachment with all that its interface has now."""
    assert observed.link is not None
    mode, link_locals = _odd_link_locals(observed) if attachment.settled else (None, ())
    seen = replace(
        attachment,
        link=observed.link.link,
        addresses=(*observed.addresses, *link_locals),
        routes=observed.routes,
        sysctls=sysctls,
        rules=observed.rules,
        neighbours=observed.neighbours,
        absent_routes=observed.absent_routes,
        addr_gen_mode=mode,
        lifetimes_at=0,
    )
    if not seen.has_lifetimes:
        return seen
    from cni_repair.network.planning.lifetimes import now, stamped  # most ADDs never come here

    return stamped(seen, now())


def _odd_link_locals(observed: Observed) -> tuple[int | None, tuple[Address, ...]]:
    # ADD, which pays for its imports, never comes here.
    from cni_repair.network.planning.linklocal import odd_link_locals

    assert observed.link is not None
    by_kernel, stable_private = observed.addresses_by_kernel, observed.stable_private
    return odd_link_locals(observed.link, by_kernel, stable_private) or (None, ())


def pod_of(args: dict[str, str]) -> model.Pod:
    """The pod that CNI_ARGS names."""
    return model.Pod(
        namespace=_text(args.get("K8S_POD_NAMESPACE", "")),
        name=_text(args.get("K8S_POD_NAME", "")),
        uid=_text(args.get("K8S_POD_UID", "")),
    )


def _text(value: str) -> str:
    """A variable of the environment as text: bytes that are none become question marks."""
    return value.encode("utf-8", "replace").decode("utf-8")


def kept(netconf: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it is remembered."""
    safe: dict[str, Any] = redact({k: v for k, v in netconf.items() if k != "prevResult"})
    return safe
