"""Those that are compared with each other at repairing pods."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from integration.bench import names
from integration.bench.errors import PeerError
from integration.bench.figures import Run
from integration.bench.node import Node
from integration.command import CHECKOUT

_HERE = Path(__file__).parent
_SHELL = "/bin/sh"


@dataclass(frozen=True)
class Peer:
    """One way to repair all pods of a node, as one process."""

    name: str
    repair: Callable[[Node], Run]
    most: float = math.inf  # pods that it is asked to repair


def ours(earlier: Path | None = None) -> list[Peer]:
    """cni-repair's two faces; those of another checkout's launcher, too, where one is given."""
    faces = [
        Peer(names.VERB, lambda node: node.plugin("REPAIR", node.netconf())[0]),
        Peer(names.COMMAND, lambda node: node.cli_run("repair", "--all")),
    ]
    return faces if earlier is None else [*faces, *(before(face, earlier) for face in faces)]


def detecting(earlier: Path | None = None) -> list[Peer]:
    """The ways to have duplicates of IPv6 addresses looked for."""
    kernels = ("repair", "--all", "--ipv6-detection", "kernel")
    return [
        Peer(names.COMMAND, lambda node: node.cli_run("repair", "--all")),
        Peer(names.BY_KERNEL, lambda node: node.cli_run(*kernels)),
        *(face for face in ours(earlier) if face.name == names.earlier(names.COMMAND)),
    ]


def before(peer: Peer, launcher: Path) -> Peer:
    """The same, done by another checkout's cni-repair."""

    def run(node: Node) -> Run:
        with by(node, launcher):
            return peer.repair(node)

    return Peer(names.earlier(peer.name), run, peer.most)


@contextlib.contextmanager
def by(node: Node, launcher: Path) -> Iterator[None]:
    """Have the node's cni-repair be this one."""
    plain, node.command = node.command, [str(launcher)]
    try:
        yield
    finally:
        node.command = plain


def all_peers(
    directory: Path,
    shell_most: int,
    note: Callable[[str], None],
    earlier: Path | None = None,
) -> list[Peer]:
    """cni-repair and the others; `note` is told of each that this machine lacks the means for."""
    peers = [
        *ours(earlier),
        Peer(
            names.SHELL,
            lambda node: node.time([_SHELL, _own("shellway.sh"), _list(node)]),
            shell_most,
        ),
        Peer(names.BATCH, _batch),
    ]
    if python := _python_with_pyroute2():
        command = [python, "-I", _own("pyroute2way.py")]
        peers.append(Peer(names.PYROUTE2, lambda node: node.time([*command, _list(node)])))
    else:
        note(f"{names.PYROUTE2} is left out: tests/run, which makes .venv, brings it")
    if shutil.which("gcc"):
        floor = _compile(directory)
        for name in (names.FLOOR, names.again(names.FLOOR)):
            peers.append(Peer(name, lambda node: node.time([floor, _list(node)])))
    else:
        note(f"{names.FLOOR}, is left out: apt-get install gcc libc6-dev")
    return peers


def _own(file: str) -> str:
    return str(_HERE / file)


def _list(node: Node) -> str:
    """The file with what the peers are to restore: cni-repair has its checkpoints."""
    path = Path(node.directory, "pods")
    path.write_text("".join(f"{node.states[pod.name].line(pod)}\n" for pod in node.pods))
    return str(path)


def _batch(node: Node) -> Run:
    directory = node.directory / "batches"
    pods = directory / "pods"
    pods.mkdir(parents=True, exist_ok=True)
    links = []
    for pod in node.pods:
        state = node.states[pod.name]
        links.append(
            f"link add link eth0 name eth0 index {state.index} address {state.mac}"
            f" mtu {state.mtu} txqueuelen 0 netns {pod.name} type macvlan mode bridge\n"
        )
        Path(pods, pod.name).write_text(
            "link set eth0 up\n"
            f"addr add {state.address} broadcast {state.broadcast} dev eth0\n"
            f"route add default via {state.gateway} dev eth0\n"
        )
    Path(directory, "links").write_text("".join(links))
    return node.time([_SHELL, _own("batchway.sh"), str(directory)])


def _python_with_pyroute2() -> str:
    """An interpreter that has it; empty if none has."""
    for python in (sys.executable, f"{CHECKOUT}/.venv/bin/python"):
        try:
            asked = subprocess.run(
                [python, "-I", "-c", "import pyroute2"], capture_output=True, check=False
            )
        except OSError:
            continue
        if asked.returncode == 0:
            return python
    return ""


def _compile(directory: Path) -> str:
    program = str(directory / "floor")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, _own("floor.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"gcc: exit {done.returncode}: {' '.join(done.stderr.split())[:1000]}")
    return program
