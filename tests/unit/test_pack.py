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


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a pack, as install.sh leaves it; it stays as it is."""
    return with_pack(tmp_path_factory.mktemp("packed"), {})


@pytest.fixture
def installed(packed: Path, tmp_path: Path) -> Path:
    """One more, to be changed."""
    return shutil.copytree(packed, tmp_path / packed.name)


def with_pack(directory: Path, first_lines: dict[str, str]) -> Path:
    """A package there with its pack; `first_lines`: what some modules begin with besides."""
    package = directory / "cni_repair"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "cni_repair", package, ignore=ignored)
    (package / "__pycache__").mkdir()
    for name, lines in first_lines.items():
        future = "from __future__ import annotations\n"
        source = package / name
        source.write_text(source.read_text().replace(future, future + lines, 1))
    make_pack(package)
    return package


def make_pack(package: Path) -> None:
    start = f"import sys; sys.path.append({str(package.parent)!r}); "
    python("-B", "-c", f"{start}from cni_repair.base.packing import make; make()")


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


def test_all_come_from_the_pack(packed: Path) -> None:
    assert set(loaders(packed).values()) == {"_Loader"}


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


def test_broken_version_has_a_pack_too(installed: Path) -> None:
    """That it does not run is found afterwards, and told in other words."""
    (installed / "cni" / "plugin.py").write_text("raise ImportError\n")
    make_pack(installed)
    assert set(loaders(installed).values()) == {"_Loader"}


def test_importlib_is_asked_for_what_pods_wait_for(packed: Path) -> None:
    """A name that is not in the index any more would be without effect."""
    code = f"""
import sys
sys.path.append({str(packed.parent)!r})
from cni_repair.base import pack, packing
pack.use()
print(*(name for name in packing.WAITED_FOR if name not in sys.meta_path[0]._index))
"""
    assert python("-B", "-c", code).split() == []


def test_module_that_is_there_is_found_again(packed: Path) -> None:
    code = f"""
import sys
sys.path.append({str(packed.parent)!r})
from cni_repair.base import pack
pack.use()
import cni_repair.cni.netconf, cni_repair.cni.repair, importlib
print(importlib.reload(cni_repair.cni.repair).__spec__.name)
"""
    assert python("-B", "-c", code).split() == ["cni_repair.cni.repair"]


def test_changed_package_counts(installed: Path) -> None:
    """What is in it is no part of what is run at once then."""
    with (installed / "cni" / "__init__.py").open("a") as source:
        source.write("\n")
    found = loaders(installed)
    assert found.pop("cni_repair.cni") == "SourceFileLoader"
    assert found.pop("cni_repair.cli") == "_Loader"


@pytest.mark.parametrize("damage", ["none", "empty", "cut", "its end cut", "junk"])
def test_without_a_good_pack(installed: Path, damage: str) -> None:
    pack = pack_of(installed)
    if damage == "none":
        pack.unlink()
    elif damage == "junk":
        pack.write_bytes(b"\x10\0\0\0" + b"junk" * 100)
    else:
        whole = pack.read_bytes()
        pack.write_bytes(whole[: {"empty": 0, "cut": 500, "its end cut": len(whole) - 1}[damage]])
    assert set(loaders(installed).values()) == {"SourceFileLoader"}


def test_a_failure_is_told_with_its_line(packed: Path) -> None:
    """What is left out of the code is not what an error is found by."""
    code = f"""
import sys
sys.path.append({str(packed.parent)!r})
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
    assert said[0].startswith(str(packed)) and said[1:] == ["True", "None"]


# By module of ours, what an importer sees of it.
SEEN = """
import sys
sys.path.append({path!r})
from cni_repair.base import pack
{use}
import {modules}
for name, module in sorted(sys.modules.items()):
    if name.startswith("cni_repair."):
        spec, package = module.__spec__, sys.modules[name.rpartition(".")[0]]
        print(
            name, module.__name__, module.__file__, module.__package__, spec.name, spec.origin,
            getattr(module, "__path__", None), spec.submodule_search_locations, spec.parent,
            getattr(package, name.rpartition(".")[2]) is module,
            *sorted(key for key in vars(module) if not key.startswith("__")),
        )
"""


