"""Every test runs in a private mount namespace, and none may leave anything of a lab behind.

Those in tests/unit run without root, too, where mounts are not to be had, nor needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_repair.demo.lab import Lab, LabError
from tests import beside, strays
from tests.background import Background
from tests.extent import guest_scenarios
from tests.leaks import enter_own_mounts, expect_no_more_than, traces

_IS_ROOT = os.geteuid() == 0
_FOR_EVERYONE = Path(__file__).parent / "unit"
_RIGS = Path(__file__).parents[1] / "integration"
# By the fixture that tests wait for it with: in the order in which they are at their end.
_BACKGROUND = {
    "kubelet_build": ["nice", "-n5", f"{_RIGS}/kubelet/run", "--build"],
    "cluster_build": ["nice", "-n5", f"{_RIGS}/cluster/run", "--build"],
    # One guest keeps one core busy.
    "driver_run": [f"{_RIGS}/driver/run", "--json", "--guests=1"],
}


def pytest_addoption(parser: pytest.Parser) -> None:
    beside.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    if _IS_ROOT:
        try:
            enter_own_mounts()
        except LabError as error:
            pytest.exit(str(error), returncode=2)
    strays.register(config)
    beside.register(config)


_background = pytest.StashKey[dict[str, Background]]()


def _waits_for(item: pytest.Item) -> int:
    """Which of `_BACKGROUND` a test waits for; 0: none."""
    names = [name for name in _BACKGROUND if name in getattr(item, "fixturenames", ())]
    return 1 + list(_BACKGROUND).index(names[0]) if names else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _IS_ROOT:
        _leave_to_root(config, items)
    items.sort(key=_waits_for)  # stable: those that wait come last


def _leave_to_root(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what an ordinary user cannot run; pytest's summary counts it as deselected."""
    if not all(item.path.is_relative_to(_FOR_EVERYONE) for item in items):
        pytest.exit(
            "these tests make network namespaces: run them as root (all but tests/unit)",
            returncode=2,
        )
    left_out = [item for item in items if item.get_closest_marker("needs_root")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_runtestloop(session: pytest.Session) -> None:
    """What takes longer than all the tests begins before them: they leave a core idle."""
    here = filter(beside.runs_here, session.items)
    wanted = {number for number in map(_waits_for, here) if number}
    if session.config.option.collectonly:
        return
    running = session.config.stash[_background] = {}
    for number, (name, command) in enumerate(_BACKGROUND.items(), 1):
        if number in wanted:
            scenarios = guest_scenarios() if name == "driver_run" else []
            running[name] = Background([*command, *scenarios])


def pytest_sessionfinish(session: pytest.Session) -> None:
    for run in session.config.stash.get(_background, {}).values():
        run.stop()


@pytest.fixture(scope="session")
def kubelet_build(request: pytest.FixtureRequest) -> Background:
    return request.config.stash[_background]["kubelet_build"]


@pytest.fixture(scope="session")
def cluster_build(request: pytest.FixtureRequest) -> Background:
    return request.config.stash[_background]["cluster_build"]


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
