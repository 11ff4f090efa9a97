from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.errors import RigError
from integration.packaging.trees import debian
from tests.install.node import REPOSITORY
from tests.packages.debian import Debian

MAKE = REPOSITORY / "integration/packaging/make-packages"
FIRST, SECOND = 1_700_000_000, 1_700_000_100  # when the two versions were made, for their packages

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A function that builds packages of this checkout; the directory in which they are."""

    def build_packages(epoch: int, *forms: str, umask: int = 0o022, **environ: str) -> Path:
        out = tmp_path_factory.mktemp("packages")
        done = subprocess.run(
            [MAKE, "--out", out, *forms],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), **environ},
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 2:
            pytest.skip(done.stderr)  # no package index, or no tool for this machine
        assert done.returncode == 0, done.stderr
        return out

    return build_packages


@pytest.fixture(scope="session")
def first(build: Build) -> Path:
    """The packages of a version."""
    return build(FIRST)


@pytest.fixture(scope="session")
def second(build: Build) -> Path:
    """The .deb of a later one."""
    return build(SECOND, "deb")


def deb_in(directory: Path) -> Path:
    (found,) = directory.glob("*.deb")
    return found


def rpm_in(directory: Path) -> Path:
    (found,) = directory.glob("*.rpm")
    return found


def node_of(release: int) -> Debian:
    try:
        return Debian(debian(release))
    except RigError as error:
        pytest.skip(f"no Debian {release} to install in: {error}")


@pytest.fixture(scope="module", params=[12, 13])
def node(request: pytest.FixtureRequest) -> Iterator[Debian]:
    """A node of each release; the tests of a module tell one story with it, in their order."""
    with node_of(request.param) as node:
        yield node
