"""The guest's parts: Debian's stock kernel, a static busybox, and an initramfs made of both.

Kernel and busybox are downloaded and unpacked into a cache, never installed: a second kernel is
nothing that a machine should get from a test, and busybox-static would push out its busybox.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.driver.errors import RigError

QEMU = "qemu-system-x86_64"
# The guest runs on this machine's userland: what it needs there, and the package that brings it.
_PROGRAMS = {
    f"/usr/bin/{QEMU}": "qemu-system-x86",
    "/usr/bin/setpriv": "util-linux",
    "/usr/bin/python3": "python3",
    "/usr/lib/cni/macvlan": "containernetworking-plugins",
    "/sbin/ip": "iproute2",
}
CACHE = Path("/var/cache/cni-repair-tests")
APT_SECONDS = 900

# In the order in which the guest loads them: e1000e before virtio_net, to be eth0 and eth1.
_ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_MODULES = (
    *_ROOT_MODULES, "e1000e", "virtio_net", "8021q", "macvlan", "bonding", "dummy",
)  # fmt: skip
# Else they bring a bond0 and a dummy0 that nobody asked for.
_OPTIONS = {"bonding": "max_bonds=0", "dummy": "numdummies=0"}


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
    with _locked_cache():
        _need_programs()
        busybox = _unpacked("busybox-static", "busybox") / "bin" / "busybox"
        tree = _unpacked("linux-image-amd64", "kernel")
        (release,) = (path.name for path in (tree / "lib" / "modules").iterdir())
        if not (tree / "lib" / "modules" / release / "modules.dep").exists():
            # The package leaves that to its installation.
            _run([str(busybox), "depmod", "-b", str(tree), release])
    return Kernel(release, tree, busybox)


@contextlib.contextmanager
def _locked_cache() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _need_programs() -> None:
    missing = [package for path, package in _PROGRAMS.items() if not Path(path).exists()]
    if missing:
        _apt_get("update", check=False)  # one unreachable source need not matter
        _apt_get("install", "-y", "--no-install-recommends", *missing)


def _unpacked(package: str, name: str) -> Path:
    """The unpacked tree of a package in the cache, whole or not there at all."""
    tree = CACHE / name
    if not tree.exists():
        _apt_get("update", check=False)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            _apt_get("download", _real_name(package), cwd=work)
            (deb,) = Path(work).glob("*.deb")
            _run(["dpkg", "-x", str(deb), f"{work}/tree"])
            Path(work, "tree").rename(tree)
    return tree


def _real_name(package: str) -> str:
    """linux-image-amd64 is empty and depends on the kernel of the day."""
    shown = _run(["apt-cache", "show", "--no-all-versions", package])
    depends = re.search(rf"^Depends: .*?({package.replace('-amd64', '')}-\d\S+)", shown, re.M)
    return depends[1] if depends else package


def _apt_get(*arguments: str, check: bool = True, cwd: str = "/") -> None:
    if not shutil.which("apt-get"):
        raise RigError(f"no apt-get for: {' '.join(arguments)}; this rig is for a Debian machine")
    quiet = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    _run(["apt-get", *quiet, *arguments], check=check, cwd=cwd)


def _run(command: list[str], check: bool = True, cwd: str = "/") -> str:
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=APT_SECONDS,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
    )
    if check and done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise RigError(f"{' '.join(command)}: exit {done.returncode}: {said[-500:]}")
    return done.stdout


# --- The initramfs -------------------------------------------------------------------------------

_INIT = """\
#!/bin/busybox sh
# Makes the machine's own userland, read-only, the guest's root, and runs the scenarios in it.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in {root_modules}; do modprobe $module; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /low
mount -t tmpfs up /up
mkdir /up/files /up/work
mount -t overlay -o lowerdir=/low,upperdir=/up/files,workdir=/up/work root /mnt
mkdir -p /mnt/lib/modules
cp -a /lib/modules/* /mnt/lib/modules/
{modprobe}
mount -t proc proc /mnt/proc
mount -t sysfs sys /mnt/sys
mount -t devtmpfs dev /mnt/dev
ln -s /proc/self/fd /mnt/dev/fd
mount -t tmpfs run /mnt/run
mkdir -p /mnt/run/netns /mnt/run/job /mnt/var/lib/cni /mnt/var/lib/cni-repair
cp /bin/busybox /mnt/run/
# State that the machine may have of its own is not the guest's.
mount -t tmpfs state /mnt/var/lib/cni
mount -t tmpfs state /mnt/var/lib/cni-repair
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 job /mnt/run/job
chroot /mnt /bin/sh /run/job/start >/dev/console 2>&1
sync
poweroff -f
"""


def build_initramfs(kernel: Kernel, target: Path) -> None:
    """Write the initramfs: busybox, the modules and what they need, and the script above."""
    later = [module for module in _MODULES if module not in _ROOT_MODULES]
    modprobe = "\n".join(f"modprobe {module} {_OPTIONS.get(module, '')}" for module in later)
    init = _INIT.format(root_modules=" ".join(_ROOT_MODULES), modprobe=modprobe)
    files: dict[str, bytes] = {"init": init.encode(), "bin/busybox": kernel.busybox.read_bytes()}
    base = f"lib/modules/{kernel.release}"
    dependencies = _dependencies(kernel.modules / "modules.dep")
    chosen = list(dict.fromkeys(_with_needed(dependencies, _MODULES)))
    files |= {f"{base}/{path}": (kernel.modules / path).read_bytes() for path in chosen}
    lines = [f"{path}: {' '.join(dependencies[path])}\n" for path in chosen]
    files[f"{base}/modules.dep"] = "".join(lines).encode()
    target.write_bytes(_cpio(files, ("dev", "proc", "sys", "low", "up", "mnt")))


def _dependencies(modules_dep: Path) -> dict[str, list[str]]:
    """`kernel/net/8021q/8021q.ko: kernel/net/802/mrp.ko …`"""
    lines = (line.partition(":") for line in modules_dep.read_text().splitlines())
    return {path: needed.split() for path, _, needed in lines}


def _with_needed(dependencies: dict[str, list[str]], names: Iterable[str]) -> Iterator[str]:
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in dependencies}
    for name in names:
        if name not in by_name:
            raise RigError(f"the kernel package has no module {name}")
        yield by_name[name]
        yield from dependencies[by_name[name]]


def _cpio(files: dict[str, bytes], directories: Iterable[str]) -> bytes:
    """A newc archive (initramfs-buffer-format.rst): each member a header, its name, its data."""
    parents = {str(parent) for name in files for parent in Path(name).parents}
    wanted = sorted({*directories, *parents} - {"."})
    members = [(name, 0o040755, b"") for name in wanted]
    members += [(name, 0o100755, data) for name, data in files.items()]
    members.append(("TRAILER!!!", 0, b""))
    return b"".join(_member(inode, *member) for inode, member in enumerate(members, 1))


def _member(inode: int, name: str, mode: int, data: bytes) -> bytes:
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + name.encode() + b"\0") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
