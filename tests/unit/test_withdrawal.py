"""The node's condition taken back, where cni-repair leaves the node."""

from __future__ import annotations

import json
import os
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import replace
from cni_repair.placing import gone, leaving
from cni_repair.placing.leaving import Leaving
from cni_repair.placing.puts import Prefix
from cni_repair.placing.runtimes import Choice
from cni_repair.watch.kubernetes.client import ApiError
from cni_repair.watch.kubernetes.withdrawal import withdraw
from cni_repair.watch.settings import NEVER, Settings, default_settings
from cni_repair.watch.status import first_watcher
from tests.patience import eventually
from tests.unit.test_kubernetes_client import refused
from tests.unit.tlsserver import NODE, Server, document, saying, serving

OURS, OTHER = {"type": "PodNetworkLost", "status": "Unknown"}, {"type": "Ready", "status": "True"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """It answers whatever it is asked with a node that has the condition."""
    node = document(200, {"status": {"conditions": [OTHER, OURS]}})
    with serving(tmp_path, saying(node)) as server:
        yield server


def settings(server: Server, run_dir: Path) -> Settings:
    return replace(default_settings(), kubeconfig=str(server.kubeconfig), run_dir=str(run_dir))


def asked(server: Server) -> list[str]:
    """Method and path of each request."""
    return [request.decode().partition(" HTTP/")[0] for request in server.requests]


NODE_PATH = f"/api/v1/nodes/{NODE}"
BOTH = [f"GET {NODE_PATH}", f"PATCH {NODE_PATH}/status"]


def test_it_is_taken_back(server: Server, tmp_path: Path) -> None:
    assert withdraw(settings(server, tmp_path)) == NODE
    assert asked(server) == BOTH
    patch = json.loads(server.requests[1].partition(b"\r\n\r\n")[2])
    # Only ours: a merge by `type` leaves the others alone.
    deletion = {"type": "PodNetworkLost", "$patch": "delete"}
    assert patch == {"status": {"conditions": [deletion]}}


def test_a_node_without_a_run_directory_gets_none(server: Server, tmp_path: Path) -> None:
    assert withdraw(settings(server, tmp_path / "none")) == NODE
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "answer",
    [
        document(200, {"status": {"conditions": [OTHER]}}),
        document(200, {}),
        refused(404, "not found"),  # the node has left the cluster
    ],
)
def test_there_is_none(server: Server, tmp_path: Path, answer: bytes) -> None:
    server.answer = saying(answer)
    assert withdraw(settings(server, tmp_path)) == ""
    assert asked(server) == BOTH[:1]


def test_another_watcher_s_stays(server: Server, tmp_path: Path) -> None:
    with first_watcher(str(tmp_path)):
        assert withdraw(settings(server, tmp_path)) == ""
    assert server.requests == []


def test_where_nobody_is_to_be_told(server: Server, tmp_path: Path) -> None:
    assert withdraw(replace(settings(server, tmp_path), kubeconfig=NEVER)) == ""
    assert server.requests == []


def test_a_refusal(server: Server, tmp_path: Path) -> None:
    server.answer = saying(refused(403, "is forbidden"))
    with pytest.raises(ApiError, match="is forbidden"):
        withdraw(settings(server, tmp_path))


def test_a_refused_patch(server: Server, tmp_path: Path) -> None:
    def answer(connection: ssl.SSLSocket, request: bytes) -> None:
        node = document(200, {"status": {"conditions": [OURS]}})
        connection.sendall(node if request.startswith(b"GET") else refused(403, "is forbidden"))

    server.answer = answer
    with pytest.raises(ApiError, match="is forbidden"):
        withdraw(settings(server, tmp_path))


# --- a container that leaves ----------------------------------------------------------------------


class Cluster:
    """Refuses a few times; then the condition is taken back."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.calls = 0

    def withdraw(self) -> str:
        self.calls += 1
        if self.calls <= self.refusals:
            raise CniError(IO, "the API server was not told", "no answer in time")
        return NODE


def never() -> NoReturn:
    raise AssertionError


def left(prefix: Path, cluster: Cluster) -> int:
    """A container on a node that has nothing of it any more, until it has been told to end."""
    return Leaving(Prefix(prefix), never, never, cluster.withdraw).run()


def told_to_end(when: Any) -> threading.Thread:
    def wait() -> None:
        eventually(when)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture
def mask() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, leaving.ENDS)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_an_api_server_that_comes_back(
    tmp_path: Path, mask: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaving, "_WITHDRAW_SECONDS", 0.01)
    monkeypatch.setattr(gone, "plugin_directory", lambda: Choice(tmp_path, "here"))
    cluster = Cluster(refusals=3)
    ender = told_to_end(lambda: cluster.calls == 4)
    assert left(tmp_path, cluster) == 0
    ender.join()
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "cni-repair-node: cni-repair is not on this node: nothing is to be taken away",
        "cni-repair-node: the condition PodNetworkLost may stay on this node: the API server was"
        " not told: no answer in time (cni-repair help kubernetes says how to remove it by hand);"
        " it is tried again while this container runs",
        f"cni-repair-node: took the condition PodNetworkLost from the node {NODE}",
    ]
    assert cluster.calls == 4, "and not again"
