"""The guest's parts: QEMU, Debian's stock kernel, a static busybox.

Kernel and busybox are downloaded and unpacked into a cache, never installed: a second kernel is
nothing that a machine should get from a test, and busybox-static would push out its busybox.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from integration.errors import RigError
from integration.packages import locked_cache, need_programs, run, unpacked

QEMU = "qemu-system-x86_64"
# The guest runs on this machine's userland: what it needs there, and the package that brings it.
PROGRAMS = {
    f"/usr/bin/{QEMU}": "qemu-system-x86",
    "/usr/bin/setpriv": "util-linux",
    "/usr/bin/python3": "python3",
    "/usr/lib/cni/macvlan": "containernetworking-plugins",
    "/sbin/ip": "iproute2",
    "/usr/bin/ping": "iputils-ping",
    "/lib/systemd/systemd": "systemd",
    "/usr/bin/dbus-daemon": "dbus",  # systemd-run --wait needs it
}


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package, and the busybox to start it with."""

    release: str
    tree: Path
    busybox: Path

    @property
    def image(self) -> Path:
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.tree / "lib" / "modules" / self.release


def prepare() -> Kernel:
    """Have QEMU, the kernel and busybox; what is there already is not asked for again.

    Raises RigError, naming what is missing, where apt-get cannot bring it.
    """
    if os.uname().machine != "x86_64":
        raise RigError(f"the guest is an x86_64 machine; this one is {os.uname().machine}")
    with locked_cache():
        need_programs(PROGRAMS)
        busybox = unpacked("busybox-static", "busybox") / "bin" / "busybox"
        tree = unpacked("linux-image-amd64", "kernel")
        (release,) = (path.name for path in (tree / "lib" / "modules").iterdir())
        if not (tree / "lib" / "modules" / release / "modules.dep").exists():
            # The package leaves that to its installation.
            run([str(busybox), "depmod", "-b", str(tree), release])
    return Kernel(release, tree, busybox)
