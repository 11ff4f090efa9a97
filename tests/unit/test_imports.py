"""What ADD, DEL and REPAIR import: the macvlan plugin's whole ADD takes 10 ms (DESIGN §5)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.samples import CONTAINER, REPOSITORY

PYTHON = "/usr/bin/python3"  # what install.sh takes first
ENTRY = "import sys; sys.path.insert(0, {root!r}); "

# Each costs milliseconds, by itself or by what it pulls in.
HEAVY = {
    "argparse", "asyncio", "collections", "contextlib", "copy", "dataclasses", "datetime", "enum",
    "functools", "hashlib", "importlib.metadata", "importlib.resources", "inspect", "ipaddress",
    "json", "jsonschema", "locale", "logging", "operator", "pathlib", "pyroute2", "random",
    "re", "rich", "shlex", "shutil", "signal", "socket", "subprocess", "tempfile", "threading",
    "traceback", "typing", "typing_extensions", "yaml",
}  # fmt: skip

ADD_AND_DEL = [
    "cni_repair.__main__",
    "cni_repair.cni.plugin",
    "cni_repair.cni.add",
    "cni_repair.cni.delete",
    "cni_repair.node.capture",
    "cni_repair.uplink.ensure",
    "cni_repair.node.detach",
]
REPAIR = ["cni_repair.__main__", "cni_repair.cni.plugin", "cni_repair.cni.repair"]


def python(code: str, *options: str, environ: dict[str, str] | None = None) -> str:
    """A bare interpreter's output and diary."""
    done = subprocess.run(
        [PYTHON, "-IS", *options, "-c", ENTRY.format(root=str(REPOSITORY)) + code],
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def imported_by(modules: list[str]) -> set[str]:
    """What a bare interpreter has loaded after importing these, beyond what it always has."""
    before = "before = set(sys.modules); "
    after = "; print(*sorted(set(sys.modules) - before))"
    return set(python(before + f"import {', '.join(modules)}" + after).split())


def imported_while(code: str, environ: dict[str, str]) -> set[str]:
    """The modules in the diary of -X importtime: those, too, that functions import."""
    diary = python(code, "-Ximporttime", environ=environ)
    lines = [line for line in diary.splitlines() if line.startswith("import time:")]
    assert len(lines) > 10
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.fixture(scope="module")
def for_add() -> set[str]:
    return imported_by(ADD_AND_DEL)


@pytest.fixture(scope="module")
def for_repair() -> set[str]:
    return imported_by(REPAIR)


def test_add_and_del_import_nothing_heavy(for_add: set[str]) -> None:
    assert set(ADD_AND_DEL) <= for_add
    assert HEAVY & for_add == set()
    # They need no ctypes either: where setns() takes it (before Python 3.12), ADD imports it while
    # the delegate is at work.
    assert "ctypes" not in for_add


def test_add_and_del_leave_repairs_work_alone(for_add: set[str]) -> None:
    unneeded = {
        "cni_repair.checkpoint.legacy",
        "cni_repair.cli.main",
        "cni_repair.cni.check",
        "cni_repair.cni.repair",
        "cni_repair.checkpoint.inventory",
        "cni_repair.repair.scheduler",
    }
    assert unneeded & for_add == set()


def test_add_imports_little_before_the_delegate_starts() -> None:
    """Checkpoints and netlink come while it works; only a clean-up needs DEL and identities."""
    first = imported_by(["cni_repair.__main__", "cni_repair.cni.plugin", "cni_repair.cni.add"])
    later = {
        "cni_repair.base.log",
        "cni_repair.checkpoint.identity",
        "cni_repair.checkpoint.model",
        "cni_repair.cni.delete",
        "cni_repair.netlink.socket",
        "cni_repair.node.capture",
    }
    assert later & first == set()
    assert len(first) <= 37, sorted(first)


def test_repair_imports_nothing_heavy(for_repair: set[str]) -> None:
    assert {"cni_repair.repair.scheduler", "cni_repair.network.apply"} <= for_repair
    assert HEAVY & for_repair == set()


def netconf(tmp_path: Path) -> dict[str, object]:
    return {
        "cniVersion": "1.0.0",
        "name": "podnet",
        "type": "cni-repair",
        "master": "lo",
        "checkpointDir": str(tmp_path / "checkpoints"),
        "runDir": str(tmp_path / "run"),
    }


def test_whole_del_loads_nothing_heavy(tmp_path: Path) -> None:
    """A DEL to its end, of a pod whose namespace is gone, with a delegate that does nothing."""
    plugin = tmp_path / "macvlan"
    plugin.write_text("#!/bin/sh\nexit 0\n")
    plugin.chmod(0o755)
    (tmp_path / "checkpoints").mkdir(mode=0o700)
    (tmp_path / "stdin").write_text(json.dumps(netconf(tmp_path)))
    stdin = f"import os; os.dup2(os.open({str(tmp_path / 'stdin')!r}, 0), 0); "
    loaded = imported_while(
        stdin + "from cni_repair.__main__ import main; sys.exit(main() and print('FAILED'))",
        {
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": CONTAINER,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": "",
            "CNI_PATH": str(tmp_path),
        },
    )
    assert "cni_repair.cni.delegate" in loaded
    assert HEAVY & loaded == set()
    assert os.listdir(tmp_path / "run") == []  # DEL came to its end and forgot the lock


@pytest.mark.parametrize(
    "module",
    [
        "network.planning.plan",
        "uplink.plan",
        "uplink.plan_belongings",
        "network.model",
        "network.observed",
    ],
)
def test_planning_imports_no_io(module: str) -> None:
    """DESIGN §7: `network/planning` imports no I/O."""
    loaded = imported_by([f"cni_repair.{module}"])
    doers = (".observe", ".apply", ".netns", ".socket")
    assert not {name for name in loaded if name.endswith(doers)}
    assert not {"select", "fcntl", "socket"} & loaded


# The C half of a slow module, used without it: where, and nowhere else.
C_HALVES = {
    ("_ctypes", "netlink/netns.py"),
    ("_frozen_importlib", "base/pack.py"),
    ("_frozen_importlib_external", "base/pack.py"),
    ("_json", "base/strictjson.py"),
    ("_signal", "cni/delegate.py"),
    ("_signal", "network/reachability/closing.py"),
    ("_signal", "repair/workers.py"),
    ("_socket", "base/lightsocket.py"),
    ("_thread", "base/pack.py"),
}


def test_c_halves_of_modules_are_used_in_few_places() -> None:
    package = REPOSITORY / "cni_repair"
    found = {
        (name, str(path.relative_to(package)))
        for path in package.rglob("*.py")
        for name in re.findall(r"^\s*(?:import|from) (_[a-z]\w*)", path.read_text("utf-8"), re.M)
    }
    assert found == C_HALVES
