"""Where install.sh puts the plugin: where the node's runtime looks, unless another is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.install.node import COMMAND_LINK, LAUNCHER, PREFIX, Node

CONTAINERD = "/etc/containerd/config.toml"
OWN = "/opt/runtime/plugins"  # below what is hidden
OF_CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{OWN}"
"""


@pytest.fixture
def own(node: Node) -> Node:
    """A node whose runtime looks into a directory of its own."""
    node.write(CONTAINERD, OF_CONTAINERD)
    return node


@pytest.mark.slow
def test_the_runtimes_own_directory_is_taken_and_told(own: Node, wheels: Path) -> None:
    done = own.install("--wheels", str(wheels))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == (
        f"plugin directory: {OWN} (containerd looks there ({CONTAINERD})); --bin-dir takes another"
    )
    assert f": {OWN}/cni-repair, from " in done.stdout
    own.answer(f"{OWN}/cni-repair")
    assert not own.path("/opt/cni").exists()
    assert own.shell(f"readlink {COMMAND_LINK}") == f"{OWN}/cni-repair\n"
    done = own.install("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert not own.path(f"{OWN}/cni-repair").exists()
    assert not own.path("/opt/cni-repair").exists()
    assert not own.path(COMMAND_LINK).is_symlink()


@pytest.mark.slow
def test_one_that_is_given_wins(own: Node, wheels: Path) -> None:
    done = own.install("--wheels", str(wheels), "--bin-dir", "/opt/given")
    assert (done.returncode, done.stderr) == (0, "")
    assert "plugin directory" not in done.stdout
    own.answer("/opt/given/cni-repair")
    assert not own.path(OWN).exists()


@pytest.mark.slow
def test_a_configuration_that_cannot_be_read_is_told(node: Node, wheels: Path) -> None:
    node.write(CONTAINERD, "bin_dir = \n")
    node.hide("/usr/lib/cni", "/opt")  # has no plugins
    done = node.install("--wheels", str(wheels))
    assert done.returncode == 0, done.stderr
    assert f"install.sh: {CONTAINERD} is not used: Invalid value" in done.stderr
    assert "give --bin-dir" in done.stderr
    node.answer(LAUNCHER)


@pytest.mark.slow
def test_the_usual_launcher_is_upgraded_too(installed_node: Node, wheels: Path) -> None:
    """It was put there before anybody asked the runtime; a service may name it."""
    node = installed_node
    node.write(CONTAINERD, OF_CONTAINERD)
    before = node.version_in_service()
    done = node.install("--wheels", str(wheels))
    assert (done.returncode, done.stderr) == (0, "")
    new = node.version_in_service(f"{OWN}/cni-repair")
    assert new == node.version_in_service() != before
    # For as long as one of the two runs it, it is in use.
    said = node.path(f"{PREFIX}/versions/{new}/bin-dir").read_text()
    assert said.splitlines() == [OWN, os.path.dirname(LAUNCHER)]
    done = node.install("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    for launcher in (LAUNCHER, f"{OWN}/cni-repair"):
        assert not node.path(launcher).exists()


def test_the_packages_launcher_is_left(node: Node) -> None:
    """dpkg knows of it: half of the node would run the one, half the other."""
    launcher = "#!/usr/lib/cni-repair/versions/0.1.0-20260101T000000Z-1/bin/python3 -IS\n"
    node.write(LAUNCHER, launcher)
    done = node.install()
    assert done.returncode == 1
    assert done.stderr == (
        f"install.sh: {LAUNCHER} is of the package cni-repair:"
        " upgrade that package, or remove it first\n"
    )
    assert node.path(LAUNCHER).read_text() == launcher
