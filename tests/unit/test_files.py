"""Which files are trusted, and how they are written; against real ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_repair.base import files
from cni_repair.base.files import (
    Untrusted,
    make_private,
    open_private,
    open_trusted,
    read_trusted,
    replace_durably,
)
from tests.unit.descriptors import none_left_open


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
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
        (linked, "cannot open it: it is a symbolic link"),
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


# --- directories, and what lies above them --------------------------------------------------------


@pytest.fixture
def above(tmp_path: Path) -> Path:
    made = tmp_path / "above"
    made.mkdir(mode=0o755)
    return made


def leads_to(path: Path | str, create: bool = False, last_may_be_link: bool = False) -> str:
    """The directory that is opened under a path."""
    fd = open_private(str(path), create, last_may_be_link)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def refused(path: Path, create: bool = False) -> str:
    with none_left_open(), pytest.raises(Untrusted) as caught:
        open_private(str(path), create)
    return str(caught.value)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775, 0o770], ids=oct)
def test_directory_below_one_that_others_may_write_is_refused(
    above: Path, mode: int, depth: int, create: bool
) -> None:
    """They could rename what lies in it, and put something of theirs in its place."""
    directory = above.joinpath(*"xyz"[:depth], "private")
    directory.mkdir(mode=0o700, parents=True)
    above.chmod(mode)
    assert refused(directory, create) == (
        f"it is below {above}: others may write to it (mode {mode:04o}), and could put another in"
        " its place"
    )


@pytest.mark.parametrize("mode", [0o777, 0o775], ids=oct)
def test_nothing_is_made_where_others_may_write(above: Path, mode: int) -> None:
    above.chmod(mode)
    refused(above / "new" / "private", create=True)
    assert os.listdir(above) == []


@pytest.mark.needs_root
def test_directory_below_anothers_is_refused(above: Path) -> None:
    (above / "private").mkdir(mode=0o700)
    os.chown(above, 1234, 0)
    assert refused(above / "private").startswith(f"it is below {above}: uid 1234, whose it is,")


@pytest.mark.parametrize("mode", [0o1777, 0o1775, 0o3777], ids=oct)
def test_where_the_sticky_bit_protects_what_is_ours(above: Path, mode: int) -> None:
    """As in /tmp, below which the machine's administrator may have it."""
    above.chmod(mode)
    assert leads_to(above / "new" / "private", create=True) == f"{above}/new/private"
    assert leads_to(above / "new" / "private") == f"{above}/new/private"


@pytest.mark.needs_root
@pytest.mark.parametrize("create", [False, True])
def test_the_sticky_bit_does_not_protect_what_is_anothers(above: Path, create: bool) -> None:
    """Somebody may have been there before us."""
    (above / "their").mkdir(mode=0o755)
    (above / "their" / "private").mkdir(mode=0o700)
    above.chmod(0o1777)
    os.chown(above / "their", 1234, 0)
    assert "uid 1234, whose it is," in refused(above / "their" / "private", create)
    os.chown(above / "their" / "private", 1234, 0)
    os.chown(above / "their", 0, 0)
    assert refused(above / "their" / "private", create).startswith("it belongs to uid 1234")


def test_links_above_it_lead_on(above: Path) -> None:
    """Such as /var/run, and what an administrator has moved to another disk."""
    (above / "disk" / "private").mkdir(mode=0o700, parents=True)
    (above / "absolute").symlink_to(above / "disk")
    (above / "relative").symlink_to("./disk/../absolute/")
    assert leads_to(above / "absolute" / "private") == f"{above}/disk/private"
    assert leads_to(above / "relative" / "private") == f"{above}/disk/private"
    assert leads_to(above / "relative" / "new" / "one", create=True) == f"{above}/disk/new/one"


@pytest.mark.parametrize("mode", [0o1777, 0o777], ids=oct)
def test_links_that_others_could_have_made_do_not(above: Path, mode: int) -> None:
    """Not under the sticky bit, either: with it one may still make hard links of others' links."""
    (above / "disk" / "private").mkdir(mode=0o700, parents=True)
    public = above / "public"
    public.mkdir()
    (public / "link").symlink_to(above / "disk")
    public.chmod(mode)
    refused(public / "link" / "private")


def test_target_of_a_link_is_looked_at_as_well(above: Path) -> None:
    public = above / "public"
    (public / "disk" / "private").mkdir(mode=0o700, parents=True)
    (above / "link").symlink_to("public/disk")
    public.chmod(0o777)
    assert f"it is below {public}:" in refused(above / "link" / "private")


