"""What a platform team has beside conf/kubernetes: an overlay with its own image and values, and
the network of its pods.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import SUBNET
from integration.command import CHECKOUT
from integration.containerd.image import IMAGE as BUSYBOX

NAMESPACE, DAEMONSET = "cni-repair", "cni-repair"
NETWORK = "pod-network"  # the DaemonSet that configures it

_BASE, _UNINSTALL = CHECKOUT / "conf/kubernetes", CHECKOUT / "conf/kubernetes-uninstall"
_IMAGES = "images.json"
IMAGE = "localhost/cni-repair"  # as the base calls it
# A test waits for each look and probe.
_WATCH = {"version": 1, "heal": "uplink", "lookEvery": "1s"}
_SETTINGS = {"name": DAEMONSET, "behavior": "merge", "files": ["watch.yaml"]}
_PROBED = {"readinessProbe": {"periodSeconds": 3}}
_PATIENCE = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": DAEMONSET},
    "spec": {"template": {"spec": {"containers": [{"name": DAEMONSET, **_PROBED}]}}},
}
# As the sites' own do: configured once there is the plugin.
_CONFIGURE = (
    'until [ "$PLUGIN" = macvlan ] || [ -x /bin-dir/cni-repair ]; do sleep 0.2; done;'
    " busybox cp /conf/$NODE /net.d/.new && busybox mv /net.d/.new /net.d/10-pods.conflist"
)


@dataclass(frozen=True)
class Image:
    """A version's image: an OCI archive, and what it is called in there."""

    archive: str
    name: str
    tag: str  # the version


@dataclass(frozen=True)
class Images:
    """The version that is rolled out, and the one that it is updated to."""

    first: Image
    second: Image

    def write(self, directory: Path) -> None:
        (directory / _IMAGES).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, directory: Path) -> Images:
        found = json.loads((directory / _IMAGES).read_text())
        return cls(Image(**found["first"]), Image(**found["second"]))


@dataclass(frozen=True)
class Overlay:
    """The overlay in a directory, for `kubectl apply -k`; `ranges` are the pods' addresses on each
    node, the first and the last.
    """

    directory: Path
    ranges: Mapping[str, tuple[str, str]]

    def write(self, image: Image, plugin: str, *, uninstall: bool = False) -> None:
        """Write it, with the pods' interfaces made by that plugin."""
        self.directory.mkdir(exist_ok=True)
        base = _UNINSTALL if uninstall else _BASE
        kustomization = {
            "namespace": NAMESPACE,
            "bases": [os.path.relpath(base, self.directory)],  # kubectl 1.20 has them so
            "resources": ["network.json"],
            "patchesStrategicMerge": ["patience.json"],
            "images": [{"name": IMAGE, "newName": image.name, "newTag": image.tag}],
            "configMapGenerator": [_SETTINGS],
        }
        network = {"apiVersion": "v1", "kind": "List", "items": [*self._network(plugin)]}
        documents = {
            "kustomization.yaml": kustomization,
            "network.json": network,
            "patience.json": _PATIENCE,
            "watch.yaml": _WATCH,
        }
        for name, document in documents.items():
            (self.directory / name).write_text(json.dumps(document))

    def _network(self, plugin: str) -> list[dict[str, Any]]:
        conflists = {node: _conflist(plugin, ends) for node, ends in self.ranges.items()}
        data = {node: json.dumps(conflist) for node, conflist in conflists.items()}
        metadata = {"name": NETWORK}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return [config, daemon_set(metadata, _network_pod(plugin))]


def _conflist(plugin: str, ends: tuple[str, str]) -> dict[str, Any]:
    addresses = {"subnet": SUBNET, "rangeStart": ends[0], "rangeEnd": ends[1]}
    ipam = {"type": "host-local", "ranges": [[addresses]]}
    network = {"type": plugin, "master": "eth0", "mode": "bridge", "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [network]}


def _network_pod(plugin: str) -> dict[str, Any]:
    places = {"net-d": "/etc/cni/net.d", "bin-dir": "/opt/cni/bin"}
    volumes = [{"name": name, "hostPath": {"path": path}} for name, path in places.items()]
    field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
    configure = {
        **CONTAINER,
        "name": "configure",
        "command": ["sh", "-c", _CONFIGURE],
        "env": [{"name": "PLUGIN", "value": plugin}, {"name": "NODE", "valueFrom": field}],
        "volumeMounts": [
            {"name": "conf", "mountPath": "/conf"},
            {"name": "net-d", "mountPath": "/net.d"},
            {"name": "bin-dir", "mountPath": "/bin-dir"},
        ],
    }
    return {
        **POD,
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "initContainers": [configure],
        "containers": [CONTAINER],
        "volumes": [*volumes, {"name": "conf", "configMap": {"name": NETWORK}}],
    }


# A first process heeds no SIGTERM that it did not ask for.
POD: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
CONTAINER: dict[str, Any] = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "Never"}


def daemon_set(metadata: Mapping[str, str], pod: Mapping[str, Any]) -> dict[str, Any]:
    """One of such pods on each node; all are replaced at once."""
    made = _of_pods("DaemonSet", metadata, pod)
    made["spec"]["updateStrategy"] = {"rollingUpdate": {"maxUnavailable": "100%"}}
    return made


def deployment(metadata: Mapping[str, str], pod: Mapping[str, Any], replicas: int) -> Any:
    """So many of such pods."""
    made = _of_pods("Deployment", metadata, pod)
    made["spec"]["replicas"] = replicas
    return made


def _of_pods(kind: str, metadata: Mapping[str, str], pod: Mapping[str, Any]) -> dict[str, Any]:
    labels = {"app": metadata["name"]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}
