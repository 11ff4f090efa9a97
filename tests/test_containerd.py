"""A real containerd with cni-repair as its plugin, by itself: integration/containerd."""

from __future__ import annotations

import json
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import Lab, LabError
from integration.containerd.cgroup import Cgroup, hierarchies
from integration.containerd.image import IMAGE, write_image
from integration.containerd.runtime import Containerd
from integration.kubelet.private import OWN, enter_private, show_system
from tests.privately import plugin_in, told_by
from tests.processes import ended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # it may have to be downloaded

_PING = ("ping", "-c", "1", "-W", "30", "10.9.0.1")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What :func:`on_private_machine` saw; one run serves all tests."""
    return told_by(__file__, 900)


def on_private_machine(cgroup: str) -> None:
    """A pod's life: made, its uplink lost, repaired, lost again, and then stopped."""
    enter_private(cgroup)
    with Lab() as lab:
        show_system(lab.node)
        enter = ["nsenter", f"--net={lab.node.path}"]
        plugins = [plugin_in(OWN / "bin"), Path("/usr/lib/cni")]
        netconf = _write_conflist(OWN / "net.d", lab)
        with Containerd(OWN / "containerd", plugins, OWN / "net.d", enter=enter) as containerd:
            print(json.dumps(_life(lab, containerd, netconf)))


def _write_conflist(directory: Path, lab: Lab) -> dict[str, Any]:
    netconf = lab.netconf()
    plugin = {key: value for key, value in netconf.items() if key not in ("cniVersion", "name")}
    conflist = {"cniVersion": netconf["cniVersion"], "name": netconf["name"], "plugins": [plugin]}
    directory.mkdir()
    (directory / "pods.conflist").write_text(json.dumps(conflist))
    return netconf


def _life(lab: Lab, containerd: Containerd, netconf: dict[str, Any]) -> dict[str, Any]:
    cri = containerd.cri
    told: dict[str, Any] = {"conditions": cri.ready()}
    sandbox_id = cri.run_sandbox("web", "shop", uid="5eed", labels={"app": "web"})
    container = cri.run_container(sandbox_id, "sleep", "1000")
    before, pid = cri.sandbox(sandbox_id), cri.pid(container)
    told["sandbox"] = vars(before)
    told["pings"] = [cri.execute(container, *_PING)[0]]
    lab.uplink_lost()
    lab.uplink_back()
    told["pings"].append(cri.execute(container, *_PING)[0])
    told["repair"] = lab.cni("REPAIR", netconf=netconf).document["summary"]
    told["pings"].append(cri.execute(container, *_PING)[0])
    told["same"] = (cri.sandbox(sandbox_id), cri.pid(container)) == (before, pid)
    told["containers"] = [vars(one) for one in cri.containers()]
    lab.uplink_lost()
    told["leases"] = [_leases(lab)]
    cri.stop_sandbox(sandbox_id)
    told["leases"].append(_leases(lab))
    told["stopped"] = vars(cri.sandbox(sandbox_id))
    cri.remove_sandbox(sandbox_id)
    told["sandboxes"] = cri.sandboxes()
    try:
        cri.sandbox(sandbox_id)
    except LabError as error:
        told["error"] = str(error)
    lab.uplink_back()
    cri.run_container(cri.run_sandbox("left running"), "sleep", "1000")
    return told


def _leases(lab: Lab) -> list[str]:
    return sorted(path.name for path in Path(lab.ipam_dir, "pods").glob("10.*"))


def test_runtime_and_its_network_are_ready(told: dict[str, Any]) -> None:
    ready = {"RuntimeReady": True, "NetworkReady": True}
    assert told["conditions"] == told["conditions"] | ready  # containerd 1.7 has one more


def test_sandbox_is_told_as_it_was_asked_for(told: dict[str, Any]) -> None:
    sandbox = told["sandbox"]
    asked = ("web", "shop", "5eed", 0, True)
    assert tuple(sandbox[key] for key in ("name", "namespace", "uid", "attempt", "ready")) == asked
    assert sandbox["ip"] == "10.9.0.2"
    assert sandbox["netns"].startswith(f"{OWN}/containerd/state/")
    (container,) = told["containers"]
    assert (container["sandbox_id"], container["running"]) == (sandbox["id"], True)


def test_repair_brings_the_pod_back_in_the_same_sandbox(told: dict[str, Any]) -> None:
    passed, unreachable, passed_again = told["pings"]
    assert (passed, passed_again) == (0, 0)
    assert unreachable != 0
    assert told["repair"]["healthy"] == told["repair"]["attachments"] == 1
    assert told["same"]


def test_sandbox_stopped_while_the_uplink_is_out_frees_its_address(told: dict[str, Any]) -> None:
    assert told["leases"] == [["10.9.0.2"], []]
    assert (told["stopped"]["ready"], told["stopped"]["pid"]) == (False, 0)
    assert told["sandboxes"] == []


def test_what_the_runtime_refuses_is_a_lab_error(told: dict[str, Any]) -> None:
    assert told["error"].startswith("PodSandboxStatus: NOT_FOUND: ")


def test_leaving_kills_what_runs_and_removes_everything(
    told: dict[str, Any], nothing_left: Callable[[], None]
) -> None:
    cgroup = told["cgroup"]  # a container was left running
    nothing_left()
    assert not [top for top in hierarchies() if (top / cgroup).exists()]


def test_cgroup_is_left_empty_and_removed() -> None:
    with Cgroup() as cgroup:
        command = cgroup.started(["sh", "-c", "sleep 1000 & echo up; wait"])
        with ended(subprocess.Popen(command, stdout=subprocess.PIPE)) as process:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            cgroup.__exit__(None, None, None)
        assert process.returncode == -signal.SIGKILL
    assert not [top for top in hierarchies() if (top / cgroup.name).exists()]


def test_image_is_an_oci_layout_of_one_program(tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"\x7fELF")
    write_image(tmp_path / "busybox", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as image:
        files = {name: image.extractfile(name) for name in image.getnames()}
        contents = {name: opened.read() for name, opened in files.items() if opened}
    (entry,) = json.loads(contents["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == IMAGE
    manifest = json.loads(contents["blobs/sha256/" + entry["digest"].removeprefix("sha256:")])
    for described in (entry, manifest["config"], *manifest["layers"]):
        blob = contents["blobs/sha256/" + described["digest"].removeprefix("sha256:")]
        assert len(blob) == described["size"]
