"""A node's condition and Events on a real API server, by a kubelet's credential and nothing else;
and what it says of conf/kubernetes.

The API server is that of integration/cluster: left out where it has not been built yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_repair.demo.lab import Netns
from integration.cluster import control
from integration.cluster.control import ControlPlane
from integration.kubernetes import build
from tests.patience import HANG_SECONDS, eventually
from tests.processes import ended
from tests.unit.samples import REPOSITORY
from tests.unit.test_kubernetes_telling import heals, status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NETNS = Netns("api-server")
NODE = "worker-7"
LOST, WELL, HEALED = status(up=False, healthy=0), status(), status(heals=heals(3))
# The part of the daemon's that tells: status documents come in, a line each.
WATCHER = """
import json, sys
from cni_repair.watch.kubernetes.cluster import Cluster
cluster = Cluster(sys.argv[1], lambda trouble: print(trouble, file=sys.stderr, flush=True))
for line in sys.stdin:
    cluster.observe(json.loads(line))
cluster.close()
"""
# A request of one's own, as a node.
REQUEST = """
import sys
from cni_repair.watch.kubernetes.client import Api, ApiError
from cni_repair.watch.kubernetes.condition import STOPPED
from cni_repair.watch.kubernetes.documents import status_patch
from cni_repair.watch.kubernetes.kubeconfig import read
try:
    Api(read(sys.argv[1]), 30).patch(sys.argv[2], status_patch(STOPPED, {}, 0))
except ApiError as error:
    print(error.status)
"""
SEND = """
import json, sys
from cni_repair.watch.kubernetes.client import Api
from cni_repair.watch.kubernetes.kubeconfig import read
Api(read(sys.argv[1]), 30).patch(sys.argv[2], json.loads(sys.argv[3]))
"""
# What is done where cni-repair leaves the node: by that kubeconfig, in that run directory.
LEAVE = """
import sys
from cni_repair.base.frozen import replace
from cni_repair.watch.kubernetes.withdrawal import withdraw
from cni_repair.watch.settings import default_settings
print(withdraw(replace(default_settings(), kubeconfig=sys.argv[1], run_dir=sys.argv[2])))
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    missing = [program.name for program in build.PROGRAMS if not program.exists()]
    if missing:
        pytest.skip(f"LEFT OUT: {missing[0]} is not built: ./integration/cluster/run builds it")
    control.prepare()
    with contextlib.ExitStack() as cleanup:
        subprocess.run(["ip", "netns", "add", NETNS.name], check=True)
        cleanup.callback(subprocess.run, ["ip", "netns", "delete", NETNS.name], check=True)
        subprocess.run(["ip", "-n", NETNS.name, "link", "set", "lo", "up"], check=True)
        directory = tmp_path_factory.mktemp("plane") / "control"
        yield cleanup.enter_context(ControlPlane(directory, NETNS))


@pytest.fixture(scope="module")
def kubeconfig(plane: ControlPlane) -> Path:
    """Of a node that is there."""
    for name in (NODE, "another"):
        plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    return plane.node_kubeconfig(NODE)


def entered(script: str, *arguments: str) -> list[str]:
    python = [sys.executable, "-c", script, *arguments]
    return ["nsenter", f"--net={NETNS.path}", *python]


