"""Which network namespace a checkpoint speaks of, beyond its path.

A path like /proc/PID/ns/net leads to another pod, or to the node itself, once the PID is used again
(kubernetes #100648, CRI-O #2849). What decides, strongest first: the boot id (nothing survives a
reboot), the netns cookie (never used twice), the nsfs inode (recurs), the start time of the PID.
"""

from __future__ import annotations

import _socket
import os

from cni_repair.base.errors import STALE, CniError
from cni_repair.base.frozen import frozen
from cni_repair.netlink.netns import cookie_of, entered, open_netns, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@frozen
class Identity:
    """A namespace as it was when its pod was attached."""

    path: str
    boot_id: str
    dev: int
    ino: int
    cookie: int | None = None
    pid: int | None = None  # of a path /proc/PID/ns/net
    pid_start: int | None = None  # clock ticks since boot, /proc/PID/stat field 22


class Stale(CniError):
    """The namespace is not the one that the checkpoint speaks of."""

    def __init__(self, why: str) -> None:
        super().__init__(STALE, "the pod's netns is not there any more", why)


_boot_id: list[str] = []


def boot_id() -> str:
    """Of this boot. It is read once: no process outlives it."""
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # as text: one more import
            _boot_id.append(file.read().strip().decode("ascii"))
    return _boot_id[0]


def identify(path: str, netns: int, sock: _socket.socket) -> Identity:
    """The identity of an open namespace; `sock` is a socket that was made inside it."""
    status = os.fstat(netns)
    pid = _pid_in(path)
    return Identity(
        path=path,
        boot_id=boot_id(),
        dev=status.st_dev,
        ino=status.st_ino,
        cookie=cookie_of(sock),
        pid=pid,
        pid_start=start_of(pid) if pid else None,
    )


def identity_in(document: dict[str, Any]) -> Identity | None:
    """The identity that a checkpoint document holds, read without the rest of it (for DEL); None
    where there is no usable one."""
    found = document.get("netns")
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
    """Open the namespace that `identity` speaks of; the caller closes the descriptor.

    `given_path` (CNI_NETNS) names it where the caller knows better than the record, and must be
    that same namespace. `own` is the node's, which no attachment ever is. Raises Stale or NoNetns.
    The cookie is left to :func:`check_cookie`, since asking for it takes a socket inside.
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
    if same_netns(netns, own):
        raise Stale(f"{path} is the node's own network namespace")
    status = os.fstat(netns)
    if (status.st_dev, status.st_ino) != (identity.dev, identity.ino):
        raise Stale(
            f"{path} is net:[{status.st_ino}], the pod was attached in net:[{identity.ino}]"
        )
    if path == identity.path and identity.pid and start_of(identity.pid) != identity.pid_start:
        raise Stale(f"PID {identity.pid} is another process now")


def check_cookie(identity: Identity, sock: _socket.socket) -> None:
    """Raises Stale where a socket made inside has another cookie than the record."""
    cookie = cookie_of(sock)
    if identity.cookie is not None and cookie is not None and cookie != identity.cookie:
        raise Stale(f"its inode came again: cookie {cookie}, it was {identity.cookie}")


def still_stands(identity: Identity, own: int, given_path: str = "") -> bool:
    """Whether the namespace is the recorded one beyond doubt, cookie included."""
    try:
        netns = open_identified(identity, own, given_path)
    except CniError:
        return False
    try:
        with entered(netns, own):
            # Any socket will do: its namespace is what counts.
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        check_cookie(identity, sock)
        sock.close()
    except Stale:
        return False
    finally:
        os.close(netns)
    return True


def belongs_to_sandbox(path: str, sandbox: str) -> bool:
    """Whether /proc/PID of a netns path runs in the sandbox's cgroup (the seed's checkpoints)."""
    pid = _pid_in(path)
    if pid is None or len(sandbox) < 12:
        return False
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return sandbox in file.read(1 << 16)
    except OSError:
        return False


def _pid_in(path: str) -> int | None:
    parts = path.split("/")
    named = len(parts) == 5 and parts[:2] == ["", "proc"] and parts[3:] == ["ns", "net"]
    return int(parts[2]) if named and parts[2].isascii() and parts[2].isdigit() else None


def start_of(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (proc(5), stat field 22); None if gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command's name may hold blanks and brackets: count from the last one.
            return int(file.read(4096).rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
