"""The guest as a node: its driver, its uplinks, its pods, and the installed cni-repair."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import (
    GATEWAY,
    GATEWAY6,
    SUBNET,
    SUBNET6,
    Connection,
    LabError,
    Netns,
    Outcome,
    inside,
    poll_until,
)
from integration.containerd.cri import Cri
from integration.containerd.runtime import Containerd
from integration.driver.guest import FAR_MAC, UPLINK_MACS
from integration.driver.wire import Wire

__all__ = [
    "CONTAINERD",
    "FAR",
    "KUBELET",
    "OPERATORS_UNITS",
    "UNITS",
    "Connection",
    "Cri",
    "LabError",
    "LinkNews",
    "Moment",
    "Netns",
    "Node",
    "Outcome",
    "Wire",
    "has_carrier",
    "poll_until",
]

FAR = Netns("far")
UPLINKS = ("eth0", "eth1")
# What hangs takes longer, on the slowest machine, too: none of these is a measure of speed.
COMMAND_SECONDS = 300.0
_LOOK = "addr show\nroute show table all\n"
_BUSYBOX = "/run/busybox"
_SO_RCVBUFFORCE, _RTMGRP_LINK, _RTM_NEWLINK, _IFLA_IFNAME, _IFINFO_END = 33, 1, 16, 3, 32
_SYS_NET = Path("/sys/class/net")
_STATE = ("/var/lib/cni", "/var/lib/cni-repair", "/run/cni-repair")
_NO_DUPLICATES_SECONDS = 60.0
_LOADED_SECONDS = 60.0
KUBELET = "kubelet.service"
UNITS, OPERATORS_UNITS = Path("/lib/systemd/system"), Path("/etc/systemd/system")
_KUBELET = f"""\
[Unit]
Description=Stands in for a kubelet
[Service]
ExecStart={_BUSYBOX} sleep 2147483647
Restart=always
"""
_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "FragmentPath", "Result", "MainPID",
    "ExecMainStatus", "ActiveEnterTimestampMonotonic", "InactiveEnterTimestampMonotonic",
)  # fmt: skip
CONTAINERD, _NETWORKS = Path("/run/containerd-rig"), Path("/run/net.d")

Json = dict[str, Any]


class Node(WithCleanup):
    """Context: a node that has just booted, without pods, with its uplinks up.

    `launcher` is the installed cni-repair. What was called is remembered in `log`, for people.
    """

    def __init__(self, launcher: str, name: str) -> None:
        self.pods: list[Netns] = []
        self.log: list[str] = []
        self.launcher = launcher
        self._name = name

    def _open(self) -> None:
        for state in map(Path, _STATE):
            for entry in state.iterdir() if state.exists() else ():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if not Path(FAR.path).exists():
            self._make_far_end()
        self.ip(f"-n {FAR.name} neigh flush all")
        self.load()
        self._cleanup.callback(self._empty)

    def _empty(self) -> None:
        """Leave nothing to the next scenario: it begins as if after a boot."""
        self.unload()
        for path in Path("/sys/devices/virtual/net").iterdir():
            if path.name != "lo" and path.exists():
                self.ip(f"link delete {path.name}")

    def _make_far_end(self) -> None:
        nic = next(p.name for p in _SYS_NET.iterdir() if _mac(p.name) == FAR_MAC)
        self.ip("link set lo up")
        self.ip(f"netns add {FAR.name}")
        self.ip(f"link set {nic} netns {FAR.name} name wire")
        lines = (
            "link set wire up",
            "link add link wire name wire.3 type vlan id 3",
            "link set wire.3 up",
            f"addr add {GATEWAY}/24 dev wire.3",
            f"addr add {GATEWAY6}/64 dev wire.3 nodad",
        )
        for line in lines:
            self.ip(f"-n {FAR.name} {line}")

    # --- The driver and what the distribution makes ---

    def unload(self) -> float:
        """Remove the driver; the time at which that began."""
        began = time.monotonic()
        if Path("/sys/module/e1000e").exists():
            self.run([_BUSYBOX, "rmmod", "e1000e"], check=True)
        return began

    def load(self) -> None:
        """Load the driver: the NICs come back, down, and under their old names."""
        self.run([_BUSYBOX, "modprobe", "e1000e"], check=True)
        for name, mac in zip(UPLINKS, UPLINK_MACS):
            poll_until(partial(_has_mac, name, mac), _LOADED_SECONDS, f"{name} with {mac}")

    def up(self, name: str = "eth0") -> None:
        """Set an uplink up, as the distribution's network service does when the NIC appears."""
        self.ip(f"link set {name} up")

    def make_bond(self) -> None:
        """bond4 of both uplinks. It announces nothing by itself: the scenarios look who does."""
        options = "type bond mode active-backup miimon 100 num_grat_arp 0 num_unsol_na 0"
        self.ip(f"link add bond4 {options}")
        self.enslave()

    def enslave(self) -> None:
        """Give bond4 both uplinks, and set it up."""
        for name in UPLINKS:
            self.ip(f"link set {name} down")
            self.ip(f"link set {name} master bond4")
        self.ip("link set bond4 up")

    def link(self, name: str, pod: Netns | None = None) -> Json:
        """A link of the node, or of a pod, as `ip -d -j link` shows it; empty where it is not."""
        where = ["-n", pod.name] if pod else []
        shown = self.run(["ip", *where, "-d", "-j", "link", "show", "dev", name])
        found: list[Json] = json.loads(shown.stdout or "[]") if shown.returncode == 0 else []
        return found[0] if found else {}

    def links(self) -> set[str]:
        """The names of the node's links."""
        return {path.name for path in _SYS_NET.iterdir()}

    # --- Pods ---

    def attach(self, *overrides: Json) -> Wire:
        """Attach pods to VLAN 3 by ADD and wait until their pings are answered.

        Three pods, or one for each of `overrides`, which change its configuration.
        """
        confs = [self.netconf(**override) for override in overrides or ({}, {}, {})]
        pods = [Netns(f"{self._name}-{number}") for number in range(1, len(confs) + 1)]
        for pod in pods:
            self.add_netns(pod)
        with concurrent.futures.ThreadPoolExecutor() as pool:  # as runtimes do it
            results = list(pool.map(partial(self.cni, "ADD"), pods, confs))
        failed = [result.stdout or result.stderr for result in results if result.returncode != 0]
        if failed:
            raise LabError(f"ADD: {failed}")
        return self.watch(pods)

    def add_netns(self, pod: Netns) -> None:
        self.ip(f"netns add {pod.name}")
        self._cleanup.callback(self.ip, f"netns delete {pod.name}")

    def watch(self, pods: list[Netns]) -> Wire:
        """Have these be the node's pods: ping from them, and wait until that is answered."""
        self.pods = pods
        wire = self._cleanup.enter_context(Wire(FAR, "wire", pods))
        if not wire.answered(time.monotonic(), _NO_DUPLICATES_SECONDS):
            raise LabError(f"pings are not answered to begin with: {wire.silent(0)}")
        return wire

    def containerd(self) -> Cri:
        """Start containerd, with the production configuration as its network; its CRI."""
        conf = self.netconf()
        head = {"cniVersion": conf.pop("cniVersion"), "name": conf.pop("name")}
        _NETWORKS.mkdir(exist_ok=True)
        (_NETWORKS / "10-pods.conflist").write_text(json.dumps({**head, "plugins": [conf]}))
        plugins = [Path(self.launcher).parent, Path("/usr/lib/cni")]
        return self._cleanup.enter_context(Containerd(CONTAINERD, plugins, _NETWORKS)).cri

    def named(self, path: str, name: str) -> Netns:
        """A network namespace that somebody else made, under a name for `ip`."""
        link = Path(Netns(name).path)
        link.symlink_to(path)
        self._cleanup.callback(link.unlink)
        return Netns(name)

    @staticmethod
    def netconf(**overrides: Any) -> Json:
        """The production configuration: bond4 or, where there is none, eth0; and VLAN 3 on it."""
        return {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "cni-repair",
            "master": ["bond4", "eth0"],
            "vlanId": 3,
            "ipam": {
                "type": "host-local",
                "ranges": [
                    [{"subnet": SUBNET, "gateway": GATEWAY}],
                    [{"subnet": SUBNET6, "gateway": GATEWAY6}],
                ],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
            **overrides,
        }

    def connect(self, pod: Netns) -> Connection:
        """Open a TCP connection from a pod, bound to its eth0, to the far end."""
        # A lost segment is sent again at growing intervals: leave time for a late one.
        connection = Connection(inside(FAR.path), inside(pod.path), "eth0")
        return self._cleanup.enter_context(connection)

    def interfaces(self) -> dict[str, Json]:
        """Every pod's eth0 with its addresses and routes, to be compared with a later look.

        Without the master's index: the VLAN device is a new one.
        """
        return {pod.name: self._interface(pod) for pod in self.pods}

    def _interface(self, pod: Netns) -> Json:
        # One process: to start one takes 0.2 s here.
        look = ["ip", "-n", pod.name, "-d", "-j", "-batch", "-"]
        shown = self.run(look, stdin=_LOOK, check=True).stdout
        addresses, routes = (json.loads(line) for line in shown.splitlines())
        link: Json = next((link for link in addresses if link["ifname"] == "eth0"), {})
        link.pop("link_index", None)
        # UNKNOWN is said of a link with carrier that was never without it.
        link["operstate"] = {"UNKNOWN": "UP"}.get(link.get("operstate", ""), link.get("operstate"))
        at = sorted(link.pop("addr_info", []), key=lambda one: str(one["local"]))
        return {
            "ifindex": link.pop("ifindex", None),
            "MAC": link.pop("address", None),
            "addresses": at,
            "routes": sorted(routes, key=json.dumps),
            "rest": link,
        }

    # --- systemd ---

    def systemctl(self, *arguments: str, check: bool = True) -> Outcome:
        """Run systemctl; LabError where it fails, unless that is expected."""
        return self.run(["systemctl", *arguments], check=check)

    def unit(self, name: str) -> dict[str, str]:
        """What systemd says of a unit, by the names of _PROPERTIES.

        The timestamps are in microseconds of the clock of time.monotonic().
        """
        shown = self.systemctl("show", f"--property={','.join(_PROPERTIES)}", name)
        return dict(line.split("=", 1) for line in shown.stdout.splitlines())

    @contextlib.contextmanager
    def kubelet(self, directory: Path = UNITS) -> Iterator[None]:
        """Context: kubelet.service runs, installed in one of systemd's directories.

        Of a kubelet it has the name, and the habit of coming back.
        """
        file = directory / KUBELET
        file.write_text(_KUBELET)
        self.systemctl("daemon-reload")
        try:
            self.systemctl("start", KUBELET)
            yield
        finally:
            # The links of masks in /etc and /run/systemd/system would be its files.
            self.systemctl("unmask", KUBELET)
            self.systemctl("unmask", "--runtime", KUBELET)
            self.systemctl("stop", KUBELET)
            file.unlink()
            self.systemctl("daemon-reload")

    # --- Commands ---

    def ip(self, line: str) -> None:
        """Run `ip LINE`; LabError where it fails."""
        self.run(["ip", *line.split()], check=True)

    def cni(
        self,
        verb: str,
        pod: Netns | None = None,
        conf: Json | None = None,
        container_id: str | None = None,
    ) -> Outcome:
        """Call the plugin as a runtime does; without a pod, for all of the network.

        The container's id is, unless it is given, the pod's name.
        """
        variables = {"CNI_COMMAND": verb, "CNI_PATH": "/usr/lib/cni:/opt/cni/bin"}
        if pod:
            variables |= {
                "CNI_CONTAINERID": container_id or pod.name,
                "CNI_IFNAME": "eth0",
                "CNI_NETNS": pod.path,
                "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod.name}",
            }
        stdin = json.dumps(conf or self.netconf())
        return self.run([self.launcher], environ=variables, stdin=stdin)

    def cli(self, *arguments: str) -> Outcome:
        """Run cni-repair's command line."""
        return self.run([self.launcher, *arguments])

    @contextlib.contextmanager
    def meanwhile(
        self, work: Callable[[], Outcome]
    ) -> Iterator[concurrent.futures.Future[Outcome]]:
        """Have a command run while the body does; it has ended when the body's context has."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            yield pool.submit(work)

    def run(
        self,
        command: list[str],
        *,
        check: bool = False,
        environ: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Outcome:
        """Run a command; LabError if it hangs, or, with `check`, fails."""
        base = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        began = time.monotonic()
        try:
            done = subprocess.run(
                command,
                check=False,
                env={**base, **(environ or {})},
                input=stdin,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(command)}: no end after {COMMAND_SECONDS:g} s") from error
        except FileNotFoundError as error:
            raise LabError(f"this machine has no {command[0]}") from error
        outcome = Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - began)
        typed = [f"{name}={value}" for name, value in (environ or {}).items()]
        self.log.append(
            f"{' '.join([*typed, *command])}: exit {outcome.returncode}, {outcome.seconds:.1f} s\n"
            + outcome.stdout
            + outcome.stderr
        )
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(command)}: {' '.join((done.stderr or done.stdout).split())}")
        return outcome


class Moment:
    """Context: remembers in `at` when a question was first answered with yes.

    It is asked in a thread, inside of `netns` where one is given.
    """

    def __init__(self, question: Callable[[], bool], netns: Netns | None = None) -> None:
        self.at: float | None = None
        self._question, self._netns = question, netns
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Moment:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        with inside(self._netns.path) if self._netns else contextlib.nullcontext():
            while not self._done.is_set():
                if self._question():
                    self.at = time.monotonic()
                    return
                time.sleep(0.01)


class LinkNews:
    """Context: `names` are those of the node's links that came or changed while it was open."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __enter__(self) -> LinkNews:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
        self._socket.bind((0, _RTMGRP_LINK))
        return self

    def __exit__(self, *_: object) -> None:
        with self._socket, contextlib.suppress(BlockingIOError):
            while True:
                self._read(self._socket.recv(1 << 16))

    def _read(self, data: bytes) -> None:
        """struct nlmsghdr, struct ifinfomsg, and first of all attributes IFLA_IFNAME."""
        size, kind = struct.unpack_from("=IH", data)
        attribute, ifname = struct.unpack_from("=HH", data, _IFINFO_END)
        if kind == _RTM_NEWLINK and ifname == _IFLA_IFNAME:
            name = data[_IFINFO_END + 4 : min(size, _IFINFO_END + attribute)]
            self.names.add(name.rstrip(b"\0").decode())


def has_carrier(name: str) -> bool:
    """Whether a link of the node is up and hears the wire."""
    try:
        return (_SYS_NET / name / "carrier").read_text().strip() == "1"
    except OSError:  # EINVAL while it is down
        return False


def _has_mac(name: str, mac: str) -> bool:
    return _mac(name) == mac


def _mac(name: str) -> str:
    try:
        return (_SYS_NET / name / "address").read_text().strip()
    except OSError:
        return ""
