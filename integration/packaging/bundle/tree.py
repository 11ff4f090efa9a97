"""The bundle's tree: a version's directory as install.sh makes it, with its own Python and libc.

It runs where it was made for, and nowhere else: a program names its loader by an absolute path.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cni_repair.placing.launcher import launcher_text
from integration.errors import RigError
from integration.packaging.bundle.bill import components
from integration.packaging.bundle.closure import Library
from integration.packaging.bundle.inputs import DEBIAN, PYTHON, Inputs, unpack
from integration.packaging.bundle.isolation import Patchelf, isolate
from integration.packaging.bundle.stage import Stage
from integration.packaging.source import Source, set_times

BILL = "cni-repair.cdx.json"
NODE_PROGRAM = "cni-repair-node"  # of the image
INSTALL = "install"
_MAINS = {NODE_PROGRAM: "daemonset", INSTALL: "unpacked"}  # modules of cni_repair/placing

_LOADER = "ld-linux-x86-64.so.2"
_LIB = f"lib/{PYTHON}"
_SITE = f"{_LIB}/site-packages"
_PACKAGE = "cni_repair"
_PARTS = ("pyproject.toml", "README.md", "LICENSE", _PACKAGE)  # as install.sh builds it

# Packages that are whole, because they import what they have by its name.
_WHOLE = (_PACKAGE, "pyroute2.netlink.rtnl.ifinfmsg", "rich._unicode_data")
_CODECS = (
    "aliases", "ascii", "idna", "latin_1", "punycode", "raw_unicode_escape", "unicode_escape",
    "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le", "utf_8", "utf_8_sig",
)  # fmt: skip
# Named in code that nothing of ours reaches: tools for developers, what asks people, other ways to
# have the same.
_LEFT_OUT = frozenset(
    {
        "_lzma", "_bz2", "_pydecimal", "_pyio", "_testcapi", "_testinternalcapi", "doctest",
        "ensurepip", "ftplib", "idlelib", "lib2to3", "pdb", "pydoc", "readline", "smtplib", "test",
        "tkinter", "webbrowser", "yaml._yaml",
    }
)  # fmt: skip
_NO_DATA = frozenset({".py", ".pyi", ".pyc", ".so"})
_SHARED = {
    "man/man8/cni-repair.8": (
        "from cni_repair.cli.manpage import page; print(page({epoch}), end='')"
    ),
    "bash-completion/completions/cni-repair": (
        "from cni_repair.cli.completion import script; print(script(), end='')"
    ),
}


def install(source: Source, inputs: Inputs, work: Path) -> Path:
    """Have all Python packages in a directory; cni-repair's is made by the lock's setuptools."""
    for part in _PARTS:
        source.copy(part, work / "source" / part)
    unpack(inputs.setuptools(), work / "tools")
    inputs.python("-c", _BUILD, *(str(work / name) for name in ("tools", "source", "")))
    site = work / "site"
    for wheel in [*inputs.wheels(), *work.glob("*.whl")]:
        unpack(wheel, site)
    if source.commit:
        (site / _PACKAGE / "COMMIT").write_text(f"{source.commit}\n")
    return site


@dataclass(frozen=True)
class Tree:
    """The tree, and what it is made of."""

    epoch: int
    inputs: Inputs
    site: Path  # all Python packages
    examples: Path  # the checkout's conf: the service's unit, its settings
    stage: Stage

    def make(self) -> None:
        """Raises RigError where something is missing, or is not as it should be."""
        self._copy_modules()
        self._copy_python()
        self._copy_licences()
        shutil.copytree(self.examples, self.stage.directory / "share/examples")
        self._write_programs()
        # The pack (cni_repair/base/pack.py) knows its sources by their times.
        set_times(self.stage.directory, self.epoch)
        self._compile()
        self._make_shared()
        set_times(self.stage.directory, self.epoch)

    # --- what is in it ---

    def _copy_modules(self) -> None:
        """What cni-repair can import; of Python packages also their data and metadata."""
        site = self.site
        standard = self.inputs.root / "usr" / _LIB
        library = Library((site, standard, standard / "lib-dynload"), _LEFT_OUT)
        roots = [module for package in _WHOLE for module in library.modules_in(package)]
        roots += [f"encodings.{name}" for name in _CODECS]
        for path in [*library.closure(roots).values(), *_data(site)]:
            if path.is_relative_to(site):
                self.stage.copy(path, f"{_SITE}/{path.relative_to(site)}")
            else:
                self.stage.copy(path, f"{_LIB}/{path.relative_to(standard)}")

    def _copy_python(self) -> None:
        """The interpreter, and all libraries that it and the modules need."""
        patchelf = Patchelf(self.inputs.root / "usr/bin/patchelf")
        self.stage.copy(self.inputs.root / "usr/bin" / PYTHON, "bin/python3")
        program, lib = self.stage.directory / "bin/python3", self.stage.directory / "lib"
        waiting = [program, *self.stage.directory.rglob("*.so")]
        while waiting:
            for name in patchelf.needed(waiting.pop()):
                if (lib / name).exists():
                    continue
                found = self.inputs.library(name)
                if found is None:
                    raise RigError(f"none of {', '.join(DEBIAN)} has {name}")
                self.stage.copy(found, f"lib/{name}")
                waiting.append(lib / name)
        for library in lib.glob("*.so.*"):
            isolate(library)
        place = self.stage.place / "lib"
        patchelf.settle(program, place / _LOADER, place)

    def _copy_licences(self) -> None:
        """Debian's packages'; Python's have them in their metadata."""
        for name in DEBIAN:
            found = self.inputs.root / "usr/share/doc" / name / "copyright"
            self.stage.copy(found, f"share/licenses/{name}/copyright")

    def _write_programs(self) -> None:
        python, site = self.stage.place / "bin/python3", self.stage.place / _SITE
        self.stage.write("cni-repair", launcher_text(str(python), [str(site)]), 0o755)
        for name, module in _MAINS.items():
            text = _PROGRAM.format(python=python, site=site, module=module)
            self.stage.write(name, text, 0o755)

    # --- what is made by it ---

    def _compile(self) -> None:
        ours = f"{self.stage.place / _SITE / _PACKAGE}/"
        self._python(_COMPILE, str(self.stage.place / _LIB), ours)
        self._python(f"from {_PACKAGE}.base import packing; packing.make()")

    def _make_shared(self) -> None:
        """Man page, completion and bill of materials, as install.sh makes them."""
        for name, script in _SHARED.items():
            self.stage.write(f"share/{name}", self._python(script.format(epoch=self.epoch)))
        brought = json.dumps(components(self.inputs.debs()))
        self.stage.write(f"share/{BILL}", self._python(_BILL, brought))

    def _python(self, script: str, *arguments: str) -> str:
        return self.stage.python(self.stage.place / _SITE, script, *arguments)


