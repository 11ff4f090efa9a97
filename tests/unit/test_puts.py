"""Versions of a prefix: what was cut short is not taken for whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cni_repair.placing.puts import Prefix, put_version, remove_unused

NAME = "1.0-20260101T000000Z-1"


def test_a_removal_that_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed within it, with some of the files gone: the next time it is made anew."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "module").write_text("whole")
    prefix = Prefix(tmp_path / "prefix")
    version = put_version(prefix, NAME, tree)

    def killed(path: Path) -> None:
        (path / "module").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        remove_unused(prefix, [])
    assert put_version(prefix, NAME, tree) == version
    assert (version / "module").read_text() == "whole"
