from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integration.errors import RigError
from integration.packaging import packages
from integration.packaging.source import read_source, write_sums
from integration.packaging.trees import debian
from tests.packages.debian import Debian

FIRST, SECOND = 1_700_000_000, 1_700_000_100  # when the two versions were made, for their packages


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the packages of a version are, and the .deb of a later one; both of this checkout."""
    work = tmp_path_factory.mktemp("work")
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", str(FIRST))
        try:
            source = read_source()
            packages.write_deb(source, work, first)
            packages.write_rpm(source, work, first)
            packages.write_deb(replace(source, epoch=SECOND), work, second)
        except RigError as error:
            pytest.skip(f"the packages cannot be built here: {error}")
    write_sums(first)
    return first, second


@pytest.fixture(scope="session")
def first(built: tuple[Path, Path]) -> Path:
    return built[0]


@pytest.fixture(scope="session")
def second(built: tuple[Path, Path]) -> Path:
    return built[1]


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
