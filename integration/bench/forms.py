"""The forms in which cni-repair comes to a node, each installed as its users do, to be started.

All are started by chroot(1), those of this machine, too: the .deb is in a Debian system of its own,
the bundle in a root that has nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cni_repair.demo.machine import plugin_directory
from integration.bench import names
from integration.packages import run
from integration.packaging.bundle.bundle import write_bundle
from integration.packaging.packages import write_deb
from integration.packaging.source import read_source
from integration.packaging.trees import debian

_CHROOT = "/usr/sbin/chroot"
_RELEASE = 12
_BIN_DIR = "opt/cni/bin"


@dataclass(frozen=True)
class Form:
    """What is started, and in which root."""

    name: str
    root: Path
    program: str

    @property
    def command(self) -> list[str]:
        return [_CHROOT, str(self.root), self.program]


def forms(source: Path, launcher: Path, directory: Path) -> Iterator[Form]:
    """Each form of a checkout; `launcher` is that of its install.sh. May raise RigError."""
    here = Path("/")
    yield Form(names.NOTHING, here, "/bin/true")
    yield Form(names.BARE, here, f"{plugin_directory()}/macvlan")
    yield Form(names.INSTALLED, here, str(launcher))
    work, out = directory / "work", directory / "packages"
    work.mkdir()
    out.mkdir()
    checkout = read_source(source)
    yield _installed_deb(write_deb(checkout, work, out), directory / "debian")
    yield _unpacked_bundle(write_bundle(checkout, work, out), directory / "bundle")
    shutil.rmtree(work)


def _installed_deb(deb: Path, root: Path) -> Form:
    run(["cp", "-a", str(debian(_RELEASE)), str(root)])
    shutil.copy(deb, root / "cni-repair.deb")
    run([_CHROOT, str(root), "dpkg", "--install", "/cni-repair.deb"])
    return Form(names.DEB, root, "/usr/sbin/cni-repair")


def _unpacked_bundle(bundle: Path, root: Path) -> Form:
    root.mkdir()
    run(["tar", "-C", str(root), "-xzf", str(bundle)])
    (version,) = (root / "opt/cni-repair/versions").iterdir()
    install = f"/{version.relative_to(root)}/install"
    run([_CHROOT, str(root), install, "--bin-dir", f"/{_BIN_DIR}"])
    return Form(names.BUNDLE, root, f"/{_BIN_DIR}/cni-repair")
