"""cni-repair as it is on a node: installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from integration.errors import RigError

INSTALL_SECONDS = 600.0


def install(source: Path, directory: Path) -> Path:
    """Install a checkout's cni-repair as on a node, only elsewhere; the path of its launcher."""
    bin_dir = directory / "bin"
    command = [f"{source}/install.sh", "--prefix", f"{directory}/opt", "--bin-dir", str(bin_dir)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=INSTALL_SECONDS)
        except BaseException:
            process.terminate()  # it cleans up
            raise
    if process.returncode != 0:
        raise RigError(f"install.sh: exit {process.returncode}: {said[-1000:]}")
    return bin_dir / "cni-repair"
