"""A real Prometheus and node_exporter: the rig of integration/prometheus, and promtool's tests."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.prometheus import rig
from integration.prometheus.servers import prepare, promtool
from integration.prometheus.story import CONF, STEPS
from tests.leaks import traces
from tests.patience import eventually
from tests.processes import ended
from tests.rigs import Json, assert_holds, outcomes_of, runner, write_source

_SECONDS = 900  # it may have to be downloaded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(_SECONDS + 30)]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Json]:
    """What came of each step; one run serves all tests."""
    return outcomes_of(rig, seconds=_SECONDS)


@pytest.mark.parametrize("name", list(STEPS))
def test_step_holds(outcomes: dict[str, Json], name: str) -> None:
    assert outcomes.keys() == STEPS.keys(), outcomes
    assert_holds(outcomes[name])


def test_run_that_is_stopped_leaves_nothing(
    tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    prepare()
    before = _directories()
    command = [str(runner(rig)), f"--source={write_source(tmp_path)}"]
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdout=pipe, stderr=pipe)) as process:
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
