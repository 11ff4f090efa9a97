"""podman with `network_backend = "cni"`: Debian 12's is the last that has it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cni_repair.demo.lab import Netns
from integration.clients import supply
from integration.clients.client import LeftOut
from integration.containerd import runtime
from integration.containerd.image import IMAGE, write_image
from integration.kubelet.private import OWN
from integration.packages import CACHE, locked_cache, run, unpacked

if TYPE_CHECKING:
    from integration.clients.node import Node
    from integration.driver.checks import Checks

_TREE = CACHE / "podman"
# With the libraries that a machine may lack.
_PACKAGES = ("podman", "conmon", "libassuan0", "libdevmapper1.02.1", "libgpgme11", "libsubid4")
_LAST_WITH_CNI = 4
_CONFIG = """\
[containers]
apparmor_profile = "unconfined"
[network]
network_backend = "cni"
cni_plugin_dirs = [{plugins}]
network_config_dir = "{networks}"
default_network = "{network}"
[engine]
cgroup_manager = "cgroupfs"
conmon_path = ["{tree}/usr/bin/conmon"]
events_logger = "file"
runtime = "runc"
[engine.runtimes]
runc = ["{runc}"]
"""
_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


class Podman:
    """podman, whose containers are the pods."""

    name = "podman"
    netconf: Mapping[str, Any] = MappingProxyType({})

    def prepare(self) -> str:
        runtime.prepare()  # for runc and busybox
        with locked_cache():
            unpacked(_PACKAGES[0], _TREE.name, *_PACKAGES[1:])
        version = run(["env", *_words(_libraries()), f"{_TREE}/usr/bin/podman", "--version"])
        found = re.search(r"(\d+)\.\d+\.\d+", version)
        if not found or int(found[1]) > _LAST_WITH_CNI:
            raise LeftOut(f"{version.strip()} has no CNI: Debian 12's was the last")
        return found[0]

    @contextlib.contextmanager
    def started(self, node: Node) -> Iterator[None]:
        self._node = node
        directory = OWN / "podman"
        directory.mkdir()
        plugins = node.plugins(supply.PLUGINS_HERE)
        config = _CONFIG.format(
            plugins=", ".join(f'"{plugin}"' for plugin in plugins),
            networks=node.write_network(self.name, **self.netconf),
            network=self.name,
            tree=_TREE,
            runc=runtime.RUNC,
        )
        (directory / "containers.conf").write_text(config)
        (directory / "policy.json").write_text(json.dumps(_POLICY))
        write_image(runtime.BUSYBOX, directory / "image.tar")
        self._environ = {"CONTAINERS_CONF": f"{directory}/containers.conf", **_libraries()}
        self._command = [
            f"{_TREE}/usr/bin/podman",
            *("--root", f"{directory}/root", "--runroot", f"{directory}/run"),
            *("--storage-driver", "vfs"),
        ]
        self._must("load", "--signature-policy", f"{directory}/policy.json", "--input",
                   f"{directory}/image.tar")  # fmt: skip
        yield

    def add(self, name: str) -> Netns:
        self._must(
            "run", "--detach", "--name", name, "--network", self.name, IMAGE, "sleep", "1000"
        )
        return self._node.named(
            f"podman-{name}", self._inspect(name)["NetworkSettings"]["SandboxKey"]
        )

    def tells(self, name: str) -> object:
        """Its networks, with addresses and MAC, and its process."""
        found = self._inspect(name)
        return found["NetworkSettings"]["Networks"], found["State"]["Pid"]

    def delete(self, name: str) -> None:
        self._must("rm", "--force", "--time", "0", name)

    def more(self, node: Node, check: Checks) -> None:
        """It asks for nothing but ADD and DEL."""

    def _inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self._must("inspect", name))
        return dict(found)

    def _must(self, *arguments: str) -> str:
        return self._node.must([*self._command, *arguments], **self._environ)


def _libraries() -> dict[str, str]:
    places = [str(path) for path in map(Path, (f"{_TREE}/usr/lib", f"{_TREE}/lib"))]
    found = [str(path) for place in places for path in Path(place).glob("*-linux-gnu*")]
    return {"LD_LIBRARY_PATH": ":".join(found)}


def _words(environ: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environ.items()]
