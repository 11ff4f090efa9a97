"""A node's installations, as install.sh makes them: /opt/cni-repair/versions/NAME/, each whole.

A launcher in the runtime's plugin directory leads to one of them; its first line names that
version's own Python. What a runtime may start at any moment is changed by rename(2) alone: a tree
is copied under another name, and is on disk before it has its own; a launcher is never written to,
and always leads to a whole version. So whoever is killed here, and wherever, leaves a plugin that
works.

All paths are those of the process's own root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from pathlib import Path

from cni_repair.base.errors import CONFIG, IO, CniError
from cni_repair.base.files import replace_whole
from cni_repair.base.frozen import frozen
from cni_repair.base.names import OWN_TYPE
from cni_repair.base.procfs import process_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PREFIX = Path("/opt/cni-repair")
COMMAND_LINK = Path("/usr/local/sbin/cni-repair")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+]*-[0-9]{8}T[0-9]{6}Z-[0-9]+")
# Names that no version has, and that install.sh takes for one of nobody's, and removes.
_COMING, _GOING = "0-00000000T000000Z-1", "0-00000000T000000Z-2"
_SHEBANG = re.compile(rb"#!(/[^ \n]*/versions/[^/ \n]+)/bin/python3 -IS\n")
_MOST_SHEBANG = 128  # of which older kernels than 5.1 read 127
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@frozen
class Running:
    """A process of one of the prefix's versions."""

    pid: int
    command: str


def is_version(name: str) -> bool:
    """Whether a version's directory may be called so."""
    return bool(_VERSION.fullmatch(name))


def version_of(launcher: Path) -> Path | None:
    """The version that a launcher runs; None for a file that is no launcher of ours."""
    try:
        with launcher.open("rb") as file:
            found = _SHEBANG.match(file.read(_MOST_SHEBANG))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return Path(os.fsdecode(found[1])) if found else None


