"""The bundle's tree: a version's directory as install.sh makes it, with its own Python and libc.

It runs where it was made for, and nowhere else: a program names its loader by an absolute path.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.errors import RigError
from integration.packages import run
from integration.packaging.bundle.bill import components
from integration.packaging.bundle.closure import Library
from integration.packaging.bundle.inputs import DEBIAN, PYTHON, Inputs, unpack
from integration.packaging.bundle.isolation import Patchelf, isolate
from integration.packaging.source import Source, set_times

PREFIX = Path("/opt/cni-repair")
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
_NO_DATA = frozenset({".py", ".pyi", ".so", ".pyc"})
BILL = "cni-repair.cdx.json"
_SHARED = (
    ("man/man8/cni-repair.8", "manpage", "made.page()"),
    ("bash-completion/completions/cni-repair", "completion", "made.script()"),
)
_LEFT_OUT = frozenset(
    {
        "_lzma", "_bz2", "_pydecimal", "_pyio", "_testcapi", "_testinternalcapi", "doctest",
        "ensurepip", "ftplib", "idlelib", "lib2to3", "pdb", "pydoc", "readline", "smtplib", "test",
        "tkinter", "webbrowser", "yaml._yaml",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """A tree in the making: below `root` as it will be below /."""

    source: Source
    inputs: Inputs
    root: Path

    @property
    def place(self) -> Path:
        """The version's directory, on a node."""
        return PREFIX / "versions" / self.source.tree_name

    @property
    def directory(self) -> Path:
        """The version's directory, here."""
        return self.root / self.place.relative_to("/")

    def make(self) -> None:
        """Raises RigError where something is missing, or is not as it should be."""
        with_packages = self.root.with_name("site")
        self._install(with_packages)
        self._copy_modules(with_packages)
        self._copy_python()
        self._copy_libraries()
        self._copy_licences()
        self._write_launcher()
        # The pack (cni_repair/base/pack.py) knows its sources by their times.
        set_times(self.directory, self.source.epoch)
        self._compile()
        self._make_shared()
        set_times(self.directory, self.source.epoch)

    @property
    def _patchelf(self) -> Patchelf:
        return Patchelf(self.inputs.root / "usr/bin/patchelf")

    # --- what is in it ---

    def _install(self, site: Path) -> None:
        """Have all Python packages in a directory, cni-repair among them."""
        for wheel in self.inputs.wheels():
            unpack(wheel, site)
        unpack(self._wheel(), site)

    def _wheel(self) -> Path:
        """cni-repair's own, by the lock's setuptools."""
        work = self.root.with_name("build")
        for part in _PARTS:
            self.source.copy(part, work / "source" / part)
        tools = work / "tools"
        unpack(self.inputs.setuptools(), tools)
        self.inputs.python("-c", _BUILD, str(tools), str(work / "source"), str(work))
        (wheel,) = work.glob("*.whl")
        return wheel

    def _copy_modules(self, site: Path) -> None:
        """What cni-repair can import; of Python packages also their data and metadata."""
        standard = self.inputs.root / "usr" / _LIB
        library = Library((site, standard, standard / "lib-dynload"), _LEFT_OUT)
        roots = [module for package in _WHOLE for module in library.modules_in(package)]
        roots += [f"encodings.{name}" for name in _CODECS]
        for path in [*library.closure(roots).values(), *_data(site)]:
            if path.is_relative_to(site):
                self._copy(path, f"{_SITE}/{path.relative_to(site)}")
            else:
                self._copy(path, f"{_LIB}/{path.relative_to(standard)}")
        if self.source.commit:
            self._write(f"{_SITE}/{_PACKAGE}/COMMIT", f"{self.source.commit}\n")

    def _copy_python(self) -> None:
        self._copy(self.inputs.root / "usr/bin" / PYTHON, "bin/python3")
        libraries = self.place / "lib"
        self._patchelf.settle(self.directory / "bin/python3", libraries / _LOADER, libraries)

    def _copy_libraries(self) -> None:
        """All that programs and modules need, and what that needs, in turn."""
        waiting = [self.directory / "bin/python3", *sorted(self.directory.rglob("*.so"))]
        while waiting:
            for name in self._patchelf.needed(waiting.pop()):
                target = self.directory / "lib" / name
                if target.exists():
                    continue
                found = self.inputs.library(name)
                if found is None:
                    raise RigError(f"none of {', '.join(DEBIAN)} has {name}")
                self._copy(found, f"lib/{name}")
                waiting.append(target)
        for path in (self.directory / "lib").glob("*.so.*"):
            isolate(path)

    def _copy_licences(self) -> None:
        for name in DEBIAN:
            found = self.inputs.root / "usr/share/doc" / name / "copyright"
            self._copy(found.resolve(), f"share/licenses/{name}/copyright")

    def _write_launcher(self) -> None:
        self._write("cni-repair", launcher(self.source.directory, self.place))
        (self.directory / "cni-repair").chmod(0o755)

    # --- what is made by it ---

    def _compile(self) -> None:
        self._python(_COMPILE, str(self.place / _LIB), f"{self.place / _SITE / _PACKAGE}/")
        self._python(f"from {_PACKAGE}.base import pack; pack.make()")

    def _make_shared(self) -> None:
        """Man page, completion and bill of materials, as install.sh makes them."""
        for name, module, call in _SHARED:
            said = self._python(
                f"from {_PACKAGE}.cli import {module} as made; print({call}, end='')"
            )
            self._write(f"share/{name}", said)
        brought = json.dumps(components(self.inputs.debs()))
        self._write(f"share/{BILL}", self._python(_BILL, brought))

    def _python(self, script: str, *arguments: str) -> str:
        """Have the bundle's Python do something where it will be, and nothing else is.

        The same hashes each time: what sets are written in is the same, too.
        """
        environ = ("env", "-i", "PYTHONHASHSEED=0", f"PYTHONPATH={self.place / _SITE}")
        program = ("/usr/sbin/chroot", str(self.root), str(self.place / "bin/python3"), "-sSPB")
        return run([*environ, *program, "-c", script, *arguments])

    # --- files ---

    def _copy(self, path: Path, below: str) -> None:
        target = self.directory / below
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)  # what a link leads to

    def _write(self, below: str, text: str) -> None:
        target = self.directory / below
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _data(site: Path) -> Iterator[Path]:
    """What packages have beside their modules: schemas, pages, metadata, licences.

    But RECORD, pip's list of files: it would be wrong.
    """
    for path in sorted(site.rglob("*")):
        if path.is_file() and path.suffix not in _NO_DATA and path.name != "RECORD":
            yield path


def launcher(checkout: Path, place: Path) -> str:
    """The plugin, as install.sh writes it for a version that is in this place."""
    script = (checkout / "install.sh").read_text()
    found = re.search(r'cat >"\$NEW/cni-repair" <<EOF\n(.*?)^EOF$', script, re.S | re.M)
    if found is None:
        raise RigError(f"{checkout}/install.sh writes no launcher any more")
    text = found[1].replace("$NEW", str(place))
    return text.replace("$(site_packages)", str(place / _SITE))


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
print(json.dumps(sbom.bill(json.loads(sys.argv[1])), indent=2))
"""
