"""The checkout that packages are built from: what is in it, and when it was made.

Nothing of a build may depend on anything else: not on the clock, the user, nor the directory.
"""

from __future__ import annotations

import os
import re
import shutil
import zlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from integration.errors import RigError
from integration.packages import run

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK = "conf/requirements.lock"
# What cni-repair is, of a checkout; its tests and rigs are in no package.
_PARTS = ("cni_repair", "conf", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
_VERSION = re.compile(r'^__version__ = "([0-9][A-Za-z0-9.+]*)"$', re.M)


@dataclass(frozen=True)
class Source:
    """A checkout, and what its packages are called by."""

    directory: Path
    version: str
    commit: str  # as `cni-repair --version` has it; empty where nobody knows
    epoch: int  # seconds: the commit's time is that of every file

    @property
    def date(self) -> datetime:
        return datetime.fromtimestamp(self.epoch, timezone.utc)

    @property
    def package_version(self) -> str:
        """A later commit's is higher, for dpkg and rpm alike."""
        of = re.sub(r"[^0-9a-z]+", ".", self.commit) if self.commit else ""
        return f"{self.version}+{self.date:%Y%m%d%H%M%S}{of and '.'}{of}"

    @property
    def tree_name(self) -> str:
        """Of the version's directory, but for -NUMBER: install.sh has them VERSION-DATE-NUMBER."""
        return f"{self.version}-{self.date:%Y%m%dT%H%M%SZ}"

    def copy(self, part: str, target: Path) -> None:
        """Copy a file or directory of the checkout, without what only running leaves there."""
        source = self.directory / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def read_source(directory: Path = CHECKOUT) -> Source:
    """Raises RigError where it is no whole checkout, or where nobody can tell of when it is."""
    missing = [name for name in _PARTS if not (directory / name).exists()]
    if missing:
        raise RigError(f"{directory} is no checkout of cni-repair: no {', '.join(missing)}")
    found = _VERSION.search((directory / "cni_repair/__init__.py").read_text())
    if found is None:
        raise RigError(f"no version in {directory}/cni_repair/__init__.py")
    commit, epoch = _commit(directory)
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        raise RigError(f"SOURCE_DATE_EPOCH is '{given}': give seconds since 1970")
    if not (given or epoch):
        raise RigError(f"{directory} is no git checkout: set SOURCE_DATE_EPOCH to its time")
    return Source(directory, found[1], commit, int(given or epoch))


def _commit(directory: Path) -> tuple[str, str]:
    """The commit and its time; empty where git does not know of this directory."""
    if not (directory / ".git").exists():
        return "", ""
    git = ["git", "--no-optional-locks", "-c", f"safe.directory={directory}", "-C", str(directory)]
    try:
        commit, epoch = run([*git, "log", "-1", "--format=%h %ct", "--abbrev=12"]).split()
        changed = run([*git, "status", "--porcelain", "--", *_PARTS])
    except (RigError, OSError, ValueError) as error:
        raise RigError(f"git cannot tell which commit {directory} is: {error}") from error
    return f"{commit}, dirty" if changed else commit, epoch


def content_number(tree: Path, more: bytes = b"") -> int:
    """The same for the same files: what was changed without a commit gets another directory."""
    number = zlib.crc32(more)
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(tree)).encode()
            number = zlib.crc32(path.read_bytes(), zlib.crc32(name, number))
    return number


def set_times(tree: Path, epoch: int) -> None:
    """Give all of a tree the same time, and modes that do not depend on the umask."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def write_sums(directory: Path) -> Path:
    """SHA256SUMS of all that is in a directory: `sha256sum --check SHA256SUMS` proves it."""
    names = sorted(path.name for path in directory.iterdir() if path.name != "SHA256SUMS")
    sums = run(["sha256sum", "--", *names], cwd=directory) if names else ""
    target = directory / "SHA256SUMS"
    target.write_text(sums)
    return target
