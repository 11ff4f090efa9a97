"""The node that this process is on, and the way into its pods' network namespaces."""

from __future__ import annotations

import os
import struct

from cni_repair.base.closeable import Closeable, close_fd
from cni_repair.base.errors import INTERNAL, SYSTEM_ERRORS, CniError, of_system
from cni_repair.checkpoint.identity import Stale, belongs_to_sandbox, check_cookie, open_identified
from cni_repair.netlink.netns import entered, open_netns, open_own, same_netns, setns_function
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.apply import NamespacePair

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from cni_repair.checkpoint.model import Checkpoint

    T = TypeVar("T")

# What work on one attachment may fail with, and the others go on. The last three would be of a
# checkpoint that cannot be put into a message.
POD_FAILURES = (CniError, *SYSTEM_ERRORS, ValueError, LookupError, struct.error)


class Node(Closeable):
    """The node: its network namespace, and a netlink socket in it."""

    def __init__(self) -> None:
        setns_function()
        self.own = open_own()
        self.rtnl = Rtnetlink()

    def close(self) -> None:
        self.rtnl.close()
        close_fd(self.own)


def in_pod(
    node: Node, checkpoint: Checkpoint, given_netns: str, work: Callable[[NamespacePair], T]
) -> T:
    """Do `work` inside the attachment's namespace, after it was identified."""
    netns = _open(node, checkpoint, given_netns)
    path = given_netns or checkpoint.netns_path
    try:
        with entered(netns, node.own), Rtnetlink() as rtnl:
            if checkpoint.netns is not None:
                check_cookie(checkpoint.netns, rtnl.sock)
            return work(NamespacePair(rtnl, netns, path, node.rtnl, node.own))
    finally:
        close_fd(netns)


def _open(node: Node, checkpoint: Checkpoint, given_netns: str) -> int:
    if checkpoint.netns is not None:
        return open_identified(checkpoint.netns, node.own, given_netns)
    # The predecessor's records: the caller vouches for the namespace, or the PID's cgroup does.
    sandbox = checkpoint.key.container_id
    if not given_netns and not belongs_to_sandbox(checkpoint.netns_path, sandbox):
        raise Stale(f"the cgroup of {checkpoint.netns_path} does not name sandbox {sandbox}")
    path = given_netns or checkpoint.netns_path
    netns = open_netns(path)
    if same_netns(netns, node.own):
        os.close(netns)
        raise Stale(f"{path} is the node's own network namespace")
    return netns


def wrapped(error: Exception) -> CniError:
    """One of POD_FAILURES as the CniError that a report holds."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, SYSTEM_ERRORS):
        return of_system(error)
    return CniError(INTERNAL, f"a bug in cni-repair: {type(error).__name__}: {error}")
