"""install.sh --uninstall: all that is ours goes, but not the checkpoints, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from tests.install.node import (
    COMMAND_LINK,
    COMPLETION,
    DEAD_API_SERVER,
    KUBECONFIG,
    LAUNCHER,
    MAN_PAGE,
    PREFIX,
    REPOSITORY,
    Node,
)

# Of a pod of another boot: nobody needs it.
RECORD = (REPOSITORY / "tests/records/0.1.0/add.json").read_text()
CHECKPOINT = f"/var/lib/cni-repair/checkpoints/{json.loads(RECORD)['containerId']}@eth0.json"
LOCK = "/run/cni-repair/a@eth0.lock"


@pytest.fixture
def used_node(installed_node: Node) -> Node:
    write_record(installed_node)
    installed_node.write(LOCK, "")
    return installed_node


@pytest.mark.slow
def test_an_api_server_that_is_not_there(used_node: Node) -> None:
    """It may have the watcher's condition of this node: one line says so, and it is left."""
    used_node.write(KUBECONFIG, DEAD_API_SERVER, 0o600)
    done = used_node.install("--uninstall")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        "cni-repair: the condition PodNetworkLost may stay on this node: the API server"
        " https://127.0.0.1:1 was not told: "
    )
    assert_not_installed(used_node)


def write_record(node: Node) -> None:
    node.write(CHECKPOINT, RECORD, 0o600)
    node.shell("chmod 0700 /var/lib/cni-repair/checkpoints")


def assert_not_installed(node: Node) -> None:
    assert os.listdir(node.path("/opt")) == ["cni"]
    assert os.listdir(node.path("/opt/cni/bin")) == []
    for link in (COMMAND_LINK, MAN_PAGE, COMPLETION):
        assert not node.path(link).is_symlink()


@pytest.mark.slow
def test_keeps_the_checkpoints(used_node: Node) -> None:
    done = used_node.install("--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kept /var/lib/cni-repair (--uninstall --purge removes it)\n" in done.stdout
    assert_not_installed(used_node)
    assert used_node.path(CHECKPOINT).exists()
    assert used_node.path(LOCK).exists()

    again = used_node.install("--uninstall")
    assert again.returncode == 0
    assert "cni-repair is not installed in /opt/cni-repair\n" in again.stdout


@pytest.mark.slow
def test_purge_removes_them(used_node: Node) -> None:
    done = used_node.install("--uninstall", "--purge")
    assert (done.returncode, done.stderr) == (0, "")
    assert_not_installed(used_node)
    assert not used_node.path("/var/lib/cni-repair").exists()
    assert not used_node.path("/run/cni-repair").exists()


@pytest.mark.slow
def test_leaves_a_command_that_is_not_ours(used_node: Node) -> None:
    used_node.path(COMMAND_LINK).unlink()
    used_node.write(COMMAND_LINK, "#!/bin/sh\n")
    assert used_node.install("--uninstall").returncode == 0
    assert used_node.path(COMMAND_LINK).read_text() == "#!/bin/sh\n"


@pytest.mark.slow
def test_removes_the_launcher_of_a_prefix_that_is_gone(used_node: Node) -> None:
    used_node.shell(f"rm -r {PREFIX}")
    assert used_node.install("--uninstall").returncode == 0
    assert_not_installed(used_node)


@pytest.mark.slow
def test_leaves_another_prefix_alone(used_node: Node) -> None:
    done = used_node.install("--uninstall", "--prefix", "/opt/another")
    assert done.returncode == 0
    assert "cni-repair is not installed in /opt/another\n" in done.stdout
    assert used_node.path(LAUNCHER).exists()
    used_node.answer()


@pytest.mark.slow
def test_at_the_same_time_as_another(used_node: Node) -> None:
    lock = used_node.path(f"{PREFIX}/.lock").open()
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = used_node.start_install("--uninstall")
    assert waiting.stdout is not None
    assert waiting.stdout.readline().startswith("waiting for another install.sh")
    used_node.shell(f"rm -r {PREFIX} {LAUNCHER} {COMMAND_LINK}")
    lock.close()
    output = waiting.communicate()[0]
    assert waiting.returncode == 0, output
    assert_not_installed(used_node)


def test_of_nothing_purges_all_the_same(node: Node) -> None:
    write_record(node)
    done = node.install("--uninstall", "--purge")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "cni-repair is not installed in /opt/cni-repair\nremoved /var/lib/cni-repair\n"
    )
    assert os.listdir(node.path("/opt")) == []


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["photo.jpg"],
        ["versions/photo.jpg"],
        ["versions/0.1.0-20200101T000000Z-1/bin-dir", "photo.jpg"],
    ],
    ids=lambda files: ",".join(files) or "empty",
)
def test_refuses_what_does_not_look_like_ours(node: Node, files: list[str]) -> None:
    node.path(PREFIX).mkdir()
    for file in files:
        node.write(f"{PREFIX}/{file}", "")
    done = node.install("--uninstall", "--purge")
    assert done.returncode == 1
    assert "does not look like an installation" in done.stderr
    assert all(node.path(str(Path(PREFIX, file))).exists() for file in files)
    assert node.path(PREFIX).exists()