@pytest.mark.parametrize(
    "modules",
    [
        "cni_repair.cni.plugin, cni_repair.cni.add, cni_repair.cni.delete, cni_repair.cni.repair",
        "cni_repair.cni.check, cni_repair.cni.gc, cni_repair.cni.status",
        "cni_repair.cli.main, cni_repair.cli.commands.repair, cni_repair.cli.commands.upgrade",
        "cni_repair.network.operations, cni_repair.demo.story",
    ],
)
def test_modules_are_as_importlib_makes_them(packed: Path, modules: str) -> None:
    path = str(packed.parent)
    seen, usual = (
        python("-B", "-c", SEEN.format(path=path, use=use, modules=modules))
        for use in ("pack.use()", "")
    )
    assert len(usual.splitlines()) > 20
    assert seen == usual


# What importlib was asked for, of ours; `before` runs first.
ASKED = """
import sys
sys.path.append({path!r})
from cni_repair.base import pack
pack.use()
find_spec = pack._Finder.find_spec
def told(self, name, *more):
    if name.startswith("cni_repair"):
        print(name)
    return find_spec(self, name, *more)
pack._Finder.find_spec = told
{before}
import cni_repair.cni.repair
print(type(sys.modules["cni_repair.repair.scheduler"].__loader__).__name__)
"""


def test_what_a_module_imports_is_there_before_it_asks(packed: Path) -> None:
    said = python("-B", "-c", ASKED.format(path=str(packed.parent), before=""))
    assert said.split() == ["cni_repair.cni", "cni_repair.cni.repair", "_Loader"]


def test_beside_other_threads_importlib_does_it(packed: Path) -> None:
    """It has the locks that keep them from a module that is half loaded."""
    before = """
import _thread
goes_on = _thread.allocate_lock()
goes_on.acquire()
_thread.start_new_thread(goes_on.acquire, ())
while not _thread._count():
    pass
"""
    said = python("-B", "-c", ASKED.format(path=str(packed.parent), before=before)).split()
    assert len(said) > 50 and len({*said}) == len(said)


def test_module_that_fails_is_not_half_there(tmp_path: Path) -> None:
    """The next import statement fails as the first did, and after it went, all is well."""
    package = with_pack(tmp_path, {"base/names.py": "import os\nos.stat(os.environ['NAMES'])\n"})
    code = f"""
import os, sys
sys.path.append({str(package.parent)!r})
from cni_repair.base import pack
pack.use()
for os.environ["NAMES"] in ("/nowhere", "/nowhere", "/"):
    try:
        import cni_repair.cni.repair
    except FileNotFoundError:
        print("cni_repair.base.names" in sys.modules)
print(sys.modules["cni_repair.repair.scheduler"].__name__)
"""
    assert python("-B", "-c", code).split() == ["False", "False", "cni_repair.repair.scheduler"]


@pytest.mark.parametrize(
    "modules",
    [
        ["cni.plugin", "cni.add", "node.capture"],
        ["cni.plugin", "cni.delete"],
        ["cni.plugin", "cni.repair"],
    ],
)
def test_what_pods_wait_for_is_read_once(packed: Path, modules: list[str]) -> None:
    """But for the packages, which are small."""
    code = f"""
import sys
sys.path.append({str(packed.parent)!r})
from cni_repair.base import pack
pack.use()
read = pack._Finder._read
sizes = {{}}
def told(self, begin, end):
    sizes.setdefault(begin, []).append(end - begin)
    return read(self, begin, end)
pack._Finder._read = told
import {", ".join(f"cni_repair.{module}" for module in modules)}
print(sum(map(sum, sizes.values())), sum(map(sum, (more[1:] for more in sizes.values()))))
"""
    in_all, again = map(int, python("-B", "-c", code).split())
    assert in_all > 100_000
    assert again < in_all / 10
