"""The relocatable bundle: cni-repair for hosts without Python, as one file to be unpacked at /."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from integration.errors import RigError
from integration.packaging.bundle.archive import pack
from integration.packaging.bundle.inputs import inputs
from integration.packaging.bundle.stage import Stage
from integration.packaging.bundle.tree import BILL, Tree, install
from integration.packaging.source import LOCK, Source, content_number

VERSIONS = Path("/opt/cni-repair/versions")  # install.sh's
MACHINE = "x86_64"  # what inputs.py names packages for


def write_bundle(source: Source, work: Path, out: Path) -> Path:
    """Write the bundle, and its bill of materials beside it; the bundle's path."""
    stage = made_stage(source, work)
    name = f"cni-repair-{source.version}-linux-{MACHINE}"
    target = out / f"{name}.tar.gz"
    pack(stage.root, stage.directory, source.epoch, target)
    shutil.copy(stage.directory / "share" / BILL, out / f"{name}.cdx.json")
    return target


def made_stage(source: Source, work: Path) -> Stage:
    """The bundle's tree, made where it is not there yet."""
    if os.uname().machine != MACHINE:
        raise RigError(f"the bundle is made on {MACHINE} only: this is {os.uname().machine}")
    if os.geteuid() != 0:
        raise RigError("the bundle is made by root only (chroot): run it with sudo")
    made = work / "bundle"
    root, versions = made / "root", made / "root" / VERSIONS.relative_to("/")
    if not root.exists():
        _make(source, made, root)
    (directory,) = versions.iterdir()
    return Stage(root, VERSIONS / directory.name)


def _make(source: Source, work: Path, root: Path) -> None:
    prepared = inputs(source.directory / LOCK)
    site, examples = install(source, prepared, work), work / "examples"
    source.copy("conf", examples)
    checksums = "".join(deb.sha256 for deb in prepared.debs())
    number = content_number(site, checksums.encode())
    stage = Stage(root, VERSIONS / f"{source.tree_name}-{number}")
    Tree(source.epoch, prepared, site, examples, stage).make()
