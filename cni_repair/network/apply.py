"""Applying a plan to a pod: the only code that changes what it has.

Operations travel many to a datagram; the kernel answers each, and goes on after one that failed.
"""

from __future__ import annotations

import errno
import os

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink
from cni_repair.network import observe
from cni_repair.network.kernel.neighbour import permanent_neighbours
from cni_repair.network.kernel.sysctl import SYSCTLS
from cni_repair.network.model import KINDS
from cni_repair.network.operations.entries import (
    AddAddress,
    ChangeAddress,
    DropAddress,
    SetNeighbour,
)
from cni_repair.network.operations.link import AddPodLink, SetLink, SetSysctl, SetUp, Target
from cni_repair.network.operations.route import AddRoute, DropRoute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from cni_repair.network.operations.entries import AddRule, SetAddress
    from cni_repair.network.operations.link import AddAltname, PodOperation, SetAddrGenMode

    _MessageStep: TypeAlias = (
        "SetLink | AddAltname | SetSysctl | SetAddrGenMode | SetUp | AddAddress | DropAddress"
        " | SetAddress | SetNeighbour | AddRoute | DropRoute | AddRule"
    )

# Each acknowledgement takes about 800 bytes of the socket's 212 kB receive buffer.
_MESSAGES_A_SEND = 50


@frozen
class NamespacePair:
    """Both ends of a pod's interface: a socket and an open descriptor of each namespace."""

    pod: Rtnetlink
    pod_netns: int
    pod_path: str  # for the words only
    node: Rtnetlink
    node_netns: int


def apply_to_pod(
    sides: NamespacePair, operations: Sequence[PodOperation], where: Target, temporary: str
) -> tuple[str, ...]:
    """Apply a plan to one pod; the calling thread is inside the pod's namespace.

    `where`: as observed; what is not known yet (0, or None for the id of the node's namespace) is
    asked for. `temporary`: a name for a link that may have to be made in the node, unique to the
    attachment. Returns what failed, in words, empty if nothing did. An interface that was made here
    and could not be set up is taken away again: the next attempt then starts from `lost`, not from
    a half-made link.
    """
    rest = list(operations)
    create = rest.pop(0) if rest and isinstance(rest[0], AddPodLink) else None
    if isinstance(create, AddPodLink):
        if where.node_netnsid is None:
            where = replace(where, node_netnsid=_netnsid_of_node(sides))
        answer, ifindex = _create(sides, create, where, temporary)
        if answer.errno:
            return (_failure(create, sides.pod_path, answer),)
        where = replace(where, ifindex=ifindex or _ifindex_of(sides.pod, create.ifname))
    work = _PodWork(sides, where)
    for step in rest:
        if isinstance(step, SetSysctl) and not step.has_message:
            work.set_sysctl(step)
        elif not isinstance(step, AddPodLink):
            work.add(step)
    failures = work.failures()
    if work.stays_down and create is not None:
        delete_link(sides.pod, where.ifindex)
    return failures


class _PodWork:
    """The steps of one pod in their order; messages travel together as far as they can."""

    def __init__(self, sides: NamespacePair, where: Target) -> None:
        self._rtnl = sides.pod
        self._netns = sides.pod_path
        self._where = where
        self._waiting: list[_MessageStep] = []
        self._failures: list[str] = []
        self.stays_down = False

    def add(self, step: _MessageStep | ChangeAddress) -> None:
        if isinstance(step, DropRoute):
            self._send()  # what is reachable by it only, appended at the second try too
        self._waiting += step.steps if isinstance(step, (AddAddress, ChangeAddress)) else (step,)
        if isinstance(step, SetLink) and step.flushes_neighbours:
            there = permanent_neighbours(self._rtnl, self._where.ifindex)
            self._waiting += [SetNeighbour(step.ifname, neighbour) for neighbour in there]

    def set_sysctl(self, step: SetSysctl) -> None:
        """A sysctl that cannot be set is reported; the pod gets its network all the same."""
        self._send()
        try:
            _write_sysctl(step)
        except OSError as error:
            self._fail(step, Ack(error.errno or errno.EIO, ""))

    def failures(self) -> tuple[str, ...]:
        """What failed, in words, now that all is sent."""
        self._send()
        return tuple(self._failures)

    def _send(self) -> None:
        steps, self._waiting = self._waiting, []
        for start in range(0, len(steps), _MESSAGES_A_SEND):
            part = steps[start : start + _MESSAGES_A_SEND]
            answers = self._rtnl.send([step.message(self._where) for step in part])
            for step, answer in zip(part, answers):
                if isinstance(step, SetUp) and answer.errno:
                    self._fail(step, _why_down(answer))
                    self.stays_down = True
                    return  # what came after it failed for that
                otherwise = step.otherwise if isinstance(step, AddRoute) else None
                if otherwise is not None and answer.errno == errno.EEXIST:
                    self._waiting.append(otherwise)
                elif answer.errno not in (0, *_as_good_as_done(step)):
                    self._fail(step, answer)
        if self._waiting:
            self._send()

    def _fail(self, step: PodOperation | _MessageStep, answer: Ack) -> None:
        self._failures.append(_failure(step, self._netns, answer))


