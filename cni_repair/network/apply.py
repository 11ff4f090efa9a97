"""Applying a plan to a pod: the only code that changes what it has.

Operations travel many to a datagram; the kernel answers each, and goes on after one that failed.
"""

from __future__ import annotations

import binascii
import errno
import os

from cni_repair.base.errors import REPAIR_FAILED, CniError
from cni_repair.base.frozen import frozen, replace
from cni_repair.netlink import codec as nl
from cni_repair.netlink import constants as rt
from cni_repair.netlink.socket import Ack, Rtnetlink
from cni_repair.network import observe
from cni_repair.network.kernel.sysctl import SYSCTLS, path_of
from cni_repair.network.links import link_named
from cni_repair.network.model import KINDS, TEMPORARY
from cni_repair.network.operations.neighbour import SetNeighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_repair.network.operations.base import Creation, Operation, Target

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


@frozen
class Passage:
    """How a link may have to get into the pod: made in the node under a name of its attachment's
    own, then moved. `note` is told when one may be there, and when none is any more: whoever comes
    after us, should we be killed, has to know of it."""

    name: str
    note: Callable[[bool], None]


@frozen
class Applied:
    """What came of a plan."""

    failures: tuple[str, ...]  # in words
    # All is as planned, by the kernel's acknowledgements: nothing failed, nothing was there
    # already, and no step is of those that only a look can judge.
    is_proved: bool


def apply_to_pod(
    sides: NamespacePair, operations: Sequence[Operation], target: Target, passage: Passage | None
) -> Applied:
    """Apply a plan to one pod; the calling thread is inside the pod's namespace.

    `target`: as observed; an index that is not known yet (0) is asked for. `passage`: for a plan
    that makes a link. An interface that was
    made here and could not be set up is taken away again: the next attempt then starts from `lost`,
    not from a half-made link.
    """
    creation = operations[0].creation if operations else None
    if creation is not None:
        first, *operations = operations
        assert passage is not None
        answer, ifindex = _create(sides, first, creation, target, passage)
        if answer.errno:
            return Applied((_failure(first, sides.pod_path, answer),), is_proved=False)
        made = ifindex or _ifindex_of(sides.pod, creation.ifname)
        target = replace(target, ifindex=made)
    work = _PodWork(sides, target)
    work.is_proved = creation is not None and first.is_proved and bool(ifindex)
    for operation in operations:
        work.add(operation)
    failures = work.failures()
    if work.stays_down and creation is not None:
        delete_link(sides.pod, target.ifindex)
    return Applied(failures, work.is_proved)


class _PodWork:
    """The steps of one pod in their order; messages travel together as far as they can."""

    def __init__(self, sides: NamespacePair, target: Target) -> None:
        self._rtnl = sides.pod
        self._netns = sides.pod_path
        self._target = target
        self._waiting: list[Operation] = []
        self._failures: list[str] = []
        self.stays_down = False
        self.is_proved = False

    def add(self, operation: Operation) -> None:
        self.is_proved = self.is_proved and operation.is_proved
        if operation.file is not None:
            self._set_sysctl(operation, *operation.file)
            return
        if operation.comes_alone:
            self._send()
        self._waiting += operation.steps
        if flushed := operation.flushes_neighbours_of:
            there = observe.permanent_neighbours(self._rtnl, self._target.ifindex)
            self._waiting += [SetNeighbour(flushed, neighbour) for neighbour in there]

    def failures(self) -> tuple[str, ...]:
        """What failed, in words, now that all is sent."""
        self._send()
        return tuple(self._failures)

    def _set_sysctl(self, operation: Operation, key: str, ifname: str, value: str) -> None:
        """One that cannot be set is reported; the pod gets its network all the same."""
        self._send()
        try:
            _write_sysctl(key, ifname, value)
        except OSError as error:
            self._fail(operation, Ack(error.errno or errno.EIO, ""))

    def _send(self) -> None:
        steps, self._waiting = self._waiting, []
        for start in range(0, len(steps), _MESSAGES_A_SEND):
            part = steps[start : start + _MESSAGES_A_SEND]
            sent = [(step, one) for step in part for one in step.requests(self._target)]
            for (step, _), answer in zip(sent, self._rtnl.send([one for _, one in sent])):
                self.is_proved = self.is_proved and not answer.errno
                if step.is_vital and answer.errno:
                    self._fail(step, answer)
                    self.stays_down = True
                    return  # what came after it failed for that
                if step.otherwise is not None and answer.errno == errno.EEXIST:
                    self._waiting.append(step.otherwise)
                elif answer.errno and answer.errno not in step.tolerated:
                    self._fail(step, answer)
        if self._waiting:
            self._send()

    def _fail(self, step: Operation, answer: Ack) -> None:
        self._failures.append(_failure(step, self._netns, answer))


