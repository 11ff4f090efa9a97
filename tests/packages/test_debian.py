"""The .deb on Debian 12 and 13: in, at work, upgraded under a watcher, refused to go, out.

Each test is a chapter of one story a release: it goes on where the one before has ended.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.install.node import DEAD_API_SERVER, KUBECONFIG
from tests.packages.conftest import deb_in
from tests.packages.debian import MASTER, PLUGIN, Debian
from tests.patience import eventually

pytestmark = pytest.mark.slow

VERSIONS = "/usr/lib/cni-repair/versions"
CONTAINERD = "/etc/containerd/config.toml"
OF_CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
"""
NET_CONF = "/etc/cni/net.d/10-pods.conf"
POD = "pod-1"


@dataclass
class Story:
    """What one chapter leaves for the next."""

    node: Debian
    files: set[str] = field(default_factory=set)  # before anything was installed
    said: str = ""  # when it was installed
    address: str = ""
    watcher: int = 0  # its process


@pytest.fixture(scope="module")
def story(node: Debian) -> Story:
    return Story(node)


def runs(pid: int, node: Debian) -> bool:
    return node.must("sh", "-c", f"cat /proc/{pid}/cmdline 2>/dev/null || true") != ""


def versions(node: Debian) -> list[str]:
    return node.must("ls", VERSIONS).split()


def version_of(launcher: str, node: Debian) -> str:
    line = node.must("head", "-n1", launcher)
    assert line.startswith(f"#!{VERSIONS}/"), line
    return line.removeprefix(f"#!{VERSIONS}/").partition("/")[0]


def lose_master(node: Debian) -> None:
    node.must("ip", "link", "del", MASTER)
    assert node.addresses(POD) == ""


# What install.sh leaves on a node, as far as the package looks at it.
OLD_VERSION = "/opt/cni-repair/versions/0.1.0-20260101T000000Z-1"
OLD_UNIT = "/etc/systemd/system/cni-repair-watch.service"
OLD_WANTS = "/etc/systemd/system/multi-user.target.wants/cni-repair-watch.service"
BY_INSTALL_SH = f"""\
mkdir -p {OLD_VERSION}/bin {OLD_VERSION}/share/man/man8 /opt/cni/bin /usr/local/share/man/man8
mkdir -p /usr/local/sbin {Path(OLD_WANTS).parent} {OLD_UNIT}.d
echo /opt/cni/bin >{OLD_VERSION}/bin-dir
printf '#!%s/bin/python3 -IS\\n' {OLD_VERSION} >/opt/cni/bin/cni-repair
touch /opt/cni-repair/.lock {OLD_VERSION}/share/man/man8/cni-repair.8 {OLD_UNIT}.d/mine.conf
ln -s versions/{Path(OLD_VERSION).name} /opt/cni-repair/current
ln -s /opt/cni/bin/cni-repair /usr/local/sbin/cni-repair
ln -s /opt/cni-repair/current/share/man/man8/cni-repair.8 /usr/local/share/man/man8/cni-repair.8
printf '[Service]\\nExecStart=/opt/cni/bin/cni-repair watch --config x\\n' >{OLD_UNIT}
ln -s {OLD_UNIT} {OLD_WANTS}
"""


def test_an_installation_by_install_sh_is_taken_over(story: Story, first: Path) -> None:
    node = story.node
    node.write(CONTAINERD, OF_CONTAINERD)
    story.files = node.files()
    node.must("sh", "-euc", BY_INSTALL_SH)
    story.said = node.install_package(deb_in(first))
    assert "took over from the installation in /opt/cni-repair, and removed it" in story.said
    assert f"cni-repair-watch.service is the package's now; {OLD_UNIT} is removed" in story.said
    target = node.must("readlink", OLD_WANTS).strip()  # enabled it was, and is
    assert node.path(target).exists()
    assert node.path(f"{OLD_UNIT}.d/mine.conf").exists()
    for path in ("/opt/cni-repair", OLD_UNIT, "/usr/local/sbin/cni-repair"):
        assert node.must("sh", "-c", f"ls -d {path} 2>/dev/null || true") == ""
    node.must("rm", "-r", f"{OLD_UNIT}.d")
    node.must("rmdir", "/usr/local/share/man/man8")  # the link is gone, too


