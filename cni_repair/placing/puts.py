"""Putting a version of cni-repair into service, and old ones out of it, as install.sh does.

Each version is whole in a directory of its own below the prefix: versions/NAME. Until a launcher
names it nothing runs it; one rename of the launcher then puts it into service. A running program is
never written over, and keeps its version's directory for as long as it runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from cni_repair.base.frozen import frozen
from cni_repair.placing.below import real_path
from cni_repair.placing.launcher import MOST_BYTES, version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal

NAME = "cni-repair"
# As install.sh has them: VERSION-DATE-NUMBER.
_VERSION_NAME = re.compile(r"[0-9][A-Za-z0-9.+]*-[0-9]{8}T[0-9]{6}Z-[0-9]+")
_PLACED = "placed"  # a file in a version's directory that is whole
_BIN_DIR = "bin-dir"  # as install.sh's: where its launcher is


class NotPlaced(Exception):
    """Why nothing was put into service, and what would help."""


@frozen
class Prefix:
    """Where the versions live: a directory as the node names it, seen below a root."""

    path: Path
    root: Path = Path("/")

    def real(self, path: str | os.PathLike[str]) -> Path:
        """A path of the node's, seen from here."""
        return real_path(self.root, path)

    def version(self, name: str) -> Path:
        """A version's directory, as the node names it."""
        return self.path / "versions" / name

    def versions(self) -> list[Path]:
        """Those that are there, as the node names them; half-made ones, too."""
        try:
            names = sorted(os.listdir(self.real(self.path / "versions")))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self.version(name) for name in names if _VERSION_NAME.fullmatch(name)]


@contextmanager
def locked(prefix: Prefix) -> Iterator[None]:
    """Context: no other installer works on the prefix, install.sh neither."""
    directory = prefix.real(prefix.path)
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Again if an uninstall that we waited for has removed the file that we have locked.
            if _is_still(directory / ".lock", lock.fileno()):
                yield
                return


def _is_still(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def put_version(
    prefix: Prefix, name: str, tree: Path, finish: Callable[[Path], None] | None = None
) -> Path:
    """Have a version's directory made of a tree, whole and on disk; its path on the node.

    `finish` adds to it what is made on the node. One that is whole already stays as it is.
    """
    if not _VERSION_NAME.fullmatch(name):
        raise NotPlaced(f"'{name}' is no name of a version: VERSION-YYYYmmddTHHMMSSZ-NUMBER")
    version = prefix.version(name)
    if len(f"#!{version}/bin/python3 -IS") > MOST_BYTES:
        raise NotPlaced(f"{version} is too long for a #! line: choose a shorter prefix")
    real = prefix.real(version)
    if not (real / _PLACED).exists():
        if real.exists():  # half made, when the power was cut
            shutil.rmtree(real)
        real.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tree, real, symlinks=True)
    if finish is not None:
        finish(real)
    settle_version(real)
    return version


def settle_version(directory: Path) -> None:
    """Have a version that is whole on disk, and say that it is."""
    _sync_tree(directory)
    _write_synced(directory / _PLACED, "")


def put_launcher(prefix: Prefix, version: Path, bin_dir: Path, text: str) -> str:
    """Put a version into service in one of the node's directories; the version that was there.

    Raises NotPlaced where a file is in the way that is no launcher of ours.
    """
    directory = prefix.real(bin_dir)
    directory.mkdir(parents=True, exist_ok=True)
    launcher = directory / NAME
    previous = version_of(launcher)
    if not previous and (launcher.exists() or launcher.is_symlink()):
        raise NotPlaced(f"{bin_dir}/{NAME} is not a launcher of ours: move it away")
    _replace(launcher, directory / f".{NAME}-{version.name}", text, 0o755)
    return previous


def set_current(prefix: Prefix, version: Path) -> None:
    """Have the prefix's `current` lead to a version: man page and completion are read there."""
    link = prefix.real(prefix.path) / "current"
    staged = prefix.real(version) / "current"
    staged.unlink(missing_ok=True)
    staged.symlink_to(f"versions/{version.name}")
    staged.replace(link)


def say_where(prefix: Prefix, version: Path, bin_dirs: Iterable[Path]) -> None:
    """Write down where a version's launchers are: it is in use for as long as one names it.

    Those that it has already elsewhere are not forgotten: the runtime may look there until it is
    started again.
    """
    real = prefix.real(version)
    still = (one for one in _said_by(prefix, version) if _runs(prefix, one, version))
    text = "".join(f"{one}\n" for one in dict.fromkeys([*bin_dirs, *still]))
    _replace(real / _BIN_DIR, real / f".{_BIN_DIR}", text, 0o644)


