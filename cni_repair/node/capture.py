"""Turning a live attachment into a checkpoint."""

from __future__ import annotations

import time

from cni_repair.checkpoint import model
from cni_repair.checkpoint.identity import identify
from cni_repair.checkpoint.redact import redact
from cni_repair.errors import CONFIG, CniError
from cni_repair.network import netns as namespaces
from cni_repair.network.netns import entered, open_own
from cni_repair.network.observe import chain_from, observe_pod, read_sysctls
from cni_repair.network.rtnetlink import Rtnetlink
from cni_repair.network.state import Attachment, Observed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.checkpoint.store import Key
    from cni_repair.cni.netconf import NetConf


def prepare() -> None:
    """Have everything imported that :func:`capture` needs."""
    namespaces.setns_function()


def capture(
    key: Key,
    path: str,
    netns: int,
    args: dict[str, str],
    conf: NetConf,
    result: dict[str, Any],
) -> str:
    """The checkpoint document of an attachment that the delegate just made.

    `netns` is the open namespace that `path` led to. Raises CniError where what the delegate made
    is not an interface that REPAIR could bring back.
    """
    own = open_own()
    with entered(netns, own):
        pod = Rtnetlink()
        sysctls = read_sysctls(key.ifname)
    with pod, Rtnetlink() as node:
        observed = observe_pod(pod, own, key.ifname)
        attachment = _attachment(key.ifname, conf, observed, node, sysctls)
        checkpoint = model.Checkpoint(
            key=key,
            network=conf.name,
            pod=model.Pod(
                namespace=_text(args.get("K8S_POD_NAMESPACE", "")),
                name=_text(args.get("K8S_POD_NAME", "")),
                uid=_text(args.get("K8S_POD_UID", "")),
            ),
            attached_at=time.time_ns() // 1_000_000,
            netns=identify(path, netns, pod.sock),
            netns_path=path,
            delegate=conf.delegate,
            netconf=redact({k: v for k, v in conf.document.items() if k != "prevResult"}),
            result=result,
            attachment=attachment,
        )
    return model.encode_checked(checkpoint)


def _text(value: str) -> str:
    """A variable of the environment as text: bytes that are none become question marks."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _attachment(
    ifname: str,
    conf: NetConf,
    observed: Observed,
    node: Rtnetlink,
    sysctls: tuple[tuple[str, str], ...],
) -> Attachment:
    live = observed.link
    if live is None or live.link.kind != "macvlan" or live.master_netnsid is None:
        made = f"a {live.link.kind or 'hardware'} link" if live else "no link"
        raise CniError(
            CONFIG,
            f"plugin {conf.delegate} made {made} as {ifname}",
            "cni-repair can bring back macvlan interfaces over links of the node only",
        )
    return Attachment(
        ifname=ifname,
        link=live.link,
        parents=chain_from(node, live.master),
        addresses=observed.addresses,
        routes=observed.routes,
        sysctls=sysctls,
        follow_renamed_master=conf.follow_renamed_master,
    )
