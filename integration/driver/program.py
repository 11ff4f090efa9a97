"""What a guest runs: a module of a copy of the checkout, with the distribution's own Python."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def work_directory(name: str) -> Iterator[Path]:
    """Context: where the host's and the guest's files are; both see it under the same path."""
    # Not in /run or /tmp: these are the guest's own.
    with tempfile.TemporaryDirectory(prefix=f"cni-repair-{name}-", dir="/var/tmp") as directory:
        yield Path(directory)


def copied(checkout: Path, directory: Path) -> Path:
    """Copy what the guest imports to where it sees it, wherever the checkout is; the copy."""
    copy = directory / "checkout"
    for package in ("cni_repair", "conf", "integration"):
        shutil.copytree(checkout / package, copy / package)
    return copy


def command(checkout: Path, module: str, *arguments: str) -> list[str]:
    """Call a module's main with arguments."""
    program = (
        f"import sys; sys.path.insert(0, {str(checkout)!r});"
        f" from {module} import main; main(*sys.argv[1:])"
    )
    return ["/usr/bin/python3", "-IB", "-c", program, *arguments]
