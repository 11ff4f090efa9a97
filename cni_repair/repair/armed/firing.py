"""Firing armed attachments: the doubts first, then one send for all links, and one for each pod.

What was planned while the master was away holds only where nothing has changed since. Whatever
speaks against it, an errno, too, leaves the attachment as it was found, for the ordinary way.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import struct

from cni_repair.base import lightsocket as socket
from cni_repair.base.errors import CniError
from cni_repair.base.files import is_there
from cni_repair.base.frozen import frozen
from cni_repair.checkpoint.identity import check_cookie, open_identified_to_enter
from cni_repair.checkpoint.locks import Lock, kept_open
from cni_repair.checkpoint.store import COMMITTED, DELETING, mark_of
from cni_repair.netlink.netns import CLONE_NEWNET, entered, netns_id, setns_function
from cni_repair.netlink.prepared import answers, exchange, prepared, renumbered
from cni_repair.network.apply import deletion
from cni_repair.network.observe import carrier_seen_by, name_seen_by
from cni_repair.node.context import POD_FAILURES, wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from cni_repair.checkpoint.identity import Identity
    from cni_repair.checkpoint.store import Mark, Store
    from cni_repair.node.context import Node

    # What was wrong, the steps that were taken in words, and notes.
    Told: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    # What came of it, whether the interface hears the wire, and why it was not done, in words.
    Shot: TypeAlias = tuple[int, bool, str]

_U32 = struct.Struct("=I")
_MOST_NOTED_BYTES = 1 << 20
_TAKEN = (errno.EEXIST, errno.EBUSY)

NOT_DONE = 0
DONE = 1  # whether all is as it was, a look has to tell
PROVED = 2  # all is as it was, by the kernel's acknowledgements


@frozen
class ArmedPod:
    """All of a lost attachment's repair that does not depend on the master's return."""

    file: str  # its record
    identity: Identity
    mark: Mark  # of the record that it was made from
    run_dir: str  # of its lock
    tombstones: str  # the directory of what a DEL may have left instead
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
    words: bytes  # see told(): half of all that the index holds, and wanted only at the end

    @property
    def name(self) -> str:
        """Its lock's."""
        return self.file.removesuffix(COMMITTED)

    def told(self) -> Told:
        """What is to be said of it once it is done."""
        told: Told = marshal.loads(self.words)
        return told


class _Doubt(Exception):
    """Something may not be any more as it was when the attachment was armed."""


class _Gone(_Doubt):
    """A file is, by which it was armed."""


class _Aim:
    """One attachment about to be fired, with what is open for it meanwhile."""

    def __init__(self, pod: ArmedPod, master: int) -> None:
        self.pod = pod
        self.master = master
        self.why = ""  # not, in words
        self.shot: Shot = NOT_DONE, False, ""
        self._lock: Lock | None = None
        self.netns = -1
        self.sock: socket.socket | None = None

    def lock(self, directory: int) -> Lock:
        self._lock = Lock(self.pod.run_dir, self.pod.name, 0.0, directory).__enter__()
        return self._lock

    def doubt(self, why: str) -> None:
        self.why, self.shot = why, (NOT_DONE, False, why)

    def lose(self, error: Exception) -> None:
        """Its messages may have been sent, and what came of them is not known."""
        self.why, self.shot = str(wrapped(error)), (DONE, False, "")

    @property
    def is_on(self) -> bool:
        return not self.why

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
        if self.netns >= 0:
            os.close(self.netns)
        if self._lock is not None:
            self._lock.drop()  # whoever fires forks nobody meanwhile


