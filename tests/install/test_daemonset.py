"""The program of the image, from a container on a node whose files are private.

The container has mounts of its own: the node's root at /mnt, and a version of its own in /opt.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.install.node import (
    DEAD_API_SERVER,
    KUBECONFIG,
    LAUNCHER,
    PREFIX,
    VERSION_REQUEST,
    Node,
)
from tests.install.test_refused_removal import attach, conf, node, write_conf
from tests.patience import HANG_SECONDS, eventually

__all__ = ["node"]

Environ = Mapping[str, str]

pytestmark = pytest.mark.slow

ENTRY = """#!{version}/bin/python3 -IS
import sys
sys.path += {packages}
from cni_repair.placing.daemonset import main
sys.exit(main(sys.argv[1:]))
"""
BEGIN = """
mount --rbind / /mnt
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni-repair/versions
cp -a {image} /opt/cni-repair/versions/{name}
exec /opt/cni-repair/versions/{name}/cni-repair-node --host /mnt "$@"
"""
CONTAINERD = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "{directory}"\n'


class Image:
    """A version as an image has it: one of install.sh's, under another name."""

    def __init__(self, made: Path, directory: Path, name: str) -> None:
        self.name = name
        self.tree = directory / name
        shutil.copytree(made, self.tree, symlinks=True)
        launcher = self.tree / "cni-repair"
        text = launcher.read_text().replace(made.name, name)
        launcher.write_text(text)
        found = re.search(r"^sys\.path \+= (\[.*\])$", text, re.MULTILINE)
        assert found
        entry = self.tree / "cni-repair-node"
        entry.write_text(ENTRY.format(version=f"{PREFIX}/versions/{name}", packages=found[1]))
        entry.chmod(0o755)


@pytest.fixture(scope="module")
def images(fresh_node: Node, tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Two, the older first."""
    (made,) = fresh_node.path(f"{PREFIX}/versions").iterdir()
    directory = tmp_path_factory.mktemp("images")
    names = ("1.0-20260101T000000Z-1", "1.1-20260202T000000Z-1")
    return [Image(made, directory, name) for name in names]


@pytest.fixture
def bare() -> Iterator[Node]:
    """A node without cni-repair, where containerd looks for plugins in the usual directory."""
    with Node() as bare:
        look_in_the_usual(bare)
        yield bare


def look_in_the_usual(node: Node) -> None:
    """This machine's own plugins are none of the node's."""
    node.write(
        "/etc/containerd/config.toml", CONTAINERD.format(directory=os.path.dirname(LAUNCHER))
    )
    node.shell("mount --bind /usr/lib/cni /usr/lib/cni; mount -o remount,bind,ro /usr/lib/cni")


def command(node: Node, image: Image, *arguments: str, environ: Environ | None = None) -> list[str]:
    script = BEGIN.format(image=shlex.quote(str(image.tree)), name=image.name)
    unshare = ("/usr/bin/unshare", "--mount", "--propagation", "slave", "/bin/bash", "-euc")
    return node.command(
        *unshare, script, "-", *arguments, env={"PATH": os.defpath, **(environ or {})}
    )


def done(
    node: Node, image: Image, *arguments: str, environ: Environ | None = None
) -> subprocess.CompletedProcess[str]:
    """A call in the container that ends by itself."""
    return subprocess.run(
        command(node, image, *arguments, environ=environ),
        capture_output=True, text=True, timeout=HANG_SECONDS, check=False,
    )  # fmt: skip


class Container:
    """The DaemonSet's container on a node, from its start to its end."""

    def __init__(self, node: Node, image: Image, log: Path, environ: Environ | None) -> None:
        self._ask = (node, image)
        self._environ = environ
        self.log = log
        with log.open("w") as file:
            self.process = node.started(command(node, image, environ=environ), stdout=file)

    def asks(self, probe: str) -> int:
        """The exit status of a probe."""
        return done(*self._ask, probe, environ=self._environ).returncode

    def become_ready(self) -> None:
        is_over = lambda: self.process.poll() is not None or self.asks("ready") == 0  # noqa: E731
        eventually(is_over, pause=0.2)
        assert self.process.poll() is None, self.log.read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG_SECONDS)


@contextlib.contextmanager
def running(
    node: Node, image: Image, log: Path, environ: Environ | None = None
) -> Iterator[Container]:
    container = Container(node, image, log, environ)
    try:
        yield container
    finally:
        if container.process.poll() is None:
            container.end()
        print(log.read_text())  # shown where the test fails


def everything(node: Node) -> dict[str, tuple[int, int]]:
    """Every file that was put on a node: which one it is, and when it was changed."""
    found = {}
    for root in (node.path(PREFIX), node.path(os.path.dirname(LAUNCHER))):
        for path in root.rglob("*"):
            status = path.lstat()
            found[str(path)] = status.st_ino, status.st_mtime_ns
    del found[str(node.path(f"{PREFIX}/.lock"))]
    return found