def _why_down(answer: Ack) -> Ack:
    if answer.errno == errno.EADDRINUSE:  # macvlan_open(): macvlan_addr_busy()
        return Ack(answer.errno, "another interface over this master has the same MAC")
    return answer


def _create(
    sides: NamespacePair, create: AddPodLink, where: Target, temporary: str
) -> tuple[Ack, int]:
    """Make the interface; by way of the node where the kernel cannot do it in one message. With its
    index, where that is known: one that was asked for is given, or nothing is made."""
    (answer,) = sides.pod.send([create.message(where)])
    if answer.errno != errno.EEXIST:
        return answer, create.link.ifindex
    _remove_leftover(sides.node, temporary)
    (answer,) = sides.node.send([create.temporary(temporary, where.master)])
    if answer.errno:
        return answer, 0
    ifindex = _ifindex_of(sides.node, temporary)
    (answer,) = sides.node.send([create.move(ifindex, sides.pod_netns)])
    if answer.errno:
        delete_link(sides.node, ifindex)
    return answer, 0  # before 5.13 the kernel chooses it (IFLA_NEW_IFINDEX)


def _remove_leftover(rtnl: Rtnetlink, temporary: str) -> None:
    """A repair that was killed half-way left its temporary link; the attachment's lock is ours."""
    link = observe.link_named(rtnl, temporary)
    if link is not None and link.kind in KINDS:
        delete_link(rtnl, link.ifindex)


def _write_sysctl(operation: SetSysctl) -> None:
    if operation.key not in SYSCTLS:
        raise CniError(REPAIR_FAILED, f"sysctl {operation.key} is not one that a pod may get back")
    fd = os.open(operation.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, operation.value.encode("ascii"))
    finally:
        os.close(fd)


def _as_good_as_done(step: _MessageStep) -> tuple[int, ...]:
    """The refusals of what somebody else did more quickly, or a Result names twice. Whether what is
    there is what should be is for the look afterwards to say."""
    if isinstance(step, (DropRoute, DropAddress)):
        return errno.ESRCH, errno.EADDRNOTAVAIL
    if isinstance(step, AddRoute) and step.route.family == 6 and step.route.prefsrc:
        # ip6_route_info_create() refuses a source that duplicate detection still looks at.
        return errno.EEXIST, errno.EINVAL
    return (errno.EEXIST,)


def _netnsid_of_node(sides: NamespacePair) -> int:
    """By which id the pod knows the node's namespace; given one if it has none yet.

    The kernel gives it by itself as soon as anybody lists a link whose master is there, so this
    changes nothing that a pod had not already.
    """
    for _ in range(2):
        request = observe.netnsid_request(sides.node_netns)
        netnsid = observe.netnsid_in(sides.pod.get([request])[0])
        if netnsid is not None:
            return netnsid
        attributes = nl.u32(rt.NETNSA_FD, sides.node_netns) + nl.u32(rt.NETNSA_NSID, 0xFFFFFFFF)
        sides.pod.send([nl.Message(rt.RTM_NEWNSID, 0, bytes(4) + attributes)])
    raise CniError(REPAIR_FAILED, "the kernel gives the node's namespace no id in the pod")


def _ifindex_of(rtnl: Rtnetlink, ifname: str) -> int:
    ifindex = observe.ifindex_of(rtnl, ifname)
    if not ifindex:
        raise CniError(REPAIR_FAILED, f"link {ifname} vanished as soon as it was made")
    return ifindex


def delete_link(rtnl: Rtnetlink, ifindex: int) -> None:
    """Remove a pod's interface; one that is gone already is as good."""
    (answer,) = rtnl.send([nl.Message(rt.RTM_DELLINK, 0, nl.link_body(ifindex, 0, 0, b""))])
    if answer.errno not in (0, errno.ENODEV):
        raise CniError(REPAIR_FAILED, "cannot delete the pod's interface", str(answer))


def _failure(operation: PodOperation | _MessageStep, netns: str, answer: Ack) -> str:
    return f"{operation.command(netns)}: {answer}"