def test_last_name_may_be_a_link_only_where_that_is_said(above: Path) -> None:
    (above / "private").mkdir(mode=0o700)
    (above / "link").symlink_to("private")
    assert "it is a symbolic link" in refused(above / "link")
    assert "it is a symbolic link" in refused(above / "link", create=True)
    assert leads_to(above / "link", last_may_be_link=True) == f"{above}/private"


def test_links_that_lead_nowhere_end(above: Path) -> None:
    (above / "loop").symlink_to("loop")
    with none_left_open(), pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        open_private(str(above / "loop" / "private"))
    (above / "dangling").symlink_to("nowhere")
    with none_left_open(), pytest.raises(FileNotFoundError):
        open_private(str(above / "dangling" / "private"))


@pytest.mark.parametrize(
    "path", ["private", "./private/", "x/../private", "/..{}/private", "//{}/private"]
)
def test_spellings_of_a_path(above: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (above / "x").mkdir()
    (above / "private").mkdir(mode=0o700)
    monkeypatch.chdir(above)
    assert leads_to(path.format(above)) == f"{above}/private"


def test_last_directory_is_opened_for_listing(above: Path) -> None:
    (above / "private" / "file").mkdir(parents=True)
    (above / "private").chmod(0o700)
    fd = open_private(str(above / "private"))
    assert os.listdir(fd) == ["file"]
    os.close(fd)


@pytest.mark.parametrize("mask", [0, 0o022, 0o777], ids=oct)
def test_made_with_modes_of_its_own(above: Path, umask: None, mask: int) -> None:
    """containerd starts plugins with umask 0."""
    os.umask(mask)
    make_private(str(above / "a" / "b" / "c"))
    assert os.umask(mask) == mask
    modes = [stat.S_IMODE((above / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")]
    assert modes == [0o755, 0o755, 0o700]


def test_made_to_outlive_a_power_cut(above: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made in a new directory its own name is on the disk."""
    called: list[str] = []
    mkdir, fsync = os.mkdir, os.fsync

    def made(name: str, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        called.append(f"mkdir {name}")

    def synced(fd: int) -> None:
        fsync(fd)
        called.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{fd}')).name}")

    monkeypatch.setattr(os, "mkdir", made)
    monkeypatch.setattr(os, "fsync", synced)
    make_private(str(above / "a" / "b" / "c"))
    assert called == [
        "mkdir a",
        f"fsync {above.name}",
        "mkdir b",
        "fsync a",
        "mkdir c",
        "fsync b",
    ]


def swapping(
    monkeypatch: pytest.MonkeyPatch, call: str, path: Path, target: Path
) -> Callable[[], bool]:
    """Have `path` replaced by a link to `target` right after a call of ours about it."""
    done: list[bool] = []
    plain = getattr(os, call)

    def then_swap(name: str, *arguments: object, **named: object) -> object:
        result = plain(name, *arguments, **named)
        if not done and os.path.basename(name) == path.name:
            done.append(True)
            path.rename(path.with_name("before"))
            path.symlink_to(target)
        return result

    monkeypatch.setattr(os, call, then_swap)
    return lambda: bool(done)


@pytest.mark.parametrize("name", ["new", "new/private"])
def test_directory_swapped_for_a_link_after_it_was_made(
    above: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the link leads to keeps its mode, and is not used."""
    target = above / "target"
    target.mkdir(mode=0o711)
    swapped = swapping(monkeypatch, "mkdir", above / name, target)
    with pytest.raises((Untrusted, OSError), match=r"symbolic link|Not a directory"):
        open_private(str(above / name), create=True)
    assert swapped()
    assert stat.S_IMODE(target.stat().st_mode) == 0o711
    assert os.listdir(target) == []


def test_directory_swapped_while_the_path_is_walked(
    above: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at is what is used."""
    (above / "middle" / "private").mkdir(mode=0o700, parents=True)
    target = above / "target"
    (target / "private").mkdir(mode=0o700, parents=True)
    inode = (above / "middle" / "private").stat().st_ino
    swapped = swapping(monkeypatch, "open", above / "middle", target)
    fd = open_private(str(above / "middle" / "private"))
    assert swapped()
    assert os.fstat(fd).st_ino == inode
    os.close(fd)
