"""The loopback port on which Prometheus may scrape the daemon."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATH = "/metrics"
# Any process of the node can connect, and say nothing: neither threads nor time without end.
_MOST_CLIENTS = 8
_CLIENT_SECONDS = 5
_PAUSE_SECONDS = 1.0


class Server(ThreadingHTTPServer):
    """Answers GET /metrics with `text` on one address; nothing else is to be had."""

    daemon_threads = True
    request_queue_size = 16
    block_on_close = False

    def __init__(self, host: str, port: int, text: Callable[[], bytes]) -> None:
        """Raises OSError where the address cannot be had."""
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.text = text
        self._free = threading.BoundedSemaphore(_MOST_CLIENTS)
        self._closing = threading.Event()
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self._accept, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self.socket.shutdown(socket.SHUT_RDWR)  # which ends accept()
        self._thread.join()
        self.server_close()

    def _accept(self) -> None:
        """As serve_forever, which wakes up twice a second to see whether it is to end."""
        while not self._closing.is_set():
            try:
                self.process_request(*self.socket.accept())
            except OSError:  # we are closed; or there are no descriptors, no threads left
                self._closing.wait(_PAUSE_SECONDS)

    def server_bind(self) -> None:
        # (HTTPServer's asks the resolver for our name, which may take long.)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is to be had
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _CLIENT_SECONDS
    server_version = "cni-repair"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != _PATH:
            self.send_error(404, explain=f"see {_PATH}")
            return
        text = self.server.text()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody wants to read of each scrape."""
