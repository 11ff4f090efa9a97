"""Whose network namespace a path leads to: proof that it is the remembered sandbox's."""

from __future__ import annotations

import os
import time

from cni_repair.adoption.verdict import GONE, REFUSED, NotAdopted
from cni_repair.base.procfs import start_of
from cni_repair.checkpoint.identity import belongs_to_sandbox
from cni_repair.netlink.netns import open_netns, same_netns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_repair.adoption.candidates import Candidate

_SLACK_MS = 2000  # between the clocks of processes and of files


def open_sandbox(candidate: Candidate, own: int) -> int:
    """Open the namespace at the candidate's path, after making sure that it is its sandbox's.

    A bind mount (/run/netns/cni-…) was made by the runtime for one sandbox. A path through /proc is
    the sandbox's only as long as its PID is. Raises NotAdopted or NoNetns.
    """
    path, sandbox = candidate.netns, candidate.key.container_id
    if not path:
        raise NotAdopted(REFUSED, f"{candidate.file} does not name its netns")
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
        # A sandbox's process is older than its interface. This one is not: the PID was reused.
        if (time.time() - age) * 1000 > candidate.written_at + _SLACK_MS:
            return NotAdopted(GONE, f"{why}: it was started after the pod was attached")
    return NotAdopted(REFUSED, why, f"if the pod is gone, remove {candidate.file}")


def _process_in(path: str) -> str:
    """/proc/PID/ns/net where a path leads through /proc, also by links; empty for a mount."""
    real = os.path.realpath(path)
    if not real.startswith("/proc/"):
        return ""
    # The kernel's own link ends in net:[INODE], which is not a file's name.
    return f"{os.path.dirname(real)}/net"
