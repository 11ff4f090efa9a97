"""A node that runs Debian 12 or 13: a bootstrapped tree as the root, in namespaces of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.install.node import Node

PLUGIN = "/usr/lib/cni/cni-repair"
MASTER, MASTER_MAC = "eth1", "02:00:00:00:00:01"
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "type": "cni-repair",
    "master": MASTER,
    "mode": "bridge",
    "ipam": {"type": "host-local", "subnet": "10.7.0.0/24"},
}
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

_OF_OTHERS = (
    "/var/cache/",
    "/var/lib/apt/",
    "/var/lib/dpkg/",
    "/var/log/",
    "/tmp/",
    "/var/lib/cni/",
)

# The tree stays as it is: what is written is in memory, and gone with the namespaces.
_ENTER = """
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir run/old run/netns run/lock
pivot_root . run/old
umount --lazy /run/old
rmdir /run/old
mount --make-rshared /
echo ready
cat
exit # so that the shell stays: the first process has to reap
"""


class Debian(Node):
    """Processes of its own, too: what of it still runs ends with it."""

    _OWN_PROCESSES = True

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        super().__init__()

    def _holder_command(self) -> list[str]:
        namespaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        command = ["unshare", *namespaces, "--propagation", "private"]
        return [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *command,
            "bash",
            "-c",
            _ENTER,
            "-",
            str(self._tree),
        ]

    def _namespaces(self) -> list[str]:
        processes = f"--pid=/proc/{self._holder.pid}/ns/pid_for_children"
        return [*super()._namespaces(), "--uts", "--ipc", processes]

    def entering(self) -> list[str]:
        """What runs the command behind it on the node."""
        return ["nsenter", *self._namespaces()]

    def do(
        self, *command: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, whatever comes of it."""
        return self.run(*command, stdin=stdin, env={**ENVIRONMENT, **(env or {})})

    def must(self, *command: str, stdin: str = "", env: Mapping[str, str] | None = None) -> str:
        """What a command prints, which has to do what it is for."""
        done = self.do(*command, stdin=stdin, env=env)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def bring(self, file: Path) -> str:
        """Copy a file to the node; its path there."""
        shutil.copy(file, self.path("/tmp"))
        return f"/tmp/{file.name}"

    def install_package(self, package: Path) -> str:
        """As an administrator does it; what was said."""
        return self.must("apt-get", "install", "-y", self.bring(package))

    def by_rpm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the machine's rpm on the node's files, among the node's processes."""
        spaces = [one for one in self._namespaces() if one != "--mount"]
        # (Debian's rpm has its database in the caller's home, which is the machine's.)
        files = ["--root", str(self.path("/")), "--dbpath", "/var/lib/rpm"]
        command = ["nsenter", *spaces, "rpm", *files, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def files(self) -> set[str]:
        """All that is on the disk, but for what apt, dpkg and Python keep for themselves."""
        found = self.must("find", "/", "-xdev", "-not", "-name", "*.pyc").splitlines()
        return {path for path in found if not path.startswith(_OF_OTHERS)}

    def start(self, *command: str) -> int:
        """Start a command that goes on by itself, and writes to /run/said; its process there."""
        script = 'exec 0</dev/null >>/run/said 2>&1; "$@" & echo $! >/run/pid'
        self.must("sh", "-c", script, "-", *command)
        return int(self.path("/run/pid").read_text())

    # --- pods -------------------------------------------------------------------------------------

    def add_master(self) -> None:
        peer = ["type", "veth", "peer", "name", "wire"]
        self.must("ip", "link", "add", MASTER, "address", MASTER_MAC, *peer)
        for link in (MASTER, "wire"):
            self.must("ip", "link", "set", link, "up")

    def call(self, verb: str, pod: str, plugin: str = PLUGIN) -> dict[str, Any]:
        """Call the plugin as a runtime does; its answer."""
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod,
            "CNI_NETNS": f"/run/netns/{pod}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(Path(plugin).parent) + ":/usr/lib/cni",
        }
        said = self.must(plugin, stdin=json.dumps(NETWORK), env=environment)
        answer: dict[str, Any] = json.loads(said) if said else {}
        return answer

    def add_pod(self, pod: str, plugin: str = PLUGIN) -> str:
        """A pod with an interface; its address."""
        self.must("ip", "netns", "add", pod)
        address: str = self.call("ADD", pod, plugin)["ips"][0]["address"]
        return address

    def addresses(self, pod: str) -> str:
        """What the pod's interface has; nothing where it has none."""
        return self.do("ip", "-n", pod, "-o", "-4", "addr", "show", "eth0").stdout
