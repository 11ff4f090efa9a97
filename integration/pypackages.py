"""Packages from Python's index for the rigs: kept in the cache, on no interpreter's own path."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from integration.packages import CACHE, apt_get, locked_cache, made_whole, run


@dataclass(frozen=True)
class PythonPackages:
    """Packages with all that they need, for the Python that runs this."""

    name: str
    requirements: tuple[str, ...]
    key: str = ""  # of what else is made beside them

    @property
    def directory(self) -> Path:
        """For PYTHONPATH; another one where any of the three, or the Python, is another."""
        whole = "\n".join([*self.requirements, str(sys.implementation.cache_tag), self.key])
        return CACHE / f"{self.name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"

    def prepare(self, finish: Callable[[str, Path], None] | None = None) -> None:
        """Have the directory made where it is not there; `finish` adds to it, by a Python given.

        Raises RigError where the index cannot be reached.
        """
        with locked_cache(self.name):
            if not self.directory.exists():
                self._make(finish)

    def _make(self, finish: Callable[[str, Path], None] | None) -> None:
        if importlib.util.find_spec("ensurepip") is None:  # Debian's Python without python3-venv
            apt_get("update", check=False)
            apt_get("install", "-y", "--no-install-recommends", "python3-venv")
        with made_whole(self.directory) as work:
            python, tree = str(work / "venv/bin/python"), work / "tree"
            run([sys.executable, "-I", "-m", "venv", str(work / "venv")])
            pip = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
            run([*pip, "install", "-q", "--target", str(tree), *self.requirements])
            if finish:
                finish(python, tree)
