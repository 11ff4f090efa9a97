"""The network namespaces that exist, as far as processes and mounts tell."""

from __future__ import annotations

import errno
import os

from cni_repair.base.errors import ENVIRONMENT, CniError
from cni_repair.base.procfs import comm_of, process_ids, sees_all_processes
from cni_repair.netlink.netns import netns_id_at, netns_id_if_seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    NetnsId: TypeAlias = tuple[int, int]  # nsfs device and inode

# Where runtimes name namespaces; a pod that has no name there is found through its processes.
DOCKERS = "/var/run/docker/netns"
_NAMED_IN = ("/run/netns", DOCKERS)
# Who is among one of these sees the pods that it made, also where the node is a container (kind).
_RUNTIMES = frozenset({"containerd", "crio", "dockerd", "kubelet", "k3s-server", "k3s-agent"})
_OF_INIT = "/proc/1/ns/net"  # the node's init, which may hide: it is in no pod
_OF_THE_DEAD = (errno.ENOENT, errno.ESRCH, errno.EINVAL)  # the last: of a zombie
OUT_OF_SIGHT = "the node's processes are not to be seen from here"
RUN_ON_THE_NODE = "run cni-repair on the node, or in a container with hostPID"  # the remedy


def sees_the_node() -> bool:
    """Whether /proc shows the node's processes, and not those of a container alone."""
    return sees_all_processes() or any(map(_is_a_runtime_here, process_ids()))


def _is_a_runtime_here(pid: int) -> bool:
    """Whether it is a runtime in our own PID namespace. A container's process may call itself what
    it likes (prctl(2)); but it is in a namespace below, unless it was let into this one."""
    if comm_of(pid) not in _RUNTIMES:
        return False
    try:
        return os.path.samefile(f"/proc/{pid}/ns/pid", "/proc/self/ns/pid")
    except OSError:
        return False  # it has ended, or hides


def namespaces(skip_hidden: bool = False) -> dict[NetnsId, str]:
    """Every network namespace, and one path to it: a name before a process. Raises OSError where
    one cannot be asked for; `skip_hidden`: except for processes that hide from this one."""
    found: dict[NetnsId, str] = {}
    for path in (*_names(), *_of_processes()):
        may_hide = skip_hidden or path == _OF_INIT
        identity = netns_id_if_seen(path) if may_hide else netns_id_at(path)
        if identity is not None:
            found.setdefault(identity, path)
    return found


def _names() -> Iterator[str]:
    for directory in _NAMED_IN:
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield from (f"{directory}/{name}" for name in names)


def _of_processes() -> Iterable[str]:
    return (f"/proc/{pid}/ns/net" for pid in process_ids())


def mounted_namespaces() -> dict[NetnsId, str]:
    """The namespaces that any process's mount namespace holds, and a path to each through that
    process: a runtime may have mounts of its own.

    Raises CniError where a process's mounts cannot be read.
    """
    found: dict[NetnsId, str] = {}
    seen: set[str] = set()
    for pid in process_ids():
        try:
            mounts = os.readlink(f"/proc/{pid}/ns/mnt")
            if mounts in seen:
                continue
            # (Line by line: a pod may have any number of mounts.)
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
                held = [*filter(None, map(_netns_in, file))]
        except PermissionError as error:
            if pid == 1:
                continue  # the node's init (it may hide): no pod's, and its mounts are the node's
            raise CniError(
                ENVIRONMENT,
                f"the mounts of PID {pid} cannot be read",
                "run cni-repair as root, with all capabilities",
            ) from error
        except OSError as error:
            if error.errno not in _OF_THE_DEAD:
                raise
            continue
        seen.add(mounts)
        for identity, where in held:
            found.setdefault(identity, f"/proc/{pid}/root{where}")
    return found


def _netns_in(line: str) -> tuple[NetnsId, str] | None:
    """The network namespace in a line of /proc/PID/mountinfo (proc(5)):

    451 24 0:4 net:[4026532201] /run/netns/cni-1 rw shared:7 - nsfs nsfs rw
    """
    fields = line.split()
    if len(fields) < 5 or not fields[3].startswith("net:["):
        return None
    major, _, minor = fields[2].partition(":")
    try:
        return (os.makedev(int(major), int(minor)), int(fields[3][5:-1])), fields[4]
    except ValueError:
        return None
