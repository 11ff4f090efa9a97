"""One request to an API server that answers, refuses, lies, hangs or dies; and who makes it."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_repair.watch.kubernetes import kubeconfig, pace, reporter
from cni_repair.watch.kubernetes import outbox as outboxes
from cni_repair.watch.kubernetes.client import Api, ApiError
from cni_repair.watch.kubernetes.cluster import Cluster
from cni_repair.watch.kubernetes.kubeconfig import Credential, read
from cni_repair.watch.settings import NEVER
from integration.cluster.credentials import Authority
from tests.patience import eventually
from tests.unit.test_kubernetes_telling import heals, status
from tests.unit.tlsserver import NODE, Answer, Server, document, saying, serving

LONG, SHORT = 30.0, 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, saying(document(200, {"kind": "Node"}))) as server:
        yield server


def api(server: Server, seconds: float = LONG) -> Api:
    return Api(read(str(server.kubeconfig)), seconds)


def error_of(server: Server, answer: Answer, seconds: float = LONG) -> ApiError:
    server.answer = answer
    with pytest.raises(ApiError) as caught:
        api(server, seconds).get("/x")
    assert caught.value.msg == f"the API server https://127.0.0.1:{server.port} was not told"
    assert "\n" not in str(caught.value)
    return caught.value


# --- one request ----------------------------------------------------------------------------------


def test_an_answer(server: Server) -> None:
    assert api(server).get("/api/v1/nodes/worker-7") == {"kind": "Node"}
    (request,) = server.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "GET /api/v1/nodes/worker-7 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "Connection: close" in lines
    assert not [line for line in lines if line.startswith(("Authorization", "Content"))]


def test_a_document(server: Server) -> None:
    api(server).patch("/p", {"a": "ä"})
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PATCH /p HTTP/1.1\r\n")
    assert b"Content-Type: application/strategic-merge-patch+json\r\n" in head
    assert json.loads(body) == {"a": "ä"}
    api(server).post("/e", {})
    assert b"Content-Type: application/json\r\n" in server.requests[1]


def test_an_answer_in_chunks(server: Server) -> None:
    chunks = b'5\r\n{"kin\r\n7\r\nd": "N"\r\n1\r\n}\r\n0\r\n\r\n'
    server.answer = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert api(server).get("/x") == {"kind": "N"}


def test_a_token_instead_of_a_certificate(server: Server) -> None:
    """This server asks for a certificate, and refuses who has none: in TLS, before any request."""
    known = read(str(server.kubeconfig))
    credential = Credential(
        known.host, known.port, known.path, known.server_name, known.authorities, b"", b"", "t"
    )
    with pytest.raises(ApiError):
        Api(credential, LONG).get("/x")


def refused(code: int, reason: str) -> bytes:
    words = {"kind": "Status", "message": f"nodes {NODE!r} {reason}", "code": code}
    return document(code, words, "No")


@pytest.mark.parametrize("code", [401, 403, 404, 409, 429, 500, 503])
def test_a_refusal(server: Server, code: int) -> None:
    error = error_of(server, saying(refused(code, "is forbidden")))
    assert error.status == code
    assert error.details == f"{code}: nodes '{NODE}' is forbidden"


def test_a_proxys_page(server: Server) -> None:
    page = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"
    assert error_of(server, saying(page)).details == "502"


def hang(connection: ssl.SSLSocket, request: bytes) -> None:
    connection.recv(1)  # until the other side gives up


def drip(connection: ssl.SSLSocket, request: bytes) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def flood(connection: ssl.SSLSocket, request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


@pytest.mark.parametrize("answer", [hang, drip], ids=["hangs", "drips"])
def test_no_end_of_an_answer(server: Server, answer: Answer) -> None:
    assert error_of(server, answer, SHORT).details == "no answer in time"


def test_more_than_anybody_reads(server: Server) -> None:
    assert "more than 4194304 bytes" in error_of(server, flood).details


NO_API = "it does not answer as an API server does"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n\xff",
        b"HTTP/1.1 ten OK\r\n\r\n",
        b"\x00\xff" * 1000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    ],
    ids=[
        "closed", "torn", "torn chunk", "no JSON", "length", "status", "garbage", "headers", "deep",
    ],
)  # fmt: skip
def test_what_is_no_answer(server: Server, answer: bytes) -> None:
    error = error_of(server, saying(answer))
    assert (error.details, error.status) == (NO_API, 0)


def test_json_that_is_no_object(server: Server) -> None:
    server.answer = saying(document(200, ["a"]))
    assert api(server).get("/x") == {}


def test_nobody_is_there(server: Server) -> None:
    credential = read(str(server.kubeconfig))
    nobody = Credential("127.0.0.1", 1, "", "127.0.0.1", b"", b"", b"", "t")
    with pytest.raises(ApiError, match="Connection refused"):
        Api(nobody, LONG).get("/x")
    assert credential.node == NODE


def test_a_server_of_another_authority(server: Server, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    known = json.loads(server.kubeconfig.read_text())
    data = base64.b64encode(other.certificate.read_bytes()).decode()
    known["clusters"][0]["cluster"]["certificate-authority-data"] = data
    server.kubeconfig.write_text(json.dumps(known))
    with pytest.raises(ApiError) as caught:
        api(server).get("/x")
    assert "certificate" in caught.value.details or "issuer" in caught.value.details
    assert server.requests == [], "it was shown nothing"


def test_a_certificate_of_another_server(tmp_path: Path) -> None:
    with serving(tmp_path, hang, address="127.0.0.9") as server:
        with pytest.raises(ApiError, match=r"IP address mismatch|doesn't match|not valid"):
            api(server).get("/x")
        assert server.requests == []


@pytest.mark.parametrize("part", ["client-certificate-data", "client-key-data"])
def test_a_credential_that_is_none(server: Server, part: str) -> None:
    known = json.loads(server.kubeconfig.read_text())
    known["users"][0]["user"][part] = base64.b64encode(b"none").decode()
    server.kubeconfig.write_text(json.dumps(known))
    with pytest.raises(ApiError):
        api(server).get("/x")


def test_an_encrypted_key_asks_no_terminal(server: Server, tmp_path: Path) -> None:
    known = json.loads(server.kubeconfig.read_text())
    user = known["users"][0]["user"]
    key, locked = tmp_path / "key", tmp_path / "locked"
    key.write_bytes(base64.b64decode(user["client-key-data"]))
    files = ["-in", str(key), "-out", str(locked)]
    subprocess.run(["openssl", "pkcs8", "-topk8", *files, "-passout", "pass:secret"], check=True)
    user["client-key-data"] = base64.b64encode(locked.read_bytes()).decode()
    server.kubeconfig.write_text(json.dumps(known))
    with pytest.raises(ApiError):
        api(server).get("/x")


# --- who tells it ---------------------------------------------------------------------------------


class Kubernetes:
    """An API server that knows one node, and keeps what it is told."""

    def __init__(self) -> None:
        self.conditions: list[dict[str, Any]] = []
        self.told: list[str] = []  # every status of the condition, as it came
        self.events: dict[str, dict[str, Any]] = {}
        self.refuse: dict[str, int] = {}  # codes, by what stands in the request's first line

    def answer(self, connection: ssl.SSLSocket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        method, path, _ = head.decode().split("\r\n")[0].split(" ")
        code = next((code for what, code in self.refuse.items() if what in f"{method} {path}"), 200)
        content = json.loads(body) if body else {}
        if code != 200:
            connection.sendall(refused(code, "no"))
            return
        if method == "GET":
            content = {"status": {"conditions": self.conditions}}
        elif path.endswith("/status"):
            self.conditions = content["status"]["conditions"]
            self.told.append(self.conditions[0]["status"])
        elif method == "POST":
            self.events[content["metadata"]["name"]] = content
        else:
            self.events[path.rpartition("/")[2]].update(content)
        connection.sendall(document(200, content))

    @property
    def messages(self) -> list[tuple[str, int]]:
        return [(one["message"], one["count"]) for one in self.events.values()]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "_CALL_SECONDS", SHORT)
    monkeypatch.setattr(pace, "_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(pace, "_MOST_SECONDS", 0.2)
    monkeypatch.setattr(pace, "FLAP_SECONDS", 0.01)
    monkeypatch.setattr(pace, "EVENT_SECONDS", 0.01)


@contextlib.contextmanager
def telling(server: Server, troubles: list[str] | None = None) -> Iterator[Cluster]:
    found = [] if troubles is None else troubles
    cluster = Cluster(str(server.kubeconfig), found.append)
    try:
        yield cluster
    finally:
        cluster.close()


LOST, WELL = status(up=False, healthy=0), status()


def test_a_loss_and_its_end(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        cluster.observe(WELL)
        eventually(lambda: kubernetes.told == ["False"])
        cluster.observe(LOST)
        eventually(lambda: kubernetes.told == ["False", "True"])
        cluster.observe(status(heals=heals(3)))
        eventually(lambda: kubernetes.told[-1] == "False" and len(kubernetes.events) == 2)
        assert kubernetes.messages == [
            ("eth0 down, 3 pod interfaces on it: cni-repair status", 1),
            ("3 pod interfaces healed, the last after 408 ms", 1),
        ]
        eventually(lambda: cluster.told["condition"] == "False")
        assert cluster.told["node"] == NODE
        assert cluster.told["trouble"] == ""
    assert kubernetes.told[-1] == "Unknown", "nobody looks any more"
    assert kubernetes.conditions[0]["reason"] == "NotWatched"


def test_a_loss_again_and_again_is_one_event(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        for number in range(1, 6):
            cluster.observe(LOST)
            cluster.observe(status(heals=heals(number)))
        eventually(lambda: sorted(count for _, count in kubernetes.messages) == [5, 5])


@pytest.mark.parametrize("dead", [hang, drip, saying(b""), saying(refused(500, "x"))])
def test_a_server_that_comes_back_is_told_how_it_is_then(
    server: Server, quick: None, dead: Answer
) -> None:
    kubernetes = Kubernetes()
    troubles: list[str] = []
    server.answer = dead
    with telling(server, troubles) as cluster:
        cluster.observe(LOST)
        eventually(lambda: cluster.told["trouble"] != "")
        for number in range(1, 500):  # (each at once: none waits for the server)
            cluster.observe(LOST)
            cluster.observe(status(heals=heals(number)))
        server.answer = kubernetes.answer
        eventually(lambda: kubernetes.told[-1:] == ["False"])
        # (A call may have just begun with the first loss.)
        assert len(kubernetes.told) <= 2, "what came and went meanwhile is told to nobody"
        eventually(lambda: sorted(count for _, count in kubernetes.messages) == [499, 499])
        cluster.observe(WELL)
        assert any("was not told" in trouble for trouble in troubles)
        eventually(lambda: cluster.told["trouble"] == "")


def test_events_that_are_forbidden_do_not_hold_up_the_condition(
    server: Server, quick: None
) -> None:
    kubernetes = Kubernetes()
    kubernetes.refuse["POST"] = 403
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        cluster.observe(LOST)
        eventually(lambda: kubernetes.told == ["True"])
        eventually(lambda: "403" in cluster.told["trouble"])
        cluster.observe(status(heals=heals(3)))
        eventually(lambda: kubernetes.told == ["True", "False"])


def test_an_event_whose_answer_was_lost_is_written_once(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    lost: list[bytes] = []

    def answer(connection: ssl.SSLSocket, request: bytes) -> None:
        if request.startswith(b"POST"):
            if lost:
                kubernetes.refuse["POST"] = 409  # it exists
            lost.append(request)
        kubernetes.answer(connection, request) if len(lost) != 1 else None

    server.answer = answer
    with telling(server) as cluster:
        cluster.observe(LOST)
        eventually(lambda: len(lost) > 1)
        eventually(lambda: kubernetes.told == ["True"])
        requests = len(server.requests)
        cluster.observe(LOST)
    names = {json.loads(one.partition(b"\r\n\r\n")[2])["metadata"]["name"] for one in lost}
    assert len(names) == 1
    assert len(lost) == 2, "and not again"
    assert len(server.requests) >= requests


def test_an_event_that_the_server_has_thrown_away(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        cluster.observe(LOST)
        eventually(lambda: len(kubernetes.events) == 1)
        kubernetes.refuse["PATCH /api/v1/namespaces"] = 404
        cluster.observe(WELL)
        cluster.observe(LOST)
        eventually(lambda: len(kubernetes.events) == 3)  # lost, healed, lost


def test_a_node_that_is_not_there(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    kubernetes.refuse["GET"] = 404
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        cluster.observe(LOST)
        eventually(lambda: "404" in cluster.told["trouble"])
        kubernetes.refuse.clear()
        eventually(lambda: kubernetes.told == ["True"])


def test_what_the_system_refuses_now_is_tried_again(
    server: Server, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        with monkeypatch.context() as patched:
            patched.setattr(kubeconfig, "read", no_memory)
            cluster.observe(LOST)
            eventually(lambda: "no memory" in cluster.told["trouble"])
        eventually(lambda: kubernetes.told == ["True"])


def no_memory(path: str) -> Credential:
    raise MemoryError("no memory")


def test_no_thread_is_to_be_had(
    server: Server, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a control group has as many as it may: pods are healed all the same."""
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    troubles: list[str] = []
    with telling(server, troubles) as cluster:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            cluster.observe(LOST)
        assert troubles == ["the API server is not told yet: can't start new thread"]
        cluster.observe(LOST)
        eventually(lambda: kubernetes.told == ["True"])


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_its_end_waits_for_no_server(server: Server, quick: None) -> None:
    """Where nothing was told, nothing is taken back; else it has a second."""
    server.answer = hang
    with telling(server) as cluster:
        cluster.observe(LOST)
        eventually(lambda: server.requests)
    assert all(request.startswith((b"GET", b"POST")) for request in server.requests)


