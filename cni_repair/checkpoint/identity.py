"""Which network namespace a record means, beyond its path.

A path like /proc/PID/ns/net leads to another pod, or to the node itself, once the PID is used again
(kubernetes #100648, CRI-O #2849). What decides, strongest first: the boot id (nothing survives a
reboot), the namespace's cookie (never used twice), its inode (may be reused), the start time of the
PID.
"""

from __future__ import annotations

import os

from cni_repair.base import lightsocket as socket
from cni_repair.base.errors import STALE, CniError
from cni_repair.base.frozen import frozen
from cni_repair.base.procfs import boot_id, cgroups_of, start_of
from cni_repair.base.strictjson import load_object
from cni_repair.netlink.netns import cookie_of, entered, netns_id, open_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.checkpoint.store import Store


@frozen
class Identity:
    """A namespace as it was when its pod was attached."""

    path: str
    boot_id: str
    dev: int
    ino: int
    cookie: int | None = None
    pid: int | None = None  # of a path /proc/PID/ns/net
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
    pid = _pid_in(path)
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
    """The identity in a record, by its file's name; None where there is no usable one.

    The rest of the record is not read: DEL needs no more, and has no time for it.
    """
    try:
        found = load_object(store.read(name), name).get("netns")
    except (FileNotFoundError, CniError):
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
    attachment's. Raises Stale or NoNetns. The cookie is not compared here, but by
    :func:`check_cookie`: it takes a socket made inside.
    """
    if identity.boot_id != boot_id():
        raise Stale("the node was rebooted since the pod was attached")
    path = given_path or identity.path
    netns = open_netns(path)
    try:
        _check(identity, path, netns, own)
    except CniError:
        os.close(netns)
        raise
    return netns


def _check(identity: Identity, path: str, netns: int, own: int) -> None:
    found = netns_id(netns)
    if found == netns_id(own):
        raise Stale(f"{path} is the node's own network namespace")
    if found != identity.netns_id:
        raise Stale(f"{path} is net:[{found[1]}], the pod was attached in net:[{identity.ino}]")
    if path == identity.path and identity.pid and start_of(identity.pid) != identity.pid_start:
        raise Stale(f"PID {identity.pid} is another process now")


def check_cookie(identity: Identity, sock: socket.socket) -> None:
    """Compare the recorded cookie with that of a socket made inside. Raises Stale."""
    cookie = cookie_of(sock)
    if identity.cookie is not None and cookie is not None and cookie != identity.cookie:
        raise Stale(f"namespace inode was reused: cookie {cookie}, recorded {identity.cookie}")


def still_stands(identity: Identity, own: int, given_path: str = "") -> bool:
    """Whether the namespace exists and is the recorded one, its cookie included."""
    try:
        netns = open_identified(identity, own, given_path)
    except CniError:
        return False
    try:
        with entered(netns, own):
            # A socket of any kind: only its namespace counts.
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        check_cookie(identity, sock)
        sock.close()
    except Stale:
        return False
    finally:
        os.close(netns)
    return True


def belongs_to_sandbox(path: str, sandbox: str) -> bool:
    """Whether the process of a path /proc/PID/ns/net runs in the sandbox's cgroup.

    It stands in for an identity where none was recorded (see legacy).
    """
    pid = _pid_in(path)
    return pid is not None and len(sandbox) >= 12 and sandbox in cgroups_of(pid)


def _pid_in(path: str) -> int | None:
    parts = path.split("/")
    named = len(parts) == 5 and parts[:2] == ["", "proc"] and parts[3:] == ["ns", "net"]
    return int(parts[2]) if named and parts[2].isascii() and parts[2].isdigit() else None
