from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.examples import FAST, WHOLE

# The same examples on every machine, and nothing kept from run to run: CI must not find today what
# it missed yesterday for another change.
for name, count in (("whole", WHOLE), ("fast", FAST)):
    settings.register_profile(
        name,
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=count,
        suppress_health_check=[HealthCheck.too_slow],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Before any test file is read."""
    settings.load_profile("fast" if config.option.markexpr == "not slow" else "whole")


@pytest.fixture
def umask() -> Iterator[None]:
    """Puts the process's umask back after a test that changes it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """The path of a run directory that is not there yet."""
    return str(tmp_path / "run")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory of records."""
    made = tmp_path / "checkpoints"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory for what has to fit into a #! line: pytest's own are deep below others."""
    with tempfile.TemporaryDirectory(prefix="p", dir="/tmp") as directory:
        yield Path(directory)
