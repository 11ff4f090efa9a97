"""A real Prometheus and node_exporter: the rig of integration/prometheus, and promtool's tests."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import product
from integration.prometheus import rig
from integration.prometheus.servers import prepare, promtool
from integration.prometheus.story import CONF, STEPS
from tests.leaks import traces
from tests.patience import eventually

_SECONDS = 900  # it may have to be downloaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_SECONDS + 30)]

_RUN = Path(rig.__file__).with_name("run")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of each step; one run serves all tests."""
    done = subprocess.run(
        [str(_RUN), "--json"], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.stdout, done.stderr
    return {outcome["scenario"]: outcome for outcome in json.loads(done.stdout)}


@pytest.mark.parametrize("name", list(STEPS))
def test_step_holds(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    assert outcomes.keys() == STEPS.keys(), outcomes
    outcome = outcomes[name]
    failed = [check for check in outcome["checks"] if not check["holds"]]
    assert outcome["checks"]
    assert not failed, f"{failed}\n{outcome['kept_in']}\n{outcome['evidence']}"


def test_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    prepare()
    # Need not be the installed one here, and to install it takes long.
    (tmp_path / "cni-repair").write_text(f"#!/bin/sh\nexec {shlex.join(product())}\n")
    install = f"#!/bin/sh\nmkdir $4\ninstall {tmp_path}/cni-repair $4\n"
    (tmp_path / "install.sh").write_text(install)
    (tmp_path / "install.sh").chmod(0o755)
    before = _directories()
    command = [str(_RUN), f"--source={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: any("storage.tsdb.path" in one for one in traces()), "prometheus")
        process.terminate()
        process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM
    assert _directories() == before
    nothing_left()


def _directories() -> set[Path]:
    return set(Path("/var/tmp").glob("cni-repair-prometheus-*"))


CHECKS = (
    ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"),
    ("test", "rules", "alerts_test.yaml"),
)


@pytest.mark.parametrize("words", CHECKS, ids=" ".join)
def test_promtool_has_nothing_to_say_of_the_alerts(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare()
    monkeypatch.chdir(CONF / "prometheus")
    status, said = promtool(*words)
    assert status == 0, said


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("for: 1m", "for: 5m"),
        ('{uplink="up"}', ""),
        (" and cni_repair_master_attachments > 0", ""),
        ("          or cni_repair_unmanaged_interfaces > 0\n", ""),
        ("for: 30m", "for: 1m"),
        ("          or cni_repair_build_info unless", "          unless"),
        ("unless on (job, instance) last_over", "and on (job, instance) last_over"),
        ("> 300", "> 3000"),
    ],
)
def test_alert_that_is_wrong_is_noticed(tmp_path: Path, was: str, becomes: str) -> None:
    prepare()
    text = (CONF / "prometheus/alerts.yaml").read_text()
    assert was in text
    (tmp_path / "alerts.yaml").write_text(text.replace(was, becomes))
    tests = tmp_path / "alerts_test.yaml"
    tests.write_text((CONF / "prometheus/alerts_test.yaml").read_text())
    assert promtool("test", "rules", str(tests))[0] == 1
