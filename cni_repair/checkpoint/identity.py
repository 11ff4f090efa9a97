"""Which network namespace a record means, beyond its path.

A path like /proc/PID/ns/net leads to another pod, or to the node itself, once the PID is used again
(kubernetes #100648, CRI-O #2849). What decides, strongest first: the boot id (nothing survives a
reboot), the namespace's cookie (never used twice), its inode (may be reused), the start time of the
PID.
"""

from __future__ import annotations

from cni_repair.base.closeable import close_fd
from cni_repair.base.errors import IO, STALE, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.names import bare_id
from cni_repair.base.procfs import boot_id, cgroups_of, process_ids, start_of
from cni_repair.base.strictjson import load_object
from cni_repair.netlink.netns import (
    NoNetns,
    cookie_inside,
    cookie_of,
    netns_id,
    open_netns,
    open_to_enter,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_repair.base import lightsocket as socket
    from cni_repair.checkpoint.store import Store

_SHORTEST_ID = 12


@frozen
class Identity:
    """A namespace as it was when its pod was attached."""

    path: str
    boot_id: str
    dev: int
    ino: int
    cookie: int | None = None
    pid: int | None = None  # of a path /proc/PID/ns/net, or …/task/PID/ns/net
    pid_start: int | None = None  # in clock ticks since boot

    @property
    def netns_id(self) -> tuple[int, int]:
        return self.dev, self.ino


class Stale(CniError):
    """The namespace is not the one that the record means."""

    def __init__(self, why: str) -> None:
        super().__init__(STALE, "the pod's netns is not there any more", why)


def identify(path: str, netns: int, sock: socket.socket) -> Identity:
    """The identity of an open namespace; `sock` is a socket that was made inside it."""
    dev, ino = netns_id(netns)
    pid = _task_in(path)
    return Identity(
        path=path,
        boot_id=boot_id(),
        dev=dev,
        ino=ino,
        cookie=cookie_of(sock),
        pid=pid,
        pid_start=start_of(pid) if pid else None,
    )


def recorded_identity(store: Store, name: str) -> Identity | None:
    """The identity in a record, by its file's name; None where there is no usable one. Raises
    CniError (I/O) where that cannot be told.

    The rest of the record is not read: DEL needs no more, and has no time for it.
    """
    try:
        found = load_object(store.read(name), name).get("netns")
    except FileNotFoundError:
        return None
    except CniError as error:
        if error.code == IO:
            raise
        return None
    if not isinstance(found, dict):
        return None
    path, boot = found.get("path"), found.get("bootId")
    dev, ino, *rest = (found.get(key) for key in ("dev", "ino", "cookie", "pid", "pidStart"))
    if not isinstance(path, str) or not isinstance(boot, str):
        return None
    if type(dev) is not int or type(ino) is not int:
        return None
    cookie, pid, start = (number if type(number) is int else None for number in rest)
    return Identity(path, boot, dev, ino, cookie, pid, start)


def open_identified(identity: Identity, own: int, given_path: str = "") -> int:
    """Open the namespace that `identity` means; the caller closes the descriptor.

    `given_path` (CNI_NETNS) is another path to it, where the caller knows a better one than the
    record; it must lead to that same namespace. `own` is the node's, which is never an
    attachment's. Raises Stale or NoNetns; CniError (I/O), or OSError, where it cannot be told. The
    cookie is not compared here, but by :func:`check_cookie`: it takes a socket made inside.
    """
    path = given_path or identity.path
    return _checked(identity, path, open_netns, netns_id(own))


def open_identified_to_enter(identity: Identity, own_id: tuple[int, int]) -> int:
    """As :func:`open_identified`, for who enters it next, and does so in many: what setns(2)
    refuses is not asked for before, and the node's own is known."""
    return _checked(identity, identity.path, open_to_enter, own_id)


def _checked(
    identity: Identity, path: str, open_path: Callable[[str], int], own_id: tuple[int, int]
) -> int:
    if identity.boot_id != boot_id():
        raise Stale("the node was rebooted since the pod was attached")
    netns = open_path(path)
    try:
        _check(identity, path, netns, own_id)
    except BaseException:
        close_fd(netns)
        raise
    return netns


def _check(identity: Identity, path: str, netns: int, own_id: tuple[int, int]) -> None:
    found = netns_id(netns)
    if found == own_id:
        raise Stale(f"{path} is the node's own network namespace")
    if found != identity.netns_id:
        raise Stale(f"{path} is net:[{found[1]}], the pod was attached in net:[{identity.ino}]")
    if path == identity.path and identity.pid and start_of(identity.pid) != identity.pid_start:
        raise Stale(f"PID {identity.pid} is another process now")


def check_cookie(identity: Identity, sock: socket.socket) -> None:
    """Compare the recorded cookie with that of a socket made inside. Raises Stale."""
    _compare(identity, cookie_of(sock))


def _compare(identity: Identity, cookie: int | None) -> None:
    if identity.cookie is not None and cookie is not None and cookie != identity.cookie:
        raise Stale(f"namespace inode was reused: cookie {cookie}, recorded {identity.cookie}")


def still_stands(identity: Identity, own: int, given_path: str = "") -> bool:
    """Whether the namespace exists and is the recorded one, its cookie included. Raises CniError
    (I/O), or OSError, where that cannot be told."""
    try:
        netns = open_identified(identity, own, given_path)
    except (Stale, NoNetns):
        return False
    try:
        _compare(identity, cookie_inside(netns, own))
    except Stale:
        return False
    finally:
        close_fd(netns)
    return True


def belongs_to_sandbox(path: str, sandbox: str) -> bool:
    """Whether the process of a path /proc/PID/ns/net runs in the sandbox's cgroup.

    It stands in for an identity where none was recorded (see legacy).
    """
    task = _task_in(path)
    return task is not None and names_container(cgroups_of(task), sandbox)


def process_of(container_id: str) -> int | None:
    """A process whose cgroup names a container, if there is one."""
    return next(
        (pid for pid in process_ids() if names_container(cgroups_of(pid), container_id)), None
    )


def names_container(cgroups: str, container_id: str) -> bool:
    """Whether the text of a /proc/PID/cgroup names a container: as a directory, or as a part of one
    (cri-containerd-ID.scope, docker-ID.scope, libpod-ID, kubepods-….slice:cri-containerd:ID)."""
    word = bare_id(container_id)
    if len(word) < _SHORTEST_ID:
        return False  # it might be a word of any path
    at = cgroups.find(word)
    while at >= 0:
        around = cgroups[at - 1 : at] + cgroups[at + len(word) : at + len(word) + 1]
        if not any(char.isalnum() for char in around):
            return True
        at = cgroups.find(word, at + 1)
    return False


def _task_in(path: str) -> int | None:
    """The PID of /proc/PID/ns/net; of /proc/PID/task/TID/ns/net the TID, which is of the same kind:
    a thread has a start and a cgroup of its own, and never moves to another process."""
    parts = path.split("/")
    if len(parts) == 7 and parts[3] == "task" and _is_number(parts[2]):
        parts[2:5] = parts[4:5]
    named = len(parts) == 5 and parts[:2] == ["", "proc"] and parts[3:] == ["ns", "net"]
    return int(parts[2]) if named and _is_number(parts[2]) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
