"""Checkpoints on disk: durable, private, and nothing hostile is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_repair.base import files
from cni_repair.base.errors import BAD_CHECKPOINT, IO, CniError, with_remedy
from cni_repair.base.files import make_private
from cni_repair.checkpoint import store as stores
from cni_repair.checkpoint.store import (
    COMMITTED,
    DELETING,
    INTENT,
    MAX_BYTES,
    Key,
    Store,
    half_written,
    mark_of,
)

KEY = Key("06c9b8d0a800", "eth0")
NAME = "06c9b8d0a800@eth0.json"

as_root = pytest.mark.needs_root  # gives files to other users


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- writing ------------------------------------------------------------------------------------


class Recorder:
    """Stands in for `os` where files are written: does the same and keeps a diary."""

    def __init__(self) -> None:
        self.diary: list[str] = []
        self._names: dict[int, str] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        self._names[fd] = "directory" if flags & os.O_DIRECTORY else path
        return fd

    def write(self, fd: int, data: bytes) -> int:
        self.diary.append(f"write {self._names[fd]}")
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        self.diary.append(f"fsync {self._names[fd]}")
        os.fsync(fd)

    def rename(self, source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self.diary.append(f"rename {source} {target}")
        os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)
        self.diary.append(f"unlink {name}")


def test_write_is_durable_in_the_only_order_that_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(files, "os", recorder)
    with Store(str(directory)) as store:
        store.commit(KEY, "{}")
    temporary = f".{NAME}.tmp"
    assert recorder.diary == [
        f"write {temporary}",
        f"fsync {temporary}",
        f"rename {temporary} {NAME}",
        "fsync directory",
    ]


def test_intent_becomes_the_record_and_never_stands_beside_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(str(directory)) as store:
        store.write_intent(KEY, "{}")
    recorder = Recorder()
    monkeypatch.setattr(files, "os", recorder)
    monkeypatch.setattr(stores, "os", recorder)
    with Store(str(directory)) as store:
        store.fulfil(KEY, '{"network": "pods"}')
    intent, temporary = f"{KEY.name}{INTENT}", f".{KEY.name}{INTENT}.tmp"
    assert recorder.diary == [
        f"write {temporary}",
        f"fsync {temporary}",
        f"rename {temporary} {intent}",
        f"rename {intent} {NAME}",
        "fsync directory",
    ]
    assert os.listdir(directory) == [NAME]
    assert (directory / NAME).read_text() == '{"network": "pods"}'


@pytest.mark.parametrize("mask", [0, 0o022, 0o777], ids=oct)
def test_modes_whatever_the_umask(tmp_path: Path, umask: None, mask: int) -> None:
    directory = tmp_path / "new" / "checkpoints"
    os.umask(mask)
    with Store(str(directory), create=True) as store:
        store.write_intent(KEY, "{}")
        store.commit(Key("other", "eth0"), "{}")
    assert mode_of(directory) == 0o700
    assert {mode_of(path) for path in directory.iterdir()} == {0o600}


def test_nobody_else_may_write_to_the_directories_above(tmp_path: Path, umask: None) -> None:
    """containerd starts plugins with umask 0."""
    os.umask(0)
    make_private(str(tmp_path / "a" / "b" / "c" / "d"))
    for path in ("a", "a/b", "a/b/c", "a/b/c/d"):
        assert mode_of(tmp_path / path) & 0o022 == 0, path


def test_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with Store(str(tmp_path), create=True):
        assert mode_of(tmp_path) == 0o750


def test_short_writes_are_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    with Store(str(directory)) as store:
        store.commit(KEY, "0123456789")
    assert (directory / NAME).read_text() == "0123456789"


def fails_with(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_failed_write_is_an_error_and_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    with Store(str(directory)) as store:
        monkeypatch.setattr(os, call, fails_with(number))
        with pytest.raises(CniError) as caught:
            store.write_intent(KEY, "{}")
    assert caught.value.code == IO
    assert str(directory) in caught.value.msg
    assert os.strerror(number) in caught.value.details
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("act", "call"),
    [
        (lambda store: store.commit(KEY, "{}"), "rename"),
        (lambda store: store.fulfil(KEY, "{}"), "rename"),
        (lambda store: store.tombstone(KEY), "rename"),
        (lambda store: store.remove_file(NAME), "unlink"),
    ],
    ids=["commit", "fulfil", "tombstone", "remove"],
)
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "Read-only file system"),
        (OSError("?"), "?"),
    ],
)
def test_whatever_fails_names_the_directory_and_says_why(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Store], None],
    call: str,
    error: OSError,
    why: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with Store(str(directory)) as store:
        store.commit(KEY, "{}")
        with monkeypatch.context() as patch, pytest.raises(CniError) as caught:
            patch.setattr(os, call, fail)
            act(store)
    assert caught.value.code == IO
    assert caught.value.msg == f"cannot use the checkpoint directory {directory}"
    assert caught.value.details == with_remedy(error, str(directory))
    assert caught.value.details.startswith(why)


def test_failed_commit_keeps_the_intent(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(str(directory)) as store:
        store.write_intent(KEY, "{}")
        monkeypatch.setattr(os, "write", fails_with(errno.ENOSPC))
        with pytest.raises(CniError):
            store.commit(KEY, "{}")
        assert store.phase(KEY) == INTENT


def test_failed_refresh_keeps_the_older_checkpoint(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(str(directory)) as store:
        store.commit(KEY, "old")
        monkeypatch.setattr(os, "write", fails_with(errno.ENOSPC))
        with pytest.raises(CniError):
            store.commit(KEY, "new")
        assert store.read(NAME) == b"old"


def test_leftover_of_a_killed_write_is_no_hindrance(directory: Path) -> None:
    (directory / f".{NAME}.tmp").symlink_to("/etc/passwd")
    with Store(str(directory)) as store:
        store.commit(KEY, "{}")
    assert [path.name for path in directory.iterdir()] == [NAME]
    assert not (directory / NAME).is_symlink()


@pytest.mark.parametrize("phase", [INTENT, COMMITTED])
def test_forgetting_takes_along_what_a_killed_writer_left(directory: Path, phase: str) -> None:
    others = f".{KEY.container_id}@net1{phase}.tmp"
    for name in (f".{KEY.name}{phase}.tmp", others):
        (directory / name).touch()
    with Store(str(directory)) as store:
        store.remove(KEY)
    assert os.listdir(directory) == [others]


# --- an attachment's life -----------------------------------------------------------------------


def test_phases(directory: Path) -> None:
    with Store(str(directory)) as store:
        assert store.phase(KEY) is None
        store.write_intent(KEY, "{}")
        assert (store.phase(KEY), store.committed()) == (INTENT, [])
        store.commit(KEY, "{}")
        assert (store.phase(KEY), store.committed()) == (COMMITTED, [NAME])
        store.tombstone(KEY)
        assert (store.phase(KEY), store.committed()) == (DELETING, [])
        store.remove(KEY)
        assert store.phase(KEY) is None
    assert list(directory.iterdir()) == []


def test_committed_stands_above_an_intent_that_was_left(directory: Path) -> None:
    with Store(str(directory)) as store:
        store.commit(KEY, "{}")
        store.write_intent(KEY, "{}")
        assert store.phase(KEY) == COMMITTED
        store.tombstone(KEY)
        store.remove(KEY)
    assert list(directory.iterdir()) == []


def test_delete_of_nothing_is_fine_twice(directory: Path) -> None:
    with Store(str(directory)) as store:
        for _ in range(2):
            store.tombstone(KEY)
            store.remove(KEY)


def test_only_its_own_attachment_is_deleted(directory: Path) -> None:
    other = Key(KEY.container_id, "net1")
    with Store(str(directory)) as store:
        store.commit(KEY, "{}")
        store.commit(other, "{}")
        store.tombstone(KEY)
        store.remove(KEY)
        assert store.committed() == [f"{other.name}.json"]


def test_listing_knows_ours_and_the_seeds_and_nothing_else(directory: Path) -> None:
    ours = ["abc@eth0.json", "abc@net1.json", "junk.json"]
    seeds = ["06c9b8d0a800", "0ADD59081941", "zzzzzzzzzzzz"]
    others = [
        ".abc@eth0.json.tmp", ".hidden.json", "abc@eth0.intent", "abc@eth0.deleting", "README",
        "06c9b8d0a80", "06c9b8d0a8000", "06c9b8d0a80-", "06c9b8d0a80\u0661",
    ]  # fmt: skip
    for name in ours + seeds + others:
        (directory / name).touch()
    with Store(str(directory)) as store:
        assert store.committed() == sorted(ours + seeds)


def test_what_has_not_ended_is_listed(directory: Path) -> None:
    unfinished = ["abc@eth0.deleting", "abc@net1.intent", "zz@eth0.deleting"]
    others = ["abc@eth0.json", ".abc@eth0.intent.tmp", "06c9b8d0a800", "README"]
    for name in reversed(unfinished + others):
        (directory / name).touch()
    with Store(str(directory)) as store:
        assert store.unfinished() == unfinished


def test_what_is_being_written_is_known_by_its_attachment(directory: Path) -> None:
    being_written = [".abc@eth0.intent.tmp", ".abc@net1.json.tmp"]
    others = ["zz@eth0.json", "zz@eth0.json.tmp", ".zz@eth0.deleting.tmp", ".hidden"]
    for name in being_written + others:
        (directory / name).touch()
    with Store(str(directory)) as store:
        assert half_written(store) == ["abc@eth0", "abc@net1"]


def test_mark_is_that_of_the_file_itself(directory: Path) -> None:
    """A link in a record's place is none of ours, whatever it leads to."""
    (directory / "target").write_text("{}")
    (directory / NAME).symlink_to("target")
    status = os.lstat(directory / NAME)
    expected = status.st_ino, status.st_ctime_ns, status.st_size
    assert mark_of(str(directory / NAME)) == expected
    with Store(str(directory)) as store:
        assert mark_of(NAME, store.fd) == expected
        with pytest.raises(FileNotFoundError):
            mark_of("none", store.fd)