def test_nobody_is_told(server: Server) -> None:
    cluster = Cluster(NEVER, lambda trouble: None)
    before = threading.active_count()
    cluster.observe(LOST)
    assert threading.active_count() == before
    assert cluster.told == {"node": "", "condition": None, "at": None, "trouble": ""}
    cluster.close()


def test_another_setting(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    with telling(server) as cluster:
        cluster.observe(LOST)
        eventually(lambda: kubernetes.told == ["True"])
        cluster.change(NEVER)
        eventually(lambda: kubernetes.told == ["True", "Unknown"])
        cluster.observe(WELL)
        assert cluster.told["node"] == ""


def test_a_kubeconfig_that_is_mended(server: Server, quick: None) -> None:
    kubernetes = Kubernetes()
    server.answer = kubernetes.answer
    good = server.kubeconfig.read_text()
    server.kubeconfig.write_text("{}")
    troubles: list[str] = []
    with telling(server, troubles) as cluster:
        cluster.observe(LOST)
        eventually(lambda: "is not used" in cluster.told["trouble"])
        server.kubeconfig.write_text(good)
        eventually(lambda: kubernetes.told == ["True"])


def test_troubles_never_grow() -> None:
    outbox = outboxes.Outbox()
    fail: Callable[[int], None] = lambda number: outbox.failed(f"{number}", is_of_events=True)  # noqa: E731
    for number in range(10_000):
        fail(number)
    assert len(outbox.troubles) == 100
