"""A TLS server on the loopback that answers as a test says, and the kubeconfig that leads to it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.cluster.credentials import Authority

NODE = "worker-7"
Answer = Callable[[ssl.SSLSocket, bytes], None]


@dataclass
class Server:
    """It answers one after the other, by `answer`, which may be changed; `requests` are whole."""

    port: int
    kubeconfig: Path
    answer: Answer
    requests: list[bytes] = field(default_factory=list)


def document(status: int, content: Any, reason: str = "OK") -> bytes:
    """An answer as the API server gives it, which closes the connection after it."""
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def saying(answer: bytes) -> Answer:
    return lambda connection, request: connection.sendall(answer)


@contextlib.contextmanager
def serving(directory: Path, answer: Answer, address: str = "127.0.0.1") -> Iterator[Server]:
    """`address` is what its certificate is for."""
    authority = Authority(directory / "pki")
    certificate, key = authority.issue_for_server("server", address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        kubeconfig = authority.write_kubeconfig(
            "node", f"https://127.0.0.1:{port}", f"system:node:{NODE}", "system:nodes"
        )
        kubeconfig.chmod(0o600)
        server = Server(port, kubeconfig, answer)
        thread = threading.Thread(target=_serve, args=(listening, context, server))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, context: ssl.SSLContext, server: Server) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return  # the end
        with plain, contextlib.suppress(OSError):  # the client gave up
            plain.settimeout(30.0)
            with context.wrap_socket(plain, server_side=True) as connection:
                request = _received(connection)
                server.requests.append(request)
                server.answer(connection, request)


def _received(connection: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    while lengths and len(body) < int(lengths[0].split()[1]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
