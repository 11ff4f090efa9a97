"""Recordings of a node with Debian's stock kernel, whose disks are virtio disks of QEMU's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from integration.command import CHECKOUT
from integration.driver import program
from integration.driver.guest import Extra, Guest
from integration.driver.kernel import prepare
from integration.errors import RigError
from integration.product import install
from integration.trust.power.disk import FILE_SYSTEMS
from integration.trust.power.recording import Recording, prepared, recorded_disk, write_done
from integration.trust.power.workload import done_from

# crc32c_generic first: the others ask the kernel for it, which finds no modprobe that early.
_MODULES = ("crc32c_generic", "virtio_blk", *(system.name for system in FILE_SYSTEMS))
_SILENCE_SECONDS = 1000.0  # emulated, on a machine that has other work to do: generous
_POLL_SECONDS = 0.1


def record_in_guest(above: Path) -> list[Recording]:
    """One of each file system. Raises RigError where there is no guest, or it fails."""
    kernel = prepare()
    recordings = [prepared("guest", system, above) for system in FILE_SYSTEMS]
    devices = [option for recording in recordings for option in _device(recording)]
    with program.work_directory("power") as directory:
        launcher = install(CHECKOUT, directory)
        copy = program.copied(CHECKOUT, directory)
        command = program.command(copy, "integration.trust.power.inside", str(launcher))
        extra = Extra(_MODULES, tuple(devices))
        with Guest(kernel, directory / "guest", command, extra) as guest:
            told = {event["system"]: event["done"] for event in _told(guest)}
    for recording in recordings:
        write_done(recording, done_from(told[recording.system.name]))
        (recording.directory / "disk").unlink()
    return recordings


def _device(recording: Recording) -> Iterator[str]:
    name = recording.system.name
    yield from recorded_disk(f"{name}-disk", recording.directory)
    yield from ("-device", f"virtio-blk-pci,drive={name}-disk,serial={name},write-cache=on")


def _told(guest: Guest) -> Iterator[dict[str, Any]]:
    """What is done, as it comes, until all is."""
    heard, told = time.monotonic(), 0
    while told < len(FILE_SYSTEMS):
        running = guest.running  # asked before: what it tells last is not missed
        for event in guest.told():
            heard = time.monotonic()
            if event["event"] == "failed":
                raise RigError(f"in the guest: {event['why']}")
            told += 1
            yield event
        if told < len(FILE_SYSTEMS) and (
            not running or time.monotonic() - heard >= _SILENCE_SECONDS
        ):
            raise RigError(f"the guest tells nothing more: {guest.console}")
        time.sleep(_POLL_SECONDS)
