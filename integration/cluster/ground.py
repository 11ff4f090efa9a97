"""What a cluster's node stands on: a root, a network and a name of its own.

Its root is the machine's, with whatever is changed or made there kept apart, and shared among the
node's own mounts, as systemd has it: what a runtime mounts later is to be seen in containers that
have the root. Nothing of it is left once the process that holds it has ended.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import LabError, Netns
from integration.containerd.cgroup import MOUNTED
from integration.packages import CACHE

# $1 the name, $2 the directory of what is the node's own, $3 the cgroups, $4 what it is to see of
# the machine besides. /etc/kubernetes and so on may be a real node's: here is none yet.
_ROOT = """
set -e
name=$1 own=$2 cgroups=$3 seen=$4
echo "$name" >/proc/sys/kernel/hostname
mkdir "$own/files" "$own/work" "$own/root"
mount -t overlay -o "lowerdir=/,upperdir=$own/files,workdir=$own/work" node "$own/root"
cd "$own/root"
rm -rf etc/cni etc/containerd etc/kubernetes opt/cni opt/cni-repair etc/cni-repair
rm -rf var/lib/cni var/lib/cni-repair var/lib/kubelet var/lib/containerd var/log/pods
mount -t tmpfs -o mode=755 run run
for part in dev proc; do mount --rbind "/$part" "$part"; done
mount -t sysfs sysfs sys
mount --rbind "$cgroups" sys/fs/cgroup
for part in "$own" "$seen"; do
    mkdir -p ".$part"
    mount --bind "$part" ".$part"
done
mkdir -p etc/cni/net.d etc/containerd etc/kubernetes opt/cni/bin var/lib/kubelet/pki run/netns mnt
pivot_root . mnt
cd /
umount --lazy /mnt
mount --make-rprivate /
mount --make-rshared /
echo ready
exec cat
"""
_END_SECONDS = 10.0


class Ground(WithCleanup):
    """Context: where a node of that name stands; `netns` is its network namespace, `own` a
    directory that has the same path there and here.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.netns, self.own = name, Netns(f"node-{name}"), directory / name

    def _open(self) -> None:
        self.own.mkdir(parents=True)
        unshare = ["unshare", "--mount", "--net", "--uts", "--propagation", "private"]
        places = [self.name, str(self.own), str(MOUNTED), str(CACHE)]
        self._process = process = subprocess.Popen(
            [*unshare, "sh", "-c", _ROOT, "-", *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us
        )
        self._cleanup.callback(self._end)
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise LabError(f"no root for the node {self.name}: see above")
        subprocess.run(["ip", "netns", "attach", self.netns.name, str(self.pid)], check=True)
        self._cleanup.callback(
            subprocess.run, ["ip", "netns", "delete", self.netns.name], check=True
        )

    @property
    def pid(self) -> int:
        """A process of the node's, for as long as there is the node."""
        return self._process.pid

    @property
    def entering(self) -> list[str]:
        """What to put before a command, to run it on the node.

        (`ip netns exec` would mount a /sys without cgroups.)
        """
        spaces = {"mount": "mnt", "net": "net", "uts": "uts"}
        return ["nsenter", *(f"--{one}=/proc/{self.pid}/ns/{path}" for one, path in spaces.items())]

    def outside(self, path: str) -> Path:
        """A path of the node's as we reach it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def _end(self) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
