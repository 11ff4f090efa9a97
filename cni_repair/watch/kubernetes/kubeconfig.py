"""The kubeconfig of the node's kubelet: which API server, and who the node is there.

All is read anew whenever the server is asked: a kubelet's certificate is replaced while it runs,
in the file that the kubeconfig names. It is read here, since any client of Kubernetes brings many
times as much as cni-repair is. A credential that only a program can give (`exec`) is none for us.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from urllib.parse import urlsplit

from cni_repair.base import strictyaml
from cni_repair.base.errors import CONFIG, CniError
from cni_repair.base.files import Untrusted, open_regular, read_all, why_untrusted
from cni_repair.base.frozen import frozen
from cni_repair.watch.settings import AUTO, NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# kubeadm and Talos; k3s and rke2; k0s; MicroK8s; and whoever starts a kubelet by hand.
PLACES = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/kubeconfig-kubelet",
    "/var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "/var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "/var/lib/k0s/kubelet.conf",
    "/var/snap/microk8s/current/credentials/kubelet.config",
    "/var/lib/kubelet/kubeconfig",
)
_MOST_BYTES = 256 << 10  # of one file
_HTTPS_PORT = 443
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
# The subject of a kubelet's certificate (the Node authorizer's rule), and its length before it.
_USER = b"system:node:"


class Unusable(CniError):
    """A kubeconfig by which nobody can be told; the message says why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(CONFIG, f"the kubeconfig {path} is not used", why)


@frozen
class Credential:
    """How a node's API server is reached, and what the node shows it there."""

    host: str
    port: int
    path: str  # in front of every request's
    server_name: str  # that its certificate has to be for
    authorities: bytes  # PEM; empty: those of the system
    certificate: bytes  # PEM; empty: there is a token
    key: bytes
    token: str

    @property
    def node(self) -> str:
        """The node's name, as its certificate has it; else the host's, as a kubelet takes it."""
        return _name_in(self.certificate) or os.uname().nodename.lower()


def in_force(wanted: str) -> str:
    """The kubeconfig that is gone by; empty: there is none, or nobody is to be told.

    `wanted` is the setting: AUTO (the first that is there), NEVER, or a path.
    """
    if wanted == NEVER:
        return ""
    if wanted != AUTO:
        return wanted
    return next((place for place in PLACES if os.path.exists(place)), "")


def read(path: str) -> Credential:
    """What a kubeconfig says of its current context. Raises Unusable."""
    try:
        document = strictyaml.loads(_bytes_of(path, trusted=True), path)
        return _Reading(path, document).credential()
    except (OSError, Untrusted) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Unusable(path, f"cannot be read: {why}") from error
    except Unusable:
        raise
    except CniError as error:
        raise Unusable(path, error.details) from error


class _Reading:
    """A kubeconfig's document. (What is no mapping is taken for an empty one: so says Go.)"""

    def __init__(self, path: str, document: object) -> None:
        self._path = path
        self._document = _mapping(document)

    def credential(self) -> Credential:
        context = self._named("contexts", "context", self._text(self._document, "current-context"))
        cluster = self._named("clusters", "cluster", self._text(context, "cluster"))
        user = self._named("users", "user", self._text(context, "user"))
        server = self._server(cluster)
        certificate, key = self._data(user, "client-certificate"), self._data(user, "client-key")
        token = self._token(user)
        if not (certificate and key) and not token:
            raise self._wrong(_why_no_credential(user))
        return Credential(
            host=server.hostname or "",
            port=server.port or _HTTPS_PORT,
            path=server.path.rstrip("/"),
            server_name=self._text(cluster, "tls-server-name") or server.hostname or "",
            authorities=self._data(cluster, "certificate-authority"),
            certificate=certificate if key else b"",
            key=key,
            token=token,
        )

    def _server(self, cluster: dict[str, Any]) -> Any:
        text = self._text(cluster, "server")
        try:
            server = urlsplit(text)
            _ = server.port
        except ValueError as error:
            raise self._wrong(f"its server {text!r} is no URL") from error
        if server.scheme != "https" or not server.hostname:
            # Whoever answered in its place would be handed the node's credential.
            raise self._wrong(f"its server {text!r} is none of https")
        if cluster.get("insecure-skip-tls-verify"):
            raise self._wrong("insecure-skip-tls-verify: anybody could answer in its place")
        if cluster.get("proxy-url"):
            raise self._wrong("proxy-url is not followed")
        return server

    def _token(self, user: dict[str, Any]) -> str:
        path = self._text(user, "tokenFile")  # which comes before `token`, as for kubectl
        if path:
            token = _bytes_of(self._below(path)).decode("utf-8", "replace").strip()
        else:
            token = self._text(user, "token")
        if not (token.isascii() and token.isprintable()):
            raise self._wrong("its token is none")  # it could be several lines of a request
        return token

    def _data(self, section: dict[str, Any], name: str) -> bytes:
        """What stands in a key's data, or in the file that it names; the data comes first."""
        inline, path = self._text(section, f"{name}-data"), self._text(section, name)
        if not inline and not path:
            return b""
        data = self._decoded(name, inline) if inline else _bytes_of(self._below(path))
        if not data:
            # Of an authority it would mean: whichever the system knows.
            raise self._wrong(f"its {name} is empty")
        return data

    def _decoded(self, name: str, inline: str) -> bytes:
        try:
            return base64.b64decode("".join(inline.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._wrong(f"{name}-data is no base64") from error

    def _below(self, path: str) -> str:
        return os.path.join(os.path.dirname(self._path), path)

    def _named(self, many: str, one: str, name: str) -> dict[str, Any]:
        entries = self._document.get(many)
        for entry in entries if isinstance(entries, list) else ():
            if _mapping(entry).get("name") == name:
                return _mapping(_mapping(entry).get(one))
        raise self._wrong(f"it has no {one} {name!r}")

    def _text(self, section: dict[str, Any], name: str) -> str:
        value = section.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(f"{name} is no text")
        return value

    def _wrong(self, why: str) -> Unusable:
        return Unusable(self._path, why)


def _why_no_credential(user: dict[str, Any]) -> str:
    for name in ("exec", "auth-provider"):
        if name in user:
            program = _mapping(user[name]).get("command" if name == "exec" else "name")
            by = f" {program!r}" if isinstance(program, str) else ""
            return (
                f"its credential comes from a program ({name}{by}), and we run none: name a"
                " kubeconfig with a token in kubernetes.kubeconfig, as cni-repair help kubernetes"
                " has it, or write never there"
            )
    return "it has neither a client certificate with its key nor a token"


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _bytes_of(path: str, trusted: bool = False) -> bytes:
    """A regular file's bytes. (A kubelet's certificate is reached through a symbolic link.)"""
    fd = open_regular(path)
    try:
        why = why_untrusted(os.fstat(fd)) if trusted else ""
        if why:
            raise Untrusted(why)
        data = read_all(fd, _MOST_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MOST_BYTES:
        raise Untrusted(f"{path} is longer than {_MOST_BYTES} bytes")
    return data


def _name_in(certificate: bytes) -> str:
    """The node that a certificate is of; empty where it is none of a node's."""
    found = _PEM.search(certificate)
    try:
        der = base64.b64decode(b"".join(found[1].split())) if found else b""
    except binascii.Error:
        return ""
    # A text in DER is its kind, its length in one byte (where it is below 128), its bytes.
    at = der.find(_USER)
    if at < 1:
        return ""
    text = der[at : at + der[at - 1]]
    return text[len(_USER) :].decode("utf-8", "replace")