def test_a_bare_node_gets_the_plugin_and_is_watched(
    bare: Node, images: list[Image], tmp_path: Path
) -> None:
    with running(bare, images[0], tmp_path / "log") as container:
        container.become_ready()
        bare.answer()
        assert bare.version_in_service() == images[0].name
        assert container.asks("alive") == 0
        shown = done(bare, images[0], "on-host", "watch", "--status", "-o", "json")
        document = json.loads(shown.stdout)
        assert document["standing"] == "running"
        assert document["status"]["pid"] == container.process.pid, "it has become the watcher"
        assert container.end() == 0
    assert container.asks("ready") != 0
    assert container.asks("alive") != 0
    bare.answer()
    assert f"{images[0].name} put into /opt/cni/bin" in container.log.read_text()


def test_the_same_image_again_changes_nothing(
    bare: Node, images: list[Image], tmp_path: Path
) -> None:
    seen = []
    for _ in range(2):
        with running(bare, images[0], tmp_path / "log") as container:
            container.become_ready()
        seen.append(everything(bare))
    assert seen[0] == seen[1]
    assert "is already in" in container.log.read_text()


def test_a_node_is_never_without_a_plugin(bare: Node, images: list[Image], tmp_path: Path) -> None:
    """The next image comes while the runtime calls; and a watcher of the first one still runs."""
    with running(bare, images[0], tmp_path / "log") as container:
        container.become_ready()
    failures: list[object] = []
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            request = bare.command(LAUNCHER, env={"CNI_COMMAND": "VERSION"})
            told = subprocess.run(
                request, input=VERSION_REQUEST, capture_output=True, text=True, check=False
            )
            if told.returncode or "supportedVersions" not in told.stdout:
                failures.append((told.stdout, told.stderr))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        with running(bare, images[1], tmp_path / "log") as container:
            container.become_ready()
    finally:
        is_over.set()
        caller.join()
    assert failures == []
    assert bare.version_in_service() == images[1].name
    assert bare.versions() == {image.name for image in images}, "one may have just been started"


def test_a_version_stays_while_something_runs_it(
    bare: Node, images: list[Image], tmp_path: Path
) -> None:
    third = Image(images[1].tree, tmp_path, "1.2-20260303T000000Z-1")
    with running(bare, images[0], tmp_path / "log") as container:
        container.become_ready()
    old = bare.command(
        f"{PREFIX}/versions/{images[0].name}/cni-repair", "watch", env={"PATH": os.defpath}
    )
    watcher = bare.started(old, stdout=subprocess.DEVNULL)
    try:
        assert eventually(lambda: container.asks("ready") == 0)
        for image in (images[1], third):
            said = done(bare, image)  # another watcher is at work: it cannot become one
            assert said.returncode == 3, said.stderr
        assert bare.versions() == {images[0].name, images[1].name, third.name}
    finally:
        watcher.terminate()
        watcher.wait(HANG_SECONDS)
    with running(bare, third, tmp_path / "log") as container:
        container.become_ready()
    assert bare.versions() == {third.name}


def test_a_copy_that_was_cut_short_is_made_anew(
    bare: Node, images: list[Image], tmp_path: Path
) -> None:
    bare.write(f"{PREFIX}/versions/{images[0].name}/cni-repair", "half")
    with running(bare, images[0], tmp_path / "log") as container:
        container.become_ready()
    assert bare.versions() == {images[0].name}


def test_what_is_not_ours_is_not_touched(bare: Node, images: list[Image]) -> None:
    bare.write(LAUNCHER, "somebody's")
    said = done(bare, images[0])
    assert said.returncode == 1
    assert said.stderr == (f"cni-repair-node: {LAUNCHER} is not a launcher of ours: move it away\n")
    assert bare.path(LAUNCHER).read_text() == "somebody's"
    assert bare.versions() == set()


def test_the_runtimes_own_directory_is_found(
    bare: Node, images: list[Image], tmp_path: Path
) -> None:
    bare.write("/etc/containerd/config.toml", CONTAINERD.format(directory="/opt/runtimes"))
    with running(bare, images[0], tmp_path / "log") as container:
        container.become_ready()
    assert bare.version_in_service("/opt/runtimes/cni-repair") == images[0].name
    assert not bare.path(LAUNCHER).exists()


def test_settings_of_the_config_map(bare: Node, images: list[Image], tmp_path: Path) -> None:
    settings = tmp_path / "watch.yaml"
    settings.write_text("version: 1\nheal: drift\n")
    environ = {"CNI_REPAIR_CONFIG": str(settings), "CNI_REPAIR_BIN_DIR": "/opt/named"}
    with running(bare, images[0], tmp_path / "log", environ) as container:
        container.become_ready()
        shown = done(bare, images[0], "on-host", "watch", "--status", "-o", "json")
        assert json.loads(shown.stdout)["status"]["heal"] == "drift"
    bare.answer("/opt/named/cni-repair")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CNI_REPAIR_UNINSTALL": "yes"}, "CNI_REPAIR_UNINSTALL is 'yes': write true or false"),
        (
            {"CNI_REPAIR_BIN_DIR": "opt/cni"},
            "CNI_REPAIR_BIN_DIR is 'opt/cni': write an absolute path, or none",
        ),
    ],
)
def test_a_mistaken_value(
    bare: Node, images: list[Image], environ: dict[str, str], words: str
) -> None:
    said = done(bare, images[0], environ=environ)
    assert (said.returncode, said.stderr) == (2, f"cni-repair-node: {words}\n")


