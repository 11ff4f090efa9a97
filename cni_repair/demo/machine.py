"""What a lab needs of the machine, and what it runs there."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from cni_repair.demo.errors import LabError
from cni_repair.demo.process import PATH, run

_TRY_SECONDS = 60.0
_PROGRAMS = {"ip": "iproute2", "ping": "iputils-ping"}
_PLUGINS = ("macvlan", "host-local")
_PLUGIN_PACKAGE = "containernetworking-plugins"
_PLUGIN_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin")


def check_machine() -> None:
    """Raises LabError, naming what is missing and its Debian package."""
    missing = {p: package for p, package in _PROGRAMS.items() if not shutil.which(p, path=PATH)}
    if not plugin_directory():
        plugins = f"{' and '.join(_PLUGINS)} (in {' or '.join(_PLUGIN_DIRECTORIES)})"
        missing[plugins] = _PLUGIN_PACKAGE
    if missing:
        packages = " ".join(missing.values())
        raise LabError(f"{', '.join(missing)} missing: apt-get install {packages}")


def plugin_directory() -> str:
    """The first directory that has all the plugins; empty if none has."""
    for directory in _PLUGIN_DIRECTORIES:
        if all(os.access(f"{directory}/{plugin}", os.X_OK) for plugin in _PLUGINS):
            return directory
    return ""


def product() -> list[str]:
    """The command that starts cni-repair: the launcher that we were started by, or this package."""
    launcher = Path(sys.argv[0])
    if launcher.name == "cni-repair" and os.access(launcher, os.X_OK):
        return [str(launcher.resolve())]
    package = Path(__file__).resolve().parents[2]
    site = sysconfig.get_path("purelib")
    # As the installed launcher does it.
    start = (
        f"import sys; sys.path[:0] = [{str(package)!r}]; sys.path.append({site!r});"
        " from cni_repair.__main__ import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-S", "-c", start]


def needed_by(command: Sequence[str]) -> list[Path]:
    """Files of cni-repair's, and of its Python's, wherever they are installed."""
    paths = (Path(command[0]), Path(__file__), Path(sys.executable), Path(sys.prefix))
    return [path.resolve() for path in paths] + [path for path in paths if path.is_absolute()]


def kernel_has_vlans() -> bool:
    """Whether links of kind vlan can be made (8021q): tried in a network namespace of its own."""
    script = (
        "ip link add probe type veth peer name far &&"
        " ip link add link probe name probe.3 type vlan id 3"
    )
    return run(["unshare", "--net", "sh", "-c", script], {}, "", _TRY_SECONDS).returncode == 0
