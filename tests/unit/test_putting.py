"""Putting versions into service and out of it, below a root of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni_repair.placing.launcher import launcher_text, version_of
from cni_repair.placing.puts import (
    NAME,
    NotPlaced,
    Prefix,
    launchers,
    locked,
    put_launcher,
    put_version,
    remove_prefix,
    remove_unused,
    say_where,
)
from tests.patience import eventually
from tests.processes import ended

OLD, NEW = "0.1.0-20260101T000000Z-1", "0.2.0-20260201T000000Z-1"
BIN = Path("/opt/cni/bin")


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    return Prefix(Path("/opt/cni-repair"), tmp_path / "node")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib/module.py").write_text("x = 1\n")
    return tree


def put(prefix: Prefix, name: str, tree: Path, bin_dir: Path = BIN) -> Path:
    version = put_version(prefix, name, tree)
    put_launcher(prefix, version, bin_dir, launcher_text(f"{version}/bin/python3", ["/lib"]))
    say_where(prefix, version, [bin_dir])
    return version


def test_a_version_is_put_into_service(prefix: Prefix, tree: Path) -> None:
    version = put(prefix, NEW, tree)
    assert version == Path("/opt/cni-repair/versions", NEW)
    assert (prefix.real(version) / "lib/module.py").read_text() == "x = 1\n"
    assert launchers(prefix) == {BIN / NAME: str(version)}
    assert os.listdir(prefix.real(BIN)) == [NAME]


def test_a_launcher_in_another_directory_is_not_forgotten(prefix: Prefix, tree: Path) -> None:
    """The directory was changed, and the runtime has not been started again: an upgrade later its
    version must still be there."""
    old = put(prefix, OLD, tree)
    put(prefix, OLD, tree, Path("/usr/lib/cni"))
    new = put(prefix, NEW, tree, Path("/usr/lib/cni"))
    remove_unused(prefix, [str(new)])
    assert prefix.versions() == [old, new]
    put_launcher(prefix, new, BIN, launcher_text(f"{new}/bin/python3", []))
    remove_unused(prefix, [str(new)])
    assert prefix.versions() == [new]


def test_nothing_is_written_through_a_link(prefix: Prefix, tree: Path, tmp_path: Path) -> None:
    """Where others can write to the plugin directory, they can say where it would lead."""
    theirs = tmp_path / "passwd"
    theirs.write_text("root")
    staged = prefix.real(BIN) / f".{NAME}-{NEW}"
    staged.parent.mkdir(parents=True)
    staged.symlink_to(theirs)
    put(prefix, NEW, tree)
    assert theirs.read_text() == "root"
    assert os.listdir(prefix.real(BIN)) == [NAME]


def test_the_launcher_is_another_file_each_time(prefix: Prefix, tree: Path) -> None:
    """One that runs, or is about to be read, is never written over."""
    put(prefix, OLD, tree)
    with (prefix.real(BIN) / NAME).open() as file:
        before = file.readline()
        put(prefix, NEW, tree)
        file.seek(0)
        assert file.readline() == before
    assert NEW in version_of(prefix.real(BIN) / NAME)


def test_a_half_made_version_is_made_anew(prefix: Prefix, tree: Path) -> None:
    half = prefix.real(prefix.version(NEW))
    half.mkdir(parents=True)
    (half / "rubbish").touch()
    put_version(prefix, NEW, tree)
    assert not (half / "rubbish").exists()
    (half / "kept").touch()
    put_version(prefix, NEW, tree)  # a whole one stays
    assert (half / "kept").exists()


def test_what_no_launcher_and_no_process_runs_is_removed(prefix: Prefix, tree: Path) -> None:
    old = put(prefix, OLD, tree)
    elsewhere = put(prefix, "0.1.1-20260102T000000Z-1", tree, Path("/usr/lib/cni"))
    new = put(prefix, NEW, tree)
    remove_unused(prefix, {str(new), str(old)})
    assert set(prefix.versions()) == {old, elsewhere, new}
    remove_unused(prefix, {str(new)})
    assert set(prefix.versions()) == {elsewhere, new}


def test_a_version_that_a_process_runs_stays(short_path: Path, tree: Path) -> None:
    prefix = Prefix(short_path)
    version = put_version(prefix, OLD, tree)
    (version / "bin").mkdir()
    python = version / "bin/python3"
    python.symlink_to(sys.executable)
    with ended(subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE)) as process:
        # (It has none for a moment, while the kernel makes it of the one that was forked.)
        eventually(Path(f"/proc/{process.pid}/cmdline").read_bytes)
        remove_unused(prefix, set())
        assert prefix.versions() == [version]
        process.kill()
    remove_unused(prefix, set())
    assert prefix.versions() == []


def test_what_is_no_launcher_of_ours_is_left(prefix: Prefix, tree: Path) -> None:
    file = prefix.real(BIN) / NAME
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n")
    version = put_version(prefix, NEW, tree)
    with pytest.raises(NotPlaced, match="is not a launcher of ours: move it away"):
        put_launcher(prefix, version, BIN, "")
    assert file.read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize("name", ["", "x", "0.1.0", "../0.1.0-20260101T000000Z-1", f"{NEW}/x"])
def test_a_name_that_install_sh_does_not_know_is_refused(
    prefix: Prefix, tree: Path, name: str
) -> None:
    with pytest.raises(NotPlaced, match="is no name of a version"):
        put_version(prefix, name, tree)


def test_a_prefix_too_long_for_a_first_line_is_refused(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(NotPlaced, match="too long"):
        put_version(Prefix(tmp_path / ("x" * 100)), NEW, tree)


def test_nothing_is_left_of_a_prefix(prefix: Prefix, tree: Path) -> None:
    with locked(prefix):
        put(prefix, NEW, tree)
        remove_prefix(prefix)
    assert not prefix.real(prefix.path).exists()