def _create(
    sides: NamespacePair, first: Operation, creation: Creation, target: Target, passage: Passage
) -> tuple[Ack, int]:
    """Make the interface; under a temporary name first where the kernel cannot do it in one
    message. With its index, where that is known: one that was asked for is given, or nothing is
    made."""
    (answer,) = sides.node.send(first.requests(target))
    if answer.errno != errno.EEXIST:
        return answer, creation.ifindex
    passage.note(True)
    remove_temporary(sides.pod, passage.name)
    remove_temporary(sides.node, passage.name)
    answer = _create_and_move(sides, creation, target, passage.name)
    passage.note(False)
    return answer, 0  # before 5.13 the kernel chooses it (IFLA_NEW_IFINDEX)


def _create_and_move(sides: NamespacePair, creation: Creation, target: Target, name: str) -> Ack:
    (answer,) = sides.node.send([creation.temporary(name, target.master)])
    if answer.errno:
        return answer
    ifindex = _ifindex_of(sides.node, name)
    (answer,) = sides.node.send([creation.move(ifindex, sides.pod_netns)])
    if answer.errno:
        delete_link(sides.node, ifindex)
        # The kernel moves first and renames then (do_setlink()): where the name was taken, it is in
        # the pod, with the index that the interface is to have.
        remove_temporary(sides.pod, name)
    return answer


def temporary_name(attachment: str) -> str:
    """A link's name of at most 15 bytes, the same at every attempt, another for each attachment."""
    return f"{TEMPORARY}{binascii.crc32(attachment.encode()):08x}"


def remove_temporary(rtnl: Rtnetlink, name: str) -> None:
    """Remove the link that a repair has left on its way; the attachment's lock is ours."""
    link = link_named(rtnl, name)
    if link is not None and link.name == name and link.kind in KINDS:
        delete_link(rtnl, link.ifindex)


def _write_sysctl(key: str, ifname: str, value: str) -> None:
    if key not in SYSCTLS:
        raise CniError(REPAIR_FAILED, f"sysctl {key} is not one that a pod may get back")
    fd = os.open(path_of(key, ifname), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


def _ifindex_of(rtnl: Rtnetlink, ifname: str) -> int:
    ifindex = observe.ifindex_of(rtnl, ifname)
    if not ifindex:
        raise CniError(REPAIR_FAILED, f"link {ifname} vanished as soon as it was made")
    return ifindex


def delete_link(rtnl: Rtnetlink, ifindex: int) -> None:
    """Remove a pod's interface; one that is gone already is as good."""
    (answer,) = rtnl.send([deletion(ifindex)])
    if answer.errno not in (0, errno.ENODEV):
        raise CniError(REPAIR_FAILED, "cannot delete the pod's interface", str(answer))


def deletion(ifindex: int) -> nl.Message:
    """Asks for the removal of a link."""
    return nl.Message(rt.RTM_DELLINK, 0, nl.link_body(ifindex, 0, 0, b""))


def _failure(step: Operation, netns: str, answer: Ack) -> str:
    if answer.errno in step.meanings:
        answer = Ack(answer.errno, step.meanings[answer.errno])
    return f"{step.describe(netns)}: {answer}"