def _data(site: Path) -> Iterator[Path]:
    """What packages have beside their modules: schemas, pages, metadata, licences.

    But RECORD, pip's list of files: it would be wrong.
    """
    for path in sorted(site.rglob("*")):
        if path.is_file() and path.suffix not in _NO_DATA and path.name != "RECORD":
            yield path


_PROGRAM = """\
#!{python} -IS
import sys

sys.path.append("{site}")

from cni_repair.placing.{module} import main

sys.exit(main(sys.argv[1:]))
"""
_BUILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
os.chdir(sys.argv[2])
from setuptools import build_meta
build_meta.build_wheel(sys.argv[3])
"""
# Unchecked: byte code that is not compared with its source's time, which copying may change.
# Sources stay where an engineer may have to read them: our own.
_COMPILE = """
import os, py_compile, sys
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
for directory, below, names in os.walk(sys.argv[1]):
    below.sort()
    for name in sorted(names):
        path = os.path.join(directory, name)
        if name.endswith(".py"):
            ours = path.startswith(sys.argv[2])
            target = None if ours else path + "c"
            py_compile.compile(path, target, doraise=True, invalidation_mode=unchecked)
            ours or os.remove(path)
"""
_BILL = """
import json, sys
from cni_repair.cli import sbom
print(json.dumps(sbom.bill(False, json.loads(sys.argv[1])), indent=2))
"""