def test_it_is_installed(story: Story) -> None:
    node = story.node
    assert (
        f"cni-repair: /opt/cni/bin/cni-repair is in service: containerd looks there ({CONTAINERD})"
        in story.said
    )
    assert node.must("cni-repair", "--version").startswith("cni-repair ")
    for launcher in (PLUGIN, "/opt/cni/bin/cni-repair"):
        assert [version_of(launcher, node)] == versions(node)
    answer = node.must("/opt/cni/bin/cni-repair", env={"CNI_COMMAND": "VERSION"}, stdin="{}")
    assert json.loads(answer)["supportedVersions"]


def test_all_of_it_is_there(story: Story) -> None:
    node = story.node
    for path in (
        "/etc/cni-repair/watch.yaml",
        "/usr/lib/systemd/system/cni-repair-watch.service",
        "/usr/share/bash-completion/completions/cni-repair",
        "/usr/share/cni-repair/cni-repair.cdx.json",
        "/usr/share/doc/cni-repair/copyright",
        "/usr/share/doc/cni-repair/examples/upgrade.yaml",
        "/usr/share/man/man8/cni-repair.8.gz",
    ):
        assert path in node.must("dpkg", "-L", "cni-repair").split(), path
    assert node.must("dpkg", "--verify", "cni-repair") == ""
    conffiles = node.must("dpkg-query", "-W", "-f", "${Conffiles}", "cni-repair").split()
    assert conffiles[0] == "/etc/cni-repair/watch.yaml"
    unit = node.path("/usr/lib/systemd/system/cni-repair-watch.service").read_text()
    assert "\nExecStart=/usr/sbin/cni-repair watch --config /etc/cni-repair/watch.yaml\n" in unit
    assert "install.sh" not in unit
    bill = json.loads(node.path("/usr/share/cni-repair/cni-repair.cdx.json").read_text())
    assert {one["name"] for one in bill["components"]} == {"inotify-simple", "pyroute2"}


def test_nothing_is_compiled_when_a_pod_is_added(story: Story) -> None:
    """What byte code is missing costs every start, and cannot be written by the watcher."""
    node = story.node
    version = f"{VERSIONS}/{versions(node)[0]}"
    sources = node.must("find", version, "-name", "*.py").split()
    caches = node.must("find", version, "-name", "*.pyc").split()
    assert len(sources) == len(caches) > 100
    assert node.must("find", version, "-name", "pack.*")


def test_every_library_is_found(story: Story) -> None:
    """Those of the distribution, and those that came along."""
    node = story.node
    node.write("/tmp/plan.yaml", "driver: {}\n")
    document = node.do("cni-repair", "validate", "/tmp/plan.yaml")  # yaml, jsonschema
    assert document.returncode == 1, document.stderr
    assert "Traceback" not in document.stderr
    names = "pyroute2, inotify_simple, prometheus_client, rich, jsonschema, yaml"
    start = node.must("sed", "-n", "s/^sys.path += //p", PLUGIN)
    node.must("python3", "-IS", "-c", f"import sys; sys.path += {start.strip()}; import {names}")


def test_a_pod_survives_the_loss_of_its_master(story: Story) -> None:
    node = story.node
    node.add_master()
    story.address = node.add_pod(POD, "/opt/cni/bin/cni-repair")
    assert story.address in node.addresses(POD)
    lose_master(node)
    assert json.loads(node.do("cni-repair", "status", "-o", "json").stdout)
    node.add_master()
    assert node.must("cni-repair", "repair", "--all").startswith("repaired ")
    assert story.address in node.addresses(POD)
    assert "1 healthy" in node.must("cni-repair", "status")


def test_a_watcher_goes_on_during_an_upgrade(story: Story, second: Path) -> None:
    """It imports modules when it first needs them: they must be of its own version."""
    node = story.node
    (old,) = versions(node)
    story.watcher = node.start("cni-repair", "watch")
    eventually(lambda: node.do("cni-repair", "watch", "--status").returncode == 0, "the watcher")
    node.install_package(deb_in(second))
    assert runs(story.watcher, node)
    new = version_of(PLUGIN, node)
    assert new == version_of("/opt/cni/bin/cni-repair", node) != old
    assert set(versions(node)) == {old, new}
    lose_master(node)
    node.add_master()
    eventually(lambda: story.address in node.addresses(POD), "the watcher to repair the pod")


