"""A client of the Container Runtime Interface: what kubelet asks a runtime, asked by us.

grpcio comes from PyPI into the cache, with the messages of cri.proto compiled for it. It is
imported when a connection is opened, so that this module can be imported without it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import LabError
from integration.containerd.image import IMAGE
from integration.packages import run
from integration.pypackages import PythonPackages

CALL_SECONDS = 300.0  # what hangs takes longer, on the slowest machine, too

_GRPC = ("grpcio==1.80.*", "grpcio-tools==1.80.*")
_PROTO = Path(__file__).with_name("cri.proto")
_PROTOC = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from grpc_tools.protoc import main; sys.exit(main(sys.argv))"
)
_SERVICE, _IMAGES = "runtime.v1.RuntimeService", "runtime.v1.ImageService"


def prepare() -> None:
    """Have grpcio for the Python that runs this, and our messages; needs PyPI the first time."""
    _packages().prepare(_compile_messages)


def _packages() -> PythonPackages:
    return PythonPackages("cri", _GRPC, key=_PROTO.read_text())


def _compile_messages(python: str, tree: Path) -> None:
    into = [f"--proto_path={_PROTO.parent}", f"--python_out={tree}", str(_PROTO)]
    run([python, "-I", "-c", _PROTOC, str(tree), *into])


@dataclass(frozen=True)
class Sandbox:
    """A pod's sandbox, as the runtime tells of it."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    ip: str  # as the runtime remembers it
    ips: tuple[str, ...]  # the others
    pid: int  # of the sandbox's own process; 0 where it is gone
    netns: str  # the path


@dataclass(frozen=True)
class Container:
    """A container, as the runtime tells of it."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    running: bool


class Cri(WithCleanup):
    """Context: a connection to a runtime. What it refuses is raised as LabError.

    `cgroup` is the parent of the cgroups of sandboxes made through this connection.
    """

    def __init__(self, socket: Path, cgroup: str = "") -> None:
        self._socket = socket
        self._cgroup = cgroup
        self._configs: dict[str, Any] = {}  # of the sandboxes that we made, for their containers

    def _open(self) -> None:
        self._grpc, self._messages = _import()
        target = f"unix://{self._socket}"
        self._channel = self._cleanup.enter_context(self._grpc.insecure_channel(target))

    # --- Sandboxes ---

    def run_sandbox(
        self,
        name: str,
        namespace: str = "default",
        *,
        uid: str = "",
        attempt: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Have a pod's sandbox made, with its network; its id."""
        uid = uid or f"uid-of-{name}"
        config = self._messages.PodSandboxConfig(
            metadata={"name": name, "namespace": namespace, "uid": uid, "attempt": attempt},
            hostname=name,
            labels=dict(labels or {}),
            linux={"cgroup_parent": self._cgroup},
        )
        answer = self._call("RunPodSandbox", config=config)
        self._configs[answer.pod_sandbox_id] = config
        return str(answer.pod_sandbox_id)

    def stop_sandbox(self, sandbox_id: str) -> None:
        """Have its containers killed and its network taken down (CNI DEL)."""
        self._call("StopPodSandbox", pod_sandbox_id=sandbox_id)

    def remove_sandbox(self, sandbox_id: str) -> None:
        """Have it forgotten; stops it, too, where it is not stopped."""
        self._call("RemovePodSandbox", pod_sandbox_id=sandbox_id)

    def sandbox(self, sandbox_id: str) -> Sandbox:
        """All there is to know of a sandbox."""
        answer = self._call("PodSandboxStatus", pod_sandbox_id=sandbox_id, verbose=True)
        status, metadata = answer.status, answer.status.metadata
        info = json.loads(answer.info["info"])
        namespaces = info.get("runtimeSpec", {}).get("linux", {}).get("namespaces", [])
        netns = next((one["path"] for one in namespaces if one["type"] == "network"), "")
        return Sandbox(
            id=status.id,
            name=metadata.name,
            namespace=metadata.namespace,
            uid=metadata.uid,
            attempt=metadata.attempt,
            ready=status.state == self._messages.SANDBOX_READY,
            ip=status.network.ip,
            ips=tuple(one.ip for one in status.network.additional_ips),
            pid=info["pid"],
            netns=netns,
        )

    def sandboxes(self) -> list[Sandbox]:
        """All sandboxes, also those that are stopped, but not removed."""
        return [self.sandbox(one.id) for one in self._call("ListPodSandbox").items]

    # --- Containers ---

    def run_container(self, sandbox_id: str, *command: str, name: str = "main") -> str:
        """Run a container of our image in a sandbox made through this connection; its id."""
        config = self._messages.ContainerConfig(
            metadata={"name": name}, image={"image": IMAGE}, command=command
        )
        created = self._call(
            "CreateContainer",
            pod_sandbox_id=sandbox_id,
            config=config,
            sandbox_config=self._configs[sandbox_id],
        )
        self._call("StartContainer", container_id=created.container_id)
        return str(created.container_id)

    def containers(self) -> list[Container]:
        """All containers, also those that have ended."""
        running = self._messages.CONTAINER_RUNNING
        return [
            Container(
                one.id,
                one.pod_sandbox_id,
                one.metadata.name,
                one.metadata.attempt,
                one.state == running,
            )
            for one in self._call("ListContainers").containers
        ]

    def pid(self, container_id: str) -> int:
        """The process id of a container's first process."""
        answer = self._call("ContainerStatus", container_id=container_id, verbose=True)
        return int(json.loads(answer.info["info"])["pid"])

    def execute(self, container_id: str, *command: str, seconds: int = 30) -> tuple[int, str]:
        """Run a command in a container; its exit status, and what it said."""
        answer = self._call("ExecSync", container_id=container_id, cmd=command, timeout=seconds)
        return answer.exit_code, (answer.stdout + answer.stderr).decode("utf-8", "replace")

    # --- The runtime ---

    def ready(self) -> dict[str, bool]:
        """The runtime's conditions: RuntimeReady, NetworkReady."""
        return {one.type: one.status for one in self._call("Status").status.conditions}

    def has_image(self) -> bool:
        """Whether the runtime knows our image."""
        answer = self._call("ImageStatus", _IMAGES, image={"image": IMAGE})
        return bool(answer.HasField("image"))

    def _call(self, method: str, service: str = _SERVICE, **fields: Any) -> Any:
        request = getattr(self._messages, f"{method}Request")(**fields)
        call = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(self._messages, f"{method}Response").FromString,
        )
        try:
            return call(request, timeout=CALL_SECONDS, wait_for_ready=True)
        except self._grpc.RpcError as error:
            raise LabError(f"{method}: {error.code().name}: {error.details()}") from error


def _import() -> tuple[Any, Any]:
    """grpcio and our messages, from the cache."""
    tree = _packages().directory
    if not tree.exists():
        raise LabError(f"no {tree}: {__name__}.prepare() makes it, where there is a network")
    # Its threads would otherwise be in the way of every command that we start.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if str(tree) not in sys.path:
        sys.path.append(str(tree))
    return importlib.import_module("grpc"), importlib.import_module("cri_pb2")
