"""cnitool, CNI's own client: built from Debian's source package, as Debian has no package of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cni_repair.demo.lab import Netns, Outcome
from integration.clients import supply
from integration.packages import CACHE, locked_cache, made_whole, run, source_of, unpacked

if TYPE_CHECKING:
    from integration.clients.node import Node
    from integration.driver.checks import Checks

_SOURCE = "golang-github-appc-cni"
_PACKAGE = "github.com/containernetworking/cni"
_GO = "1.24"  # 1.3.0 needs 1.21; Debian 12 has 1.19
_OF_GO = "trixie"
_BUILT = CACHE / "cnitool"


class Cnitool:
    """cnitool: the pods are empty namespaces, and it remembers nothing of them."""

    name = "cnitool"
    netconf: Mapping[str, Any] = MappingProxyType({"cniVersion": "1.1.0"})

    def prepare(self) -> str:
        """Build it, which takes half a minute, if there is none yet."""
        supply.prepare_plugins()
        with locked_cache("cnitool"):
            if not _BUILT.exists():
                _build()
        return (_BUILT / "version").read_text()

    @contextlib.contextmanager
    def started(self, node: Node) -> Iterator[None]:
        self._node = node
        plugins = node.plugins(supply.PLUGINS_OF_NEWEST)
        self._environ = {
            "CNI_PATH": ":".join(map(str, plugins)),
            "NETCONFPATH": str(node.write_network(self.name, **self.netconf)),
        }
        yield

    def add(self, name: str) -> Netns:
        pod = self._node.lab.add_pod(name)
        self._must("add", pod)
        return pod

    def tells(self, name: str) -> object:
        """Nothing: it has no memory."""
        return None

    def delete(self, name: str) -> None:
        pod = Netns(name)
        self._must("del", pod)
        self._node.lab.remove([pod])

    def more(self, node: Node, check: Checks) -> None:
        pod = Netns("web")
        check.succeeds("cnitool check: as ADD left it", lambda: self._must("check", pod))
        check.succeeds("cnitool status: it can take pods", lambda: self._must("status", pod))
        node.lab.uplink_lost()
        check.succeeds(
            "cnitool status: a master that has just gone is no reason",
            lambda: self._must("status", pod),
        )
        node.lab.uplink_back()
        node.repair()
        self._collect(node, check, pod)

    def _collect(self, node: Node, check: Checks, pod: Netns) -> None:
        """It gives no list of what is valid, which would be every pod's end."""
        other = node.lab.add_pod("anothers")
        netconf = node.netconf(self.name, **self.netconf)
        environ = {"CNI_PATH": self._environ["CNI_PATH"]}
        attached = node.remembered(node.lab.cni("ADD", other, netconf, env=environ))
        check("another client's pod is on the same network", attached.returncode == 0, attached)
        refused = self._call("gc", pod)
        says = "valid-attachments" in refused.stdout + refused.stderr
        check("cnitool gc, which names no valid attachments, is refused", says, refused)
        left = [name.partition("@")[0] for name in node.records()]
        check("the other client's pod is still attached", left == [other.name], left)
        removed = node.remembered(node.lab.cni("DEL", other, netconf, env=environ))
        check("the other client deletes it", removed.returncode == 0, removed)
        node.lab.remove([other])
        self._must("add", pod)  # libcni had it deleted: it is in cnitool's cache

    def _call(self, verb: str, pod: Netns) -> Outcome:
        return self._node.call([*self._command(verb, pod)], **self._environ)

    def _must(self, verb: str, pod: Netns) -> str:
        return self._node.must(self._command(verb, pod), **self._environ)

    def _command(self, verb: str, pod: Netns) -> list[str]:
        return [str(_BUILT / "cnitool"), verb, self.name, pod.path]


def _build() -> None:
    name = f"go-{_GO}-{_OF_GO}"  # (without the suite it is this machine's own)
    go = unpacked(f"golang-{_GO}-go", name, f"golang-{_GO}-src", suite=_OF_GO)
    with made_whole(_BUILT) as work:
        source = source_of(_SOURCE, work, supply.NEWEST)
        tree, gopath = work / "tree", work / "gopath"
        place = gopath / "src" / _PACKAGE
        place.mkdir(parents=True)
        tree.mkdir()
        run(["tar", "-xf", str(source), "--strip-components=1", "-C", str(place)])
        _compile(go / "usr/lib" / f"go-{_GO}", gopath, tree / "cnitool")
        # `golang-github-appc-cni_1.3.0.orig.tar.xz`
        (tree / "version").write_text(re.findall(r"\d+\.\d+\.\d+", source.name)[-1])


def _compile(go: Path, gopath: Path, into: Path) -> None:
    environ = {
        "GOROOT": go,
        "GOPATH": gopath,
        "GOCACHE": gopath / "cache",
        "GO111MODULE": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOENV": "off",
        "GOFLAGS": "",
    }
    words = [f"{name}={value}" for name, value in environ.items()]
    run(["env", *words, f"{go}/bin/go", "build", "-o", str(into), f"{_PACKAGE}/cnitool"])
