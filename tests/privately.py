"""Stories that need a private machine: they are lived through in a process of its own, and told."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import product
from integration.containerd import runtime
from integration.containerd.cgroup import Cgroup
from integration.kubelet.private import in_private

_CHECKOUT = Path(__file__).resolve().parents[1]


def told_by(file: str, seconds: float) -> dict[str, Any]:
    """What `on_private_machine(cgroup)` of a file prints, one JSON document; and the cgroup."""
    runtime.prepare()
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(_CHECKOUT)!r});"
        f" runpy.run_path({file!r})['on_private_machine'](sys.argv[1])"
    )
    with Cgroup() as cgroup:
        command = in_private([sys.executable, "-B", "-c", program, cgroup.name], cgroup)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "cgroup": cgroup.name}


def plugin_in(directory: Path) -> Path:
    """A directory for a runtime, with cni-repair in it."""
    directory.mkdir()
    plugin = directory / "cni-repair"
    plugin.write_text(f"#!/bin/sh\nexec {shlex.join(product())}\n")
    plugin.chmod(0o755)
    return directory
