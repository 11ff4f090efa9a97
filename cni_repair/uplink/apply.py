"""Applying the node's side of a plan: the only code that changes the node's own links."""

from __future__ import annotations

import errno

from cni_repair.base.errors import MASTER_REFUSED, CniError
from cni_repair.base.frozen import frozen
from cni_repair.netlink import codec as nl
from cni_repair.netlink.socket import Ack, Rtnetlink
from cni_repair.network import observe
from cni_repair.uplink.operations import AddShim, AddToNode, AddVlan, SetNodeLinkUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_repair.uplink.operations import NodeOperation


@frozen
class Rejected:
    """An address or a route that the kernel refused."""

    operation: AddToNode
    why: Ack

    def __str__(self) -> str:
        return f"{self.operation.command()}: {self.why}"


@frozen
class Applied:
    """What came of a plan for the node."""

    complete: bool  # False: somebody else made one of the links meanwhile; look again
    rejected: tuple[Rejected, ...] = ()


def apply_to_node(rtnl: Rtnetlink, operations: Sequence[NodeOperation]) -> Applied:
    """Make the links that a plan asks for. Raises CniError at the first that fails.

    Stops at a link that is there already: systemd-networkd makes VLANs, too, and what it made has
    to be compared before it is used. An address or a route that fails stops nothing.
    """
    rejected: list[Rejected] = []
    for operation in operations:
        if isinstance(operation, AddToNode):
            answer = _add(rtnl, operation)
            if answer.errno not in (0, errno.EEXIST):
                rejected.append(Rejected(operation, answer))
        elif isinstance(operation, SetNodeLinkUp):
            ifindex = _existing(rtnl, operation.name)
            # ENETDOWN: the link below went down again; the VLAN follows it up by itself.
            _succeed(rtnl, operation, operation.message(ifindex), (errno.ENETDOWN,))
        else:
            below = _existing(rtnl, operation.master)
            answer = _succeed(rtnl, operation, operation.message(below), (errno.EEXIST,))
            if answer.errno:
                return Applied(False, tuple(rejected))
    return Applied(True, tuple(rejected))


def add_again(rtnl: Rtnetlink, rejected: Sequence[Rejected]) -> list[Rejected]:
    """Try once more what was refused: routes wait for a link that was down, or for duplicate
    address detection. What is refused still."""
    tried = [Rejected(one.operation, _add(rtnl, one.operation)) for one in rejected]
    return [one for one in tried if one.why.errno not in (0, errno.EEXIST)]


def _add(rtnl: Rtnetlink, operation: AddToNode) -> Ack:
    ifindex = observe.ifindex_of(rtnl, operation.name)
    if not ifindex:
        return Ack(errno.ENODEV, "")
    (answer,) = rtnl.send([operation.message(ifindex)])
    return answer


def _existing(rtnl: Rtnetlink, name: str) -> int:
    link = observe.link_named(rtnl, name)
    if link is None:
        raise CniError(MASTER_REFUSED, f"link {name} vanished during the repair")
    return link.ifindex


def _succeed(
    rtnl: Rtnetlink,
    operation: AddVlan | AddShim | SetNodeLinkUp,
    message: nl.Message,
    tolerated: tuple[int, ...],
) -> Ack:
    (answer,) = rtnl.send([message])
    if answer.errno in (0, *tolerated):
        return answer
    if answer.errno == errno.EOPNOTSUPP and isinstance(operation, AddVlan):
        raise CniError(
            MASTER_REFUSED,
            f"this kernel cannot make VLAN devices ({operation.name})",
            "load the module 8021q (CONFIG_VLAN_8021Q)",
        )
    raise CniError(MASTER_REFUSED, f"cannot do: {operation.command()}", str(answer))