# --- reading ------------------------------------------------------------------------------------


def refused(directory: Path, name: str = NAME) -> str:
    with Store(str(directory)) as store, pytest.raises(CniError) as caught:
        store.read(name)
    assert caught.value.code == BAD_CHECKPOINT
    why, file, path = caught.value.details.rpartition(" (file ")
    assert (file, path) == (" (file ", f"{directory}/{name})")
    return why


def test_absent_file_is_not_found(directory: Path) -> None:
    with Store(str(directory)) as store, pytest.raises(FileNotFoundError):
        store.read(NAME)


def test_file_of_the_largest_size_is_read(directory: Path) -> None:
    (directory / NAME).write_bytes(b" " * MAX_BYTES)
    with Store(str(directory)) as store:
        assert len(store.read(NAME)) == MAX_BYTES


def test_symlink_is_refused(directory: Path) -> None:
    (directory / "target").write_text("{}")
    (directory / NAME).symlink_to("target")
    assert "cannot open" in refused(directory)


def test_fifo_is_refused_without_hanging(directory: Path) -> None:
    os.mkfifo(directory / NAME, 0o600)
    assert "not a regular file" in refused(directory)


def test_directory_is_refused(directory: Path) -> None:
    (directory / NAME).mkdir()
    assert "not a regular file" in refused(directory)


