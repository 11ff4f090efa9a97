"""Hosts in namespaces, over which ansible rolls a driver out: the rig of integration/fleet."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.fleet import rig
from integration.fleet.controller import TOO_OLD
from integration.fleet.story import STEPS
from tests.extent import IS_FULL

_SECONDS = 1800  # it may have to be downloaded, and other tests run beside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_SECONDS + 60)]

_RUN = Path(rig.__file__).with_name("run")
_FEW = "4"  # a batch each
_LIKE_OTHERS = ("roll-out",)  # `resumed` rolls out, too
_PLAYED = [name for name in STEPS if IS_FULL or name not in _LIKE_OTHERS]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of each step; one run serves all tests."""
    extent = [] if IS_FULL else [f"--hosts={_FEW}"]
    done = subprocess.run(
        [str(_RUN), "--json", *extent, *_PLAYED],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode == 2 and TOO_OLD in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout, done.stderr
    return {outcome["scenario"]: outcome for outcome in json.loads(done.stdout)}


@pytest.mark.parametrize("name", ["install", *_PLAYED])
def test_step_holds(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    failed = [
        f"{outcome['scenario']}: {check['what']}: {check['detail']}\n{outcome['kept_in']}"
        for outcome in outcomes.values()
        for check in outcome["checks"]
        if not check["holds"]
    ]
    assert name in outcomes, failed  # the rig ends with the first step that does not hold
    outcome = outcomes[name]
    assert outcome["checks"]
    assert all(check["holds"] for check in outcome["checks"]), failed
