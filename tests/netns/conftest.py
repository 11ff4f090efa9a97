"""Fixtures of the tests that need real namespaces and the real plugins."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_repair.base.procfs import sees_all_processes
from tests.netns.rig import PLUGINS, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A node with one uplink, eth0."""
    if not os.path.exists(f"{PLUGINS}/macvlan"):
        pytest.fail(f"{PLUGINS}/macvlan is missing: apt-get install containernetworking-plugins")
    with Rig(tmp_path) as made:
        yield made


@pytest.fixture
def runtime(rig: Rig, tmp_path: Path) -> Iterator[None]:
    """In a container that does not see the machine's processes, the sight of a runtime counts."""
    if sees_all_processes():
        yield
        return
    named = tmp_path / "containerd"
    shutil.copy("/bin/sleep", named)
    with rig.started(str(named), "600"):
        yield
