"""The rig of integration/kubelet: a real kubelet's pods lose their uplink and are repaired."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_repair.demo.lab import poll_until
from integration.command import LEFT_OUT
from integration.containerd.cgroup import hierarchies
from integration.kubelet import rig
from integration.kubelet.story import STEPS
from tests.background import Background
from tests.processes import ended
from tests.rigs import Json, assert_holds, call_changed, outcomes_of, runner, write_source

_BUILD_SECONDS = 900  # it is built beside the tests, by what they leave of the processors
_SECONDS = 700  # for all the rest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_BUILD_SECONDS + _SECONDS + 30)]


@pytest.fixture(scope="module")
def outcomes(kubelet_build: Background) -> dict[str, Json]:
    """What came of each step; one run serves all tests. (It waits for the build by its lock.)"""
    return outcomes_of(
        rig,
        f"--build-seconds={_BUILD_SECONDS}",
        seconds=_BUILD_SECONDS + _SECONDS,
        what="a real kubelet",
    )


@pytest.mark.parametrize("name", list(STEPS))
def test_step_holds(outcomes: dict[str, Json], name: str) -> None:
    assert outcomes.keys() == STEPS.keys(), outcomes
    assert_holds(outcomes[name])


@pytest.mark.usefixtures("outcomes")  # or kubelet may have to be built first
def test_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    before = _left()
    command = [str(runner(rig)), f"--source={write_source(tmp_path)}"]
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdout=pipe, stderr=pipe)) as process:
        poll_until(lambda: any("k8s.io/" in path for path in _left() - before), 120, "pods to run")
        process.terminate()
        process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM
    assert _left() == before
    nothing_left()


def _left() -> set[str]:
    """What a run makes outside of its private machine, and the cgroups of its pods."""
    ours = Path("/var/tmp").glob("cni-repair-kubelet-*")
    cgroups = (path for top in hierarchies() for path in top.glob("cni-repair-*/**"))
    return {str(path) for path in (*ours, *cgroups)}


def test_build_that_takes_too_long_is_left_out() -> None:
    change = (
        "import signal; from pathlib import Path; from integration.kubernetes import build;"
        " build.KUBELET = Path('/none/kubelet');"
        " build._build = lambda program: signal.pause()"
    )
    done = call_changed(rig, change, "--build-seconds=0.2")
    assert done.returncode == LEFT_OUT
    assert "kubelet is not built after 0.2 s" in done.stderr