def test_what_no_process_runs_goes_with_the_next(story: Story, first: Path) -> None:
    """The version before the new one stays, as a plugin may just have been started from it."""
    node = story.node
    node.must("kill", str(story.watcher))
    eventually(lambda: not runs(story.watcher, node), "the watcher's end")
    assert "Traceback" not in node.path("/run/said").read_text()
    kept = version_of(PLUGIN, node)
    said = node.must("dpkg", "--install", node.bring(deb_in(first)))
    assert "Traceback" not in said
    assert set(versions(node)) == {kept, version_of(PLUGIN, node)}


def test_a_version_that_does_not_start_changes_nothing(story: Story) -> None:
    node = story.node
    before = node.must("cat", PLUGIN)
    program = "/usr/share/cni-repair/package"
    script = node.path(program).read_text()
    broken = "/usr/share/cni-repair/broken"
    node.must("cp", "-a", "/usr/share/cni-repair/tree", broken)
    node.write(f"{broken}/lib/cni_repair/cni/plugin.py", "raise ImportError('broken')\n")
    changed = script.replace(version_of(PLUGIN, node), "9.9-20300101T000000Z-1")
    changed = changed.replace('Path("/usr/share/cni-repair/tree")', f'Path("{broken}")')
    node.write("/tmp/package", changed, 0o755)
    done = node.do("/tmp/package", "configure")
    assert done.returncode == 1
    assert done.stderr.startswith("cni-repair: the new version does not run: ")
    assert node.must("cat", PLUGIN) == before
    node.must("rm", "-r", broken)


def test_it_is_not_removed_while_a_pod_needs_it(story: Story) -> None:
    node = story.node
    done = node.do("apt-get", "remove", "-y", "cni-repair")
    assert done.returncode != 0
    said = done.stdout + done.stderr  # apt hands on what scripts say as it likes
    assert f"1 interface of living pods ({POD}) was made by cni-repair" in said
    assert "cni-repair: nothing was removed" in said
    assert "CNI_REPAIR_FORCE=yes" in said
    assert node.must("dpkg-query", "-W", "-f", "${Status}", "cni-repair") == "install ok installed"
    assert story.address in node.addresses(POD)
    assert "1 healthy" in node.must("cni-repair", "status")


def test_nor_while_a_configuration_names_it(story: Story) -> None:
    node = story.node
    node.call("DEL", POD)
    node.must("ip", "netns", "del", POD)
    node.write(NET_CONF, json.dumps({"cniVersion": "1.0.0", "name": "pods", "type": "cni-repair"}))
    done = node.do("apt-get", "purge", "-y", "cni-repair")
    assert done.returncode != 0
    assert f"{NET_CONF} names cni-repair" in done.stdout + done.stderr
    assert node.must("cni-repair", "--version")


def test_it_is_removed_and_purged_and_leaves_nothing(story: Story) -> None:
    node = story.node
    node.path(NET_CONF).unlink()
    node.must("rm", "-rf", "/etc/cni", "/tmp/package")
    node.write(KUBECONFIG, DEAD_API_SERVER, 0o600)  # which may have the node's condition
    done = node.do("apt-get", "remove", "-y", "cni-repair")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "the API server https://127.0.0.1:1 was not told" in said
    node.must("rm", "-r", os.path.dirname(KUBECONFIG))
    left = node.files() - story.files
    assert "/etc/cni-repair/watch.yaml" in left
    assert not [path for path in left if path.startswith(("/usr/", "/opt/"))]
    # Another installation has come since, whose records these are.
    node.write("/opt/cni-repair/versions/x/placed", "")
    node.write("/var/lib/cni-repair/checkpoints/x", "")
    done = node.do("/var/lib/dpkg/info/cni-repair.postrm", "purge")
    assert "kept /var/lib/cni-repair" in done.stderr
    assert node.path("/var/lib/cni-repair/checkpoints/x").exists()
    node.must("rm", "-r", "/opt/cni-repair")
    node.must("apt-get", "purge", "-y", "cni-repair")
    left = node.files() - story.files - {str(Path(OLD_WANTS).parent)}  # which the test had made
    assert left - {"/var/lib/cni"} == set()  # which is the plugins'
