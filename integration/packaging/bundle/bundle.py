"""The relocatable bundle: cni-repair for hosts without Python, as one file to be unpacked at /."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from integration.errors import RigError
from integration.packaging.bundle.archive import pack
from integration.packaging.bundle.inputs import inputs
from integration.packaging.bundle.stage import Stage
from integration.packaging.bundle.tree import BILL, PREFIX, Tree
from integration.packaging.source import LOCK, Source

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
    stage = Stage(work / "bundle/root", PREFIX / "versions" / source.tree_name)
    if not stage.root.exists():
        Tree(source, inputs(source.directory / LOCK), stage).make(work / "bundle")
    return stage
