"""Hosts in namespaces, over which ansible rolls a driver out: the rig of integration/fleet."""

from __future__ import annotations

import pytest

from integration.fleet import rig
from integration.fleet.controller import TOO_OLD
from integration.fleet.story import STEPS
from tests.extent import IS_FULL
from tests.rigs import Json, assert_holds, call_rig, outcomes_in

_SECONDS = 1800  # it may have to be downloaded, and other tests run beside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_SECONDS + 60)]

_FEW = "4"  # a batch each
_LIKE_OTHERS = ("roll-out",)  # `resumed` rolls out, too
_PLAYED = [name for name in STEPS if IS_FULL or name not in _LIKE_OTHERS]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Json]:
    """What came of each step; one run serves all tests."""
    extent = [] if IS_FULL else [f"--hosts={_FEW}"]
    done = call_rig(rig, "--json", *extent, *_PLAYED, seconds=_SECONDS)
    if done.returncode == 2 and TOO_OLD in done.stderr:
        pytest.skip(done.stderr.strip())
    return outcomes_in(done.stdout, done.stderr)


@pytest.mark.parametrize("name", ["install", *_PLAYED])
def test_step_holds(outcomes: dict[str, Json], name: str) -> None:
    failed = [
        f"{outcome['scenario']}: {check['what']}: {check['detail']}\n{outcome['kept_in']}"
        for outcome in outcomes.values()
        for check in outcome["checks"]
        if not check["holds"]
    ]
    assert name in outcomes, failed  # the rig ends with the first step that does not hold
    assert_holds(outcomes[name])
