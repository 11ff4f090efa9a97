"""A throwaway node for the tests in this folder: namespaces, the real plugins, our executable.

The node is a process (`_holder`) with network and mount namespaces of its own; /run and /var/lib
are empty tmpfs in there, so that nothing of the machine is touched, default directories included.
`tor` is the namespace at the other end of the node's uplinks.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.outputs import mistakes_in, schema_for

T = TypeVar("T")
Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
PLUGINS = "/usr/lib/cni"
CLONE_NEWNET = 0x40000000
GATEWAY4, GATEWAY6 = "10.9.0.1", "fd00:9::1"
SHORT_DEADLINE = """
import functools
from cni_repair.cni import delegate
delegate.call = functools.partial(delegate.call, seconds=1.0)
"""


@dataclass(frozen=True)
class Outcome:
    """What one run of a plugin or command left."""

    status: int
    out: str
    err: str

    def ok(self) -> Any:
        """The document of a success (None where nothing was printed)."""
        assert self.status == 0, f"status {self.status}\n{self.out}\n{self.err}"
        return json.loads(self.out) if self.out else None

    def report(self, status: int) -> Json:
        """The document of a run that ended with `status`."""
        assert self.status == status, f"status {self.status}\n{self.out}\n{self.err}"
        document: Json = json.loads(self.out)
        return document

    def error(self, code: int) -> str:
        """The words of a CNI error with this code."""
        document = self.report(1)
        assert document.get("code") == code, document
        assert document["msg"], document
        return f"{document['msg']}: {document.get('details', '')}"


@dataclass(frozen=True)
class Pod:
    name: str

    @property
    def path(self) -> str:
        """CNI_NETNS, as the node sees it."""
        return f"/run/netns/{self.name}"

    @property
    def id(self) -> str:
        """The container id: 64 characters, different from the first on."""
        return (self.name + "0123456789abcdef" * 4)[:64]


def _name(netns: Pod | str) -> str:
    return netns if isinstance(netns, str) else netns.name


@dataclass
class Attachment:
    """An attached pod with its state right after ADD."""

    pod: Pod
    result: Json
    state: Json
    ifname: str = "eth0"

    @property
    def address(self) -> str:
        return str(self.result["ips"][0]["address"]).partition("/")[0]


@dataclass
class Rig:
    """See the module. Use as a context manager."""

    base: Path
    _stack: ExitStack = field(default_factory=ExitStack)
    _pid: int = 0
    _runs: int = 0

    def __enter__(self) -> Rig:
        with ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        script = """
            mount -t tmpfs -o mode=755 run /run && mount -t tmpfs -o mode=755 lib /var/lib &&
            mkdir /run/netns && mount --bind /run/netns /run/netns &&
            mount --make-shared /run/netns && echo ready && exec cat
        """
        holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(self._end, holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        self._pid = holder.pid
        self.sysctl(None, "net/ipv6/conf/all/disable_ipv6", "1")
        self.sysctl(None, "net/ipv6/conf/default/disable_ipv6", "1")
        self.ip("link set lo up")
        self.ip("netns add tor")
        self.uplink_up()

    @staticmethod
    def _end(holder: subprocess.Popen[str]) -> None:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdin.close()
        holder.stdout.close()
        assert holder.wait(10) == 0, "the node's holder did not end by itself"

    # --- the node ----------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` on the node (nsenter becomes it: the PID stays)."""
        return ["nsenter", "-t", str(self._pid), "-m", "-n", "--", *words]

    def run(
        self,
        *words: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 60,
    ) -> Outcome:
        done = subprocess.run(
            self.command(*words),
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env=env if env is not None else {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            timeout=timeout,
            check=False,
        )
        outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
        if check:
            assert outcome.status == 0, f"{words}: {outcome}"
        return outcome

    @contextmanager
    def started(
        self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process on the node that runs beside the test; killed at the end if need be."""
        process = subprocess.Popen(
            self.command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env if env is not None else {"PATH": os.environ["PATH"]},
        )
        try:
            assert process.stdin is not None
            process.stdin.write(stdin.encode())
            process.stdin.close()
            process.stdin = None
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=10)

    def ip(self, words: str, netns: Pod | str | None = None, check: bool = True) -> str:
        where = ["-n", _name(netns)] if netns else []
        return self.run("ip", *where, *words.split(), check=check).out

    def ip_json(self, words: str, netns: Pod | str | None = None) -> list[Json]:
        answer: list[Json] = json.loads(self.ip(f"-d -j {words}", netns) or "[]")
        return [entry for entry in answer if entry]

    def links(self, netns: Pod | str | None = None) -> dict[str, Json]:
        return {link["ifname"]: link for link in self.ip_json("link show", netns)}

    def node_links(self) -> set[tuple[str, int, str]]:
        """What a stray repair would change: names, indices, MACs."""
        return {(n, link["ifindex"], link["address"]) for n, link in self.links().items()}

    def uplink_up(self, name: str = "eth0", ip: str = GATEWAY4, mtu: int = 1500) -> None:
        """The uplink with its gateway behind it, up as the distribution would have it."""
        far = name.replace("eth", "tor")
        mac = f"02:00:00:00:09:0{name[-1]}"  # a card comes back with its own
        self.ip(
            f"link add {name} address {mac} mtu {mtu} type veth peer name {far} mtu {mtu} netns tor"
        )
        self.ip(f"addr add {ip}/24 dev {far}", "tor")
        self.ip(f"addr add {GATEWAY6}/64 dev {far} nodad", "tor")
        self.ip(f"link set {far} up", "tor")
        self.ip(f"link set {name} up")

    def uplink_down(self, name: str = "eth0") -> None:
        """What rmmod does."""
        self.ip(f"link del {name}")

    def reload(self, name: str = "eth0", **how: Any) -> None:
        self.uplink_down(name)
        self.uplink_up(name, **how)

    # --- pods --------------------------------------------------------------------------------

    def pod(self, name: str, ipv6: bool = False) -> Pod:
        """A new pod's namespace. Without IPv6 nothing waits for duplicate address detection."""
        pod = Pod(name)
        self.ip(f"netns add {name}")
        if not ipv6:
            self.sysctl(pod, "net/ipv6/conf/default/disable_ipv6", "1")
        self.ip("link set lo up", pod)
        return pod

    def drop_pod(self, pod: Pod) -> None:
        self.ip(f"netns del {pod.name}")

    def outside(self, path: str) -> str:
        """A path of the node as the test's own process reaches it."""
        return f"/proc/{self._pid}/root{path}"

    def inside(self, netns: Pod | str | None, work: Callable[[], T]) -> T:
        """Do `work` in a thread inside a network namespace; sockets made there stay there."""
        own = f"/proc/{self._pid}/ns/net"
        path = self.outside(f"/run/netns/{_name(netns)}") if netns else own
        results: list[T] = []
        errors: list[BaseException] = []

        def body() -> None:
            try:
                fd = os.open(path, os.O_RDONLY)
                try:
                    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns {path}")
                finally:
                    os.close(fd)
                results.append(work())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def sysctl(self, netns: Pod | str | None, key: str, value: str | None = None) -> str:
        path = Path("/proc/sys") / key

        def work() -> str:
            if value is not None:
                path.write_text(value, encoding="ascii")
            return path.read_text(encoding="ascii").strip()

        return self.inside(netns, work)

    def sysctls(self, netns: Pod, ifname: str = "eth0") -> Json:
        """All of an interface's, as far as they can be read."""

        def work() -> Json:
            found = {}
            for family in ("ipv4", "ipv6"):
                for file in Path(f"/proc/sys/net/{family}/conf/{ifname}").iterdir():
                    try:
                        found[f"{family}/{file.name}"] = file.read_text(encoding="ascii").strip()
                    except OSError:
                        pass  # stable_secret, where there is none
            return found

        return self.inside(netns, work)

    def state(self, pod: Pod, ifname: str = "eth0") -> Json:
        """Everything that a repair has to bring back, but for the master's index."""
        words = ["addr show", "-4 route show table all", "-6 route show table all"]
        script = "; echo; ".join(f"ip -n {pod.name} -d -j {word}" for word in words)
        told = self.run("sh", "-euc", script).out.split("\n")
        addr, *routes = (json.loads(text) for text in told if text)
        mine = [link for link in addr if link.get("ifname") == ifname]
        for link in mine:
            link.pop("link_index", None)
            link.pop("link", None)  # the name of whatever has that index in the pod itself
        through = [route for family in routes for route in family if route.get("dev") == ifname]
        return {
            "addr": mine,
            "routes": sorted(json.dumps(route, sort_keys=True) for route in through),
            "sysctls": self.sysctls(pod, ifname) if mine else {},
        }

    def ping(self, pod: Pod, to: str, ifname: str = "eth0") -> bool:
        words = ["ping", "-q", "-c", "1", "-W", "5", "-I", ifname, to]
        inside = ["nsenter", f"--net={pod.path}", *words]
        return self.run(*inside, check=False).status == 0

    # --- the plugin --------------------------------------------------------------------------

    def conf(self, v4: bool = True, v6: bool = False, **changes: Any) -> Json:
        """A network configuration; a change to None takes the key away."""
        ranges: list[list[Json]] = []
        routes: list[Json] = []
        if v4:
            ranges.append([{"subnet": "10.9.0.0/24", "gateway": GATEWAY4}])
            routes.append({"dst": "0.0.0.0/0"})
        if v6:
            ranges.append([{"subnet": "fd00:9::/64", "gateway": GATEWAY6}])
            routes.append({"dst": "::/0"})
        document = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "cni-repair",
            "master": "eth0",
            "masterTimeout": 0,
            "checkpointDir": str(self.base / "checkpoints"),
            "runDir": str(self.base / "run"),
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.base / "ipam"),
                "ranges": ranges,
                "routes": routes,
            },
            **changes,
        }
        return {key: value for key, value in document.items() if value is not None}

    @property
    def checkpoints(self) -> Path:
        return self.base / "checkpoints"

    def checkpoint(self, pod: Pod, ifname: str = "eth0") -> Path:
        return self.checkpoints / f"{pod.id}@{ifname}.json"

    def checkpoint_result(self, pod: Pod, ifname: str = "eth0") -> Json:
        """The Result of ADD, for prevResult."""
        document: Json = json.loads(self.checkpoint(pod, ifname).read_text(encoding="utf-8"))
        result: Json = document["result"]
        return result

    def kept(self) -> list[str]:
        """Everything in the checkpoint directory, half-written files included."""
        return sorted(os.listdir(self.checkpoints)) if self.checkpoints.exists() else []

    def leases(self, network: str = "pods") -> dict[str, str]:
        """Addresses that host-local has given away: address to container id."""
        directory = self.base / "ipam" / network
        if not directory.exists():
            return {}
        return {
            file.name: file.read_text(encoding="ascii").split()[0]
            for file in directory.iterdir()
            if file.name != "lock" and not file.name.startswith("last_reserved_ip")
        }

    def environ(
        self,
        verb: str,
        pod: Pod | None,
        ifname: str = "eth0",
        netns: str | None = None,
        **more: str,
    ) -> dict[str, str]:
        environ = {"PATH": os.environ["PATH"], "CNI_COMMAND": verb, "CNI_PATH": self.cni_path}
        if pod is not None:
            environ |= {
                "CNI_CONTAINERID": pod.id,
                "CNI_NETNS": pod.path if netns is None else netns,
                "CNI_IFNAME": ifname,
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod.name}",
            }
        return environ | more

    @property
    def cni_path(self) -> str:
        """Our own plugins before the real ones."""
        return f"{self.base / 'plugins'}:{PLUGINS}"

    def launcher(self, patch: str = "") -> str:
        """Our executable; `patch` is Python code that runs before its main()."""
        self._runs += 1
        path = self.base / f"cni-repair-{self._runs if patch else 0}"
        if not path.exists():
            path.write_text(
                f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
                f"sys.path.append({sysconfig.get_path('purelib')!r})\n{patch}\n"
                "from cni_repair.__main__ import console\nconsole()\n",
                encoding="utf-8",
            )
            path.chmod(0o755)
        return str(path)

    def plugin(
        self,
        verb: str,
        pod: Pod | None = None,
        conf: Json | str | None = None,
        *,
        ifname: str = "eth0",
        netns: str | None = None,
        executable: str = "",
        patch: str = "",
        **environ: str,
    ) -> Outcome:
        """Run our plugin (or another) as a runtime would; more of its environment by name."""
        document = conf if isinstance(conf, str) else json.dumps(conf or self.conf())
        outcome = self.run(
            executable or self.launcher(patch),
            stdin=document,
            env=self.environ(verb, pod, ifname, netns, **environ),
            check=False,
        )
        if verb == "REPAIR" and '"attachments"' in outcome.out:
            assert mistakes_in(json.loads(outcome.out), "repair.json") == []
        return outcome

    def bare(self, verb: str, pod: Pod, conf: Json, kind: str = "macvlan", **env: str) -> Outcome:
        """The real plugin, without us."""
        return self.plugin(verb, pod, {**conf, "type": kind}, executable=f"{PLUGINS}/{kind}", **env)

    def attach(
        self, name: str, conf: Json | None = None, ipv6: bool = False, ifname: str = "eth0"
    ) -> Attachment:
        """A new pod, attached through us."""
        pod = self.pod(name, ipv6)
        return self.attach_pod(pod, conf, ifname)

    def attach_pod(self, pod: Pod, conf: Json | None = None, ifname: str = "eth0") -> Attachment:
        result = self.plugin("ADD", pod, conf, ifname=ifname).ok()
        if self.sysctl(pod, f"net/ipv6/conf/{ifname}/disable_ipv6") == "0":
            eventually(lambda: not self.tentative(pod), "duplicate address detection to end")
        return Attachment(pod, result, self.state(pod, ifname), ifname)

    def tentative(self, pod: Pod) -> bool:
        return '"tentative":true' in self.ip("-j addr show", pod)

    def cli(self, *words: str, patch: str = "") -> Outcome:
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        outcome = self.run(self.launcher(patch), *words, env=environ, check=False)
        if "json" in words and outcome.out:  # every document that a test sees is as published
            assert mistakes_in(json.loads(outcome.out), schema_for(words)) == []
        return outcome

    def write_plugin(self, name: str, text: str) -> Path:
        """An executable in the first directory of CNI_PATH."""
        directory = self.base / "plugins"
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path

    # --- sockets -----------------------------------------------------------------------------

    def connection(self, pod: Pod, address: str, port: int = 7777) -> Connection:
        """A TCP connection from a pod, bound to its eth0, to the gateway."""

        def listen() -> socket.socket:
            listener = socket.create_server((GATEWAY4, port))
            listener.settimeout(10)
            return listener

        def connect() -> socket.socket:
            client = socket.socket()
            client.settimeout(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
            client.bind((address, 0))
            client.connect((GATEWAY4, port))
            return client

        with self.inside("tor", listen) as listener:
            client = self.inside(pod, connect)
            self._stack.callback(client.close)
            server, _ = listener.accept()
            server.settimeout(10)
            self._stack.callback(server.close)
        return Connection(client, server)


@dataclass
class Connection:
    client: socket.socket
    server: socket.socket

    def carries(self, word: bytes) -> bool:
        """Whether both ends hear each other."""
        self.client.sendall(word)
        heard = self.server.recv(len(word))
        self.server.sendall(word.upper())
        return heard == word and self.client.recv(len(word)) == word.upper()


def eventually(
    test: Callable[[], T], what: str = "it", seconds: float = 10.0, pause: float = 0.02
) -> T:
    """Poll until `test` gives something true; fails past the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(pause)


def slow_but(values: Iterable[Any], *fast: Any) -> list[Any]:
    """Parameters of which only `fast` run with `tests/run --fast`."""
    return [
        value if value in fast else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]


def states(report: Json) -> dict[str, str]:
    """Container id to state, of what REPAIR and `-o json` print."""
    return {entry["containerID"]: entry["state"] for entry in report["attachments"]}


def entry_of(report: Json, pod: Pod) -> Json:
    (entry,) = [one for one in report["attachments"] if one["containerID"] == pod.id]
    return dict(entry)


def without(document: Json, keys: Iterable[str]) -> Json:
    return {key: value for key, value in document.items() if key not in set(keys)}
