"""Whose network namespace a path leads to: proof that it is the remembered sandbox's.

A bind mount (/run/netns/cni-…) was made by the runtime for one sandbox. A path through /proc is the
sandbox's only as long as its process is, and PIDs are used again:

- its cgroup names the container: it is the sandbox's;
- the process is younger than what is remembered: it is another one;
- its cgroup names another container, or none: that alone proves nothing, neither that the sandbox
  lives nor that it is gone.

Where nothing is at the path, the pod is gone, unless other processes have mounts that we have not.
"""

from __future__ import annotations

import os
import re
import time

from cni_repair.adoption.verdict import GONE, REFUSED, NotAdopted
from cni_repair.base.files import MOST_LINKS
from cni_repair.base.frozen import frozen
from cni_repair.base.procfs import cgroups_in, process_ids, stat_in
from cni_repair.checkpoint.identity import names_container
from cni_repair.netlink.netns import NoNetns, netns_id_at, netns_id_if_seen, open_netns, same_netns
from cni_repair.node.namespaces import OUT_OF_SIGHT, RUN_ON_THE_NODE, sees_the_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.adoption.candidates import Candidate

_OF_A_TASK = ("ns", "fd")  # directories of /proc/PID that lead to namespaces
_SLACK_MS = 2000  # between the clocks of processes and of files
_CONTAINER = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{64}(?![0-9a-zA-Z])")
_REMEDY = "if its pod lives, have it made anew; nothing has to be removed"


@frozen
class Sandbox:
    """An open namespace; whoever gets it closes it."""

    netns: int
    # Why it may be another's; empty where it is the sandbox's for certain. An interface that has
    # what is remembered of it settles that.
    doubt: str = ""


def open_sandbox(candidate: Candidate, own: int) -> Sandbox:
    """Open the namespace at the candidate's path, unless it is another's. Raises NotAdopted or
    NoNetns."""
    path = candidate.netns
    if not path:
        raise NotAdopted(REFUSED, f"{candidate.file} does not name its netns")
    netns = open_netns(path)
    try:
        if same_netns(netns, own):
            raise NotAdopted(REFUSED, f"{path} is the node's own network namespace")
        task = _task_at(path)
        return Sandbox(netns, _doubt(task, candidate) if task else "")
    except BaseException:
        os.close(netns)
        raise


def why_absent(path: str, error: NoNetns) -> NotAdopted:
    """What it means that no namespace could be opened at a path."""
    if _is_of_a_task(path) and not sees_the_node():
        return _out_of_sight(path)
    holder = _holder_of(path)
    if holder is None:
        return NotAdopted(GONE, str(error))
    return NotAdopted(
        REFUSED,
        f"its pod lives, but its namespace is mounted at {path} for PID {holder}, not here",
        f"run it there: nsenter --mount --target {holder} cni-repair adopt",
    )


def _holder_of(path: str) -> int | None:
    """A process whose mounts have a namespace at a path, if processes live in that one, too: a
    runtime may have mounts of its own. (Any container may keep a mount whose pod is gone.)"""
    if _is_of_a_task(path):
        return None  # another PID namespace's processes are others
    directory, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
    alive = {netns_id_if_seen(f"/proc/{pid}/ns/net") for pid in process_ids()} - {None}
    holders = _of_other_mounts() if alive else []
    at = f"{directory}/{name}"
    return next((pid for pid in holders if _netns_seen_by(pid, at) in alive), None)


def _netns_seen_by(pid: int, path: str) -> tuple[int, int] | None:
    """(Not opened: it may be anything that a container has put there, and answer as that likes.)"""
    try:
        return netns_id_at(f"/proc/{pid}/root{path}")
    except OSError:
        return None


def _is_of_a_task(path: str) -> bool:
    return os.path.basename(os.path.dirname(path)) in _OF_A_TASK


def _out_of_sight(path: str) -> NotAdopted:
    return NotAdopted(
        REFUSED,
        f"it cannot be told what is at {path}: {OUT_OF_SIGHT}",
        RUN_ON_THE_NODE,
    )


def _of_other_mounts() -> list[int]:
    """One process for each other mount namespace than ours."""
    found: dict[str, int] = {}
    for pid in process_ids():
        try:
            found.setdefault(os.readlink(f"/proc/{pid}/ns/mnt"), pid)
        except OSError:
            continue  # it has ended, or hides
    found.pop(os.readlink("/proc/self/ns/mnt"), None)
    return list(found.values())


def refused_for(doubt: str) -> NotAdopted:
    """Neither the path nor the interface tells whose the namespace is."""
    return NotAdopted(REFUSED, f"it cannot be told whose namespace this is: {doubt}", _REMEDY)


def _doubt(task: str, candidate: Candidate) -> str:
    """Why a process may be another than the sandbox's. Raises NotAdopted where it is another's."""
    sandbox, cgroups = candidate.key.container_id, cgroups_in(task)
    if names_container(cgroups, sandbox):
        return ""
    named = _CONTAINER.search(cgroups)
    whose = f"names container {named[0][:12]}" if named else "names no container"
    doubt = f"the cgroup of {task} does not name container {sandbox}; it {whose}"
    if _is_younger(task, candidate.written_at):
        if not sees_the_node():
            raise _out_of_sight(candidate.netns)
        raise NotAdopted(
            GONE, f"the process at {task} has ended: another one, started later, has its PID"
        )
    if named:
        raise refused_for(doubt)
    return doubt


def _is_younger(task: str, written_at: int) -> bool:
    """Whether it was started after the pod was attached: a sandbox's process is older than its
    interface."""
    stat = stat_in(task)
    if stat is None:
        return False  # it has just ended
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start / os.sysconf("SC_CLK_TCK")
    return (time.time() - age) * 1000 > written_at + _SLACK_MS


def _task_at(path: str) -> str:
    """The directory of the process or thread (/proc/PID, /proc/PID/task/TID) by which a path leads
    to a namespace (ns/net, fd/7), also by links, wherever proc is mounted; empty for a bind mount.

    (os.path.realpath would follow fd/7 to the name of the mount that was opened.)
    """
    for _ in range(MOST_LINKS):
        directory, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
        task, kind = os.path.split(directory)
        if kind in _OF_A_TASK and os.path.basename(task).isdigit():
            return task
        try:
            path = os.path.join(directory, os.readlink(os.path.join(directory, name)))
        except OSError:
            break  # it is no link
    return ""
