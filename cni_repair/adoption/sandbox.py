"""Whose network namespace a path leads to: proof that it is the sandbox's that was remembered."""

from __future__ import annotations

import os
import time

from cni_repair.adoption.candidates import GONE, REFUSED, NotAdopted
from cni_repair.base.procfs import start_of
from cni_repair.checkpoint.identity import belongs_to_sandbox
from cni_repair.netlink.netns import open_netns, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.adoption.candidates import Candidate

_SLACK_MS = 2000  # between the clocks of processes and of files


def open_sandbox(candidate: Candidate, own: int) -> int:
    """The namespace that the candidate's path leads to, sure to be its sandbox's.

    A bind mount (/run/netns/cni-…) was named for one sandbox by the runtime. A path through /proc
    was the sandbox's as long as its PID was.
    """
    path, sandbox = candidate.netns, candidate.key.container_id
    if not path:
        raise NotAdopted(REFUSED, f"{candidate.file} does not say which netns it is in")
    netns = open_netns(path)
    try:
        if same_netns(netns, own):
            raise NotAdopted(REFUSED, f"{path} is the node's own network namespace")
        process = _process_in(path)
        if process and not belongs_to_sandbox(process, sandbox):
            raise _another_process(process, candidate)
    except BaseException:
        os.close(netns)
        raise
    return netns


def _another_process(process: str, candidate: Candidate) -> NotAdopted:
    sandbox = candidate.key.container_id
    why = f"the cgroup of {process} does not name sandbox {sandbox}"
    started = start_of(int(process.split("/")[2]))
    if started is not None:
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        age = uptime - started / os.sysconf("SC_CLK_TCK")
        # The sandbox's process is there before its interface is: this one is of a PID used again.
        if (time.time() - age) * 1000 > candidate.written_at + _SLACK_MS:
            return NotAdopted(GONE, f"{why}: it was started after the pod was attached")
    return NotAdopted(REFUSED, why, f"if the pod is gone, remove {candidate.file}")


def _process_in(path: str) -> str:
    """/proc/PID/ns/net where a path leads through /proc, by links, too; empty for a mount."""
    real = os.path.realpath(path)
    if not real.startswith("/proc/"):
        return ""
    # The kernel's own link ends in net:[INODE], which is no file's name.
    return f"{os.path.dirname(real)}/net"
