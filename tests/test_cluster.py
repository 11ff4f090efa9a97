"""The rig of integration/cluster: cni-repair rolled out on three bare nodes, and taken away."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_repair.demo.lab import poll_until
from integration.cluster import rig
from integration.cluster.story import STEPS
from integration.command import LEFT_OUT
from integration.containerd.cgroup import hierarchies
from tests.background import Background
from tests.leaks import processes
from tests.processes import ended
from tests.rigs import Json, assert_holds, call_changed, changed, outcomes_of

_BUILD_SECONDS = 360  # what there may be left to build: it was begun beside the tests before
_SECONDS = 1700  # for all the rest; it may have to be downloaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_BUILD_SECONDS + _SECONDS + 30)]


@pytest.fixture(scope="module")
def outcomes(cluster_build: Background) -> dict[str, Json]:
    """What came of each step; one run serves all tests. (It waits for the build by its lock.)"""
    return outcomes_of(
        rig,
        f"--build-seconds={_BUILD_SECONDS}",
        seconds=_BUILD_SECONDS + _SECONDS,
        what="a real cluster",
    )


@pytest.mark.parametrize("name", list(STEPS))
def test_step_holds(outcomes: dict[str, Json], name: str) -> None:
    assert outcomes.keys() == STEPS.keys(), outcomes
    assert_holds(outcomes[name])


@pytest.mark.usefixtures("outcomes")  # or Kubernetes may have to be built first
def test_run_that_is_stopped_leaves_nothing(nothing_left: Callable[[], None]) -> None:
    # To make the images takes long. Its image is a FIFO: whoever reads it stands still, and the run
    # does not end before it is stopped.
    change = (
        "import os; from integration.cluster.overlay import *;"
        " image = lambda directory: Image(str(directory / 'image'), IMAGE, '1');"
        " images = lambda directory: Images(image(directory), image(directory));"
        " rig.make_images = lambda source, directory: os.mkfifo(directory / 'image')"
        " or images(directory).write(directory) or images(directory)"
    )
    with ended(
        subprocess.Popen(changed(rig, change), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
    change = (
        "import signal; from pathlib import Path; from integration.kubernetes import build;"
        " build.PROGRAMS = [Path('/none/kube-apiserver')];"
        " build._build = lambda program: signal.pause()"
    )
    done = call_changed(rig, change, "--build", "--build-seconds=0.2")
    assert done.returncode == LEFT_OUT
    assert "kube-apiserver is not built after 0.2 s" in done.stderr
