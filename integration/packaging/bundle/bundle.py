"""The relocatable bundle: cni-repair for hosts without Python, as one file to be unpacked at /."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from integration.errors import RigError
from integration.packages import run
from integration.packaging.bundle.archive import pack
from integration.packaging.bundle.inputs import inputs
from integration.packaging.bundle.tree import BILL, Bundle
from integration.packaging.source import LOCK, Source

_MACHINE = "x86_64"  # what inputs.py names packages for


@contextlib.contextmanager
def bundle(source: Source) -> Iterator[Bundle]:
    """Context: the bundle's tree, made."""
    machine = run(["uname", "-m"]).strip()
    if machine != _MACHINE:
        raise RigError(f"the bundle is made on {_MACHINE} only: this is {machine}")
    prepared = inputs(source.directory / LOCK)
    # Short, and no link: byte code has the names of files.
    with tempfile.TemporaryDirectory(prefix="cni-repair-bundle-", dir="/var/tmp") as work:
        made = Bundle(source, prepared, Path(work, "root"))
        made.make()
        yield made


def write(made: Bundle, out: Path) -> list[Path]:
    """Write the bundle and its bill of materials; their paths."""
    source = made.source
    name = f"cni-repair-{source.version}-linux-{_MACHINE}"
    archive, bill = out / f"{name}.tar.gz", out / f"{name}.cdx.json"
    pack(made.root, made.directory, source.epoch, archive)
    bill.write_bytes((made.directory / "share" / BILL).read_bytes())
    return [archive, bill]
