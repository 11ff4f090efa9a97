"""Firing one armed attachment: the doubts first, then two sends.

What was planned while the master was away holds only where nothing has changed since. Whatever
speaks against it, an errno, too, leaves the attachment as it was found, for the ordinary way.
"""

from __future__ import annotations

import os
import struct

from cni_repair.base.frozen import frozen
from cni_repair.checkpoint.identity import check_cookie, open_identified
from cni_repair.checkpoint.locks import Lock
from cni_repair.checkpoint.store import mark_of
from cni_repair.netlink.netns import entered
from cni_repair.netlink.prepared import NoAnswer, exchange
from cni_repair.netlink.socket import Rtnetlink
from cni_repair.network.apply import delete_link
from cni_repair.network.observe import has_carrier, name_at
from cni_repair.node.context import POD_FAILURES, wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.store import Mark, Store
    from cni_repair.node.context import Node

    # What came of it, whether the interface hears the wire, and why it was not done, in words.
    Shot: TypeAlias = tuple[int, bool, str]

_U32 = struct.Struct("=I")

NOT_DONE = 0
DONE = 1  # whether all is as it was, a look has to tell
PROVED = 2  # all is as it was, by the kernel's acknowledgements


@frozen
class ArmedPod:
    """All of a lost attachment's repair that does not depend on the master's return."""

    file: str  # its record
    identity: Identity
    mark: Mark  # of the record that it was made from
    name: str  # of its lock
    run_dir: str
    tombstone: str  # what a DEL may have left instead
    chain: int  # the place in the list of what the armed attachments stand on
    ifname: str
    ifindex: int
    create: bytes  # the one prepared message that makes the link, for a socket of the node
    master_at: int  # where in it the master's index stands
    netns_at: int  # … and the open descriptor of the pod's namespace
    rest: bytes  # the other messages, for a socket of the pod
    count: int  # of those
    tolerated: tuple[tuple[int, ...], ...]  # of each of those: refusals that mean "already so"
    is_proved: bool  # whether acknowledgements alone can tell that all is as it was
    leases: tuple[tuple[str, Mark], ...]  # IPAM's files which say that the addresses are its own
    mac: str  # to be announced
    addresses: tuple[str, ...]
    findings: tuple[str, ...]  # what was wrong
    actions: tuple[str, ...]  # the steps in words


class _Doubt(Exception):
    """Something may not be any more as it was when the attachment was armed."""


class _Gone(_Doubt):
    """A file is, by which it was armed."""


class Firing:
    """What one process needs to fire: sockets and descriptors of the node's, none of a pod's."""

    def __init__(self, node: Node, store: Store) -> None:
        self._own = node.own
        self._store = store
        self._rtnl = node.rtnl

    def begin_in_child(self) -> None:
        """After a fork: the socket is the other process's."""
        self._rtnl.renew()

    def fire(self, pod: ArmedPod, master: int) -> Shot:
        """Make the interface over the master of that index, with all that it had."""
        try:
            with Lock(pod.run_dir, pod.name, 0.0) as lock:
                self._check_files(pod, lock)
                return self._fire(pod, master)
        except _Doubt as doubt:
            return NOT_DONE, False, str(doubt)
        except NoAnswer:
            return NOT_DONE, False, "the kernel did not answer"
        except POD_FAILURES as error:
            return NOT_DONE, False, str(wrapped(error))

    def is_lost(self, pod: ArmedPod) -> bool:
        """Whether the pod is there, and its interface is not."""
        try:
            netns = open_identified(pod.identity, self._own)
            try:
                with entered(netns, self._own), Rtnetlink() as rtnl:
                    return name_at(rtnl, pod.ifindex) is None
            finally:
                os.close(netns)
        except POD_FAILURES:
            return False

    def _check_files(self, pod: ArmedPod, lock: Lock) -> None:
        """DEL, ADD, CHECK or `snapshot` may have come, and IPAM may have given the addresses away:
        whoever writes a file leaves another inode, time or size."""
        try:
            _check_unchanged(pod.file, self._store.fd, pod.mark, "record")
        except _Gone:
            lock.forget()  # its DEL has, too; this one was made since
            raise
        for path, mark in pod.leases:
            _check_unchanged(path, None, mark, "lease")
        if os.access(pod.tombstone, os.F_OK):
            raise _Doubt("it was deleted")

    def _fire(self, pod: ArmedPod, master: int) -> Shot:
        netns = open_identified(pod.identity, self._own)
        try:
            with entered(netns, self._own), Rtnetlink() as rtnl:
                check_cookie(pod.identity, rtnl.sock)
                if name_at(rtnl, pod.ifindex) is not None:
                    raise _Doubt("it is there")
                self._create(pod, master, netns)
                return self._configure(pod, rtnl)
        finally:
            os.close(netns)

    def _create(self, pod: ArmedPod, master: int, netns: int) -> None:
        message = bytearray(pod.create)
        _U32.pack_into(message, pod.master_at, master)
        _U32.pack_into(message, pod.netns_at, netns)
        for errno in exchange(self._rtnl.sock, message, 1).values():
            raise _Doubt(f"its link was refused: {os.strerror(errno)}")

    def _configure(self, pod: ArmedPod, rtnl: Rtnetlink) -> Shot:
        """Send the rest. Where something is refused the link goes again: the ordinary way then
        begins from what it knows, a lost link, not from one that is half made."""
        try:
            refused = exchange(rtnl.sock, pod.rest, pod.count)
            for number, errno in refused.items():
                if errno not in pod.tolerated[number - 1]:
                    raise _Doubt(f"step {number} was refused: {os.strerror(errno)}")
            has = has_carrier(rtnl, pod.ifname)
        except BaseException:
            delete_link(rtnl, pod.ifindex)
            raise
        return PROVED if pod.is_proved and not refused else DONE, has, ""


def _check_unchanged(path: str, directory: int | None, mark: Mark, what: str) -> None:
    try:
        found = mark_of(path, directory)
    except FileNotFoundError as error:
        raise _Gone(f"its {what} is gone") from error
    if found != mark:
        raise _Doubt(f"its {what} was changed")
