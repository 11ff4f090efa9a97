"""containerd of Debian's newest suite: it asks for STATUS, and speaks CNI 1.1.0."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cni_repair.demo.lab import Netns, poll_until
from integration.clients import supply
from integration.containerd import runtime
from integration.kubelet.private import OWN
from integration.packages import CACHE, locked_cache, run, unpacked

if TYPE_CHECKING:
    from integration.clients.node import Node
    from integration.driver.checks import Checks

_TREE = f"containerd-{supply.NEWEST}"
_GRACE_SECONDS = 3  # the time counts from the first STATUS that finds no master
_NOTICE_SECONDS = 60.0


class _Newest(runtime.Containerd):
    programs = f"{CACHE}/{_TREE}/usr/bin"
    # Otherwise the daemon unpacks, by a configuration of its own for each snapshotter.
    import_options = ("--local",)


class Containerd:
    """containerd, asked by CRI as kubelet does."""

    name = "containerd"
    netconf: Mapping[str, Any] = MappingProxyType(
        {"cniVersion": "1.1.0", "statusGrace": _GRACE_SECONDS}
    )

    def prepare(self) -> str:
        supply.prepare_plugins()
        runtime.prepare()
        with locked_cache():
            unpacked("containerd", _TREE, suite=supply.NEWEST)
        # `containerd github.com/containerd/containerd/v2 2.1.9+unknown`
        version = run([f"{_Newest.programs}/containerd", "--version"]).split()[2]
        return version.partition("+")[0]

    @contextlib.contextmanager
    def started(self, node: Node) -> Iterator[None]:
        self._node = node
        self._pods: dict[str, str] = {}
        with _Newest(
            OWN / "containerd",
            node.plugins(supply.PLUGINS_OF_NEWEST),
            node.write_network(self.name, **self.netconf),
            enter=["nsenter", f"--net={node.lab.node.path}"],
        ) as self._containerd:
            self._cri = self._containerd.cri
            yield

    def add(self, name: str) -> Netns:
        self._pods[name] = self._cri.run_sandbox(name)
        self._cri.run_container(self._pods[name], "sleep", "1000")
        return self._node.named(f"containerd-{name}", self._cri.sandbox(self._pods[name]).netns)

    def tells(self, name: str) -> object:
        """The sandbox, its IP among others, and the container."""
        containers = [one for one in self._cri.containers() if one.sandbox_id == self._pods[name]]
        return self._cri.sandbox(self._pods[name]), containers

    def delete(self, name: str) -> None:
        self._cri.stop_sandbox(self._pods[name])
        self._cri.remove_sandbox(self._pods[name])

    def more(self, node: Node, check: Checks) -> None:
        check("NetworkReady: true, while the master is there", self._is_ready(), "false")
        node.lab.uplink_lost()
        check("a master that has just gone: NetworkReady stays true", self._is_ready(), "false")
        node.lab.uplink_back()
        check("it came back at once: NetworkReady is true", self._is_ready(), "false")
        node.lab.uplink_lost()
        began = time.monotonic()
        check("the next one is counted anew: NetworkReady stays true", self._is_ready(), "false")
        check.succeeds(
            "a master that stays away: NetworkReady becomes false",
            lambda: poll_until(lambda: not self._is_ready(), _NOTICE_SECONDS, "false"),
        )
        seconds = time.monotonic() - began
        check(f"not before statusGrace, {_GRACE_SECONDS} s", seconds >= _GRACE_SECONDS, seconds)
        node.lab.uplink_back()
        check("the master is back: NetworkReady is true", self._is_ready(), "false")
        node.repair()

    def _is_ready(self) -> bool:
        return self._cri.ready()["NetworkReady"]
