"""The guest's initramfs: busybox, the drivers, and what makes the machine's userland a node.

systemd is the guest's PID 1, as on a node. It starts nothing of what the machine itself would start
on a boot: the units are there, but nothing wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from integration.driver.kernel import Kernel
from integration.errors import RigError

# In the order in which the guest loads them: e1000e before virtio_net, to be eth0 and eth1.
_ROOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_MODULES = (
    *_ROOT_MODULES,
    "e1000e", "virtio_net", "8021q", "macvlan", "ipvlan", "bonding", "dummy", "veth",
)  # fmt: skip
# Else they bring a bond0 and a dummy0 that nobody asked for.
_OPTIONS = {"bonding": "max_bonds=0", "dummy": "numdummies=0"}
_STATES = ("var/lib/cni", "var/lib/cni-repair", "var/log", "tmp")
_NOTHINGS = (
    "etc/systemd/system",
    "lib/systemd/system-generators",  # they read fstab
    *(f"lib/systemd/system/{name}.target.wants" for name in ("sysinit", "sockets", "timers")),
)

# Its end, however it comes, is the guest's.
_UNIT = """\
[Unit]
Description=The scenarios of integration/driver
Wants=systemd-journald.service dbus.socket
After=systemd-journald.service dbus.socket
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate
[Service]
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
ExecStart=/bin/sh /run/job/start
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
"""

_INIT = """\
#!/bin/busybox sh
# Makes the machine's own userland, read-only, the guest's root, and starts systemd in it.
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
for place in proc sys dev; do mount -o move /$place /mnt/$place; done
mount -t tmpfs run /mnt/run
mkdir -p /mnt/run/netns /mnt/run/job /mnt/run/systemd/system
cp /bin/busybox /mnt/run/
cp /rig.service /mnt/run/systemd/system/
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 job /mnt/run/job
# State that the machine may have of its own is not the guest's.
for state in {states}; do mkdir -p /mnt/$state; mount -t tmpfs state /mnt/$state; done
# Nor is what it starts on a boot: nothing but our unit, and what that asks for.
for nothing in {nothings}; do mount -t tmpfs nothing /mnt/$nothing; done
# Without one this would be systemd's first boot, on which it enables all units.
echo 00000000000000000000000000000001 >/mnt/etc/machine-id
# Left by whatever made the machine; systemd would think that it is in a container.
rm -f /mnt/.dockerenv
exec switch_root /mnt /lib/systemd/systemd --unit=rig.service
"""


def build_initramfs(kernel: Kernel, target: Path, more: tuple[str, ...] = ()) -> None:
    """Write the initramfs: busybox, the modules and `more` of them, their needs, and the unit."""
    modules = (*_MODULES, *more)
    later = [module for module in modules if module not in _ROOT_MODULES]
    modprobe = "\n".join(f"modprobe {module} {_OPTIONS.get(module, '')}" for module in later)
    init = _INIT.format(
        root_modules=" ".join(_ROOT_MODULES),
        modprobe=modprobe,
        states=" ".join(_STATES),
        nothings=" ".join(_NOTHINGS),
    )
    files = {"init": init.encode(), "rig.service": _UNIT.encode()}
    files["bin/busybox"] = kernel.busybox.read_bytes()
    base = f"lib/modules/{kernel.release}"
    dependencies = _dependencies(kernel.modules / "modules.dep")
    built_in = (kernel.modules / "modules.builtin").read_text().splitlines()
    loaded = [name for name in modules if name not in map(_name_of, built_in)]
    chosen = list(dict.fromkeys(_with_needed(dependencies, loaded)))
    files |= {f"{base}/{path}": (kernel.modules / path).read_bytes() for path in chosen}
    lines = [f"{path}: {' '.join(dependencies[path])}\n" for path in chosen]
    files[f"{base}/modules.dep"] = "".join(lines).encode()
    target.write_bytes(_cpio(files, ("dev", "proc", "sys", "low", "up", "mnt")))


def _dependencies(modules_dep: Path) -> dict[str, list[str]]:
    """`kernel/net/8021q/8021q.ko: kernel/net/802/mrp.ko …`"""
    lines = (line.partition(":") for line in modules_dep.read_text().splitlines())
    return {path: needed.split() for path, _, needed in lines}


def _with_needed(dependencies: dict[str, list[str]], names: Iterable[str]) -> Iterator[str]:
    by_name = {_name_of(path): path for path in dependencies}
    for name in names:
        if name not in by_name:
            raise RigError(f"the kernel package has no module {name}")
        yield by_name[name]
        yield from dependencies[by_name[name]]


def _name_of(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


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
