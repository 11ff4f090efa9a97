"""Versions of a prefix: what was cut short is not taken for whole."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_repair.placing.puts import Prefix, put_version, remove_unused, running
from tests.patience import eventually
from tests.processes import ended

NAME = "1.0-20260101T000000Z-1"


def test_a_removal_that_was_cut_short(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed within it, with some of the files gone: the next time it is made anew."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "module").write_text("whole")
    prefix = Prefix(short_path)
    version = put_version(prefix, NAME, tree)

    def killed(path: Path) -> None:
        (path / "module").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        remove_unused(prefix, [])
    assert put_version(prefix, NAME, tree) == version
    assert (version / "module").read_text() == "whole"


@pytest.mark.needs_root
def test_what_a_container_runs_by_the_same_name(tmp_path: Path) -> None:
    """It has a prefix of its own there, or another test's node has."""
    version = tmp_path / "versions" / NAME
    version.mkdir(parents=True)
    ready = f"echo; exec -a {version}/bin/python3 cat"
    hidden = f"mount -t tmpfs tmpfs {tmp_path}; mkdir -p {version}; {ready}"
    with started("bash", "-c", ready) as here, started("unshare", "-m", "bash", "-ec", hidden):
        assert running(tmp_path).keys() == {here.pid}


@pytest.mark.needs_root
@pytest.mark.parametrize("mode", [0o755, 0o711], ids=["an open one", "one that cannot be dumped"])
def test_what_another_user_s_process_says_of_itself(short_path: Path, mode: int) -> None:
    """It would keep versions for ever, and hold up each uninstall."""
    version = short_path / "versions" / NAME
    version.mkdir(parents=True)
    for path in (version, *version.parents):
        if short_path.parent in path.parents:
            path.chmod(0o755)
    program = version / "program"
    shutil.copy("/usr/bin/cat", program)
    program.chmod(mode)
    lie = f"echo; exec -a {version}/bin/python3 {program}"
    nobody = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all")
    with started("bash", "-c", lie) as ours, started(*nobody, "bash", "-c", lie):
        assert running(short_path).keys() == {ours.pid}


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said a line, and waits for its input's end."""
    pipe = subprocess.PIPE
    with ended(subprocess.Popen(command, stdin=pipe, stdout=pipe)) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        # (The shell that becomes it has those words, too, though not as its name.)
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: cmdline.read_bytes().partition(b"\0")[0].endswith(b"/bin/python3"))
        yield process
