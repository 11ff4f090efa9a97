"""What the rigs download: kept, unpacked, in a cache outside of the checkout, never installed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from integration.errors import RigError

CACHE = Path("/var/cache/cni-repair-tests")
APT_SECONDS = 900

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Beside what the lab itself is made of: for a node in namespaces, and what is started on it.
NODE_PROGRAMS = {
    "/usr/bin/setpriv": "util-linux",
    "/usr/lib/cni/macvlan": "containernetworking-plugins",
    "/sbin/ip": "iproute2",
}


@contextlib.contextmanager
def locked_cache(part: str = "") -> Iterator[None]:
    """Context: nobody else fills the cache, or a part of it that takes long to make."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".lock{part and '-'}{part}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def made_whole(tree: Path) -> Iterator[Path]:
    """Context: a directory to work in; what the body makes as `tree` in it becomes `tree`.

    A tree in the cache is whole, or not there at all.
    """
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        yield Path(work)
        Path(work, "tree").rename(tree)


def need_programs(programs: Mapping[str, str]) -> None:
    """Install the packages, by the paths of the programs that they bring, whose program is missing.

    Raises RigError, naming what is missing, where apt-get cannot bring it.
    """
    missing = [package for path, package in programs.items() if not Path(path).exists()]
    if missing:
        apt_get("update", check=False)  # one unreachable source need not matter
        apt_get("install", "-y", "--no-install-recommends", *missing)


def unpacked(package: str, name: str, *others: str, suite: str = "") -> Path:
    """The tree in the cache of a package, and of others that have to be in the same tree.

    `suite`: of that one of Debian's, whatever this machine's is.
    """
    tree = CACHE / name
    if not tree.exists():
        known = _packages_of(suite)
        with made_whole(tree) as work:
            apt_get(*known, "download", _real_name(package), *others, cwd=work)
            for deb in work.glob("*.deb"):
                run(["dpkg", "-x", str(deb), f"{work}/tree"])
            _link_as_a_root(work / "tree")
    return tree


def source_of(package: str, directory: Path, suite: str) -> Path:
    """The tar of a source package as its authors released it, downloaded into a directory."""
    known = _packages_of(suite)
    apt_get(*known, "source", "--download-only", "--tar-only", package, cwd=directory)
    (source,) = directory.glob("*.orig.tar.*")
    return source


def _packages_of(suite: str) -> list[str]:
    """What has apt-get know the packages of one of Debian's suites, sources included, as they are
    now; without a suite, those of this machine.

    The lists are kept apart: this machine goes on knowing its own packages alone.
    """
    apt_get("update", check=False)  # one unreachable source need not matter
    if not suite:
        return []
    listed = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    parted = (line.partition(" ") for line in run(listed).splitlines())
    places = [place for label, _, place in parted if label == "Debian"]
    if not places:
        raise RigError(
            f"none of this machine's sources of packages is Debian's: no {suite} from it"
        )
    directory = CACHE / f"apt-{suite}"
    for part in ("lists/partial", "cache/archives/partial"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    signed = f" [signed-by={_KEYRING}]" if _KEYRING.exists() else ""
    lines = [f"{kind}{signed} {places[0]} {suite} main\n" for kind in ("deb", "deb-src")]
    (directory / "sources.list").write_text("".join(lines))
    options = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "Acquire::Languages": "none",
        "Acquire::GzipIndexes": "true",
    }
    known = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    apt_get(*known, "update")
    return known


def _link_as_a_root(tree: Path) -> None:
    """From Debian 13 on packages have everything below usr; these links are the base system's."""
    for name in ("bin", "lib", "sbin"):
        if (tree / "usr" / name).is_dir() and not (tree / name).exists():
            (tree / name).symlink_to(f"usr/{name}")


def _real_name(package: str) -> str:
    """linux-image-amd64 is empty and depends on the kernel of the day."""
    if not package.endswith("-amd64"):
        return package
    shown = run(["apt-cache", "show", "--no-all-versions", package])
    depends = re.search(rf"^Depends: .*?({package.removesuffix('-amd64')}-\d\S+)", shown, re.M)
    return depends[1] if depends else package


def apt_get(*arguments: str, check: bool = True, cwd: Path = Path("/")) -> None:
    """Raises RigError where it fails, unless that does not matter."""
    if not shutil.which("apt-get"):
        raise RigError(f"no apt-get for: {' '.join(arguments)}; this rig is for a Debian machine")
    quiet = ["-qq", "-o", "DPkg::Lock::Timeout=300"]
    # For the lists' lock apt-get does not wait: of two updates one would fail, and go without.
    with locked_cache("apt"):
        run(["apt-get", *quiet, *arguments], check=check, cwd=cwd)


def run(command: list[str], check: bool = True, cwd: Path = Path("/")) -> str:
    """What a command prints; RigError where it fails, or does not end."""
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=APT_SECONDS,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired as error:
        raise RigError(f"{' '.join(command)}: no end after {APT_SECONDS} s") from error
    if check and done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise RigError(f"{' '.join(command)}: exit {done.returncode}: {said[-500:]}")
    return done.stdout
