"""The rig of integration/cluster: cni-repair rolled out on three bare nodes, and taken away."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import poll_until
from integration.cluster import rig
from integration.cluster.story import STEPS
from integration.containerd.cgroup import hierarchies
from tests.background import Background
from tests.leaks import processes

_BUILD_SECONDS = 360  # what there may be left to build: it was begun beside the tests before
_SECONDS = 1700  # for all the rest; it may have to be downloaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_BUILD_SECONDS + _SECONDS + 30)]

_RUN = Path(rig.__file__).with_name("run")


@pytest.fixture(scope="module")
def outcomes(cluster_build: Background) -> dict[str, dict[str, Any]]:
    """What came of each step; one run serves all tests. (It waits for the build by its lock.)"""
    done = subprocess.run(
        [str(_RUN), "--json", "--build-seconds", str(_BUILD_SECONDS)],
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS + _SECONDS,
        check=False,
    )
    if done.returncode == rig.LEFT_OUT:
        pytest.skip(f"the test with a real cluster is LEFT OUT: {done.stderr.strip()}")
    assert done.stdout, done.stderr
    return {outcome["scenario"]: outcome for outcome in json.loads(done.stdout)}


@pytest.mark.parametrize("name", list(STEPS))
def test_step_holds(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    assert outcomes.keys() == STEPS.keys(), outcomes
    outcome = outcomes[name]
    failed = [check for check in outcome["checks"] if not check["holds"]]
    assert outcome["checks"]
    assert not failed, f"{failed}\n{outcome['kept_in']}\n{outcome['evidence']}"


@pytest.mark.usefixtures("outcomes")  # or Kubernetes may have to be built first
def test_run_that_is_stopped_leaves_nothing(nothing_left: Callable[[], None]) -> None:
    # To make the images takes long, and it does not come to them.
    program = (
        f"import sys; sys.path.insert(0, {str(_RUN.parents[2])!r});"
        " from integration.cluster import rig; from integration.cluster.overlay import *;"
        " image = Image('/dev/null', IMAGE, '1'); images = Images(image, image);"
        " rig.make_images = lambda source, directory: images.write(directory) or images;"
        " sys.exit(rig.main())"
    )
    with subprocess.Popen(
        [sys.executable, "-IB", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        poll_until(lambda: _has_kubelet(process), 300, "a kubelet")
        directory, cgroup = _made()
        assert Path(directory).exists()
        assert _cgroups(cgroup)
        process.terminate()
        process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert not Path(directory).exists()
    assert not _cgroups(cgroup)
    nothing_left()


def _has_kubelet(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        pytest.fail(f"it has ended: {process.communicate()}")
    return any("/kubelet --config" in one for one in processes())


def _made() -> tuple[str, str]:
    """What a run makes outside of its private machine, by its arguments there: a directory, and
    cgroups of that name, below which all others are. (A neighbour's are no matter.)
    """
    found = re.search(r"(/var/tmp/cni-repair-cluster-\S+) (cni-repair-\w+)", "\n".join(processes()))
    assert found
    return found[1], found[2]


def _cgroups(name: str) -> list[Path]:
    return [path for top in hierarchies() if (path := top / name).exists()]


def test_build_that_takes_too_long_is_left_out() -> None:
    program = (
        f"import signal, sys; sys.path.insert(0, {str(_RUN.parents[2])!r});"
        " from pathlib import Path; from integration.kubernetes import build;"
        " build.PROGRAMS = [Path('/none/kube-apiserver')];"
        " build._build = lambda program: signal.pause();"
        " from integration.cluster import rig;"
        " sys.argv[1:] = ['--build', '--build-seconds', '0.2']; sys.exit(rig.main())"
    )
    done = subprocess.run(
        [sys.executable, "-IB", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == rig.LEFT_OUT
    assert "kube-apiserver is not built after 0.2 s" in done.stderr
