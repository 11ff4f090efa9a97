"""A tree in the making, below a directory as it will be below /."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from integration.packages import run


@dataclass(frozen=True)
class Stage:
    """A version's directory: `place` on a node, and where it is made."""

    root: Path
    place: Path

    @property
    def directory(self) -> Path:
        return self.root / self.place.relative_to("/")

    def copy(self, path: Path, below: str) -> None:
        """Copy a file, or what a link leads to."""
        shutil.copy(path, self._target(below))

    def write(self, below: str, text: str, mode: int = 0o644) -> None:
        target = self._target(below)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def _target(self, below: str) -> Path:
        target = self.directory / below
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def python(self, site: Path, script: str, *arguments: str) -> str:
        """Have the version's Python run a script where it will be, and nothing else is.

        With the same hashes each time: what is in a set is written in the same order, too. What is
        compiled is without the columns of its lines (cni_repair/base/packing.py).
        """
        environ = ("env", "-i", "PYTHONHASHSEED=0", "PYTHONNODEBUGRANGES=1", f"PYTHONPATH={site}")
        program = ("/usr/sbin/chroot", str(self.root), str(self.place / "bin/python3"), "-sSPB")
        return run([*environ, *program, "-c", script, *arguments])
