"""The kubeconfig of a node's kubelet: what is read of it, and what is refused in which words."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from cni_repair.watch.kubernetes import kubeconfig
from cni_repair.watch.kubernetes.kubeconfig import Credential, Unusable, in_force, read
from cni_repair.watch.settings import AUTO, NEVER
from tests.unit.strategies import json_values

# The beginning of a certificate's subject, as DER has it: /O=system:nodes/CN=system:node:worker-7
SUBJECT = b"\x30\x31\x13\x0csystem:nodes\x06\x03\x55\x04\x03\x13\x14system:node:worker-7\x30\x59"
PEM = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(SUBJECT)


def inline(data: bytes) -> str:
    return base64.b64encode(data).decode()


CLUSTER = {"server": "https://10.0.0.1:6443", "certificate-authority-data": inline(b"ca")}
USER = {"client-certificate-data": inline(PEM), "client-key-data": inline(b"key")}


def document(**changes: Any) -> dict[str, Any]:
    """As kubeadm writes it."""
    cluster = {**CLUSTER, **changes.pop("cluster", {})}
    user = changes.pop("user", USER)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": cluster}],
        "contexts": [{"name": "it", "context": {"cluster": "kubernetes", "user": "node"}}],
        "current-context": "it",
        "users": [{"name": "node", "user": user}],
        **changes,
    }


def written(directory: Path, content: Any) -> str:
    path = directory / "kubelet.conf"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return str(path)


def test_all_in_one_file(tmp_path: Path) -> None:
    credential = read(written(tmp_path, document()))
    assert credential == Credential(
        host="10.0.0.1", port=6443, path="", server_name="10.0.0.1", authorities=b"ca",
        certificate=PEM, key=b"key", token="",
    )  # fmt: skip
    assert credential.node == "worker-7"


def test_as_yaml(tmp_path: Path) -> None:
    text = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority: pki/ca.crt
    server: https://api.example:443/k8s/
    tls-server-name: other.example
  name: local
contexts:
- context: {cluster: local, namespace: default, user: user}
  name: Default
current-context: Default
kind: Config
preferences: {}
users:
- name: user
  user:
    client-certificate: pki/node.crt
    client-key: pki/node.key
"""
    (tmp_path / "pki").mkdir()
    for name, data in (("ca.crt", b"ca"), ("node.crt", PEM), ("node.key", b"key")):
        (tmp_path / "pki" / name).write_bytes(data)
    credential = read(written(tmp_path, text))
    assert (credential.host, credential.port, credential.path) == ("api.example", 443, "/k8s")
    assert credential.server_name == "other.example"
    assert (credential.authorities, credential.certificate) == (b"ca", PEM)
    assert credential.key == b"key"


def test_a_certificate_that_was_replaced_is_the_new_one(tmp_path: Path) -> None:
    """A kubelet writes the next one beside it, and sets the link that its kubeconfig names."""
    current = tmp_path / "kubelet-client-current.pem"
    path = written(
        tmp_path,
        document(user={"client-certificate": str(current), "client-key": str(current)}),
    )
    for number in (b"1", b"2"):
        own = tmp_path / f"kubelet-client-{number.decode()}.pem"
        own.write_bytes(PEM + number)
        current.unlink(missing_ok=True)
        current.symlink_to(own)
        assert read(path).certificate == PEM + number


def test_a_token_in_a_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-the-file\n")
    path = written(tmp_path, document(user={"token": "inline", "tokenFile": "token"}))
    credential = read(path)
    assert (credential.token, credential.certificate) == ("of-the-file", b"")
    assert credential.node == os.uname().nodename.lower()