@as_root
def test_device_is_refused(directory: Path) -> None:
    os.mknod(directory / NAME, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    refused(directory)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_file_that_others_may_write_is_refused(directory: Path, mode: int) -> None:
    (directory / NAME).touch()
    (directory / NAME).chmod(mode)
    assert "others may write" in refused(directory)


@as_root
def test_file_of_another_user_is_refused(directory: Path) -> None:
    (directory / NAME).touch(mode=0o600)
    os.chown(directory / NAME, 1, 0)
    assert "uid 1" in refused(directory)


def test_file_of_8_mb_is_refused(directory: Path) -> None:
    (directory / NAME).touch(mode=0o600)
    os.truncate(directory / NAME, 8 << 20)
    assert f"longer than {MAX_BYTES} bytes" in refused(directory)


def test_file_that_cannot_be_read_now_is_not_a_bad_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / NAME).touch(mode=0o600)
    with Store(str(directory)) as store:
        monkeypatch.setattr(os, "read", fails_with(errno.EIO))
        with pytest.raises(CniError) as caught:
            store.read(NAME)
    assert caught.value.code == IO
    assert caught.value.msg == "its record cannot be read"
    why = f"cannot read it: {os.strerror(errno.EIO)}"
    assert caught.value.details == f"{why} (file {directory}/{NAME})"


# --- the directory ------------------------------------------------------------------------------


def refused_directory(directory: Path, create: bool = False) -> CniError:
    with pytest.raises(CniError) as caught:
        Store(str(directory), create)
    assert caught.value.code == IO
    assert str(directory) in caught.value.msg
    return caught.value


def test_absent_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("create", [False, True])
def test_symlinked_directory_is_refused(directory: Path, tmp_path: Path, create: bool) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    refused_directory(link, create)


@pytest.mark.parametrize("create", [False, True])
def test_file_in_the_directorys_place_is_refused(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "checkpoints"
    path.touch()
    refused_directory(path, create)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777], ids=oct)
def test_directory_that_others_may_write_is_refused(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    assert "0700" in refused_directory(directory).details


@as_root
def test_directory_of_another_user_is_refused(directory: Path) -> None:
    os.chown(directory, 1, 0)
    assert "uid 0" in refused_directory(directory).details


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("mode", [0o777, 0o775], ids=oct)
def test_directory_below_one_that_others_may_write_is_refused(
    directory: Path, create: bool, mode: int
) -> None:
    directory.parent.chmod(mode)
    assert (
        f"it is below {directory.parent}: others may"
        in refused_directory(directory, create).details
    )


def test_directory_below_one_with_the_sticky_bit_is_used(directory: Path) -> None:
    directory.parent.chmod(0o1777)
    with Store(str(directory), create=True) as store:
        store.commit(KEY, "{}")


def test_directory_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused_directory(tmp_path / "file" / "checkpoints", create=True)


def test_directory_below_one_that_was_removed_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    error = refused_directory(Path("checkpoints"), create=True)
    assert error.details == os.strerror(errno.ENOENT)


def test_refused_directory_leaves_no_descriptor(directory: Path) -> None:
    directory.chmod(0o777)
    before = len(os.listdir("/proc/self/fd"))
    refused_directory(directory)
    assert len(os.listdir("/proc/self/fd")) == before
