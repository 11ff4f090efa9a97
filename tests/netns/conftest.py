"""Fixtures of the tests that need real namespaces and the real plugins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.rig import PLUGINS, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A node with one uplink, eth0."""
    if not os.path.exists(f"{PLUGINS}/macvlan"):
        pytest.fail(f"{PLUGINS}/macvlan is missing: apt-get install containernetworking-plugins")
    with Rig(tmp_path) as made:
        yield made
