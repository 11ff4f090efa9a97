"""The node: a lab's, with a containerd and a kubelet on it that know cni-repair as their plugin.

tor                        node                       pods of kubelet
tor0 ───────── veth ────── eth0 ◄── macvlan ───────── eth0, eth0, …
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import Lab, LabError, Netns, Outcome, poll_until
from integration.containerd.cgroup import Cgroup
from integration.containerd.cri import Container, Sandbox
from integration.containerd.runtime import Containerd
from integration.kubelet.kubelet import Kubelet, Pod
from integration.kubelet.private import OWN, enter_private, show_system

PLUGINS = Path("/usr/lib/cni")
CHECKPOINTS = Path("/var/lib/cni-repair/checkpoints")

_CONF_DIR = OWN / "net.d"
_STARTTIME = 19  # of /proc/PID/stat, after the name of the command


@dataclass(frozen=True)
class Seen:
    """A pod as kubelet and CRI tell of it, and its container's process."""

    pod: Pod
    sandbox: Sandbox
    container: Container
    started: int  # when the process did, in clock ticks since the boot


class Node(WithCleanup):
    """Context: a node with an uplink and without pods, where containerd and kubelet run.

    `launcher` is the installed cni-repair, `kubelet` the program, `cgroup` the name of the cgroup
    that we are in. What was called is remembered in `log`, for people.
    """

    def __init__(self, launcher: str, kubelet: str, cgroup: str) -> None:
        self.log: list[str] = []
        self._launcher, self._program, self._cgroup = launcher, kubelet, cgroup

    def _open(self) -> None:
        enter_private(self._cgroup)
        self.lab = self._cleanup.enter_context(Lab(command=[self._launcher]))
        self.lab.echo = self.log.append
        self.lab.ip(self.lab.node, "link", "set", "lo", "up")
        show_system(self.lab.node)
        self._write_conflist()
        self.containerd = self._cleanup.enter_context(self._containerd())
        self.cri = self.containerd.cri
        self.kubelet = Kubelet(
            self._program,
            OWN / "kubelet",
            self.lab.node,
            self.containerd.socket,
            self.containerd.cgroup,
        )
        self._cleanup.callback(self.kubelet.stop)
        self.kubelet.start()

    def _write_conflist(self) -> None:
        """As on a node: everything where it is by default."""
        netconf = self.lab.netconf(checkpointDir=None, runDir=None)
        common = {key: netconf.pop(key) for key in ("cniVersion", "name")}
        _CONF_DIR.mkdir()
        document = {**common, "plugins": [netconf]}
        (_CONF_DIR / "10-pods.conflist").write_text(json.dumps(document))

    def _containerd(self) -> Containerd:
        return Containerd(
            OWN / "containerd",
            [Path(self._launcher).parent, PLUGINS],
            _CONF_DIR,
            cgroup=Cgroup("k8s.io"),  # where containerd puts the pods of a kubelet like ours
            enter=["nsenter", f"--net={self.lab.node.path}"],
        )

    # --- Pods ---

    def see(self, name: str) -> Seen:
        """All that there is to know of a pod; LabError while it is not all there."""
        pod = self.kubelet.pods().get(name)
        if pod is None:
            raise LabError(f"kubelet knows no pod {name}")
        found = {one.id: one for one in self.cri.containers()}.get(pod.container_id)
        if found is None:
            raise LabError(f"CRI knows no container {pod.container_id!r} of pod {name}")
        sandbox = self.cri.sandbox(found.sandbox_id)
        return Seen(pod, sandbox, found, _start_time(self.cri.pid(found.id)))

    def wait_ready(self, names: list[str], seconds: float) -> None:
        """Wait until kubelet says of those pods that they run and are ready."""

        def ready() -> bool:
            pods = self.kubelet.pods()
            return all(name in pods and pods[name].ready and pods[name].ip for name in names)

        poll_until(ready, seconds, f"{', '.join(names)} to be ready")

    def netns(self, seen: Seen) -> Netns:
        """A pod's network namespace, as one that `ip -n` knows."""
        netns = Netns(f"pod-{seen.sandbox.id[:12]}")
        link = Path(netns.path)
        if not link.is_symlink():
            link.symlink_to(seen.sandbox.netns)
        return netns

    def interface(self, seen: Seen) -> dict[str, Any]:
        """A pod's eth0 with its addresses and routes; empty where there is none."""
        interface = self.lab.interface(self.netns(seen))
        return interface if interface["link"] else {}

    def answers(self, seen: Seen) -> list[str]:
        """The gateways that answer the pod, its own program asking."""
        command = ("ping", "-c", "1", "-W", "1")
        return [
            gateway
            for gateway in self.lab.gateways
            if self.cri.execute(seen.container.id, *command, gateway)[0] == 0
        ]

    def checkpoint(self, seen: Seen) -> dict[str, Any]:
        """The checkpoint of a pod's eth0; empty where there is none."""
        path = CHECKPOINTS / f"{seen.sandbox.id}@eth0.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def leases(self) -> set[str]:
        """The addresses that host-local has given away."""
        names = {path.name for path in Path(self.lab.ipam_dir, "pods").iterdir()}
        return {name for name in names if not name.startswith(("last_reserved_ip", "lock"))}

    # --- cni-repair ---

    def repair(self) -> Outcome:
        """Repair all of the node, as a hook of the distribution would: empty stdin."""
        return self._remembered(self.lab.cni("REPAIR"))

    def status(self) -> Outcome:
        """What is wrong."""
        return self._remembered(self.lab.cli("status", "-o", "json"))

    def _remembered(self, outcome: Outcome) -> Outcome:
        self.log.append(f"exit {outcome.returncode}: {outcome.stdout}{outcome.stderr}")
        return outcome


def _start_time(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError as error:
        raise LabError(f"process {pid}: {error}") from error
    return int(stat.rpartition(")")[2].split()[_STARTTIME])