class Prefix:
    """One directory of versions, for who holds its lock (:func:`locked`)."""

    def __init__(self, path: Path = PREFIX) -> None:
        self.path = path

    @property
    def versions(self) -> list[Path]:
        """Every version that is here."""
        try:
            return sorted(self._versions.iterdir())
        except FileNotFoundError:
            return []

    @property
    def _versions(self) -> Path:
        return self.path / "versions"

    def launchers(self, more: Collection[Path] = ()) -> list[Path]:
        """The launchers that lead to a version of this prefix, in whichever directory they are."""
        known = {*more, *(one for each in self.versions if (one := launcher_of(each)))}
        return sorted(one for one in known if self._leads_here(one))

    def _leads_here(self, launcher: Path) -> bool:
        version = version_of(launcher)
        return version is not None and version.parent == self._versions

    def check_ours(self, bin_dir: Path) -> None:
        """Raises CniError where something there is not ours."""
        launcher = bin_dir / OWN_TYPE
        if os.path.lexists(launcher) and version_of(launcher) is None:
            raise CniError(CONFIG, f"{launcher} is not a launcher of ours", "move it away")
        known = {"versions", "current", ".lock"}
        strange = [one.name for one in _entries(self.path) if one.name not in known]
        strange += [one.name for one in self.versions if not is_version(one.name)]
        if strange:
            raise CniError(
                CONFIG, f"{self.path} holds something else ({strange[0]})", "move it away"
            )

    def put(self, tree: Path, name: str, bin_dir: Path) -> bool:
        """Have the launcher in `bin_dir` lead to a version, copied from `tree` where it is not here
        yet; whether anything has changed. Raises CniError, OSError."""
        self.check_ours(bin_dir)
        version, launcher = self._versions / name, bin_dir / OWN_TYPE
        before = version_of(launcher)
        changed = not version.exists()
        if changed:
            self._put_tree(tree, version)
        bin_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        changed |= _put_file(version / "bin-dir", f"{bin_dir}\n".encode(), 0o644)
        changed |= _put_file(launcher, (version / OWN_TYPE).read_bytes(), 0o755)
        changed |= self._set_current(version)
        # One process may have just started from the version before.
        self._remove_unused({version, before} if before else {version})
        return changed

    def _put_tree(self, tree: Path, version: Path) -> None:
        coming = self._versions / _COMING
        self._versions.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_tree(coming)
        shutil.copytree(tree, coming, symlinks=True)
        _sync_tree(coming)
        coming.rename(version)
        _sync(self._versions)

    def _set_current(self, version: Path) -> bool:
        link, target = self.path / "current", f"versions/{version.name}"
        if link.is_symlink() and os.readlink(link) == target:
            return False
        coming = version / "current"
        coming.unlink(missing_ok=True)
        coming.symlink_to(target)
        coming.rename(link)
        return True

    def _remove_unused(self, kept: Collection[Path]) -> None:
        for version in self.versions:
            if version not in kept and not self._is_in_use(version):
                self._remove_version(version)

    def _is_in_use(self, version: Path) -> bool:
        """Whether a launcher leads to it, or a process runs it: one such as `watch` imports a
        module when it first needs it."""
        launcher = launcher_of(version)
        is_led_to = launcher is not None and version_of(launcher) == version
        return is_led_to or any(running_from(version))

    def _remove_version(self, version: Path) -> None:
        """By another name first: what is half gone must not be taken for whole."""
        going = self._versions / _GOING
        _remove_tree(going)
        version.rename(going)
        _remove_tree(going)

    def remove(self, launchers: Collection[Path]) -> None:
        """Take all of it away, the launchers first. Raises OSError."""
        for launcher in launchers:
            launcher.unlink(missing_ok=True)
            if COMMAND_LINK.is_symlink() and Path(os.readlink(COMMAND_LINK)) == launcher:
                COMMAND_LINK.unlink()
        for version in self.versions:
            self._remove_version(version)
        (self.path / "current").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._versions.rmdir()
        (self.path / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: whoever waited for the lock has come
            self.path.rmdir()


def launcher_of(version: Path) -> Path | None:
    """The launcher that a version has, or had."""
    try:
        return Path((version / "bin-dir").read_text(encoding="utf-8").strip()) / OWN_TYPE
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def running_from(directory: Path, excepted: Collection[int] = ()) -> Iterator[Running]:
    """The processes whose program is below a directory, and that see it as it is here."""
    beginning = os.fsencode(f"{directory}/")
    for pid in process_ids():
        if pid in excepted:
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read(4096)
            is_ours = command.startswith(beginning) and os.path.samefile(
                f"/proc/{pid}/root{directory}", directory
            )
        except OSError:
            continue  # it has ended, or has no such directory
        if is_ours:
            yield Running(pid, os.fsdecode(command.rstrip(b"\0").replace(b"\0", b" ")))


@contextlib.contextmanager
def locked(path: Path = PREFIX) -> Iterator[Prefix]:
    """A context in which nobody else puts anything into a prefix, or takes it away: install.sh
    takes the same lock. Raises OSError."""
    fd = _lock(path)
    try:
        yield Prefix(path)
    finally:
        os.close(fd)


def _lock(path: Path) -> int:
    while True:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            fd = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            continue  # an uninstall was quicker
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(fd), os.stat(path / ".lock")):
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)  # an uninstall that we waited for has removed the file that we have locked


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise CniError(IO, f"{directory} is not a directory", "move it away") from error


def _put_file(path: Path, data: bytes, mode: int) -> bool:
    """Put a file in the place of another, by rename; whether it was not so already."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return False
    directory = os.open(path.parent, _DIRECTORY)
    try:
        replace_whole(directory, path.name, data, mode, os.fsync)
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


def _remove_tree(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _sync_tree(path: Path) -> None:
    """Have all of it on disk: a power cut must not leave an empty plugin."""
    for directory, _, files in os.walk(path):
        for name in files:
            file = Path(directory, name)
            if not file.is_symlink():
                _sync(file)
        _sync(Path(directory))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
