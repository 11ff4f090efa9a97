"""What a Job does on a node, by what the last upgrade has left there."""

from __future__ import annotations

from typing import Any

import pytest

from cni_repair.placing.upgrading import BEGIN, DONE, RESUME, STUCK, WAIT, next_step


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
