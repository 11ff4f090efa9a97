"""How a diary of strace's becomes points, at which a proof lets a system call fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

from integration.trust.refused.tracing import point_named, points_in, reached, refused, traced

COMMAND = ["/bin/mkdir", "-p", "a/b"]


def run(directory: Path, command: list[str]) -> int:
    return subprocess.run(command, cwd=directory, check=False, stderr=subprocess.DEVNULL).returncode


def test_calls_are_counted_by_their_names(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    assert run(tmp_path, traced(COMMAND, diary, ["mkdir", "no-such-call"])) == 0
    assert [str(point) for point in points_in(diary)] == ["mkdir:1", "mkdir:2"]


def test_one_call_is_refused(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    assert run(tmp_path, refused(COMMAND, diary, point_named("mkdir:2"), "ENOSPC")) == 1
    assert (tmp_path / "a").is_dir()
    assert not (tmp_path / "a" / "b").exists()
    assert str(reached(diary)) == "mkdir:2"


def test_a_call_that_never_comes(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    assert run(tmp_path, refused(COMMAND, diary, point_named("mkdir:9"), "ENOSPC")) == 0
    assert reached(diary) is None
