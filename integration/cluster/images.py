"""The images that are rolled out: a checkout's, and that of a version which comes after it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from integration.cluster.overlay import IMAGE, Image, Images
from integration.command import CHECKOUT
from integration.errors import RigError
from integration.product import run_script

_MAKE = CHECKOUT / "integration/packaging/make-packages"
_MAKE_SECONDS = 600.0
_VERSION_FILE = "cni_repair/__init__.py"
_VERSION = re.compile(r'^__version__ = "(.*)"$', re.M)
_LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", "tests")
_EPOCH = "1800000000"  # the later one is of no commit, whose time would be its own


def make_images(source: Path, directory: Path) -> Images:
    """Make both, as files in a directory, where Images.read finds them."""
    later = directory / "later"
    shutil.copytree(source, later, ignore=_LEFT_OUT)
    file = later / _VERSION_FILE
    version = _version(source)
    file.write_text(file.read_text().replace(f'"{version}"', f'"{version}.1"'))
    first = _make(source, directory / "first")
    second = _make(later, directory / "second", SOURCE_DATE_EPOCH=_EPOCH)
    images = Images(first, second)
    images.write(directory)
    return images


def _make(source: Path, out: Path, **environment: str) -> Image:
    command = [str(_MAKE), f"--source={source}", f"--out={out}", "image"]
    run_script(command, _MAKE_SECONDS, **environment)
    (archive,) = out.glob("*.oci.tar")
    return Image(str(archive), IMAGE, _version(source))


def _version(source: Path) -> str:
    found = _VERSION.search((source / _VERSION_FILE).read_text())
    if found is None:
        raise RigError(f"no version in {source / _VERSION_FILE}")
    return found[1]
