"""Which files are trusted, and how they are written; against real ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_repair.base import files
from cni_repair.base.files import Untrusted, open_trusted, read_trusted, replace_durably


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    fd = files.open_directory(str(tmp_path))
    yield fd
    os.close(fd)


def test_own_file_is_read_up_to_the_limit(tmp_path: Path, opened: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5)
    data, status = read_trusted("file", 5, opened)
    assert (data, status.st_ino) == (b"xxxxx", path.stat().st_ino)
    assert read_trusted(str(path), 5)[0] == data
    with pytest.raises(Untrusted, match="longer than 4 bytes"):
        read_trusted("file", 4, opened)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (linked, "cannot open it: Too many levels of symbolic links"),
        (fifo, "it is not a regular file"),
        (directory, "it is not a regular file"),
        (lambda path: path.chmod(0o620), r"others may write to it \(mode 0620\)"),
        (lambda path: path.chmod(0o602), r"others may write to it \(mode 0602\)"),
        (lambda path: os.chown(path, 1234, 0), "it belongs to uid 1234, not to uid 0"),
    ],
    ids=["link", "fifo", "directory", "group", "world", "owner"],
)
def test_what_another_could_have_made_is_not_read(
    tmp_path: Path, opened: int, spoil: Callable[[Path], None], why: str
) -> None:
    if os.geteuid() != 0 and "uid" in why:
        pytest.skip("only root can give a file away")
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o600)
    spoil(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Untrusted, match=why):
        open_trusted("file", opened)
    assert len(os.listdir("/proc/self/fd")) == before


def test_absent_file(opened: int) -> None:
    with pytest.raises(FileNotFoundError):
        open_trusted("file", opened)


def test_linked_directory_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(NotADirectoryError):
        files.open_directory(str(tmp_path / "link"))


def test_replaced_file_is_whole(tmp_path: Path, opened: int) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / files.temporary_name("file")).write_bytes(b"of a writer that was killed")
    replace_durably(opened, "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_failed_replacement_leaves_the_old_file_alone(tmp_path: Path, opened: int) -> None:
    (tmp_path / "file").mkdir()  # a rename onto it fails
    with pytest.raises(IsADirectoryError):
        replace_durably(opened, "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
