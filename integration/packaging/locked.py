"""What a build takes from a package index: what a lock file pins, by its hashes, nothing else."""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from integration.errors import RigError
from integration.packages import run

_NAME = re.compile(r"[a-z0-9-]+(?===)")


def entries(lock: Path) -> dict[str, str]:
    """The requirements of a lock file with their hashes, by name."""
    lines = lock.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    found = {}
    for entry in re.split(r"\n(?=\S)", text):
        name = _NAME.match(entry)
        if name is None:
            raise RigError(f"{lock}: this is no pinned requirement: {entry[:80]}")
        found[name[0]] = entry
    return found


def digest(lock: Path) -> str:
    """Another one where anything else is pinned."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:12]


def install(
    lock: Path,
    target: Path,
    only: Collection[str] = (),
    python: str = sys.executable,
    options: Collection[str] = (),
) -> None:
    """Install what a lock pins (`only` these of it) into a directory, for a Python with pip.

    Raises RigError: what has another hash is refused.
    """
    chosen = entries(lock)
    missing = set(only) - chosen.keys()
    if missing:
        raise RigError(f"{lock} does not pin {', '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as work:
        wanted = Path(work, "wanted.lock")
        wanted.write_text("\n".join(chosen[name] for name in sorted(only or chosen)) + "\n")
        pip = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
        arguments = ["--no-compile", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        run(
            [
                *pip,
                "install",
                "-q",
                *arguments,
                *options,
                "--target",
                str(target),
                "-r",
                str(wanted),
            ]
        )
