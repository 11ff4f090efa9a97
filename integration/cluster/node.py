"""A node of a cluster: containerd and a kubelet that has a credential of its own, and no network
for pods yet.

         mgmt ─── veth ──┐                     ┌── veth ─── the control plane
                         ├── a node's ground ──┤
    pods' gateway ─ veth ┘ eth0                └── mgmt
"""

from __future__ import annotations

import base64
import json
import os
from contextlib import suppress
from pathlib import Path

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import Netns
from integration.cluster.control import ControlPlane
from integration.cluster.ground import Ground
from integration.containerd.cgroup import Cgroup
from integration.containerd.runtime import Containerd
from integration.kubelet.kubelet import Kubelet
from integration.kubernetes import build

PLUGINS = Path("/usr/lib/cni")
BIN_DIR, CONF_DIR = "/opt/cni/bin", "/etc/cni/net.d"  # containerd's own choice, in most places
LAUNCHER = f"{BIN_DIR}/cni-repair"

_KUBECONFIG = "/etc/kubernetes/kubelet.conf"
_CREDENTIAL = "/var/lib/kubelet/pki/kubelet-client-current.pem"


class Node(WithCleanup):
    """Context: a bare node on its ground, which begins to join the cluster of a control plane.

    `address` is its own in the network that the control plane is in.
    """

    def __init__(self, ground: Ground, control: ControlPlane, address: str) -> None:
        self.ground, self.name = ground, ground.name
        self._control, self._address = control, address
        self._cgroup = Cgroup(f"node-{self.name}")

    def _open(self) -> None:
        self._link_plugins()
        self._write_credential()
        self.containerd = self._cleanup.enter_context(self._containerd())
        # Where whoever looks for the runtime's configuration looks.
        self._write("/etc/containerd/config.toml", self.containerd.config.read_text())
        self.cri = self.containerd.cri
        self.kubelet = self._kubelet()
        self._cleanup.callback(self.kubelet.stop)
        self.kubelet.begin()

    @property
    def netns(self) -> Netns:
        return self.ground.netns

    @property
    def logs(self) -> dict[str, str]:
        """What the node's programs said, and its pods."""
        found = {"containerd": self.containerd.log, "kubelet": self.kubelet.log}
        # Kubelet removes those of pods that have gone while we read (os.walk does not mind).
        for directory, _, names in os.walk(self.ground.outside("/var/log/pods")):
            for path in (Path(directory, name) for name in names if name.endswith(".log")):
                with suppress(FileNotFoundError):
                    found[f"{path.parts[-3]}-{path.stem}"] = path.read_text("utf-8", "replace")
        return {f"{self.name}-{name}": text for name, text in found.items()}

    # --- How it is made ---

    def _link_plugins(self) -> None:
        """macvlan and host-local are there on a bare node, too."""
        for plugin in PLUGINS.iterdir():
            self.ground.outside(f"{BIN_DIR}/{plugin.name}").symlink_to(plugin)

    def _write_credential(self) -> None:
        """The kubelet's, in the form and in the places of kubeadm."""
        document = json.loads(self._control.node_kubeconfig(self.name).read_text())
        (user,) = document["users"]
        parts = [user["user"][f"client-{part}-data"] for part in ("certificate", "key")]
        self._write(_CREDENTIAL, b"".join(map(base64.b64decode, parts)).decode(), 0o600)
        user["user"] = {"client-certificate": _CREDENTIAL, "client-key": _CREDENTIAL}
        self._write(_KUBECONFIG, json.dumps(document), 0o600)

    def _write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.ground.outside(path)
        target.write_text(text)
        target.chmod(mode)

    def _containerd(self) -> Containerd:
        return Containerd(
            self.ground.own / "c",
            Path(BIN_DIR),
            Path(CONF_DIR),
            cgroup=self._cgroup,
            enter=self.ground.entering,
            snapshotter="overlayfs",  # the image is no small one
        )

    def _kubelet(self) -> Kubelet:
        return Kubelet(
            str(build.KUBELET),
            self.ground.own / "k",
            self.netns,
            self.containerd.socket,
            self._cgroup,
            options=[
                f"--hostname-override={self.name}",
                f"--node-ip={self._address}",
                f"--kubeconfig={_KUBECONFIG}",
                f"--cgroup-root={self._cgroup.path}",
                "--node-status-update-frequency=4s",  # not 10: it says what is Ready then
            ],
            enter=self.ground.entering,
        )
