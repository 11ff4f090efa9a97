"""A kubelet: by itself it runs the pods whose manifests are in a directory."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import PATH, LabError, Netns, inside, poll_until
from integration.containerd.cgroup import Cgroup
from integration.containerd.image import IMAGE

NAMESPACE = "shop"
START_SECONDS = 60.0
STOP_SECONDS = 60.0

_PORT = 10255
_NODE = "node"
CONFIG = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "fileCheckFrequency": "1s",
    "syncFrequency": "1s",
    # What there is to ask is asked on its loopback, without a certificate.
    "enableServer": False,
    "readOnlyPort": _PORT,
    "address": "127.0.0.1",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    # It is not to judge the machine, nor to change it.
    "failSwapOn": False,
    "evictionHard": {"memory.available": "1Mi"},
    "imageGCHighThresholdPercent": 100,
    "makeIPTablesUtilChains": False,
    "oomScoreAdj": 0,
    "cgroupDriver": "cgroupfs",
    "cgroupsPerQOS": False,
    "enforceNodeAllocatable": [],
    "resolvConf": "",
}

OPTIONS = [f"--hostname-override={_NODE}", "--container-runtime=remote", "--logtostderr=true"]


@dataclass(frozen=True)
class Pod:
    """A pod, as kubelet tells of it."""

    name: str
    uid: str
    phase: str
    ready: bool
    ip: str
    restarts: int
    container_id: str


class Kubelet:
    """A kubelet in a node's network namespace; `started` and stopped as often as one likes.

    `directory` is for its files; the manifests are in the subdirectory `manifests`. `options` are
    more of its options, of which the last counts; `enter` runs a command where it is to run.
    """

    def __init__(
        self,
        program: str,
        directory: Path,
        node: Netns,
        runtime: Path,
        cgroup: Cgroup,
        *,
        options: Sequence[str] = (),
        enter: Sequence[str] = (),
    ) -> None:
        self._program, self._directory, self._node = program, directory, node
        self._runtime, self._cgroup, self._options = runtime, cgroup, options
        self._enter = enter or ("nsenter", f"--net={node.path}")
        self._manifests = directory / "manifests"
        self._manifests.mkdir(parents=True)
        config = {
            **CONFIG,
            "staticPodPath": str(self._manifests),
            "volumePluginDir": str(directory / "plugins"),
        }
        (directory / "config").write_text(json.dumps(config))
        self._running = ExitStack()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start it."""
        with ExitStack() as running:
            log = running.enter_context((self._directory / "log").open("ab"))
            self._process = subprocess.Popen(
                self._cgroup.started([*self._enter, *self._command()]),
                env={"PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us
            )
            running.callback(self._end, self._process)
            self._running = running.pop_all()

    def wait(self) -> None:
        """Wait until it answers."""
        poll_until(self._answers, START_SECONDS, "kubelet to answer")

    def stop(self) -> None:
        """End it, as systemd would; the pods stay."""
        self._running.close()

    def _command(self) -> list[str]:
        return [
            self._program,
            f"--config={self._directory}/config",
            f"--root-dir={self._directory}/root",
            f"--cert-dir={self._directory}/pki",
            f"--container-runtime-endpoint=unix://{self._runtime}",
            *OPTIONS,
            *self._options,
        ]

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise LabError(f"kubelet: exit {self._process.returncode}: {self.log[-2000:]}")
        try:
            return self._get("/healthz") == "ok"
        except OSError:
            return False

    # --- Pods ---

    def run_pod(self, name: str, *, probe: Sequence[str] = (), failures: int = 1) -> None:
        """Have a static pod run: one container that sleeps.

        `probe` is the command of its liveness probe, once a second; the container is restarted
        after that many failures.
        """
        container: dict[str, Any] = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": ["sleep", "2147483647"],
        }
        if probe:
            container["livenessProbe"] = {
                "exec": {"command": list(probe)},
                "periodSeconds": 1,
                "timeoutSeconds": 2,
                "failureThreshold": failures,
            }
        # A first process heeds no SIGTERM that it did not ask for.
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        metadata = {"name": name, "namespace": NAMESPACE}
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        # At once: kubelet would read half of a file.
        draft = self._directory / "draft"
        draft.write_text(json.dumps(document))
        draft.rename(self._manifests / f"{name}.json")

    def remove_pod(self, name: str) -> None:
        """Have a static pod deleted."""
        (self._manifests / f"{name}.json").unlink()

    def pods(self) -> dict[str, Pod]:
        """The pods by their names, without what kubelet adds to static ones."""
        items = json.loads(self._get("/pods"))["items"] or ()
        found = [_pod(item) for item in items]
        return {pod.name.removesuffix(f"-{_NODE}"): pod for pod in found}

    def probed(self, name: str, result: str) -> int:
        """How often a pod's liveness probe had that result since kubelet started."""
        total = 0
        for line in self._get("/metrics/probes").splitlines():
            told = re.match(r"prober_probe_total\{(.*)\} (\d+)", line)
            if told and {f'pod="{name}-{_NODE}"', f'result="{result}"'} <= {*told[1].split(",")}:
                total += int(told[2])
        return total

    def _get(self, path: str) -> str:
        """A page of its read-only port; OSError where it does not answer."""
        with inside(self._node.path):
            connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=10)
            connection.connect()
        with ExitStack() as opened:
            opened.callback(connection.close)
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != http.HTTPStatus.OK:
                raise LabError(f"kubelet: GET {path}: {answer.status}: {text[:200]}")
            return text

    @property
    def log(self) -> str:
        """What kubelet said."""
        return (self._directory / "log").read_text("utf-8", "replace")


def _pod(item: dict[str, Any]) -> Pod:
    status = item.get("status", {})
    container: dict[str, Any] = (status.get("containerStatuses") or [{}])[0]
    return Pod(
        name=item["metadata"]["name"],
        uid=item["metadata"]["uid"],
        phase=status.get("phase", ""),
        ready=container.get("ready", False),
        ip=status.get("podIP", ""),
        restarts=container.get("restartCount", 0),
        container_id=container.get("containerID", "").removeprefix("containerd://"),
    )
