"""The .rpm by rpm itself, in a tree: no Fedora or RHEL is to be had here, so that the tree is
Debian's, and the names of what the package depends on are looked at, not resolved."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.errors import RigError
from integration.packages import need_programs
from tests.packages.conftest import node_of, rpm_in
from tests.packages.debian import Debian

pytestmark = pytest.mark.slow

PLUGIN = "/usr/libexec/cni/cni-repair"  # where Fedora and RHEL have their plugins
# As Fedora and RHEL 10 call them.
DEPENDS = {
    "python3 >= 3.10",
    "python3-jsonschema >= 4.10",
    "python3-prometheus_client >= 0.16",
    "python3-pyyaml >= 6",
    "python3-rich >= 13",
}


@pytest.fixture(scope="module", autouse=True)
def rpm() -> None:
    try:
        need_programs({"/usr/bin/rpm": "rpm"})
    except RigError as error:
        pytest.skip(f"no rpm: {error}")


@pytest.fixture(scope="module")
def node() -> Iterator[Debian]:
    with node_of(12) as node:
        yield node


def query(package: Path, *options: str) -> list[str]:
    with tempfile.TemporaryDirectory() as database:  # it makes one, even to look at a file
        command = ["rpm", "-qp", "--dbpath", database, *options, str(package)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_what_it_depends_on(first: Path) -> None:
    found = {line for line in query(rpm_in(first), "--requires") if not line.startswith("rpmlib")}
    assert found == DEPENDS


def test_settings_are_kept_as_they_were_changed(first: Path) -> None:
    assert query(rpm_in(first), "--configfiles") == ["/etc/cni-repair/watch.yaml"]


def test_it_is_installed_refused_to_go_and_removed(node: Debian, first: Path) -> None:
    done = node.by_rpm("--install", "--nodeps", str(rpm_in(first)))
    assert done.returncode == 0, done.stderr
    assert "cni-repair: /usr/lib/cni/cni-repair is in service: macvlan is there" in done.stdout
    assert node.must("cni-repair", "--version").startswith("cni-repair ")
    node.add_master()
    address = node.add_pod("pod-1", PLUGIN)
    done = node.by_rpm("--erase", "cni-repair")
    assert done.returncode != 0
    assert "1 interface of living pods (pod-1) was made by cni-repair" in done.stderr
    assert address in node.addresses("pod-1")
    node.call("DEL", "pod-1", PLUGIN)
    done = node.by_rpm("--erase", "cni-repair")
    assert done.returncode == 0, done.stderr
    for path in (PLUGIN, "/usr/lib/cni/cni-repair", "/usr/lib/cni-repair", "/usr/share/cni-repair"):
        assert not node.path(path).exists()
    assert node.path("/var/lib/cni-repair").exists()  # the records
