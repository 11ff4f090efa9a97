"""A machine as in node.py, with a systemd of its own as the first process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from integration.containerd.cgroup import Cgroup, entering, hierarchies, make
from tests.install.node import HIDDEN, REPOSITORY, Node
from tests.patience import eventually

WATCH = "cni-repair-watch.service"
UNITS = "/etc/systemd/system"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

# systemd finds no units but those of packages, and starts none of what the machine would start on a
# boot. The devices are a container's, for journald links /dev/log; sysctls cannot be written.
_BOOT = f"""{HIDDEN}
mkdir -p {UNITS}
for directory in /var/log /var/tmp {UNITS} \\
    /lib/systemd/system-generators \\
    /lib/systemd/system/sysinit.target.wants \\
    /lib/systemd/system/sockets.target.wants \\
    /lib/systemd/system/timers.target.wants; do
    mount -t tmpfs -o mode=0755 tmpfs "$directory"
done
mkdir /run/files /run/work # the tests' own files are below /tmp
mount -t overlay -o lowerdir=/tmp,upperdir=/run/files,workdir=/run/work overlay /tmp
mount -t tmpfs -o mode=0755 tmpfs /mnt
for device in null zero full random urandom tty; do
    touch "/mnt/$device"
    mount --bind "/dev/$device" "/mnt/$device"
done
mkdir /mnt/pts /mnt/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts /mnt/pts
ln -s pts/ptmx /mnt/ptmx
mount --rbind /mnt /dev
mkdir /run/netns
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 00000000000000000000000000000001 >/etc/machine-id
cat >{UNITS}/rig.target <<'END'
[Unit]
DefaultDependencies=no
Wants=systemd-journald.service
END
mount --make-rshared / # as systemd has it on a machine
echo ready
exec unshare --pid --fork --kill-child bash -c '
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
exec env -i container=rig PATH=/usr/sbin:/usr/bin /lib/systemd/systemd \\
    --system --unit=rig.target --log-target=console <>/dev/null &>/run/systemd.log'
"""


class Machine(Node):
    """Processes and cgroups of its own, too. Nothing of it is left when it is closed."""

    _OWN_PROCESSES = True

    def __init__(self) -> None:
        self._cgroup = Cgroup()
        super().__init__()
        try:
            eventually(self._has_booted, "systemd to be up")
        except BaseException:
            self.close()
            raise

    def _holder_command(self) -> list[str]:
        top = make(hierarchies()[0] / self._cgroup.name)
        namespaces = ["--mount", "--net", "--uts", "--ipc", "--cgroup", "--propagation", "private"]
        command = ["unshare", *namespaces, "bash", "-c", _BOOT]
        return ["setpriv", "--pdeathsig", "KILL", *entering([top], command)]

    def _namespaces(self) -> list[str]:
        processes = f"--pid=/proc/{self._holder.pid}/ns/pid_for_children"
        return [*super()._namespaces(), "--uts", "--ipc", "--cgroup", processes]

    def close(self) -> None:
        self._holder.kill()
        super().close()
        with self._cgroup:  # on leaving it is emptied
            pass

    def _has_booted(self) -> bool:
        assert self._holder.poll() is None, self._holder.returncode
        return self.systemctl("is-system-running").stdout.strip() in ("running", "degraded")

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("/usr/bin/systemctl", *arguments, env=_ENVIRONMENT)

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        options = [f"--property={','.join(properties)}"]
        shown = self.systemctl("show", *options, name).stdout
        return dict(line.split("=", 1) for line in shown.splitlines())

    def python(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program that imports this checkout."""
        start = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{program}"
        return self.run(sys.executable, "-IB", "-c", start, *arguments, env=_ENVIRONMENT)

    @property
    def log(self) -> str:
        """What systemd and the units have said."""
        return Path(self.path("/run/systemd.log")).read_text()
