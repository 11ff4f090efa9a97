"""The .deb by the role of conf/ansible: in, upgraded, refused to go, purged.

Each test is a chapter of one story: it goes on where the one before has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extent import IS_FULL
from tests.packages.byansible import Reached, reached
from tests.packages.conftest import deb_in, node_of
from tests.packages.debian import Debian

pytestmark = pytest.mark.slow

CONFIG = "/etc/cni-repair/watch.yaml"
WATCH = {"version": 1, "heal": "uplink"}
POD = "pod-1"


@pytest.fixture(scope="module", params=[12, 13] if IS_FULL else [12])
def node(request: pytest.FixtureRequest) -> Iterator[Debian]:
    with node_of(request.param) as node:
        yield node


@pytest.fixture(scope="module")
def host(node: Debian, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    with reached(node, tmp_path_factory.mktemp("ansible"), "package") as host:
        yield host


def package_version(node: Debian) -> str:
    return node.must("dpkg-query", "-W", "-f", "${Version}", "cni-repair")


def test_it_is_installed(host: Reached, node: Debian, first: Path) -> None:
    file = str(deb_in(first))
    assert host.must("install", cni_repair_file=file, cni_repair_watch=WATCH)
    assert node.must("cni-repair", "--version").startswith("cni-repair ")
    assert "\nheal: uplink\n" in node.path(CONFIG).read_text()


def test_a_second_run_changes_nothing(host: Reached, first: Path) -> None:
    file = str(deb_in(first))
    assert not host.must("install", cni_repair_file=file, cni_repair_watch=WATCH)


def test_it_is_upgraded_under_a_pod(host: Reached, node: Debian, second: Path) -> None:
    node.add_master()
    address = node.add_pod(POD)
    before = package_version(node)
    assert host.must("install", cni_repair_file=str(deb_in(second)), cni_repair_watch=WATCH)
    assert package_version(node) > before
    assert address in node.addresses(POD)
    assert "\nheal: uplink\n" in node.path(CONFIG).read_text()  # it is still ours


def test_it_stays_while_a_pod_needs_it(host: Reached, node: Debian) -> None:
    played = host.play("uninstall")
    assert played.status == 2, played.said
    assert POD in played.said
    assert node.must("cni-repair", "--version")


def test_it_is_purged(host: Reached, node: Debian) -> None:
    node.call("DEL", POD)
    assert host.must("uninstall", cni_repair_purge=True)
    assert node.do("dpkg-query", "-W", "cni-repair").returncode == 1
    for path in (CONFIG, "/var/lib/cni-repair", "/var/cache/cni-repair"):
        assert not node.path(path).exists()
    assert not host.must("uninstall", cni_repair_purge=True)
