"""A cluster's control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

    with ControlPlane(directory, netns) as control:
        control.kubectl("get", "nodes")

It needs a network namespace whose loopback, or the `address` that it is to be asked at, is up.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import PATH, LabError, Netns
from integration.cluster.credentials import Authority
from integration.daemon import Daemon
from integration.kubernetes import build
from integration.packages import CACHE, locked_cache, need_programs, unpacked

PORT = 6443

_ETCD = CACHE / "etcd-server/usr/bin/etcd"
_KUBECTL = CACHE / "kubernetes-client/usr/bin/kubectl"
_LOOPBACK = "127.0.0.1"
_ETCD_URL = f"http://{_LOOPBACK}:2379"
_SERVICES = "10.96.0.0/16"
_CALL_SECONDS = 500.0  # it may be one that waits
# Each in its place; nobody asks them anything.
_PORTS = {"kube-controller-manager": 10257, "kube-scheduler": 10259}


def prepare(seconds: float = 0) -> None:
    """Have all that is needed, in the cache; see integration.kubernetes.build.prepare."""
    with locked_cache():
        need_programs({"/usr/bin/openssl": "openssl"})
        unpacked("etcd-server", "etcd-server")
        unpacked("kubernetes-client", "kubernetes-client")
    build.prepare_all(seconds)


class ControlPlane(WithCleanup):
    """Context: a control plane, which authorizes as a cluster's does (RBAC, NodeRestriction).

    `directory` is made, for its files; it is the caller's to remove. `netns` has an interface that
    is up, with `address`: there the API server is asked.
    """

    def __init__(self, directory: Path, netns: Netns, address: str = _LOOPBACK) -> None:
        self._directory, self._netns = directory, netns
        self.address = address
        self.server = f"https://{address}:{PORT}"
        self._daemons = dict[str, Daemon]()

    def _open(self) -> None:
        self._directory.mkdir()
        self.authority = Authority(self._directory / "pki")
        self.kubeconfig = self._kubeconfig("admin", "admin", "system:masters")
        etcd = self._start("etcd", [str(_ETCD), *self._etcd_options()])
        etcd.until(lambda: "ready to serve client requests" in etcd.log)
        apiserver = [str(build.APISERVER), *self._apiserver_options()]
        self._start("kube-apiserver", apiserver).until(self._is_ready)
        for program in (build.CONTROLLER_MANAGER, build.SCHEDULER):
            self._start(program.name, [str(program), *self._options(program.name)])

    @property
    def logs(self) -> dict[str, str]:
        """What each of its programs said."""
        return {name: daemon.log for name, daemon in self._daemons.items()}

    # --- Asking it ---

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """What kubectl, called by the cluster's administrator, prints. LabError where it fails."""
        try:
            done = subprocess.run(
                self.command(*words),
                input=stdin,
                check=False,
                capture_output=True,
                text=True,
                timeout=_CALL_SECONDS,
                env={"PATH": PATH, "HOME": str(self._directory)},  # its cache
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"kubectl {' '.join(words)}: no end") from error
        if done.returncode != 0:
            raise LabError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def command(self, *words: str) -> list[str]:
        """The command line of kubectl, called by the cluster's administrator."""
        return [*self._entering, str(_KUBECTL), f"--kubeconfig={self.kubeconfig}", *words]

    def get(self, *words: str) -> Any:
        """The document that `kubectl get` has of something."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def apply(self, document: Any) -> None:
        """Have the cluster be as a document says."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def node_kubeconfig(self, name: str) -> Path:
        """The credential of the kubelet of the node of that name, which may do what it needs to."""
        return self._kubeconfig(f"node-{name}", f"system:node:{name}", "system:nodes")

    # --- Its programs ---

    @property
    def _entering(self) -> list[str]:
        return ["nsenter", f"--net={self._netns.path}"]

    def _start(self, name: str, command: Sequence[str]) -> Daemon:
        log = self._directory / f"{name}.log"
        daemon = Daemon(name, [*self._entering, *command], log)
        self._daemons[name] = self._cleanup.enter_context(daemon)
        return daemon

    def _is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw=/readyz") == "ok"
        except LabError:
            return False

    def _kubeconfig(self, name: str, user: str, group: str = "") -> Path:
        return self.authority.write_kubeconfig(name, self.server, user, group)

    def _etcd_options(self) -> list[str]:
        clients = [f"--{kind}-client-urls={_ETCD_URL}" for kind in ("listen", "advertise")]
        peers = f"--listen-peer-urls=http://{_LOOPBACK}:2380"
        return [f"--data-dir={self._directory}/etcd", *clients, peers]

    def _apiserver_options(self) -> list[str]:
        addresses = dict.fromkeys((_LOOPBACK, self.address))
        certificate, key = self.authority.issue_for_server("kube-apiserver", *addresses)
        usage = "extendedKeyUsage=clientAuth"
        client = self.authority.issue("kubelets", "/O=system:masters/CN=apiserver", usage)
        return [
            f"--etcd-servers={_ETCD_URL}",
            f"--secure-port={PORT}",
            f"--advertise-address={self.address}",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={self.authority.certificate}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--kubelet-client-certificate={client[0]}",
            f"--kubelet-client-key={client[1]}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={certificate}",
            f"--service-account-signing-key-file={key}",
            f"--service-cluster-ip-range={_SERVICES}",
        ]

    def _options(self, name: str) -> list[str]:
        """Of one who watches the API server, and is the only one who does."""
        options = [
            f"--kubeconfig={self._kubeconfig(name, f'system:{name}')}",
            "--leader-elect=false",
            "--port=0",
            f"--secure-port={_PORTS[name]}",
            f"--bind-address={_LOOPBACK}",
            f"--cert-dir={self._directory}/{name}",
        ]
        if name == build.CONTROLLER_MANAGER.name:
            options += [
                "--use-service-account-credentials=true",  # or it may not do all that it has to
                f"--service-account-private-key-file={self._signer}",
                f"--root-ca-file={self.authority.certificate}",
            ]
        return options

    @property
    def _signer(self) -> Path:
        """The key that service accounts' tokens are signed with."""
        return self.authority.certificate.with_name("kube-apiserver.key")
