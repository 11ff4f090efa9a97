"""What the bundle is made of: Debian's packages, and the wheels that conf/requirements.lock pins.

Downloaded once, and kept in the cache: from then on the bundle is made without a network, of the
same input. Which that is, its bill of materials says, by version and checksum.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from integration.packages import CACHE, apt_get, locked_cache, made_whole, run

# Debian 12's. With the licences (SPDX) of what is taken from them.
DEBIAN = {
    "libc6": "LGPL-2.1-or-later",
    "libexpat1": "MIT",
    "libffi8": "MIT",
    "libgcc-s1": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libpython3.11-minimal": "PSF-2.0",
    "libpython3.11-stdlib": "PSF-2.0",
    "libsqlite3-0": "blessing",
    "libssl3": "Apache-2.0",
    "libuuid1": "BSD-3-Clause",
    "python3.11-minimal": "PSF-2.0",
    "zlib1g": "Zlib",
}
# What it is made with, and not of; libgcc-s1 has its licence there.
_OTHERS = ("gcc-12-base", "patchelf", "python3-pip-whl")
PYTHON = "python3.11"
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
_LOADER = "ld-linux-x86-64.so.2"


@dataclass(frozen=True)
class Deb:
    """A package of Debian's, by its file."""

    name: str
    version: str
    architecture: str
    sha256: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        return (
            f"pkg:deb/debian/{self.name}@{self.version}?arch={self.architecture}&distro=debian-12"
        )


@dataclass(frozen=True)
class Inputs:
    """A directory of the cache: root/ (the packages, unpacked), debs/, wheels/."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def debs(self) -> list[Deb]:
        """The packages that the bundle is made of."""
        files = sorted((self.directory / "debs").glob("*.deb"))
        return [deb for deb in map(_read, files) if deb.name in DEBIAN]

    def wheels(self) -> list[Path]:
        """The wheels of what cni-repair needs."""
        files = sorted((self.directory / "wheels").glob("*.whl"))
        return [file for file in files if file.name.partition("-")[0] != "setuptools"]

    def setuptools(self) -> Path:
        """What cni-repair is built with."""
        return next((self.directory / "wheels").glob("setuptools-*.whl"))

    def library(self, name: str) -> Path | None:
        """Where the packages have a library."""
        found = (self.root / directory / name for directory in _LIBRARIES)
        return next((path for path in found if path.exists()), None)

    def python(self, *arguments: str) -> str:
        """Have the packages' own Python do something, on this machine."""
        loader = str(self.root / _LIBRARIES[0] / _LOADER)
        libraries = ":".join(str(self.root / directory) for directory in _LIBRARIES)
        program = str(self.root / "usr/bin" / PYTHON)
        environ = ("env", "-u", "PYTHONPATH", f"PYTHONHOME={self.root}/usr")
        return run([*environ, loader, "--library-path", libraries, program, "-sSP", *arguments])


def inputs(lock: Path) -> Inputs:
    """All that is needed, in the cache; downloads what is not there yet. May raise RigError."""
    names = sorted([*DEBIAN, *_OTHERS])
    key = hashlib.sha256("\n".join([*names, lock.read_text()]).encode()).hexdigest()[:12]
    directory = CACHE / f"bundle-{key}"
    with locked_cache("bundle"):
        if not directory.exists():
            apt_get("update", check=False)
            with made_whole(directory) as work:
                made = Inputs(work / "tree")
                _unpack_packages(made, names)
                _download_wheels(made, lock)
    return Inputs(directory)


def _unpack_packages(made: Inputs, names: list[str]) -> None:
    debs = made.directory / "debs"
    debs.mkdir(parents=True)
    apt_get("download", *names, cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        run(["dpkg", "-x", str(deb), str(made.root)])


def _download_wheels(made: Inputs, lock: Path) -> None:
    """By the bundle's own Python: which wheel is right for it, it knows itself."""
    (pip,) = (made.root / "usr/share/python-wheels").glob("pip-*.whl")
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir")
    wheels = str(made.directory / "wheels")
    pinned = ("--require-hashes", "--only-binary", ":all:", "-r", str(lock))
    made.python(f"{pip}/pip", "download", *quiet, *pinned, "-d", wheels)


def _read(file: Path) -> Deb:
    asked = ("Package", "Version", "Architecture")
    said = run(["dpkg-deb", "--show", "--showformat=${" + "}\n${".join(asked) + "}", str(file)])
    name, version, architecture = said.split("\n")
    return Deb(name, version, architecture, hashlib.sha256(file.read_bytes()).hexdigest())


def unpack(wheel: Path, target: Path) -> None:
    """As pip does with a wheel that has only what Python imports."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
