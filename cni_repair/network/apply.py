"""Applying a plan: the only code that changes a link, an address, a route, a rule, a neighbour or
a sysctl.

Operations travel many to a datagram; the kernel answers each, and goes on after one that failed.
"""

from __future__ import annotations

import errno
import os

from cni_repair.errors import MASTER_REFUSED, REPAIR_FAILED, CniError
from cni_repair.network import observe
from cni_repair.network import rtnetlink as nl
from cni_repair.network.nodeoperations import AddVlan, SetNodeLinkUp
from cni_repair.network.operations import (
    AddAddress,
    AddMacvlan,
    AddRoute,
    AddRule,
    DropRoute,
    SetNeighbour,
    SetSysctl,
    SetUp,
    Where,
)
from cni_repair.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_repair.network.nodeoperations import NodeOperation
    from cni_repair.network.operations import PodOperation

# Each acknowledgement takes about 800 bytes of the socket's 212 kB receive buffer.
_MESSAGES_A_SEND = 50


def apply_to_node(rtnl: nl.Rtnetlink, operations: Sequence[NodeOperation]) -> None:
    """Make the VLANs that a plan asks for. Raises CniError at the first that fails.

    EEXIST is left to the caller, who must look again: systemd-networkd makes VLANs, too, and what
    it made has to be compared before it is used.
    """
    for operation in operations:
        if isinstance(operation, AddVlan):
            below = _existing(rtnl, operation.master)
            _succeed(rtnl, operation, operation.message(below), (errno.EEXIST,))
        else:
            ifindex = _existing(rtnl, operation.name)
            # ENETDOWN: the link below went down again; the VLAN follows it up by itself.
            _succeed(rtnl, operation, operation.message(ifindex), (errno.ENETDOWN,))


def _existing(rtnl: nl.Rtnetlink, name: str) -> int:
    link = observe.link_named(rtnl, name)
    if link is None:
        raise CniError(MASTER_REFUSED, f"link {name} vanished during the repair")
    return link.ifindex


def _succeed(
    rtnl: nl.Rtnetlink,
    operation: AddVlan | SetNodeLinkUp,
    message: nl.Message,
    tolerated: tuple[int, ...],
) -> None:
    (answer,) = rtnl.send([message])
    if answer.errno in (0, *tolerated):
        return
    if answer.errno == errno.EOPNOTSUPP and isinstance(operation, AddVlan):
        raise CniError(
            MASTER_REFUSED,
            f"this kernel cannot make VLAN devices ({operation.name})",
            "load the module 8021q (CONFIG_VLAN_8021Q)",
        )
    raise CniError(MASTER_REFUSED, f"cannot do: {operation.command()}", str(answer))


@record
class Sides:
    """Both ends of a pod's interface: a socket and an open descriptor of each namespace."""

    pod: nl.Rtnetlink
    pod_netns: int
    pod_path: str  # for the words only
    node: nl.Rtnetlink
    node_netns: int


def apply_to_pod(
    sides: Sides, operations: Sequence[PodOperation], ifindex: int, master: int, temporary: str
) -> tuple[str, ...]:
    """Apply a plan to one pod; the calling thread is inside the pod's namespace.

    `ifindex` is the interface's (0: not there yet), `master` the master's in the node, `temporary`
    a name for a link that may have to be made in the node, unique to the attachment. Returns what
    failed, in words, empty if nothing did. An interface that was made here and could not be set up
    is taken away again: the next attempt then starts from `lost`, not from a half-made link.
    """
    rest = list(operations)
    create = rest[0] if rest else None
    if isinstance(create, AddMacvlan):
        rest.pop(0)
        answer = _create(sides, create, master, temporary)
        if answer.errno:
            return (_failure(create, sides.pod_path, answer),)
        ifindex = _ifindex_of(sides.pod, create.ifname)
    where = Where(ifindex, master, 0)
    failures = [_set_sysctl(step, sides.pod_path) for step in rest if isinstance(step, SetSysctl)]
    for step in rest:
        if isinstance(step, SetUp):
            failure = _set_up(sides.pod, step, where, sides.pod_path)
            if failure and isinstance(create, AddMacvlan):
                delete_link(sides.pod, ifindex)
            if failure:
                return (failure,)
    failures += _add_all(sides.pod, rest, where, sides.pod_path)
    return tuple(failure for failure in failures if failure)


