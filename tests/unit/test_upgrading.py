"""What a Job does on a node, by what the last upgrade has left there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.errors import CniError
from cni_repair.placing import daemonset, upgrading
from cni_repair.placing.upgrading import (
    BEGIN,
    DONE,
    RESUME,
    STUCK,
    WAIT,
    Upgrading,
    next_step,
)


def status(standing: str, code: int | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "standing": standing, "status": code, "verdict": None, "remaining": [],
        "planDigest": "sha256:a", **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (status("none", planDigest=None), BEGIN),
        (status("running"), WAIT),
        (status("running", planDigest="sha256:b"), WAIT),
        (status("cut-short"), RESUME),
        (status("cut-short", planDigest="sha256:b"), BEGIN),
        (status("rebooted"), BEGIN),
        (status("ended", 0, verdict="well"), DONE),
        (status("ended", 0, verdict="healed"), DONE),
        (status("ended", 0, planDigest="sha256:b"), BEGIN),
        (status("ended", 3, verdict="refused"), BEGIN),
        (status("ended", 1, verdict="failed", remaining=["repair"]), RESUME),
        (status("ended", 1, verdict="failed"), STUCK),
        (status("ended", 1, verdict="given-up", remaining=["repair"]), STUCK),
    ],
    ids=[
        "none", "at work", "another at work", "killed", "another killed", "reboot", "well",
        "healed", "another plan", "refused", "pods left", "failed", "given up",
    ],
)  # fmt: skip
def test_the_next_step(seen: dict[str, Any], step: str) -> None:
    assert next_step("sha256:a", seen) == step


def test_an_older_version_knows_no_digest() -> None:
    seen = status("ended", 0)
    del seen["planDigest"], seen["verdict"]
    assert next_step("sha256:a", seen) == BEGIN


@pytest.mark.parametrize(
    ("dry_run", "why"),
    [
        ("{}", "too old for this Job"),
        ('{"planDigest": "sha256:a"}', "the last upgrade has left here is not known: no journal"),
    ],
    ids=["an older version", "a journal that cannot be read"],
)
def test_what_the_node_cannot_tell(tmp_path: Path, dry_run: str, why: str) -> None:
    program = tmp_path / "cni-repair"
    program.write_text(
        f"#!/bin/sh\ncase $* in *dry-run*) echo '{dry_run}';; *) echo no journal >&2;; esac\n"
    )
    program.chmod(0o755)
    with pytest.raises(CniError, match=why):
        Upgrading([str(program)], {}, "plan.yaml").run()


def test_a_plan_that_is_too_long_is_not_cut(tmp_path: Path) -> None:
    """Its beginning may be a plan, too: another one."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("#" * (64 << 10))
    assert daemonset.read_config(str(plan)) == plan.read_bytes()
    plan.write_text("#" * (64 << 10) + "\n")
    with pytest.raises(CniError, match="is longer than 65536 bytes"):
        daemonset.read_config(str(plan))
    with pytest.raises(CniError, match="cannot be read: Is a directory"):
        daemonset.read_config(str(tmp_path))


ANOTHER_FIRST = """\
#!/bin/sh
echo "$*" >> {log}
began=$(grep -c -e --yes {log})
looks=$(grep -c -e --status {log})
case "$*" in
*--dry-run*) echo '{{"planDigest": "sha256:a"}}' ;;
*--status*)
    case $looks in
    1) echo '{{"standing": "none", "status": null}}' ;;
    2 | 3) echo '{{"standing": "running", "status": null, "planDigest": "sha256:b"}}' ;;
    *) echo '{{"standing": "ended", "status": 0, "planDigest": "sha256:b"}}' ;;
    esac ;;
*--yes*) [ "$began" -gt 1 ] || exit 3 ;;
esac
"""


def test_another_job_s_upgrade_begins_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the start: it is waited for, and ours begun then."""
    monkeypatch.setattr(upgrading, "_POLL_SECONDS", 0.01)
    program, log = tmp_path / "cni-repair", tmp_path / "log"
    program.write_text(ANOTHER_FIRST.format(log=log))
    program.chmod(0o755)
    assert Upgrading([str(program)], {"PATH": os.defpath}, "plan.yaml").run() == 0
    calls = log.read_text().splitlines()
    assert calls.count("upgrade plan.yaml --yes") == 2
    assert calls.count("upgrade --status -o json") == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upgrade"], "upgrade takes one plan: upgrade PLAN.yaml"),
        (["upgrade", "a", "b"], "upgrade takes one plan: upgrade PLAN.yaml"),
        (["run", "now"], "run takes no arguments, but for 'now'"),
        (["ready", "now"], "ready takes no arguments, but for 'now'"),
        (["alive", "now"], "alive takes no arguments, but for 'now'"),
        (["stop"], "invalid choice: 'stop'"),
    ],
)
def test_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        daemonset.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
