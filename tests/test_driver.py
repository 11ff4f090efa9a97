"""The rig of integration/driver: a real driver is reloaded under pods, in a virtual machine."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from integration.driver import rig
from integration.driver.initramfs import build_initramfs
from integration.driver.kernel import prepare
from integration.driver.outage import from_json
from integration.driver.outagechart import chart
from tests.background import Background
from tests.extent import IS_FULL, guest_scenarios
from tests.rigs import Json, assert_holds, call_rig, outcomes_in, runner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2500)]

_RUN = runner(rig)
_CHECKOUT = _RUN.parents[2]
_SECONDS = 2400


@pytest.fixture(scope="module")
def outcomes(driver_run: Background) -> dict[str, Json]:
    """What came of each scenario; one run serves all tests."""
    return outcomes_in(*driver_run.wait(_SECONDS))


@pytest.mark.parametrize("name", guest_scenarios())
def test_scenario_holds(outcomes: dict[str, Json], name: str) -> None:
    assert_holds(outcomes[name])


def test_guest_that_hangs_is_killed_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig, "SILENCE_SECONDS", 0.5)  # it boots longer than that
    names = ["control", "late"]
    found = list(rig.run_scenarios(prepare(), tmp_path, ["/nonexistent"], names, 2))
    assert sorted(outcome.scenario for outcome in found) == names
    for outcome in found:
        (check,) = outcome.checks
        assert not check["holds"]
        assert check["detail"] == "silent for 0.5 s"
        assert "console" in outcome.evidence


def test_unknown_scenario_is_wrong_usage() -> None:
    done = call_rig(rig, "nonsense")
    assert done.returncode == 2
    assert "no scenario nonsense" in done.stderr


@pytest.mark.skipif(not IS_FULL, reason="takes minutes: tests/run --full")
def test_plot_from_a_checkout_below_tmp() -> None:
    """The guest has a /tmp of its own, and imports the scenarios all the same."""
    with tempfile.TemporaryDirectory(dir="/tmp") as clone:
        for package in ("cni_repair", "conf", "integration"):
            shutil.copytree(_CHECKOUT / package, Path(clone) / package)
        run = Path(clone) / _RUN.relative_to(_CHECKOUT)
        drawn = [run.with_name(f"outage.{suffix}") for suffix in ("json", "svg")]
        for file in drawn:
            file.unlink()
        done = subprocess.run(
            [str(run), "--source", str(_CHECKOUT), "--plot"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 scenarios, 5 checks: all hold" in done.stdout
        measured, svg = (file.read_text("utf-8") for file in drawn)
    outage = from_json(measured)
    assert svg == chart(outage)
    control, repaired = outage.runs
    assert all(control.outage(pod)[1] == math.inf for pod in control.replies)
    assert all(repaired.outage(pod)[1] < math.inf for pod in repaired.replies)


def test_plot_takes_no_scenarios() -> None:
    done = call_rig(rig, "--plot", "control")
    assert done.returncode == 2
    assert "scenarios of its own" in done.stderr


def test_initramfs_is_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    kernel = prepare()
    build_initramfs(kernel, tmp_path / "initramfs")
    with (tmp_path / "initramfs").open("rb") as archive:
        listed = subprocess.run(
            [str(kernel.busybox), "cpio", "-t"], stdin=archive, capture_output=True, text=True,
            check=True,
        ).stdout.split()  # fmt: skip
    assert {"init", "rig.service", "bin/busybox", "mnt"} <= set(listed)
    assert any(re.search(r"/e1000e\.ko(\.xz)?$", name) for name in listed)
