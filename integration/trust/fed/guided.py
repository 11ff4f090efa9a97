"""Inputs that coverage guides: atheris, Google's fuzzer for Python, by way of libFuzzer.

A process of its own for each reader (guidedprocess.py): libFuzzer ends the one it works in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from integration.errors import RigError
from integration.packages import CACHE, apt_get, locked_cache, made_whole, run
from integration.trust.fed.feeding import Fault, Tally
from integration.trust.fed.reader import CORPUS

_ATHERIS = ("atheris==3.0.0",)
_PROGRAM = Path(__file__).with_name("guidedprocess.py")
_REPORT = "report.json"
_MOST_BYTES = 1 << 14


def prepare() -> Path:
    """Where atheris is; it is brought by pip, if need be. Raises RigError where that cannot be."""
    key = "\n".join([*_ATHERIS, str(sys.implementation.cache_tag)])
    tree = CACHE / f"fed-atheris-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not tree.exists():
        with locked_cache("fed-atheris"):
            if not tree.exists():
                _bring(tree)
    return tree


def _bring(tree: Path) -> None:
    if importlib.util.find_spec("ensurepip") is None:  # Debian's Python without its python3-venv
        apt_get("update", check=False)
        apt_get("install", "-y", "--no-install-recommends", "python3-venv")
    with made_whole(tree) as work:
        run([sys.executable, "-I", "-m", "venv", str(work / "venv")])
        pip = [f"{work}/venv/bin/python", "-I", "-m", "pip", "--disable-pip-version-check"]
        only = ["--no-cache-dir", "--only-binary", ":all:", "--target", f"{work}/tree"]
        run([*pip, "install", "-q", *only, *_ATHERIS])


def guided(tree: Path, reader: str, seed: int, runs: int) -> Tally:
    """Feed one reader, in a process of its own. Raises RigError where that dies before its time."""
    with tempfile.TemporaryDirectory(prefix="cni-repair-fed-") as directory:
        found = Path(directory, "found")
        found.mkdir()
        with Path(directory, "log").open("wb") as log:
            command = _command(tree, reader, seed, runs, directory)
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            document = json.loads(Path(directory, _REPORT).read_text())
        except FileNotFoundError as error:
            said = Path(directory, "log").read_text(errors="replace")[-500:]
            raise RigError(f"the guided fuzzer has died: {' '.join(said.split())}") from error
    told = document.pop("faults")
    faults = [Fault(reader, kind, saw, bytes.fromhex(data)) for kind, saw, data in told]
    return Tally(**document, faults={fault.kind: fault for fault in faults})


def _command(tree: Path, reader: str, seed: int, runs: int, directory: str) -> list[str]:
    return [
        *(sys.executable, "-IB", str(_PROGRAM), str(tree), reader, f"{directory}/{_REPORT}"),
        *(f"-runs={runs}", f"-seed={seed}", f"-max_len={_MOST_BYTES}", "-timeout=60"),
        *(f"-artifact_prefix={directory}/", f"{directory}/found", str(CORPUS / reader)),
    ]