def launchers(prefix: Prefix, bin_dirs: Iterable[Path] = ()) -> dict[Path, str]:
    """The launchers that run a version of this prefix, with it: in these directories, and wherever
    one of the versions says that it has been put."""
    said = (one for version in prefix.versions() for one in _said_by(prefix, version))
    found = {}
    for directory in dict.fromkeys([*bin_dirs, *said]):
        version = version_of(prefix.real(directory) / NAME)
        if version.startswith(f"{prefix.path}/versions/"):
            found[directory / NAME] = version
    return found


def _runs(prefix: Prefix, bin_dir: Path, version: Path) -> bool:
    return version_of(prefix.real(bin_dir) / NAME) == str(version)


def _said_by(prefix: Prefix, version: Path) -> list[Path]:
    try:
        text = (prefix.real(version) / _BIN_DIR).read_text()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return []
    return [Path(line) for line in text.splitlines() if line.startswith("/")]


def running(directory: Path, proc: Path = Path("/proc")) -> dict[int, str]:
    """The processes that run a version at, or below, a directory: pid to command line.

    Such as `watch` and `repair`: they import modules when they first need them. One whose root is
    another (a container's, or a test's) runs what is there by that name, and not this.

    Only the process itself says which version it is, by its first word: its program may be the
    distribution's Python, which an upgrade of that replaces while it runs. So only root's are
    believed: root could remove a version as well. Where one of them lies, a version stays on the
    disk that could go, and an uninstall is refused, with its PID.
    """
    found = {}
    for name in filter(str.isdecimal, os.listdir(proc)):
        process = proc / name
        try:
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            ours = words[0].startswith(f"{directory}/") and words[0].endswith("/bin/python3")
            if ours and _is_roots(process) and _sees(process, directory):
                found[int(name)] = " ".join(words).strip()
        except OSError:  # it has ended
            continue
    return found


def _is_roots(process: Path) -> bool:
    """By its real user. (The owner of its directory is root for one that cannot be dumped, too.)"""
    return re.search(r"^Uid:\t0\t", (process / "status").read_text(), re.M) is not None


def _sees(process: Path, directory: Path) -> bool:
    """Whether a process has the same directory of that name as we have."""
    try:
        return Path(f"{process}/root{directory}").samefile(directory)
    except OSError:  # it has ended, or has no such directory
        return False


def remove_unused(prefix: Prefix, keep: Iterable[str], bin_dirs: Iterable[Path] = ()) -> None:
    """Remove the versions that are not kept, that no launcher runs, and no process."""
    needed = {*keep, *launchers(prefix, bin_dirs).values()}
    for version in prefix.versions():
        if str(version) not in needed and not running(version):
            _remove_version(prefix.real(version))


def remove_prefix(prefix: Prefix) -> None:
    """Remove all versions, and the prefix, if nothing else is in it."""
    for version in prefix.versions():
        _remove_version(prefix.real(version))
    directory = prefix.real(prefix.path)
    for name in ("current", ".lock"):
        (directory / name).unlink(missing_ok=True)
    for path in (directory / "versions", directory):
        if path.is_dir() and not os.listdir(path):
            path.rmdir()


def _remove_version(real: Path) -> None:
    """What is half gone, should we be killed here, must not be taken for whole."""
    (real / _PLACED).unlink(missing_ok=True)
    shutil.rmtree(real)


# --- on disk before the name is -------------------------------------------------------------------


def _sync_tree(tree: Path) -> None:
    """Have a tree survive a power cut: a launcher must not lead to empty files."""
    for directory, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                _sync(path)
        _sync(directory)


def _replace(target: Path, staged: Path, text: str, mode: int) -> None:
    """Write a file beside, and rename it: never onto one that is read, or run; nor through a link
    that somebody has put where it is written."""
    staged.unlink(missing_ok=True)
    _write_synced(staged, text, "x")
    staged.chmod(mode)
    staged.replace(target)
    _sync(target.parent)


def _write_synced(path: Path, text: str, mode: Literal["w", "x"] = "w") -> None:
    with path.open(mode) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: str | os.PathLike[str]) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
