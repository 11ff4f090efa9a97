"""A machine of one's own for kubelet: processes, mounts and cgroups that nobody else has.

kubelet and containerd write to places that no option moves: /var/lib, /var/log, /run, the cgroups,
and sysctls of the whole machine. Here all of that goes with the last of their processes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cni_repair.demo.lab import LabError, Netns, isolate
from integration.containerd.cgroup import MOUNTED, Cgroup, entering, hierarchies, make

OWN = Path("/run/own")

_STATE = ("/var/lib", "/var/log")
_NEW_CGROUPS = OWN / "cgroup"
_DAEMONS = "daemons"
# What kubelet sets for the whole machine, it sets in copies.
SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def in_private(command: list[str], cgroup: Cgroup) -> list[str]:
    """The command, to be run where :func:`enter_private` can do its work, as the init process.

    Killed, it takes all processes with it; `cgroup` sees to what is then left of the cgroups.
    """
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    tops = cgroup.made()
    # Where a cgroup of version 2 has children, it must have no processes of its own.
    parts = [make(top / _DAEMONS) for top in tops]
    inside = ["unshare", "--cgroup", *entering(parts, [*unshare, *command])]
    # With us ends the rest, whatever ended us.
    return ["setpriv", "--pdeathsig", "KILL", *entering(tops, inside)]


def enter_private(cgroup: str) -> None:
    """Make what is to be the node's own the node's own; `cgroup` is the name of the one we are in.

    Raises LabError where the machine does not allow it.
    """
    isolate()
    for path in _STATE:
        _cover(path)
    for name in SYSCTLS:
        copy = OWN / name.replace("/", ".")
        copy.write_text(Path("/proc/sys", name).read_text())
        _mount("--bind", str(copy), f"/proc/sys/{name}")
    _collect_cgroups(cgroup)


def _cover(path: str) -> None:
    """Have what is written below a directory go elsewhere."""
    place = OWN / path.replace("/", "-")
    for part in ("files", "work"):
        (place / part).mkdir(parents=True)
    layers = f"lowerdir={path},upperdir={place}/files,workdir={place}/work"
    _mount("-t", "overlay", "-o", layers, "overlay", path)


def _collect_cgroups(name: str) -> None:
    """Our own part of every hierarchy, in the order of /sys/fs/cgroup."""
    _NEW_CGROUPS.mkdir()
    if MOUNTED not in hierarchies():
        _mount("-t", "tmpfs", "cgroups", str(_NEW_CGROUPS))
    for hierarchy in hierarchies():
        mine = _NEW_CGROUPS / hierarchy.relative_to(MOUNTED)
        mine.mkdir(exist_ok=True)
        _mount("--bind", str(hierarchy / name), str(mine))
    for link in MOUNTED.iterdir():
        if link.is_symlink():  # `cpu` to `cpu,cpuacct`
            (_NEW_CGROUPS / link.name).symlink_to(os.readlink(link))


def show_system(netns: Netns) -> None:
    """Have /sys show the links of a network namespace, and our own cgroups.

    A sysfs is of the namespace in which it was mounted. To be called once.
    """
    _run("umount", "--recursive", "--lazy", "/sys")
    _run("nsenter", f"--net={netns.path}", "mount", "-t", "sysfs", "sysfs", "/sys")
    _mount("--move", str(_NEW_CGROUPS), str(MOUNTED))


def _mount(*arguments: str) -> None:
    _run("mount", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
