"""Running a plugin: what becomes of its processes, and of our own signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.cni import delegate
from cni_repair.cni.delegate import NotFound, TimedOut
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


# --- what it is searched in ---


@pytest.mark.parametrize("more", ["evil:{}", "{}:evil", "./evil::{}:.", "../evil:{}:"])
@pytest.mark.parametrize("name", ["CNI_PATH", "PATH"])
def test_only_absolute_directories_are_handed_on(tmp_path: Path, name: str, more: str) -> None:
    """A plugin looks for its IPAM plugin in CNI_PATH: from where we were started, were one of its
    directories relative."""
    plugin = tmp_path / "plugin"
    plugin.write_text(f'#!/bin/sh\necho "${name}"\n')
    plugin.chmod(0o755)
    environ = {"CNI_PATH": f"{tmp_path}:/two", "PATH": f"{tmp_path}:/two"}
    environ[name] = more.format(environ[name])
    assert delegate.call("plugin", environ, {}) == f"{tmp_path}:/two\n".encode()


@pytest.mark.parametrize("path", ["", ":", ".", "bin:sbin"])
def test_path_with_nothing_absolute_is_not_handed_on(tmp_path: Path, path: str) -> None:
    """An empty PATH means the directory in which a program was started."""
    plugin = tmp_path / "plugin"
    plugin.write_text("#!/bin/sh\nexec /usr/bin/env\n")
    plugin.chmod(0o755)
    said = delegate.call("plugin", {"CNI_PATH": str(tmp_path), "PATH": path}, {}).decode()
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_"}
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names - shells_own == {"CNI_PATH"}


def test_plugin_that_only_a_relative_directory_has_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match="relative paths do not count"):
        delegate.find("plugin", ".:/nowhere")
    with pytest.raises(NotFound) as caught:
        delegate.find("plugin", "/nowhere")
    assert "relative" not in str(caught.value)
