"""make-packages: the same checkout gives the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.install.node import REPOSITORY
from tests.packages.conftest import FIRST


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(first: Path, tmp_path: Path) -> None:
    """By another umask, in another time zone and locale, with other temporary directories."""
    again, temporary = tmp_path / "again", tmp_path / "temporary"
    temporary.mkdir()
    environ = {"SOURCE_DATE_EPOCH": str(FIRST), "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    environ["TMPDIR"] = str(temporary)
    done = make("--out", str(again), "deb", "rpm", umask=0o077, **environ)
    assert done.returncode == 0, done.stderr
    assert sums(again) == sums(first)
    assert len(sums(first)) == 3
    assert list(temporary.iterdir()) == []


def sums(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
    }


@pytest.mark.slow
def test_the_sums_are_right(first: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=first, check=True)


def make(*arguments: str, umask: int = 0o022, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "integration/packaging/make-packages", *arguments],
        env={**os.environ, **environ},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_form_that_is_not_known_is_named() -> None:
    done = make("snap")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no form snap: choose from deb, rpm" in done.stderr


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    done = make("--source", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"make-packages: {tmp_path} is no checkout of cni-repair: no ")


def test_a_wrong_epoch_is_refused(tmp_path: Path) -> None:
    done = make("--out", str(tmp_path), SOURCE_DATE_EPOCH="yesterday")
    assert done.returncode == 2
    assert "SOURCE_DATE_EPOCH is 'yesterday': give seconds since 1970" in done.stderr


def test_a_directory_that_cannot_be_made_is_named() -> None:
    done = make("--out", "/proc/none", "deb")
    assert done.returncode == 2
    assert done.stderr == (
        "make-packages: cannot make /proc/none: No such file or directory: give another --out\n"
    )
