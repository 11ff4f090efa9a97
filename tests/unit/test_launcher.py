"""The launcher: whose it is, and what it says where nothing can be loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni_repair.placing.launcher import launcher_text, version_of
from cni_repair.placing.puts import NAME


def test_it_names_the_version_that_it_runs(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text(launcher_text("/opt/cni-repair/versions/1/bin/python3", ["/lib"]))
    assert version_of(file) == "/opt/cni-repair/versions/1"


@pytest.mark.parametrize(
    "text", ["", "#!", "#!/bin/sh\n", "#!/opt/x/bin/python3 -IS\n", "\udcff", "#!" + "/x" * 99]
)
def test_what_is_no_launcher_runs_no_version(tmp_path: Path, text: str) -> None:
    file = tmp_path / NAME
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert version_of(file) == ""
    assert version_of(tmp_path) == version_of(tmp_path / "none") == ""


def test_nobodys_word_is_waited_for(tmp_path: Path) -> None:
    """A FIFO in its place would hold up whoever installs, with the prefix locked."""
    os.mkfifo(tmp_path / NAME)
    assert version_of(tmp_path / NAME) == ""


def test_links_in_a_circle_are_no_launcher(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(NAME)
    assert version_of(tmp_path / NAME) == ""


def run(launcher: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([launcher], env=environ, capture_output=True, text=True, check=False)


def test_it_tells_a_runtime_that_it_cannot_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / NAME
    file.write_text(launcher_text(sys.executable, [str(tmp_path / 'no"thing')]))
    file.chmod(0o755)
    done = run(file, CNI_COMMAND="ADD")
    assert (done.returncode, done.stderr) == (1, "")
    assert '"code":5,"msg":"cni-repair cannot be loaded"' in done.stdout
    done = run(file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "cni-repair: cannot be loaded: No module named cni_repair\n"
