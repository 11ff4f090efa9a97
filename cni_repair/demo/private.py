"""A mount namespace of our own: what is made in it goes when we go, whatever ended us.

`ip netns add` holds a namespace by a mount below /run/netns. Made in a mount namespace that only
this process and its children have, such a mount needs nobody to remove it: after SIGKILL, too, it
goes with the last of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from cni_repair.demo.errors import LabError
from cni_repair.netlink.netns import CLONE_NEWNET

_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18

RUN = Path("/run")

_libc = ctypes.CDLL(None, use_errno=True)
_isolated: list[int] = []  # the process that has its own mount namespace


def isolate() -> None:
    """Move this process into a private mount namespace with a /run of its own; once is enough.

    To be called before other threads are started: they would stay outside. What stands in the
    machine's /run is still there, but for namespaces and the state of a real cni-repair. Raises
    LabError where the machine does not allow it (a container without CAP_SYS_ADMIN).
    """
    if os.getpid() in _isolated:
        return
    try:
        _unshare(_CLONE_NEWNS)
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
        _cover_run()
    except OSError as error:
        raise LabError(f"this machine allows no private mounts: {error}") from error
    _isolated.append(os.getpid())


def leave_network() -> None:
    """Move the calling thread into a new network namespace, where there is nothing to break."""
    try:
        _unshare(CLONE_NEWNET)
    except OSError as error:
        raise LabError(f"this machine allows no network namespaces: {error}") from error


def _cover_run() -> None:
    """Put a tmpfs over /run which shows what was there.

    Just a tmpfs on /run/netns would need that directory, and on a machine where it is missing
    somebody would have to remove it again. Hiding /run whole would take the resolver's file and the
    sockets of system services from us.
    """
    machines = os.open(RUN, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _mount("tmpfs", str(RUN), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
        with os.scandir(f"/proc/self/fd/{machines}") as entries:
            for entry in entries:
                if entry.name != "netns" and not entry.name.startswith("cni-repair"):
                    _show(entry)
    finally:
        os.close(machines)


def _show(entry: os.DirEntry[str]) -> None:
    target = RUN / entry.name
    # /run is alive: what has just gone need not be shown.
    with contextlib.suppress(FileNotFoundError):
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry.path))
            return
        if entry.is_dir():
            target.mkdir()
        else:
            target.touch()
        _mount(entry.path, str(target), "", _MS_BIND | _MS_REC)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise _error()


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (os.fsencode(text) for text in (source, target, kind))
    if _libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data)) != 0:
        raise _error(target)


def _error(path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