class Turn:
    """Context: of several processes one talks to the kernel about links: its lock (RTNL) is for one
    at a time, and whoever waits for it spins, and takes the other's data out of its cache. Who dies
    has had its turn."""

    def __init__(self, pods: int) -> None:
        self._fd = os.memfd_create("cni-repair")
        self._pods = pods

    def __enter__(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def note(self, number: int, at: int) -> None:
        """Leave a number in a place, where every process finds it."""
        os.pwrite(self._fd, _U32.pack(number), self._pods + at * _U32.size)

    def noted(self) -> list[int]:
        """The numbers by their places."""
        data = os.pread(self._fd, _MOST_NOTED_BYTES, self._pods)
        return [number for (number,) in _U32.iter_unpack(data)]

    def note_made(self, first: int, counts: bytes) -> None:
        """Leave how many links of each of these pods were made: who is killed tells nobody."""
        os.pwrite(self._fd, counts, first)

    def made(self) -> bytes:
        """How many, of each pod."""
        return os.pread(self._fd, self._pods, 0)

    def close(self) -> None:
        os.close(self._fd)


class Firing:
    """What one process needs to fire: sockets and descriptors of the node's, none of a pod's."""

    def __init__(self, node: Node, store: Store) -> None:
        self._own = node.own
        self._own_id = netns_id(node.own)
        self._store = store
        self._rtnl = node.rtnl
        self._setns = setns_function()

    def begin_in_child(self) -> None:
        """After a fork: the socket is the other process's."""
        self._rtnl.renew()

    def is_lost(self, pod: ArmedPod) -> bool:
        """Whether the pod is there, and its interface is not."""
        aim = _Aim(pod, 0)
        try:
            with entered(self._own, self._own):
                return name_seen_by(self._enter(aim), pod.ifindex) is None
        except (_Doubt, *POD_FAILURES):
            return False
        finally:
            aim.close()

    def fire(
        self,
        wanted: Sequence[tuple[ArmedPod, int]],
        turn: Turn,
        made: Callable[[list[bool]], None],
    ) -> list[Shot]:
        """Make the interfaces of different pods, each over the master of an index, with all that
        they had. First the doubts of all, then all links by one send, then the rest of each, then
        the answers: what the processor does, and what the kernel does, stay together, and whoever
        waits for the turn waits for the kernel alone. `made` is told whose links
        were made: they were lost until then."""
        aims = [_Aim(pod, master) for pod, master in wanted]
        try:
            directory = _run_dir_of(aims)
            with entered(self._own, self._own):
                for aim in aims:
                    self._take_aim(aim, directory)
            on = [aim for aim in aims if aim.is_on]
            creation = _creation_of(on)
            with turn:
                self._create(on, creation)
                made([aim.is_on for aim in aims])
                for aim in on:
                    if aim.is_on:
                        _send_rest(aim)
            for aim in on:
                if aim.is_on:
                    _judge(aim)
        finally:
            for aim in aims:
                aim.close()
        return [aim.shot for aim in aims]

    def _take_aim(self, aim: _Aim, directory: int) -> None:
        try:
            self._check_files(aim.pod, aim.lock(directory))
            self._enter(aim)
        except _Doubt as doubt:
            aim.doubt(str(doubt))
        except POD_FAILURES as error:
            aim.doubt(str(wrapped(error)))

    def _check_files(self, pod: ArmedPod, lock: Lock) -> None:
        """DEL, ADD, CHECK or `snapshot` may have come, and IPAM may have given the addresses away:
        whoever writes a file leaves another inode, time or size."""
        try:
            _check_unchanged(pod.file, self._store.fd, pod.mark, "record")
        except _Gone:
            lock.forget()  # its DEL has, too; this one was made since
            raise
        if lock.is_unfinished:
            raise _Doubt("a repair of it was killed")
        for path, mark in pod.leases:
            _check_unchanged(path, None, mark, "lease")
        if is_there(f"{pod.tombstones}/{pod.name}{DELETING}"):
            raise _Doubt("it was deleted")

    def _enter(self, aim: _Aim) -> socket.socket:
        """Have a socket in the pod. (The caller returns to the node.) Whether its interface is
        there nobody asks: the kernel refuses to make it again."""
        identity = aim.pod.identity
        aim.netns = open_identified_to_enter(identity, self._own_id)
        self._setns(aim.netns, CLONE_NEWNET)
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        aim.sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        check_cookie(identity, aim.sock)
        return aim.sock

    def _create(self, aims: list[_Aim], messages: bytes) -> None:
        if not aims:
            return
        try:
            refused = exchange(self._rtnl.sock, messages, len(aims))
        except POD_FAILURES as error:
            for aim in aims:
                aim.lose(error)
            self._rtnl.renew()  # an answer that comes late is not to be another question's
            return
        for number, code in refused.items():
            aims[number - 1].doubt(f"its link was refused: {_refusal(code)}")


def _run_dir_of(aims: list[_Aim]) -> int:
    """The directory of all their locks, looked at once; -1 where there are several, or it cannot be
    used: each then finds that for itself."""
    run_dirs = {aim.pod.run_dir for aim in aims}
    try:
        return kept_open(run_dirs.pop()) if len(run_dirs) == 1 else -1
    except (CniError, OSError):
        return -1


def _refusal(code: int) -> str:
    # Mostly it is there: which of the two the kernel says first changed with 6.15.
    return "its name or index is taken" if code in _TAKEN else os.strerror(code)


def _creation_of(aims: list[_Aim]) -> bytes:
    """The messages that make the links of all."""
    messages = []
    for number, aim in enumerate(aims, 1):
        message = renumbered(aim.pod.create, number, is_last=number == len(aims))
        _U32.pack_into(message, aim.pod.master_at, aim.master)
        _U32.pack_into(message, aim.pod.netns_at, aim.netns)
        messages.append(message)
    return b"".join(messages)


def _send_rest(aim: _Aim) -> None:
    assert aim.sock is not None
    try:
        aim.sock.send(aim.pod.rest)
    except POD_FAILURES as error:
        aim.lose(error)


def _judge(aim: _Aim) -> None:
    """What came of it. Where something was refused the link goes again: the ordinary way then
    begins from what it knows, a lost link, not from one that is half made."""
    pod, sock = aim.pod, aim.sock
    assert sock is not None
    try:
        refused = answers(sock, pod.count)
        for number, code in refused.items():
            if aim.is_on and code not in pod.tolerated[number - 1]:
                aim.doubt(f"step {number} was refused: {os.strerror(code)}")
        if aim.is_on:
            state = PROVED if pod.is_proved and not refused else DONE
            aim.shot = state, carrier_seen_by(sock, pod.ifname), ""
        else:
            exchange(sock, prepared([deletion(pod.ifindex)]), 1)
    except POD_FAILURES as error:
        # A pod can fill the queue of a socket in its namespace, rename the link, or delete it.
        if aim.is_on:
            aim.lose(error)


def _check_unchanged(path: str, directory: int | None, mark: Mark, what: str) -> None:
    try:
        found = mark_of(path, directory)
    except FileNotFoundError as error:
        raise _Gone(f"its {what} is gone") from error
    if found != mark:
        raise _Doubt(f"its {what} was changed")
