"""The rig of integration/kubelet: a real kubelet's pods lose their uplink and are repaired."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import poll_until, product
from integration.containerd.cgroup import hierarchies
from integration.kubelet import rig
from integration.kubelet.story import STEPS
from tests.background import Background

_BUILD_SECONDS = 900  # it is built beside the tests, by what they leave of the processors
_SECONDS = 700  # for all the rest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_BUILD_SECONDS + _SECONDS + 30)]

_RUN = Path(rig.__file__).with_name("run")
_BUILT_IN_TIME = ["--build-seconds", str(_BUILD_SECONDS)]


@pytest.fixture(scope="module")
def outcomes(kubelet_build: Background) -> dict[str, dict[str, Any]]:
    """What came of each step; one run serves all tests. (It waits for the build by its lock.)"""
    done = subprocess.run(
        [str(_RUN), "--json", *_BUILT_IN_TIME],
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS + _SECONDS,
        check=False,
    )
    if done.returncode == rig.LEFT_OUT:
        pytest.skip(f"the test with a real kubelet is LEFT OUT: {done.stderr.strip()}")
    assert done.stdout, done.stderr
    return {outcome["scenario"]: outcome for outcome in json.loads(done.stdout)}


@pytest.mark.parametrize("name", list(STEPS))
def test_step_holds(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    assert outcomes.keys() == STEPS.keys(), outcomes
    outcome = outcomes[name]
    failed = [check for check in outcome["checks"] if not check["holds"]]
    assert outcome["checks"]
    assert not failed, f"{failed}\n{outcome['kept_in']}\n{outcome['log']}\n{outcome['evidence']}"


@pytest.mark.usefixtures("outcomes")  # or kubelet may have to be built first
def test_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    # Need not be the installed one here, and to install it takes long.
    (tmp_path / "cni-repair").write_text(f"#!/bin/sh\nexec {shlex.join(product())}\n")
    install = f"#!/bin/sh\nmkdir $4\ninstall {tmp_path}/cni-repair $4\n"
    (tmp_path / "install.sh").write_text(install)
    (tmp_path / "install.sh").chmod(0o755)
    before = _left()
    command = [str(_RUN), f"--source={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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
    program = (
        f"import signal, sys; sys.path.insert(0, {str(_RUN.parents[2])!r});"
        " from pathlib import Path; from integration.kubelet import rig;"
        " from integration.kubernetes import build; build.KUBELET = Path('/none/kubelet');"
        " build._build = lambda program: signal.pause();"
        " sys.argv[1:] = ['--build-seconds', '0.2']; sys.exit(rig.main())"
    )
    done = subprocess.run(
        [sys.executable, "-IB", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == rig.LEFT_OUT
    assert "kubelet is not built after 0.2 s" in done.stderr
