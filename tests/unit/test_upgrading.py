"""What a Job does on a node, by what the last upgrade has left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cni_repair.base.errors import CniError
from cni_repair.placing import daemonset
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
