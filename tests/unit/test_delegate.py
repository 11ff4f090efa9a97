"""Running a plugin: what becomes of its processes, and of our own signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.cni import delegate
from cni_repair.cni.delegate import TimedOut
from tests.patience import HANG_SECONDS, eventually


def call(directory: Path, script: str, seconds: float = HANG_SECONDS) -> bytes:
    path = directory / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    environ = {"CNI_PATH": str(directory), "PATH": os.environ["PATH"]}
    return delegate.call("plugin", environ, {}, seconds=seconds)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def chld() -> Iterator[None]:
    """Puts back what a test does to SIGCHLD."""
    handler, mask = signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.signal(signal.SIGCHLD, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def daemon_of(said: bytes) -> int:
    """What a plugin has started, once it is that: not the shell that begins to become it."""
    comm = Path(f"/proc/{int(said)}/comm")
    eventually(lambda: comm.read_text() == "sleep\n", "the daemon")
    return int(said)


def test_what_a_plugin_leaves_running_lives_on(tmp_path: Path) -> None:
    """A daemon of its own, say: only our death, or the deadline, takes what it started with it."""
    daemon = daemon_of(call(tmp_path, "sleep 1000 2>/dev/null >/dev/null & echo $!"))
    try:
        assert state_of(daemon) in "SR"
    finally:
        os.kill(daemon, signal.SIGKILL)


def pipes(pid: int) -> dict[str, str]:
    """The pipes that a process has open: their descriptors."""
    files = list(Path(f"/proc/{pid}/fd").iterdir())
    # One of our own was open just for the listing.
    links = {os.readlink(file): file.name for file in files if file.is_symlink()}
    return {link: fd for link, fd in links.items() if link.startswith("pipe:")}


def test_leash_is_untied_from_what_lives_on(tmp_path: Path) -> None:
    daemon = daemon_of(call(tmp_path, "sleep 1000 2>/dev/null >/dev/null & echo $!"))
    try:
        (end,) = pipes(daemon).keys() - pipes(os.getpid()).keys()
        flags = Path(f"/proc/{daemon}/fdinfo/{pipes(daemon)[end]}").read_text().split()[3]
        assert not int(flags, 8) & os.O_ASYNC
    finally:
        os.kill(daemon, signal.SIGKILL)


@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_sigchld_as_a_runtime_may_have_left_it(tmp_path: Path, chld: None, how: str) -> None:
    if how == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    assert call(tmp_path, "sleep 0.05; echo done") == b"done\n"
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert (signal.SIGCHLD in mask) == (how == "blocked")


def test_plugin_gets_an_empty_signal_mask(tmp_path: Path, chld: None) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1])
    try:
        blocked = call(tmp_path, "exec grep SigBlk /proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert int(blocked.split()[1], 16) == 0


def ours() -> tuple[list[str], list[str]]:
    """Our open descriptors, and our children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return os.listdir("/proc/self/fd"), children


def test_no_descriptor_and_no_child_stays(tmp_path: Path) -> None:
    before = ours()
    call(tmp_path, "true")
    with pytest.raises(TimedOut):
        call(tmp_path, "sleep 1000 & wait", seconds=0.05)
    assert ours() == before
