from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine, and nothing kept from run to run: CI must not find today what
# it missed yesterday for another change.
settings.register_profile(
    "unit",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture
def umask() -> Iterator[None]:
    """Puts the process's umask back after a test that changes it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
