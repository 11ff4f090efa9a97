"""The pack: the same modules, from one file, and only as long as it tells the truth."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.samples import REPOSITORY

PYTHON = "/usr/bin/python3"
# By module, what loaded it and where it says that it is from.
LOADED = """
import sys
sys.path.append({path!r})
from cni_repair.base import pack
pack.use()
import cni_repair.cni.add, cni_repair.cni.netconf, cni_repair.cli.main
for name in ("cni_repair.cni", "cni_repair.cni.add", "cni_repair.cni.netconf", "cni_repair.cli"):
    module = sys.modules[name]
    assert module.__spec__.name == name and module.__loader__.get_source(name)
    print(name, type(module.__loader__).__name__, module.__file__)
"""


def python(*arguments: str) -> str:
    done = subprocess.run(
        [PYTHON, "-IS", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A package with a pack, as install.sh leaves it."""
    package = tmp_path / "cni_repair"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "cni_repair", package, ignore=ignored)
    (package / "__pycache__").mkdir()
    start = f"import sys; sys.path.append({str(tmp_path)!r}); "
    python("-B", "-c", f"{start}from cni_repair.base.packing import make; make()")
    return package


def loaders(package: Path) -> dict[str, str]:
    """By module, the loader's name; each is from its own file."""
    found = {}
    for line in python("-B", "-c", LOADED.format(path=str(package.parent))).splitlines():
        name, loader, file = line.split()
        parts = name.split(".")
        assert file in (
            str(package.parent.joinpath(*parts)) + ".py",
            str(package.parent.joinpath(*parts, "__init__.py")),
        )
        found[name] = loader
    return found


def pack_of(package: Path) -> Path:
    (pack,) = (package / "__pycache__").glob("pack.cpython-*[0-9]")
    return pack


def test_all_come_from_the_pack(installed: Path) -> None:
    assert set(loaders(installed).values()) == {"_Loader"}


def test_changed_source_counts(installed: Path) -> None:
    """An engineer's print() must not be without effect."""
    with (installed / "cni" / "netconf.py").open("a") as source:
        source.write("\n")
    found = loaders(installed)
    assert found.pop("cni_repair.cni.netconf") == "SourceFileLoader"
    assert set(found.values()) == {"_Loader"}


def test_source_of_another_time_counts(installed: Path) -> None:
    os.utime(installed / "cni" / "netconf.py", ns=(0, 0))
    assert loaders(installed)["cni_repair.cni.netconf"] == "SourceFileLoader"


@pytest.mark.parametrize("damage", ["none", "empty", "cut", "junk"])
def test_without_a_good_pack(installed: Path, damage: str) -> None:
    pack = pack_of(installed)
    if damage == "none":
        pack.unlink()
    elif damage == "junk":
        pack.write_bytes(b"\x10\0\0\0" + b"junk" * 100)
    else:
        pack.write_bytes(pack.read_bytes()[: 0 if damage == "empty" else 500])
    assert set(loaders(installed).values()) == {"SourceFileLoader"}


def test_a_failure_is_told_with_its_line(installed: Path) -> None:
    """What is left out of the code is not what an error is found by."""
    code = f"""
import sys
sys.path.append({str(installed.parent)!r})
from cni_repair.base import pack
pack.use()
from cni_repair.cni.netconf import parse
try:
    parse(None)
except Exception as error:
    while error.__traceback__.tb_next:
        error.__traceback__ = error.__traceback__.tb_next
    print(error.__traceback__.tb_frame.f_code.co_filename, error.__traceback__.tb_lineno > 1)
print(parse.__doc__)
"""
    said = python("-B", "-c", code).split()
    assert said[0].startswith(str(installed)) and said[1:] == ["True", "None"]
