"""Who is who in a cluster: certificates of a CA of its own, and kubeconfig files that name them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from integration.packages import run

_DAYS = "30"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# Without it OpenSSL's own file would make each certificate one of a CA.
_CONFIG = "[req]\ndistinguished_name = name\n[name]\n"


class Authority:
    """A certificate authority, whose files are in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        (directory / "openssl.conf").write_text(_CONFIG)
        self.certificate = directory / "ca.crt"
        usage = "keyUsage=critical,keyCertSign,digitalSignature"
        self._make("ca", "/CN=ca", ["basicConstraints=critical,CA:true", usage])

    def issue(self, name: str, subject: str, *extensions: str) -> tuple[Path, Path]:
        """A certificate and its key, as the files of that name."""
        signed = ["-CA", str(self.certificate), "-CAkey", str(self._directory / "ca.key")]
        self._make(name, subject, ["basicConstraints=CA:false", *extensions], signed)
        return self._directory / f"{name}.crt", self._directory / f"{name}.key"

    def issue_for_server(self, name: str, *addresses: str) -> tuple[Path, Path]:
        """The certificate of one who is asked at those addresses."""
        names = ",".join(f"IP:{address}" for address in addresses)
        usage = "extendedKeyUsage=serverAuth"
        return self.issue(name, f"/CN={name}", f"subjectAltName={names}", usage)

    def write_kubeconfig(self, name: str, server: str, user: str, group: str = "") -> Path:
        """The kubeconfig, all in one file, of a user, whose certificate names that group."""
        subject = f"{group and f'/O={group}'}/CN={user}"
        certificate, key = self.issue(name, subject, "extendedKeyUsage=clientAuth")
        target = self._directory / f"{name}.conf"
        cluster = {"server": server, "certificate-authority-data": _data(self.certificate)}
        who = {"client-certificate-data": _data(certificate), "client-key-data": _data(key)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": user, "user": who}],
            "contexts": [{"name": "it", "context": {"cluster": "cluster", "user": user}}],
            "current-context": "it",
        }
        target.write_text(json.dumps(document))
        return target

    def _make(
        self, name: str, subject: str, extensions: list[str], signed: list[str] | None = None
    ) -> None:
        place = self._directory / name
        files = ["-keyout", f"{place}.key", "-out", f"{place}.crt"]
        added = [word for extension in extensions for word in ("-addext", extension)]
        config = ["-config", str(self._directory / "openssl.conf")]
        request = ["openssl", "req", "-x509", *config, *_KEY, "-days", _DAYS, "-subj", subject]
        run([*request, *files, *added, *(signed or [])])


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
