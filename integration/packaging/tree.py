"""cni-repair as modules in a directory, with what it takes from the lock: part of each form."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from integration.packages import apt_get, run
from integration.packaging import locked
from integration.packaging.source import LOCK, Source

# Of an installation by pip, what depends on the pip, and on where it was; nothing reads it.
_OF_PIP = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_PAGES = {
    "cni-repair.8": "from cni_repair.cli.manpage import page; print(page({epoch}), end='')",
    "cni-repair.bash": (
        "import runpy; runpy.run_module('cni_repair.cli.completion', None, '__main__')"
    ),
}


def python_with_pip(work: Path) -> str:
    """An interpreter with pip, and with the setuptools that the lock pins; nothing else."""
    if importlib.util.find_spec("ensurepip") is None:  # Debian's Python without python3-venv
        apt_get("update", check=False)
        apt_get("install", "-y", "--no-install-recommends", "python3-venv")
    python = work / "venv/bin/python3"
    if not python.exists():
        run([sys.executable, "-I", "-m", "venv", str(work / "venv")])
    return str(python)


def write_modules(source: Source, work: Path, target: Path, only: Collection[str] = ()) -> None:
    """Write cni-repair's modules, and those of what the lock pins (`only` these of it).

    What is written says which commit it is of; it is made of the checkout and the lock alone.
    """
    python = python_with_pip(work)
    lock = source.directory / LOCK
    wanted = only or locked.entries(lock).keys() - {"setuptools"}
    locked.install(lock, target, wanted, python)
    builder = work / "builder"
    locked.install(lock, builder, ["setuptools"], python)
    copied = work / "source"
    for part in ("cni_repair", "pyproject.toml", "README.md", "LICENSE"):
        source.copy(part, copied / part)
    pip = ["env", f"PYTHONPATH={builder}", python, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-compile", "--no-deps", "--no-index", "--no-build-isolation"]
    run([*pip, "install", "-q", *options, "--target", str(target), str(copied)])
    if source.commit:
        (target / "cni_repair/COMMIT").write_text(f"{source.commit}\n")
    _clean(target)


def _clean(target: Path) -> None:
    shutil.rmtree(target / "bin", ignore_errors=True)  # entry points of libraries
    (target / "cni_repair/README.md").unlink(missing_ok=True)
    for info in target.glob("*.dist-info"):
        for name in _OF_PIP:
            (info / name).unlink(missing_ok=True)
    for cache in target.rglob("__pycache__"):
        shutil.rmtree(cache)


def write_pages(modules: Path, target: Path, epoch: int) -> None:
    """Write what is made from the parser: the man page and the completion."""
    target.mkdir(parents=True, exist_ok=True)
    for name, program in _PAGES.items():
        (target / name).write_text(_print_by(modules, program.format(epoch=epoch)))


def write_bill(modules: Path, target: Path) -> None:
    """Write the bill of materials of what is there. (The Python is the node's own.)"""
    program = "import json; from cni_repair.cli.sbom import bill; print(json.dumps(bill(False)))"
    document = json.loads(_print_by(modules, program))
    target.write_text(json.dumps(document, indent=2) + "\n")


def _print_by(modules: Path, program: str) -> str:
    start = f"import sys; sys.path.insert(0, {str(modules)!r}); {program}"
    return run([sys.executable, "-ISB", "-c", start])
