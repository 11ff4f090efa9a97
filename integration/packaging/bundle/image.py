"""The image: the bundle, and nothing else, made by Debian's buildah, which needs not be installed.

It needs no network, starts nothing, and keeps what it works on in a directory of its own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from integration.packages import locked_cache, run, unpacked
from integration.packaging.bundle.archive import pack_all
from integration.packaging.bundle.bundle import MACHINE, made_stage
from integration.packaging.bundle.stage import Stage
from integration.packaging.bundle.tree import NODE_PROGRAM
from integration.packaging.source import Source

NAME = "localhost/cni-repair"
_LIBRARIES = ("libassuan0", "libdevmapper1.02.1", "libgpg-error0", "libgpgme11", "libseccomp2")
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'  # it takes no image of others
_STORAGE = """\
[storage]
driver = "vfs"
runroot = "{directory}/run"
graphroot = "{directory}/root"
"""
# What a runtime mounts something on: it need not be able to write there.
_MOUNT_POINTS = ("dev", "etc", "host", "proc", "run", "sys", "tmp")
_PROGRAMS = ("cni-repair", NODE_PROGRAM)


def write_image(source: Source, work: Path, out: Path) -> Path:
    """Write the image as an OCI archive, which `ctr image import` reads; its path."""
    stage = made_stage(source, work)
    root = work / "image"
    _lay_out(stage, root)
    layout = work / "oci"
    Buildah(prepare(), work / "buildah").write(_settings(source), root, source, layout)
    target = out / f"cni-repair-{source.version}-linux-{MACHINE}.oci.tar"
    pack_all(layout, source.epoch, target)
    return target


def prepare() -> Path:
    """Have buildah in the cache, and what Debian's has to have beside it; where it is."""
    with locked_cache():
        return unpacked("buildah", "buildah", *_LIBRARIES)


def _lay_out(stage: Stage, root: Path) -> None:
    """The bundle where it is to be, and its programs by names that are those of any version."""
    shutil.copytree(stage.root, root, symlinks=True)
    for name in ("bin", *_MOUNT_POINTS):
        (root / name).mkdir()
    for name in _PROGRAMS:
        (root / "bin" / name).symlink_to(stage.place / name)


def _settings(source: Source) -> list[str]:
    labels = {"title": "cni-repair", "version": source.version, "licenses": "Apache-2.0"}
    if source.commit:
        labels["revision"] = source.commit
    words = ["--entrypoint", f'["/bin/{NODE_PROGRAM}"]', "--env", "PATH=/bin"]
    for name, value in labels.items():
        words += ["--label", f"org.opencontainers.image.{name}={value}"]
    return [*words, "--os", "linux", "--arch", "amd64", "--created-by", "make-packages"]


@dataclass(frozen=True)
class Buildah:
    """buildah by its unpacked packages, with a storage of its own."""

    tree: Path
    directory: Path

    def write(self, settings: list[str], root: Path, source: Source, layout: Path) -> None:
        """Write an image of one layer, a root's files, as a directory of the OCI layout."""
        self.directory.mkdir()
        policy = self.directory / "policy.json"
        policy.write_text(_POLICY)
        self._storage.write_text(_STORAGE.format(directory=self.directory))
        try:
            container = self._run("from", "scratch").strip()
            self._run("copy", "--quiet", container, str(root), "/")
            self._run("config", *settings, container)
            options = ["--quiet", "--signature-policy", str(policy), "--format", "oci"]
            options += ["--timestamp", str(source.epoch), "--disable-compression=false"]
            self._run("commit", *options, container, f"oci:{layout}:{NAME}:{source.version}")
        finally:
            shutil.rmtree(self.directory)

    @property
    def _storage(self) -> Path:
        return self.directory / "storage.conf"

    def _run(self, *arguments: str) -> str:
        libraries = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
        environ = {
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory),
            "LD_LIBRARY_PATH": ":".join(str(self.tree / name) for name in libraries),
            "CONTAINERS_CONF": "/dev/null",
            "CONTAINERS_STORAGE_CONF": str(self._storage),
            "REGISTRIES_CONFIG_PATH": "/dev/null",
        }
        words = (f"{name}={value}" for name, value in environ.items())
        program = str(self.tree / "usr/bin/buildah")
        own = ("--root", f"{self.directory}/root", "--runroot", f"{self.directory}/run")
        driver = ("--storage-driver", "vfs")
        return run(["env", "-i", *words, program, *own, *driver, *arguments])
