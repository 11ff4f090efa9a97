"""cni-repair as it is on a node: installed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from cni_repair.demo.lab import product
from integration.errors import RigError

INSTALL_SECONDS = 600.0
_CHECKOUT = Path(__file__).resolve().parents[1]
# What `watch` needs beyond Python's own.
_LIBRARIES = ("pyroute2", "yaml", "inotify_simple")


@contextmanager
def command_here() -> Iterator[list[str]]:
    """What starts this checkout: as it is, where this Python has all libraries, else installed."""
    if all(find_spec(name) for name in _LIBRARIES):
        yield product()
        return
    with tempfile.TemporaryDirectory(prefix="cni-repair-", dir="/var/tmp") as name:
        yield [str(install(_CHECKOUT, Path(name)))]


def install(source: Path, directory: Path) -> Path:
    """Install a checkout's cni-repair as on a node, only elsewhere; the path of its launcher."""
    bin_dir = directory / "bin"
    command = [f"{source}/install.sh", "--prefix", f"{directory}/opt", "--bin-dir", str(bin_dir)]
    run_script(command, INSTALL_SECONDS)
    return bin_dir / "cni-repair"


def run_script(command: list[str], seconds: float, **environment: str) -> None:
    """Run one of the checkout's scripts, with what is given beside our own environment. Where it
    does not end in time, or we are ended, it is told to, and cleans up. Raises RigError."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        name = Path(command[0]).name
        raise RigError(f"{name}: exit {process.returncode}: {said[-1000:]}")
