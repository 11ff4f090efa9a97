"""Every test runs in a private mount namespace, and none may leave anything of a lab behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_repair.demo.lab import Lab, LabError, isolate, poll_until
from tests.background import Background

# Seen by whichever process descends from us, in mount namespaces of its own, too; by no other.
_MARK = Path(f"/run/tests-{os.getpid()}")
# Opened before `isolate()`: what stands in /run outside of our mount namespace.
_MACHINES_RUN = Path(f"/proc/self/fd/{os.open('/run', os.O_RDONLY | os.O_CLOEXEC)}")
_STATE = (Path("/var/lib/cni"), Path("/var/lib/cni-repair"))
_GONE_SECONDS = 30.0
_RIGS = Path(__file__).parents[1] / "integration"
# By the fixture that tests wait for it with: in the order in which they are at their end.
_BACKGROUND = {
    "kubelet_build": ["nice", "-n19", f"{_RIGS}/kubelet/run", "--build"],
    # One guest keeps one core busy.
    "driver_run": [f"{_RIGS}/driver/run", "--json", "--guests=1"],
}


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the tests make network namespaces: run them as root", returncode=2)
    try:
        isolate()
    except LabError as error:
        pytest.exit(str(error), returncode=2)
    _MARK.mkdir()


_background = pytest.StashKey[dict[str, Background]]()


def _waits_for(item: pytest.Item) -> int:
    """Which of `_BACKGROUND` a test waits for; 0: none."""
    names = [name for name in _BACKGROUND if name in getattr(item, "fixturenames", ())]
    return 1 + list(_BACKGROUND).index(names[0]) if names else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_waits_for)  # stable: those that wait come last


def pytest_runtestloop(session: pytest.Session) -> None:
    """What takes longer than all the tests begins before them: they leave a core idle."""
    wanted = {number for number in map(_waits_for, session.items) if number}
    if session.config.option.collectonly:
        return
    running = session.config.stash[_background] = {}
    for number, (name, command) in enumerate(_BACKGROUND.items(), 1):
        if number in wanted:
            running[name] = Background(command)


def pytest_sessionfinish(session: pytest.Session) -> None:
    for run in session.config.stash.get(_background, {}).values():
        run.stop()


@pytest.fixture(scope="session")
def kubelet_build(request: pytest.FixtureRequest) -> Background:
    return request.config.stash[_background]["kubelet_build"]


@pytest.fixture(scope="session")
def driver_run(request: pytest.FixtureRequest) -> Background:
    return request.config.stash[_background]["driver_run"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A node without pods, without the seconds that duplicate address detection takes."""
    with Lab(detect_duplicates=False) as lab:
        yield lab


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the session if processes, namespaces, mounts or files of a lab are still there."""
    before = traces()
    yield
    expect_no_more_than(before)


@pytest.fixture
def nothing_left() -> Callable[[], None]:
    """A function to call in the midst of a test: it fails if more is there than at its start."""
    before = traces()
    return lambda: expect_no_more_than(before)


def expect_no_more_than(before: set[str]) -> None:
    with contextlib.suppress(LabError):
        # What was killed takes a moment to go. An `ip` that it had started comes to its own end,
        # and may have to wait for the kernel's one lock of all links, which others on the machine
        # hold for seconds: cleanup_net(), when thousands of namespaces go.
        poll_until(lambda: traces() <= before, _GONE_SECONDS, "everything to be gone")
    assert traces() - before == set()


def traces() -> set[str]:
    """What could be left behind and is there, for people to read."""
    return {*_processes(), *_descriptors(), *_mounts(), *_files()}


def _processes() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        # Not even root may look at every process of a machine; at its own it may.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if process.name != str(os.getpid()) and Path(f"{process}/root{_MARK}").exists():
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
    for run in (Path("/run"), _MACHINES_RUN):
        for path in (*run.glob("netns/*"), *run.glob("cni-repair*")):
            yield f"file {path}"
    for state in _STATE:
        yield from (f"file {path}" for path in (*state.parent.glob(state.name), *state.rglob("*")))
