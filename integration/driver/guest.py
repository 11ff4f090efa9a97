"""A virtual machine on QEMU's software emulation, and what its scenarios tell us.

         node (the guest)                       far end (a netns in the guest)
    e1000e eth0 ─┐
                 ├─ hub ─ virtio-net ─ VLAN 3: 10.9.0.1/24, fd00:9::1/64
    e1000e eth1 ─┘

The hub lives in QEMU's process; nothing is connected to the machine's own network.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.cleanup import WithCleanup
from integration.daemon import Daemon
from integration.driver.initramfs import build_initramfs
from integration.driver.kernel import QEMU, Kernel

UPLINK_MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")
FAR_MAC = "52:54:00:00:00:0f"


@dataclass(frozen=True)
class Extra:
    """What a guest has beside the NICs."""

    modules: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()  # QEMU's options


class Guest(WithCleanup):
    """Context: a guest that runs one scenario after the other as it is given them, by `command`.

    `directory` is for its files; the guest sees the subdirectory `job`, and writes there. On
    leaving, a guest that is still there is killed.
    """

    def __init__(
        self, kernel: Kernel, directory: Path, command: list[str], extra: Extra | None = None
    ) -> None:
        self._kernel = kernel
        self._extra = extra or Extra()
        self._directory = directory
        self._job = directory / "job"
        self._events = self._job / "events"
        self._start = command
        self._read = 0  # characters of what it has told

    def _open(self) -> None:
        self._job.mkdir(parents=True)
        self._events.touch()
        (self._job / "start").write_text(f"exec {shlex.join(self._start)}\n")
        build_initramfs(self._kernel, self._directory / "initramfs", self._extra.modules)
        qemu = Daemon("QEMU", self._command(), self._directory / "qemu")
        self._qemu = self._cleanup.enter_context(qemu)

    def _command(self) -> list[str]:
        machine = "-accel tcg,thread=multi -cpu max -smp 2 -m 2048"
        nothing_else = "-nodefaults -no-user-config -display none -no-reboot"
        return [
            QEMU, *machine.split(), *nothing_else.split(),
            "-kernel", str(self._kernel.image), "-initrd", str(self._directory / "initramfs"),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
            "-serial", f"file:{self._directory / 'console'}",
            *_share("root", Path("/"), ",readonly=on"),
            *_share("job", self._job, ""),
            *_nic(0, "e1000e", UPLINK_MACS[0]),
            *_nic(1, "e1000e", UPLINK_MACS[1]),
            *_nic(2, "virtio-net-pci", FAR_MAC),
            *self._extra.devices,
        ]  # fmt: skip

    def give(self, scenario: str) -> None:
        """The next one to run; an empty name has the guest power itself off."""
        (self._job / "next.new").write_text(scenario)
        (self._job / "next.new").rename(self._job / "next")

    def told(self) -> list[dict[str, Any]]:
        """What the guest has told since the last call."""
        *lines, _ = self._events.read_text("utf-8")[self._read :].split("\n")
        self._read += sum(len(line) + 1 for line in lines)
        return [json.loads(line) for line in lines]

    @property
    def running(self) -> bool:
        return self._qemu.is_running

    @property
    def console(self) -> str:
        """What QEMU and the guest's kernel said last."""
        files = (self._directory / name for name in ("qemu", "console"))
        texts = (file.read_text("utf-8", "replace") for file in files if file.exists())
        return "\n".join(text[-8000:] for text in texts)


def _share(tag: str, path: Path, options: str) -> list[str]:
    # remap: files of several file systems must not have the same inode number.
    backend = f"local,id={tag},path={path},security_model=none,multidevs=remap{options}"
    return ["-fsdev", backend, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _nic(number: int, model: str, mac: str) -> list[str]:
    port = f"port{number}"
    device = f"{model},netdev={port},mac={mac},romfile="  # nobody boots from it
    return ["-netdev", f"hubport,id={port},hubid=0", "-device", device]
