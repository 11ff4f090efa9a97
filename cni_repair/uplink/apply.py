"""Applying the node's side of a plan: the only code that changes the node's own links."""

from __future__ import annotations

import errno

from cni_repair.base.errors import MASTER_REFUSED, CniError
from cni_repair.base.frozen import frozen
from cni_repair.netlink.socket import Ack, Rtnetlink
from cni_repair.network.links import link_named
from cni_repair.network.operations.base import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_repair.network.operations.base import Operation


@frozen
class Rejected:
    """An address or a route that the kernel refused."""

    operation: Operation
    why: Ack

    def __str__(self) -> str:
        return f"{self.operation.describe('')}: {self.why}"


@frozen
class Applied:
    """What came of a plan for the node."""

    complete: bool  # False: somebody else made one of the links meanwhile; look again
    rejected: tuple[Rejected, ...] = ()


def apply_to_node(rtnl: Rtnetlink, operations: Sequence[Operation]) -> Applied:
    """Make the links that a plan asks for. Raises CniError at the first that fails.

    Stops at a link that is there already: systemd-networkd makes VLANs, too, and what it made has
    to be compared before it is used. An address or a route that fails stops nothing.
    """
    rejected: list[Rejected] = []
    for operation in operations:
        answer = _do(rtnl, operation)
        if answer.errno == errno.EEXIST and operation.over:
            return Applied(False, tuple(rejected))
        if _is_refused(operation, answer):
            if operation.is_vital:
                raise _refusal(operation, answer)
            rejected.append(Rejected(operation, answer))
    return Applied(True, tuple(rejected))


def add_again(rtnl: Rtnetlink, rejected: Sequence[Rejected]) -> list[Rejected]:
    """Try once more what was refused: routes wait for a link that was down, or for duplicate
    address detection. What is refused still."""
    tried = [Rejected(one.operation, _do(rtnl, one.operation)) for one in rejected]
    return [one for one in tried if _is_refused(one.operation, one.why)]


def _do(rtnl: Rtnetlink, operation: Operation) -> Ack:
    """Its one message; the node's link of the name that it needs is looked up first."""
    name = operation.over or operation.ifname
    link = link_named(rtnl, name)
    if link is None and operation.is_vital:
        raise CniError(MASTER_REFUSED, f"link {name} vanished during the repair")
    if link is None:
        return Ack(errno.ENODEV, "")
    (answer,) = rtnl.send(operation.requests(Target(link.ifindex, link.ifindex)))
    return answer


def _is_refused(operation: Operation, answer: Ack) -> bool:
    return bool(answer.errno) and answer.errno not in operation.tolerated


def _refusal(operation: Operation, answer: Ack) -> CniError:
    if answer.errno == errno.EOPNOTSUPP and operation.unsupported:
        return CniError(MASTER_REFUSED, *operation.unsupported)
    return CniError(MASTER_REFUSED, f"cannot do: {operation.describe('')}", str(answer))
