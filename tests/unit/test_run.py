"""`tests/run`: what is wrong with its arguments is told at once, not once all is set up."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.samples import REPOSITORY


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it where nothing is set up, nor could be."""
    (directory / "tests").mkdir()
    script = shutil.copy(REPOSITORY / "tests/run", directory / "tests")
    command = ["/bin/bash", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "tests/run: unknown option '--nonsense': see --help"),
        (["--unit", "--nonsense=1"], "tests/run: unknown option '--nonsense=1': see --help"),
        (["--fast", "-k", "word", "--exit-first"], "tests/run: unknown option '--exit-first'"),
        (["tests/none.py::test_it"], "tests/run: no tests/none.py::test_it: give a file"),
    ],
)
def test_wrong_argument_is_told_before_all_else(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--durations=40"], ["--maxfail", "2"], ["-x"], ["--", "--nonsense"], ["tests/run"]],
    ids=" ".join,
)
def test_what_is_pytests_comes_to_the_set_up(tmp_path: Path, arguments: list[str]) -> None:
    """(It fails there, for want of a checkout.)"""
    done = run(tmp_path, "--unit", *arguments)
    assert done.returncode == 1
    assert "pyproject.toml: No such file or directory" in done.stderr
