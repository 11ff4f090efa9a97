"""The package's scripts, where another installation works at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cni_repair.placing import package
from cni_repair.placing.launcher import launcher_text
from cni_repair.placing.puts import Prefix, locked, put_launcher, put_version, say_where

NAME = "1.0-20260101T000000Z-1"


def test_a_launcher_that_is_put_back_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an install.sh that had begun before: the package must not remove what serves now."""
    (tmp_path / "tree").mkdir()
    other, bin_dir = Prefix(tmp_path / "other"), tmp_path / "bin"
    version = put_version(other, NAME, tmp_path / "tree")
    say_where(other, version, [bin_dir])

    @contextmanager
    def once_it_has_ended(prefix: Prefix) -> Iterator[None]:
        text = launcher_text(f"{version}/bin/python3", [])
        put_launcher(other, version, bin_dir, text)
        with locked(prefix):
            yield

    monkeypatch.setattr(package, "locked", once_it_has_ended)
    package.take_over(other, [bin_dir])
    assert other.versions() == [version]
