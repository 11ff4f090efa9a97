"""The lab's private node as the tests in this folder use it: pods by name, documents, assertions.

Nodes, uplinks, namespaces, and how the plugin and the command line are run on a node, are the
lab's affair (cni_repair/demo/lab.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cni_repair.demo import lab as labs
from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import GATEWAY as GATEWAY4
from cni_repair.demo.lab import GATEWAY6, Connection, Netns, PrivateLab
from tests.outputs import mistakes_in, schema_for
from tests.patience import HANG_SECONDS, eventually

__all__ = [
    "GATEWAY4", "GATEWAY6", "HANG_SECONDS", "PATIENT", "PLUGINS", "ROOT", "SHORT_DEADLINE",
    "Attachment", "Connection", "Json", "Outcome", "Pod", "Rig", "entry_of", "eventually",
    "master_of", "options", "read_only", "slow_but", "states", "without",
]  # fmt: skip

T = TypeVar("T")
Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
PLUGINS = "/usr/lib/cni"
# (And long enough for the real plugins, on a slow machine.)
SHORT_DEADLINE = """
import functools
from cni_repair.cni import delegate
delegate.call = functools.partial(delegate.call, seconds=3.0)
"""

# REPAIR waits for carrier longer than a test waits for REPAIR: it must see it come.
PATIENT = f"""
from cni_repair.repair import scheduler
scheduler.SETTLE_SECONDS = {2 * HANG_SECONDS}
"""

# What somebody may give a pod's interface besides: arguments of `ip`.
UNUSUAL = [
    "addr add 198.51.100.7/24 brd + label eth0:x dev eth0",
    "addr add 198.51.100.8/24 dev eth0",  # a secondary one
    "addr add 192.0.2.9 peer 192.0.2.10/32 dev eth0",
    "addr add 198.51.101.7/32 scope link dev eth0",
    "addr add 198.51.102.7/24 noprefixroute dev eth0",
    "route add 203.0.113.0/24 via 198.51.100.1 dev eth0 metric 77 mtu 1400 advmss 1300",
    "route add 203.0.113.0/24 via 10.9.0.1 dev eth0 table 1000 src 198.51.100.8",
    "route add 203.0.114.0/24 dev eth0 tos 0x10 scope link",
    "route add 203.0.115.0/24 via 172.16.0.1 dev eth0 onlink proto static",
    "route add 203.0.116.1 dev eth0 quickack 1",
]


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


def _unsettled(looked: str) -> Iterator[tuple[Json, str]]:
    """Links of one `ip -d -j addr show`, each with what is about to change of it."""
    for link in json.loads(looked or "[]"):
        if why := labs.unsettled(link):
            yield link, why


def _outcome(done: labs.Outcome) -> Outcome:
    (done.stdout + done.stderr).encode()  # raises where it was not UTF-8
    return Outcome(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Pod(Netns):
    @property
    def id(self) -> str:
        """The container id: 64 characters, different from the first on."""
        return (self.name + "0123456789abcdef" * 4)[:64]


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
class Rig(WithCleanup):
    """Context: a node with one uplink, eth0; its records and leases are below `base`.

    IPv6 is off but in pods that ask for it, so that nothing waits for duplicate address detection.
    """

    base: Path
    _runs: int = 0

    def __post_init__(self) -> None:
        self.lab = PrivateLab()
        self.lab.checkpoint_dir = str(self.checkpoints)
        self.lab.run_dir = str(self.base / "run")
        self.lab.ipam_dir = str(self.base / "ipam")

    def _open(self) -> None:
        self._cleanup.enter_context(self.lab)
        self._switch_ipv6_off(None, "all", "default")
        self.ip("link set lo up")

    def _netns(self, netns: Pod | str | None) -> Netns:
        """Of None: the node's."""
        if netns is None:
            return self.lab.node
        return Netns(netns) if isinstance(netns, str) else netns

    # --- the node ----------------------------------------------------------------------------

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` on the node (it becomes it: the PID stays)."""
        return [*self.lab.ground.entering(self.lab.node), *words]

    def run(
        self,
        *words: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = HANG_SECONDS,
    ) -> Outcome:
        outcome = _outcome(
            self.lab.run(self.lab.node, words, env=env, stdin=stdin, seconds=timeout)
        )
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
            process.communicate(timeout=HANG_SECONDS)

    @contextmanager
    def started_in(self, netns: Pod | str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """As `started`, in a namespace (or what a path leads to): it is there, not on its way."""
        path = netns if isinstance(netns, str) else netns.path
        inode = os.stat(self.outside(path)).st_ino
        with self.started("nsenter", f"--net={path}", *words) as process:
            its = f"/proc/{process.pid}/ns/net"
            eventually(lambda: os.stat(its).st_ino == inode, "the process to be in the namespace")
            yield process

    def ip(self, words: str, netns: Pod | str | None = None, check: bool = True) -> str:
        where = ["-n", self._netns(netns).name] if netns else []
        return self.run("ip", *where, *words.split(), check=check).out

    def ip_json(self, words: str, netns: Pod | str | None = None) -> list[Json]:
        return [entry for entry in self.lab.ip_json(self._netns(netns), *words.split()) if entry]

    def links(self, netns: Pod | str | None = None) -> dict[str, Json]:
        return {link["ifname"]: link for link in self.ip_json("link show", netns)}

    def node_links(self) -> set[tuple[str, int, str]]:
        """What a stray repair would change: names, indices, MACs."""
        return {(n, link["ifindex"], link["address"]) for n, link in self.links().items()}

    def uplink_up(self, name: str = "eth0", ip: str = GATEWAY4, mtu: int = 1500) -> None:
        """The uplink with its gateway behind it, up as the distribution would have it."""
        self.lab.uplink_back(name, ip, mtu)

    def uplink_down(self, name: str = "eth0") -> None:
        """What rmmod does."""
        self.lab.uplink_lost(name)

    def reload(self, name: str = "eth0", **how: Any) -> None:
        self.uplink_down(name)
        self.uplink_up(name, **how)

    # --- pods --------------------------------------------------------------------------------

    def pod(self, name: str, ipv6: bool = False) -> Pod:
        """A new pod's namespace."""
        pod = Pod(self.lab.add_pod(name).name)
        if not ipv6:
            self._switch_ipv6_off(pod, "default")
        self.ip("link set lo up", pod)
        return pod

    def _switch_ipv6_off(self, netns: Pod | None, *scopes: str) -> None:
        for scope in scopes:
            self.sysctl(netns, f"net/ipv6/conf/{scope}/disable_ipv6", "1")

    def drop_pod(self, pod: Pod) -> None:
        self.ip(f"netns del {pod.name}")

    def outside(self, path: str) -> str:
        """A path of the node as the test's own process reaches it."""
        return self.lab.ground.outside(path)

    def inside(self, netns: Pod | str | None, work: Callable[[], T]) -> T:
        """Do `work` inside a network namespace; sockets made there stay there."""
        with self.lab.inside(self._netns(netns)):
            return work()

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
        """Everything that a repair has to bring back, but for the master's index.

        When it has settled: see `settle`.
        """
        found = self.lab.interface(pod, ifname)
        link = found["link"]
        link.pop("link", None)  # the name of whatever has the master's index in the pod itself
        through = [route for route in found["routes"] if route.get("dev") == ifname]
        return {
            "addr": [link] if link else [],
            "routes": sorted(json.dumps(route, sort_keys=True) for route in through),
            "sysctls": self.sysctls(pod, ifname) if link else {},
        }

    def ping(self, pod: Pod, to: str, ifname: str = "eth0") -> bool:
        words = ["ping", "-q", "-c", "1", "-W", "30", "-I", ifname, to]
        return self.lab.run(pod, words).returncode == 0

    # --- the plugin --------------------------------------------------------------------------

    def conf(self, v4: bool = True, v6: bool = False, **changes: Any) -> Json:
        """A network configuration; a change to None takes the key away."""
        document = self.lab.netconf(masterTimeout=0)
        for key in ("ranges", "routes"):
            document["ipam"][key] = list(compress(document["ipam"][key], (v4, v6)))
        document |= changes
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
        """The environment of a call, for a process that runs beside the test."""
        call = self.lab.environment(verb, pod)
        return {"PATH": os.environ["PATH"], **call, **self._more(pod, ifname, netns), **more}

    def _more(self, pod: Pod | None, ifname: str, netns: str | None) -> dict[str, str]:
        """What a runtime's call has beside that which the lab gives it."""
        more = {"CNI_PATH": f"{self.base / 'plugins'}:{PLUGINS}"}  # ours before the real ones
        if pod:
            more |= {"CNI_CONTAINERID": pod.id, "CNI_IFNAME": ifname}
            more["CNI_ARGS"] = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod.name}"
        if netns is not None:
            more["CNI_NETNS"] = netns
        return more

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
        command = [executable or self.launcher(patch)]
        outcome = _outcome(
            self.lab.cni(
                verb,
                pod,
                conf or self.conf(),
                command=command,
                env={**self._more(pod, ifname, netns), **environ},
            )
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
        return Attachment(pod, result, self.state(pod, ifname), ifname)

    def settle(self, *places: Pod | str | None) -> None:
        """Wait until the kernel changes nothing there by itself any more: what is compared with
        another time must be looked at when that is so. (`state` waits for its interface.)"""
        nodes = [["-n", self._netns(place).name] if place else [] for place in places]
        looks = "; ".join(" ".join(["ip", *node, "-d -j addr show"]) for node in nodes)

        def changing() -> list[str]:
            lines = self.run("sh", "-c", looks).out.splitlines()
            return [f"{link['ifname']}: {why}" for line in lines for link, why in _unsettled(line)]

        eventually(lambda: not changing(), "the kernel to settle")

    def cli(self, *words: str, patch: str = "") -> Outcome:
        outcome = _outcome(self.lab.cli(*words, command=[self.launcher(patch)]))
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

    def connection(self, pod: Pod) -> Connection:
        """A TCP connection from a pod, bound to its eth0, to the gateway."""
        return self.lab.connect(pod)


def options(rig: Rig) -> tuple[str, ...]:
    """Those of a command that is about the rig's records."""
    return ("--checkpoint-dir", str(rig.checkpoints), "--run-dir", str(rig.base / "run"))


def read_only(rig: Rig) -> None:
    """Records that nobody can write, as on a disk with errors."""
    path = str(rig.checkpoints)
    rig.run("mount", "--bind", path, path)
    rig.run("mount", "-o", "remount,ro,bind", path)


def master_of(rig: Rig, pod: Pod) -> str:
    """The name of the node's link that a pod's eth0 stands on."""
    index = rig.links(pod)["eth0"]["link_index"]
    (name,) = (name for name, link in rig.links().items() if link["ifindex"] == index)
    return name


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


def in_result(state: Json) -> Json:
    """What of an interface's state a Result and a configuration know: neither ifindex nor
    sysctls."""
    return {"addr": [without(state["addr"][0], ["ifindex"])], "routes": state["routes"]}