@pytest.mark.parametrize(
    ("name", "certificate"),
    [
        ("worker-7", PEM),
        ("", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("", b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"),
        ("", b"no certificate"),
        ("", PEM.replace(b"BEGIN CERT", b"BEGIN NEW CERT")),
    ],
)
def test_the_name_of_the_node(name: str, certificate: bytes) -> None:
    credential = Credential("h", 1, "", "h", b"", certificate, b"k", "")
    assert credential.node == (name or os.uname().nodename.lower())


BAD: dict[str, tuple[Any, str]] = {
    "empty": ("", "it is empty"),
    "torn": ("clusters: [", "line 1"),
    "a list": ([], "it has no context ''"),
    "no context": (document(**{"current-context": "x"}), "it has no context 'x'"),
    "no cluster": (document(clusters=[]), "it has no cluster 'kubernetes'"),
    "no user": (document(users=None), "it has no user 'node'"),
    "names": (document(clusters=[{"name": ["kubernetes"]}, 5]), "it has no cluster"),
    "number": (document(cluster={"server": 5}), "server is no text"),
    "plain": (
        document(cluster={"server": "http://10.0.0.1:8080"}),
        "its server 'http://10.0.0.1:8080' is none of https",
    ),
    "no host": (document(cluster={"server": "https://"}), "is none of https"),
    "port": (document(cluster={"server": "https://h:99999"}), "is no URL"),
    "insecure": (
        document(cluster={"insecure-skip-tls-verify": True}),
        "insecure-skip-tls-verify: anybody could answer in its place",
    ),
    "proxy": (document(cluster={"proxy-url": "http://p"}), "proxy-url is not followed"),
    "base64": (
        document(cluster={"certificate-authority-data": "%"}),
        "certificate-authority-data is no base64",
    ),
    "no authority": (
        document(cluster={"certificate-authority-data": " "}),
        "its certificate-authority is empty",
    ),
    "nothing": (document(user={}), "it has neither a client certificate with its key nor a token"),
    "half": (document(user={"client-certificate-data": inline(PEM)}), "nor a token"),
    "program": (
        document(user={"exec": {"command": "aws"}}),
        "comes from a program (exec 'aws'), and we run none: name a kubeconfig with a token in",
    ),
    "provider": (document(user={"auth-provider": {"name": "gcp"}}), "(auth-provider 'gcp')"),
    "no program": (document(user={"exec": ["aws"]}), "from a program (exec), and"),
    "absent": (document(user={"tokenFile": "/nonexistent"}), "cannot be read: No such file"),
    "directory": (document(user={"tokenFile": "/"}), "/ is not a regular file"),
    "endless": (document(user={"tokenFile": "/dev/zero"}), "/dev/zero is not a regular file"),
}


@pytest.mark.parametrize(("content", "why"), BAD.values(), ids=BAD.keys())
def test_what_is_refused(tmp_path: Path, content: Any, why: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(Unusable) as caught:
        read(path)
    assert caught.value.msg == f"the kubeconfig {path} is not used"
    assert why in caught.value.details
    assert "\n" not in str(caught.value)


def test_an_authority_whose_file_is_empty(tmp_path: Path) -> None:
    """As a power cut may leave it: it must not be whoever the system knows."""
    (tmp_path / "ca.crt").touch()
    named = {"certificate-authority-data": "", "certificate-authority": "ca.crt"}
    path = written(tmp_path, document(cluster=named))
    with pytest.raises(Unusable, match="its certificate-authority is empty"):
        read(path)


def test_one_that_others_may_write_to(tmp_path: Path) -> None:
    """It would name another server, which the node's credential is shown."""
    path = written(tmp_path, document())
    os.chmod(path, 0o666)
    with pytest.raises(Unusable, match="others may write to it"):
        read(path)


def test_a_token_of_several_lines(tmp_path: Path) -> None:
    token = "one\r\nX-Header: two"
    (tmp_path / "token").write_text(token)
    for user in ({"tokenFile": "token"}, {"token": token}):
        with pytest.raises(Unusable, match="its token is none"):
            read(written(tmp_path, document(user=user)))


@given(json_values)
@settings(max_examples=100)
def test_any_document(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = written(tmp_path_factory.mktemp("any"), content)
    with pytest.raises(Unusable):
        read(path)


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [str(tmp_path / name) for name in ("first", "second")]
    monkeypatch.setattr(kubeconfig, "PLACES", places)
    assert in_force(AUTO) == ""
    Path(places[1]).touch()
    assert in_force(AUTO) == places[1]
    Path(places[0]).touch()
    assert in_force(AUTO) == places[0]
    assert in_force("/named") == "/named"
    assert in_force(NEVER) == ""
