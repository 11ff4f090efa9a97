"""Mount namespaces of our own: what is made in one goes when we go, whatever ended us.

`ip netns add` holds a namespace by a mount below /run/netns. Made in a mount namespace that only
this process and its children have, such a mount needs nobody to remove it: after SIGKILL, too, it
goes with the last of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from cni_repair.demo.errors import LabError
from cni_repair.netlink.netns import CLONE_NEWNET

_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18

RUN = Path("/run")
_JOURNAL = f"{RUN}/systemd/journal"

# Its arguments are the directories that are still to be seen: so few that a digit does for each's
# descriptor. /run/netns is shared, as `ip netns add` has it: what is deleted there is gone wherever
# a command stands. The process ends with its stdin, and so with us.
_NODE = """
set -e
number=3
for shown; do eval "exec $number<\\"\\$shown\\""; number=$((number + 1)); done
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 lib /var/lib
number=3
for shown; do
    mkdir -p "$shown"
    mount --no-canonicalize --bind "/proc/self/fd/$number" "$shown"
    eval "exec $number<&-"
    number=$((number + 1))
done
mkdir /run/netns
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
echo ready
exec cat
"""
_COVERED = (RUN, Path("/var/lib"))
_END_SECONDS = 10.0

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


@contextlib.contextmanager
def private_node(needed: Iterable[Path] = ()) -> Iterator[int]:
    """Have a process with mount and network namespaces of its own; its PID.

    There, /run and /var/lib are empty, but for the directories of files that are `needed`: whatever
    comes to stand in them is the node's. Nothing of it is left once the process has ended, as it
    does with this context, and with us.
    """
    shown = sorted({str(directory) for path in needed for directory in _covered_with(path)})
    unshare = ["unshare", "--mount", "--net", "--propagation", "private"]
    command = [*unshare, "sh", "-c", _NODE, "-", *shown]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise LabError("this machine allows no private mounts: see above")
            yield process.pid
        finally:
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _covered_with(path: Path) -> Iterator[Path]:
    """The directory right below /run or /var/lib that a path leads through, if it does."""
    for covered in _COVERED:
        if path.is_relative_to(covered):
            yield covered / path.relative_to(covered).parts[0]


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
        if os.path.isdir(_JOURNAL):  # what is done to a lab's pods is no event of the machine's
            _mount("tmpfs", _JOURNAL, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
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