class Watcher:
    """What the daemon has of it, in the namespace where the API server is."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sees(self, document: Any) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(document) + "\n")
        stdin.flush()

    def end(self) -> str:
        """What it had to complain of."""
        _, troubles = self._process.communicate(timeout=HANG_SECONDS)
        return troubles


def start(kubeconfig: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        entered(WATCHER, str(kubeconfig)), stdin=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip


@contextlib.contextmanager
def watching(kubeconfig: Path) -> Iterator[Watcher]:
    with ended(start(kubeconfig)) as process:
        watcher = Watcher(process)
        yield watcher
        assert watcher.end() == ""


def condition(plane: ControlPlane) -> dict[str, Any]:
    found = plane.get("node", NODE)["status"].get("conditions", [])
    return next((one for one in found if one["type"] == "PodNetworkLost"), {})


def events(plane: ControlPlane) -> list[tuple[str, str, str]]:
    found = plane.get("events", "-n", "default")["items"]
    ours = [one for one in found if one["source"].get("component") == "cni-repair"]
    return [(one["type"], one["reason"], one["involvedObject"]["name"]) for one in ours]


def test_the_condition_and_the_events(plane: ControlPlane, kubeconfig: Path) -> None:
    with watching(kubeconfig) as watcher:
        watcher.sees(WELL)
        eventually(lambda: condition(plane).get("status") == "False")
        since = condition(plane)["lastTransitionTime"]
        others = [one["type"] for one in plane.get("node", NODE)["status"]["conditions"]]
        watcher.sees(LOST)
        eventually(lambda: condition(plane)["status"] == "True")
        assert condition(plane)["reason"] == "UplinkDown"
        assert "eth0 down, 3 pod interfaces on it" in condition(plane)["message"]
        watcher.sees(HEALED)
        eventually(lambda: condition(plane)["status"] == "False")
        assert condition(plane)["lastTransitionTime"] >= since
        warned = ("Warning", "PodNetworkLost", NODE)
        eventually(lambda: sorted(events(plane)) == [("Normal", "PodNetworkHealed", NODE), warned])
        assert {"PodNetworkLost"} <= set(others)
        # As somebody on call looks for them.
        described = plane.kubectl("describe", "node", NODE)
        assert "PodNetworkHealed" in described
        assert "3 pod interfaces healed, the last after 408 ms" in described
    assert condition(plane)["status"] == "Unknown"


def test_a_condition_is_taken_back(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> None:
    """By the same credential; those of others stay."""
    with watching(kubeconfig) as watcher:
        watcher.sees(WELL)
        eventually(lambda: condition(plane).get("status") == "False")
    other = {"type": "Ready", "status": "True"}
    patch = {"status": {"conditions": [other]}}
    path = f"/api/v1/nodes/{NODE}/status"
    subprocess.run(entered(SEND, str(kubeconfig), path, json.dumps(patch)),
                   check=True, cwd=REPOSITORY)  # fmt: skip
    for said in (NODE, ""):  # the second time there is none
        leave = entered(LEAVE, str(kubeconfig), str(tmp_path))
        done = subprocess.run(leave, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        assert done.stdout.strip() == said
        assert condition(plane) == {}
        (left,) = plane.get("node", NODE)["status"]["conditions"]
        assert (left["type"], left["status"]) == ("Ready", "True")


def test_a_service_account_s_token(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> None:
    """By the manual's own commands: where the kubelet's credential comes from a program."""
    page = (REPOSITORY / "cni_repair/manual/kubernetes.md").read_text()
    script = page.partition("### A token instead")[2].partition("```sh\n")[2].partition("```")[0]
    plane.kubectl("create", "namespace", "cni-repair")
    kubectl = f'kubectl() {{ {shlex.join(plane.command())} "$@"; }}\n'
    subprocess.run(["bash", "-euc", kubectl + script], check=True)
    account = "/api/v1/namespaces/cni-repair/serviceaccounts/cni-repair/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = plane.kubectl("create", "--raw", account, "-f", "-", stdin=json.dumps(asked))
    document = json.loads(kubeconfig.read_text())
    document["users"][0]["user"] = {"token": json.loads(made)["status"]["token"]}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    node = os.uname().nodename.lower()
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})

    def told() -> dict[str, str]:
        found = plane.get("node", node)["status"].get("conditions", [])
        return {one["type"]: one["status"] for one in found}

    with watching(path) as watcher:
        watcher.sees(LOST)
        eventually(lambda: told() == {"PodNetworkLost": "True"})
        lost = ("Warning", "PodNetworkLost", node)
        eventually(lambda: lost in events(plane))
    leave = entered(LEAVE, str(path), str(tmp_path))
    subprocess.run(leave, check=True, cwd=REPOSITORY)
    assert told() == {}


def test_another_watcher_goes_on(plane: ControlPlane, kubeconfig: Path) -> None:
    """Killed: the condition is as it was, and since when it is so stays."""
    with ended(start(kubeconfig)) as first:
        Watcher(first).sees(LOST)
        eventually(lambda: condition(plane).get("status") == "True")
        first.kill()
    before = condition(plane)
    with watching(kubeconfig) as watcher:
        watcher.sees(status(healthy=1, on_up=2))
        eventually(lambda: condition(plane)["reason"] == "PodsLost")
        assert condition(plane)["lastTransitionTime"] == before["lastTransitionTime"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/nodes/another/status", "403"),  # NodeRestriction
        (f"/api/v1/nodes/{NODE}/status", ""),
    ],
)
def test_a_kubelet_speaks_for_its_own_node(kubeconfig: Path, path: str, code: str) -> None:
    request = entered(REQUEST, str(kubeconfig), path)
    done = subprocess.run(request, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == code


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes-uninstall"])
def test_the_api_server_takes_what_is_to_be_applied(plane: ControlPlane, name: str) -> None:
    """By kubectl of its own version, with the kustomize that this has."""
    rendered = plane.kubectl("kustomize", str(REPOSITORY / "conf" / name))
    namespace, _, rest = rendered.partition("---\n")
    plane.kubectl("apply", "-f", "-", stdin=namespace)
    done = plane.kubectl("apply", "--dry-run=server", "-f", "-", stdin=rest)
    assert "daemonset.apps/cni-repair created (server dry run)" in done


def test_a_newer_kubectl_takes_it_too() -> None:
    """`bases` and its like are what 1.20 knows; in newer ones they are deprecated."""
    newer = shutil.which("kubectl")
    said = (
        subprocess.run([newer, "version", "--client"], capture_output=True, check=False)
        if newer
        else None
    )
    if said is None or b"Kustomize Version: v5" not in said.stdout:
        pytest.skip("LEFT OUT: this machine has no kubectl with kustomize 5")
    command = ["kubectl", "kustomize", str(REPOSITORY / "conf/kubernetes-uninstall")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 'uninstall: "true"' in done.stdout
    assert "maxUnavailable: 100%" in done.stdout


def test_the_plan_fits_its_definition(plane: ControlPlane) -> None:
    """system-upgrade-controller's, as far as its Plan has fields that a user sets."""
    definition = REPOSITORY / "tests" / "system-upgrade-controller-crd.yaml"
    plane.kubectl("apply", "-f", str(definition))
    plan = REPOSITORY / "conf" / "kubernetes" / "system-upgrade-plan.yaml"
    plane.kubectl("create", "namespace", "system-upgrade")
    waits = ("wait", "--for=condition=Established", "crd/plans.upgrade.cattle.io")
    plane.kubectl(*waits, f"--timeout={HANG_SECONDS:g}s")
    done = eventually(lambda: _applied(plane, plan), pause=0.2)
    assert "plan.upgrade.cattle.io/cni-repair-upgrade-driver created (server dry run)" in done


def _applied(plane: ControlPlane, plan: Path) -> str:
    return plane.kubectl("apply", "--dry-run=server", "-f", str(plan))