def test_a_volume_that_is_not_the_nodes_root(bare: Node, images: list[Image]) -> None:
    said = done(bare, images[0], "--host", "/usr")
    assert said.returncode == 2
    assert said.stderr == (
        "cni-repair-node: /usr is not the root of this node: mount hostPath / there, and set"
        " hostPID: true\n"
    )


def test_a_plan_that_is_not_there(bare: Node, images: list[Image], tmp_path: Path) -> None:
    said = done(bare, images[0], "upgrade", str(tmp_path / "none"))
    words = f"there is no plan in {tmp_path}/none: mount one there"
    assert (said.returncode, said.stderr) == (2, f"cni-repair-node: {words}\n")


def test_plans_of_two_jobs(bare: Node, images: list[Image], tmp_path: Path) -> None:
    """Each has a file of its own on the node: neither changes the other's under its upgrade."""
    with running(bare, images[0], tmp_path / "log") as container:
        container.become_ready()
    names = []
    for command in ("true", "false"):
        plan = tmp_path / f"{command}.yaml"
        plan.write_text(
            f"version: 1\nuplink: eth0\ndriver: [{command}]\nkubelet: {{hold: never}}\n"
        )
        said = done(bare, images[0], "upgrade", str(plan))
        seen = {
            path.name: path.read_text() for path in bare.path("/run/cni-repair").glob("up*.yaml")
        }
        names.append(seen)
        assert plan.read_text() in seen.values(), said.stderr
    assert len(names[0]) == 1
    assert len(names[1]) == 2
    assert names[0].items() <= names[1].items()


# --- uninstall ------------------------------------------------------------------------------------

LEAVE = {"CNI_REPAIR_UNINSTALL": "true"}


def test_it_leaves_once_nothing_needs_it(node: Node, images: list[Image], tmp_path: Path) -> None:
    look_in_the_usual(node)
    write_conf(node, conf())
    attach(node, "web-1")
    with running(node, images[0], tmp_path / "log", LEAVE) as container:
        log = container.log.read_text
        assert eventually(lambda: "not taken away: /etc/cni/net.d" in log()), log()
        assert "1 interface of living pods (shop/web-1) was made by cni-repair" in log()
        assert container.asks("ready") != 0
        assert container.asks("alive") == 0
        # The pod is still healed.
        watched = ("on-host", "watch", "--status")
        assert eventually(lambda: done(node, images[0], *watched).returncode == 0)
        write_conf(node, conf(type="macvlan"))
        # What is said next names the pod alone.
        eventually(lambda: log().rpartition("10-pods.conf")[2].count("was made by") > 1)
        assert container.asks("ready") != 0
        node.answer()
        node.shell("ip netns delete web-1")
        eventually(lambda: container.asks("ready") == 0, pause=0.5)
        assert not node.path(LAUNCHER).exists()
        assert not node.path(PREFIX).exists()
        assert node.path("/var/lib/cni-repair/checkpoints").exists()
        assert container.process.poll() is None, "one that ends is started again"
        assert container.end() == 0


def test_a_node_that_has_none(bare: Node, images: list[Image], tmp_path: Path) -> None:
    with running(bare, images[0], tmp_path / "log", LEAVE) as container:
        assert eventually(lambda: "is not on this node" in container.log.read_text())
        assert container.asks("ready") == 0
        assert not bare.path(PREFIX).exists()
        assert container.end() == 0


def test_an_api_server_that_is_not_there_keeps_nobody(
    node: Node, images: list[Image], tmp_path: Path
) -> None:
    """It may have the node's condition: one line says so."""
    look_in_the_usual(node)
    node.write(KUBECONFIG, DEAD_API_SERVER, 0o600)
    with running(node, images[0], tmp_path / "log", LEAVE) as container:
        eventually(lambda: container.asks("ready") == 0, pause=0.5)
        assert not node.path(PREFIX).exists()
        assert container.end() == 0
    lines = container.log.read_text().splitlines()
    (line,) = [line for line in lines if "PodNetworkLost" in line]
    assert line.startswith(
        "cni-repair-node: the condition PodNetworkLost may stay on this node: the API server"
        " https://127.0.0.1:1 was not told: "
    )
    assert line.endswith("; it is tried again while this container runs")


def test_back_from_an_uninstall_that_was_refused(
    node: Node, images: list[Image], tmp_path: Path
) -> None:
    look_in_the_usual(node)
    write_conf(node, conf())
    with running(node, images[0], tmp_path / "log", LEAVE) as container:
        assert eventually(lambda: "not taken away" in container.log.read_text())
        assert container.end() == 0
    with running(node, images[0], tmp_path / "log") as container:
        container.become_ready()
    node.answer()
