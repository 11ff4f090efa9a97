"""One request to the API server, within a time: its answer, or an error that says what went wrong.

A connection is made for each, and closed: minutes lie between them, and each takes the credential
as it is by then. The time is for all of it: a server that sends a byte now and then, or no end of
them, is given up.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import ssl
import time
from contextlib import ExitStack

from cni_repair.base.errors import IO, CniError
from cni_repair.base.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_repair.watch.kubernetes.kubeconfig import Credential

STRATEGIC_MERGE = "application/strategic-merge-patch+json"
_JSON = "application/json"
_MOST_BYTES = 4 << 20  # of an answer: a node's lists all images that it has
_CHUNK = 64 << 10
_MOST_WORDS = 200  # of what a server says of an error


class ApiError(CniError):
    """What was asked for was not done; `status` is the answer's, 0 where there was none."""

    def __init__(self, what: str, why: str, status: int = 0) -> None:
        super().__init__(IO, what, why)
        self.status = status


@frozen
class Api:
    """An API server, as a node asks it; each call takes `seconds` at most."""

    credential: Credential
    seconds: float

    def get(self, path: str) -> dict[str, Any]:
        return self._ask("GET", path)

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, document, _JSON)

    def patch(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._ask("PATCH", path, document, STRATEGIC_MERGE)

    def _ask(
        self, method: str, path: str, document: dict[str, Any] | None = None, kind: str = ""
    ) -> dict[str, Any]:
        """The document that it answers with. Raises ApiError."""
        server = f"https://{self.credential.host}:{self.credential.port}"
        what = f"the API server {server} was not told"
        body = b"" if document is None else json.dumps(document).encode("ascii")
        try:
            raw = _exchanged(
                self.credential, _request(self.credential, method, path, body, kind), self.seconds
            )
            status, answer = _parsed(raw, method)
        except ssl.SSLError as error:
            raise ApiError(what, getattr(error, "verify_message", "") or _words(error)) from error
        except (http.client.HTTPException, ValueError) as error:
            raise ApiError(what, "it does not answer as an API server does") from error
        except TimeoutError as error:
            raise ApiError(what, "no answer in time") from error
        except OSError as error:
            raise ApiError(what, error.strerror or str(error)) from error
        if not 200 <= status < 300:
            said = str(answer.get("message", ""))[:_MOST_WORDS]
            raise ApiError(what, f"{status}{f': {said}' if said else ''}", status)
        return answer


def _words(error: ssl.SSLError) -> str:
    return (error.reason or "TLS failed").lower().replace("_", " ")


def _request(credential: Credential, method: str, path: str, body: bytes, kind: str) -> bytes:
    host = f"[{credential.host}]" if ":" in credential.host else credential.host
    lines = [
        f"{method} {credential.path}{path} HTTP/1.1",
        f"Host: {host}:{credential.port}",
        f"Accept: {_JSON}",
        "User-Agent: cni-repair",
        "Connection: close",
    ]
    if credential.token and not credential.certificate:
        lines.append(f"Authorization: Bearer {credential.token}")
    if kind:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _exchanged(credential: Credential, request: bytes, seconds: float) -> bytes:
    """All that the server sends until it closes. Raises OSError."""
    deadline = time.monotonic() + seconds
    context = _context(credential)
    address = credential.host, credential.port
    with socket.create_connection(address, seconds) as plain:
        plain.settimeout(_left(deadline))
        with context.wrap_socket(plain, server_hostname=credential.server_name) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(request)
            answer = bytearray()
            while True:
                connection.settimeout(_left(deadline))
                part = connection.recv(_CHUNK)
                if not part:
                    return bytes(answer)
                answer += part
                if len(answer) > _MOST_BYTES:
                    raise OSError(f"it answers with more than {_MOST_BYTES} bytes")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _context(credential: Credential) -> ssl.SSLContext:
    """Not ssl.create_default_context: since Python 3.13 that refuses certificates without what many
    a cluster's authority does not write, and no other client of Kubernetes asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if credential.authorities:
        context.load_verify_locations(cadata=credential.authorities.decode("ascii", "replace"))
    else:
        context.load_default_certs()
    if credential.certificate:
        with ExitStack() as files:
            certificate, key = (
                _in_memory(files, data) for data in (credential.certificate, credential.key)
            )
            # Without a password given OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(certificate, key, password="")
    return context


def _in_memory(files: ExitStack, data: bytes) -> str:
    """A path that leads to bytes which are on no disk: OpenSSL reads files alone."""
    file = files.enter_context(os.fdopen(os.memfd_create("cni-repair", os.MFD_CLOEXEC), "wb", 0))
    file.write(data)
    return f"/proc/self/fd/{file.fileno()}"


class _Received(io.BytesIO):
    """What was received, as http.client takes a socket."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self


def _parsed(raw: bytes, method: str) -> tuple[int, dict[str, Any]]:
    """Raises HTTPException, ValueError."""
    with http.client.HTTPResponse(_Received(raw), method=method) as response:  # type: ignore[arg-type]
        response.begin()
        status, body = response.status, response.read()
    try:
        document = json.loads(body) if body else {}
    except RecursionError as error:
        raise ValueError("too deep") from error
    except ValueError:
        if 200 <= status < 300:
            raise
        document = {}  # a proxy's page
    return status, document if isinstance(document, dict) else {}
