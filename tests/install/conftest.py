from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.node import LOCK, REPOSITORY, Node


def copy_source(target: Path) -> Path:
    """What install.sh needs of a checkout: a build in the checkout itself leaves files there."""
    target.mkdir()
    for name in ("install.sh", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, target)
    (target / "conf").mkdir()
    shutil.copy(REPOSITORY / LOCK, target / LOCK)
    shutil.copytree(
        REPOSITORY / "cni_repair",
        target / "cni_repair",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return target


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cni-repair, all that it depends on, and what builds it."""
    base = tmp_path_factory.mktemp("wheels")
    source = copy_source(base / "source")
    target = base / "dir"
    for what in (["--require-hashes", "-r", str(source / LOCK)], ["--no-deps", str(source)]):
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "-q", "-w", target, *what], check=True
        )
    return target


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_source(tmp_path / "checkout")


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture(scope="session")
def fresh_node(wheels: Path) -> Iterator[Node]:
    """A node with one installation, only to be looked at."""
    node = Node()
    done = node.install("--wheels", str(wheels), umask=0o077)
    assert (done.returncode, done.stderr) == (0, "")
    yield node
    node.close()


@pytest.fixture
def installed_node(node: Node, fresh_node: Node) -> Node:
    """A node of the test's own with the same installation."""
    for directory in ("/opt", "/usr/local/sbin", "/usr/local/share"):
        shutil.copytree(
            fresh_node.path(directory), node.path(directory), symlinks=True, dirs_exist_ok=True
        )
    return node
