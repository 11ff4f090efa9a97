"""The tests' own check: whatever a run leaves behind is found, and a neighbour's things are not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cni_repair.demo.lab import Lab
from cni_repair.demo.private import private_node
from tests.background import in_machines_mounts
from tests.leaks import MACHINES_RUN, MARK, STATE, expect_no_more_than, traces
from tests.patience import eventually
from tests.processes import ended

_SLEEP = ["sleep", "600"]
_RUN = Path("/run")
_CHECKOUT = Path(__file__).parents[1]
NEIGHBOUR = f"neighbour-{secrets.token_hex(4)}"


@contextlib.contextmanager
def made(path: Path, text: str = "") -> Iterator[None]:
    """A file, in directories that are made where they are missing."""
    with _the_only_one():
        missing = [parent for parent in path.parents if not parent.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink()
            for directory in missing:
                directory.rmdir()


@contextlib.contextmanager
def _the_only_one() -> Iterator[None]:
    """Another run of this very test would take the directories for its own, or ours away."""
    descriptor = os.open(MACHINES_RUN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def a_process(*enter: str) -> Iterator[None]:
    with subprocess.Popen([*enter, *_SLEEP]) as process:
        try:
            eventually(lambda: _runs(process.pid, "sleep"), "the process to run")
            yield
        finally:
            process.kill()


def _runs(pid: int, program: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == program


@contextlib.contextmanager
def a_private_node() -> Iterator[None]:
    with private_node():
        yield


@contextlib.contextmanager
def a_descriptor() -> Iterator[None]:
    number = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.close(number)


@contextlib.contextmanager
def a_mount() -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "leaked", "/mnt"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/mnt"], check=True)


@contextlib.contextmanager
def a_namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", "leaked"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", "leaked"], check=True)


LEAKS: dict[str, tuple[Callable[[], AbstractContextManager[None]], str]] = {
    "process": (a_process, "sleep 600"),
    "process in a namespace of its own": (lambda: a_process("unshare", "--mount"), "sleep 600"),
    "private node": (a_private_node, "'cat '"),
    "descriptor": (a_descriptor, "open descriptor"),
    "mount": (a_mount, "mount of tmpfs on /mnt"),
    "namespace": (a_namespace, "file /run/netns/leaked"),
    "its mount": (a_namespace, "mount of nsfs on /run/netns/leaked"),
    "directory": (lambda: made(_RUN / "cni-repair/lock"), "file /run/cni-repair"),
    "machine's namespace": (
        lambda: made(MACHINES_RUN / f"netns/{MARK}node"),
        f"file of the machine's /run: netns/{MARK}node",
    ),
    "machine's directory": (
        lambda: made(MACHINES_RUN / f"cni-repair-{MARK}0/net.conf"),
        f"file of the machine's /run: cni-repair-{MARK}0",
    ),
    "checkpoint": (
        lambda: made(STATE[1] / f"checkpoints/{MARK}pod1@eth0.json", "{}"),
        f"file /var/lib/cni-repair/checkpoints/{MARK}pod1@eth0.json",
    ),
    "lease": (
        lambda: made(STATE[0] / f"networks/{NEIGHBOUR}/10.9.0.2", f"{MARK}pod1\r\neth0"),
        f"file /var/lib/cni/networks/{NEIGHBOUR}/10.9.0.2",
    ),
}


@pytest.mark.parametrize("what", LEAKS)
def test_leak_of_our_own_is_found(what: str, nothing_left: Callable[[], None]) -> None:
    leak, told = LEAKS[what]
    before = traces()
    with leak():
        with pytest.raises(AssertionError):
            expect_no_more_than(before, seconds=0.1)
        assert [trace for trace in traces() - before if told in trace]
    nothing_left()


def test_what_a_lab_makes_carries_our_mark(lab: Lab) -> None:
    """So that it would be found in places that we share with the machine, too."""
    made_by_it = [lab.node.name, lab.tor.name, lab.directory.name, lab.add_pod().name]
    assert [name for name in made_by_it if MARK not in name] == []


NEIGHBOURS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "process": lambda: a_process(*in_machines_mounts()),
    "namespace": lambda: made(MACHINES_RUN / f"netns/{NEIGHBOUR}"),
    "directory": lambda: made(MACHINES_RUN / f"cni-repair-{NEIGHBOUR}/net.conf"),
    "run directory": lambda: made(MACHINES_RUN / f"cni-repair/{NEIGHBOUR}@eth0.lock"),
    "checkpoint": lambda: made(STATE[1] / f"checkpoints/{NEIGHBOUR}@eth0.json", "{}"),
    "lease": lambda: made(STATE[0] / f"networks/{NEIGHBOUR}/10.9.0.3", f"{NEIGHBOUR}\r\neth0"),
}


@pytest.mark.parametrize("what", NEIGHBOURS)
def test_neighbours_things_do_not_matter(what: str) -> None:
    before = traces()
    with NEIGHBOURS[what]():
        expect_no_more_than(before, seconds=0.0)


# The neighbour's lab, from its own beginning: it has a mount namespace of its own, and a mark.
_NEIGHBOURS_RUN = """
import os, sys
from tests.leaks import enter_own_mounts, traces
enter_own_mounts()
from cni_repair.demo.lab import Lab
with Lab(pods=1):
    print(len([trace for trace in traces() if "node" in trace]), flush=True)
    sys.stdin.read()
"""


def test_neighbours_run_does_not_matter() -> None:
    before = traces()
    with ended(
        subprocess.Popen(
            [*in_machines_mounts(), sys.executable, "-c", _NEIGHBOURS_RUN],
            env={**os.environ, "PYTHONPATH": str(_CHECKOUT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "2\n"  # its own namespace, and the mount of it
        expect_no_more_than(before, seconds=0.0)
        process.stdin.close()
    assert process.returncode == 0
