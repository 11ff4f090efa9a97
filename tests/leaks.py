"""What a run of the tests could leave behind: its own namespaces, mounts, processes and files.

A neighbour on the same machine, such as another run of the tests, has the same things, and does not
matter. Ours is what stands in our own mount namespace, and in the places that we share with the
machine what carries our mark: the names of our labs begin with it, and so do their container ids.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cni_repair.demo.lab import MARK_VARIABLE, LabError, isolate, poll_until
from tests.patience import HANG_SECONDS

MARK = f"t{secrets.token_hex(4)}-"
# Opened before `enter_own_mounts`: what stands in /run outside of our mount namespace.
MACHINES_RUN = Path(f"/proc/self/fd/{os.open('/run', os.O_RDONLY | os.O_CLOEXEC)}")
STATE = (Path("/var/lib/cni"), Path("/var/lib/cni-repair"))

_RUN = Path("/run")
_GONE_SECONDS = HANG_SECONDS


def enter_own_mounts() -> None:
    """Have whatever this process and its children make from now on be known as ours."""
    isolate()
    # A mount that whichever process descends from us has, in mount namespaces of its own, too, and
    # be it below others; and no other process.
    place = _RUN / f"tests-{MARK}"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", MARK, place], check=True)
    os.environ[MARK_VARIABLE] = MARK


def traces() -> set[str]:
    """What could be left behind, is there and is ours; for people to read."""
    return {*processes(), *_descriptors(), *_mounts(), *_files()}


def expect_no_more_than(before: set[str], seconds: float = _GONE_SECONDS) -> None:
    with contextlib.suppress(LabError):
        # What was killed takes a moment to go. An `ip` that it had started comes to its own end,
        # and may have to wait for the kernel's one lock of all links, which others on the machine
        # hold for seconds: cleanup_net(), when thousands of namespaces go.
        poll_until(lambda: traces() <= before, seconds, "everything to be gone")
    left = sorted(traces() - before)
    assert left == [], "\n".join(left)


def processes() -> Iterator[str]:
    """Those that are there, and ours: by far less work than all traces."""
    for process in Path("/proc").glob("[0-9]*"):
        # Not even root may look at every process of a machine; at its own it may.
        with contextlib.suppress(OSError):
            mounts = (process / "mountinfo").read_text()
            if process.name != str(os.getpid()) and f" {MARK} " in mounts:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                yield f"process {process.name}: {command!r}"


def _descriptors() -> Iterator[str]:
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(descriptor)
            if target.startswith("net:"):
                yield f"open descriptor {descriptor.name} of {target}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        # `ip netns add` mounts the directory on itself; that stays as long as we do.
        if point != "/run/netns":
            yield f"mount of {kind} on {point}"


def _files() -> Iterator[str]:
    for path in _of_labs(_RUN):
        yield f"file {path}"
    for path in _of_labs(MACHINES_RUN):
        if MARK in path.name:
            yield f"file of the machine's /run: {path.relative_to(MACHINES_RUN)}"
    for state in STATE:
        for path in _below(state):
            if MARK in path.name or _names_us(path):
                yield f"file {path}"


def _of_labs(run: Path) -> Iterator[Path]:
    """What labs and cni-repair make in a /run."""
    yield from _entries(run / "netns")
    yield from (path for path in _entries(run) if path.name.startswith("cni-repair"))


def _entries(directory: Path) -> list[Path]:
    """(A neighbour may take its directory away while we look.)"""
    with contextlib.suppress(OSError):
        return [directory / name for name in os.listdir(directory)]
    return []


def _below(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        yield from (Path(parent, name) for name in (*directories, *files))


def _names_us(path: Path) -> bool:
    """Whether it is a file that has our mark in it, as a lease has the container id."""
    with contextlib.suppress(OSError):  # a directory, or gone by now
        return MARK.encode() in path.read_bytes()
    return False