def _create(sides: Sides, create: AddMacvlan, master: int, temporary: str) -> nl.Refusal:
    """Make the interface; by way of the node where the kernel cannot do it in one message."""
    netnsid = _netnsid_of_node(sides)
    (answer,) = sides.pod.send([create.message(Where(create.link.ifindex, master, netnsid))])
    if answer.errno != errno.EEXIST:
        return answer
    _remove_leftover(sides.node, temporary)
    (answer,) = sides.node.send([create.temporary(temporary, master)])
    if answer.errno:
        return answer
    ifindex = _ifindex_of(sides.node, temporary)
    (answer,) = sides.node.send([create.move(ifindex, sides.pod_netns)])
    if answer.errno:
        delete_link(sides.node, ifindex)
    return answer


def _remove_leftover(rtnl: nl.Rtnetlink, temporary: str) -> None:
    """A repair that was killed half-way left its temporary link; the attachment's lock is ours."""
    link = observe.link_named(rtnl, temporary)
    if link is not None and link.kind == "macvlan":
        delete_link(rtnl, link.ifindex)


def _set_up(rtnl: nl.Rtnetlink, step: SetUp, where: Where, netns: str) -> str:
    (answer,) = rtnl.send([step.message(where)])
    if answer.errno == errno.EADDRINUSE:  # macvlan_open(): macvlan_addr_busy()
        answer = nl.Refusal(answer.errno, "another interface over this master has the same MAC")
    return _failure(step, netns, answer) if answer.errno else ""


def _set_sysctl(step: SetSysctl, netns: str) -> str:
    """A sysctl that cannot be set is reported; the pod gets its network all the same."""
    try:
        _write_sysctl(step)
    except OSError as error:
        return _failure(step, netns, nl.Refusal(error.errno or errno.EIO, ""))
    return ""


def _write_sysctl(operation: SetSysctl) -> None:
    if operation.key not in observe.SYSCTLS:
        raise CniError(REPAIR_FAILED, f"sysctl {operation.key} is not one that a pod may get back")
    fd = os.open(operation.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, operation.value.encode("ascii"))
    finally:
        os.close(fd)


def _add_all(
    rtnl: nl.Rtnetlink, operations: Sequence[PodOperation], where: Where, netns: str
) -> tuple[str, ...]:
    failures: list[str] = []
    kinds = (AddAddress, SetNeighbour, AddRoute, DropRoute, AddRule)
    additions = [step for step in operations if isinstance(step, kinds)]
    for start in range(0, len(additions), _MESSAGES_A_SEND):
        part = additions[start : start + _MESSAGES_A_SEND]
        answers = rtnl.send([operation.message(where) for operation in part])
        failures += [
            _failure(operation, netns, answer)
            for operation, answer in zip(part, answers)
            if answer.errno not in (0, _as_good_as_done(operation))
        ]
    return tuple(failures)


def _as_good_as_done(operation: PodOperation) -> int:
    """The refusal of what somebody else did more quickly, or a Result names twice. Whether what is
    there is what should be is for the look afterwards to say."""
    return errno.ESRCH if isinstance(operation, DropRoute) else errno.EEXIST


def _netnsid_of_node(sides: Sides) -> int:
    """By which id the pod knows the node's namespace; given one if it has none yet.

    The kernel gives it by itself as soon as anybody lists a link whose master is there, so this
    changes nothing that a pod had not already.
    """
    for _ in range(2):
        request = observe.netnsid_request(sides.node_netns)
        netnsid = observe.netnsid_in(sides.pod.get([request])[0])
        if netnsid is not None:
            return netnsid
        attributes = nl.u32(nl.NETNSA_FD, sides.node_netns) + nl.u32(nl.NETNSA_NSID, 0xFFFFFFFF)
        sides.pod.send([nl.Message(nl.RTM_NEWNSID, 0, bytes(4) + attributes)])
    raise CniError(REPAIR_FAILED, "the kernel gives the node's namespace no id in the pod")


def _ifindex_of(rtnl: nl.Rtnetlink, ifname: str) -> int:
    ifindex = observe.ifindex_of(rtnl, ifname)
    if not ifindex:
        raise CniError(REPAIR_FAILED, f"link {ifname} vanished as soon as it was made")
    return ifindex


def delete_link(rtnl: nl.Rtnetlink, ifindex: int) -> None:
    """Remove a pod's interface; one that is gone already is as good."""
    (answer,) = rtnl.send([nl.Message(nl.RTM_DELLINK, 0, nl.link_body(ifindex, 0, 0, b""))])
    if answer.errno not in (0, errno.ENODEV):
        raise CniError(REPAIR_FAILED, "cannot delete the pod's interface", str(answer))


def _failure(operation: PodOperation, netns: str, answer: nl.Refusal) -> str:
    return f"{operation.command(netns)}: {answer}"
