"""A throwaway node in network namespaces, for the demo and for the tests.

    tor                        node                       pods
    tor0 ───────── veth ────── eth0 ◄── macvlan ───────── eth0, eth0, …
    10.9.0.1/24, fd00:9::1/64

`tor` stands for the top-of-rack switch: the pods' gateway. Deleting the veth pair does to the node
what unloading its NIC's driver does; making it again is the driver's return.

Commands on the node see the machine's own files; those of a PrivateLab see others: its /run and
/var/lib are empty at first, so that cni-repair keeps its files where it does by default.

While a Lab is open the calling thread is in an empty network namespace, so that nothing which
forgets to name one can touch the machine's own.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.connection import Connection
from cni_repair.demo.errors import LabError
from cni_repair.demo.ground import Ground
from cni_repair.demo.machine import (
    check_machine,
    kernel_has_vlans,
    needed_by,
    plugin_directory,
    product,
)
from cni_repair.demo.network import GATEWAY, GATEWAY6, SUBNET, SUBNET6, Netns, inside
from cni_repair.demo.private import RUN, isolate, leave_network, private_node
from cni_repair.demo.process import PATH, Outcome, run
from cni_repair.netlink.netns import open_own, setns_function

__all__ = [
    "GATEWAY", "GATEWAY6", "MARK_VARIABLE", "PATH", "SUBNET", "SUBNET6", "Connection", "Lab",
    "LabError", "Netns", "Outcome", "PrivateLab", "check_machine", "inside", "isolate",
    "kernel_has_vlans", "poll_until", "product", "unsettled",
]  # fmt: skip

COMMAND_SECONDS = 60.0
SETTLE_SECONDS = 60.0  # longer takes what hangs
# What the names of labs begin with: whoever starts many finds again what belongs to them.
MARK_VARIABLE = "CNI_REPAIR_LAB"
# Links that are UNKNOWN until linkwatch has looked at them; others, as lo, are for ever.
_WATCHED = ("macvlan", "veth", "vlan")
# What is asked to compare an interface with itself at another time.
LOOK = ("addr show", "-4 route show table all", "-6 route show table all")

_CHECKPOINTS, _LOCKS, _LEASES = (  # where they are by default
    "/var/lib/cni-repair/checkpoints",
    "/run/cni-repair",
    "/var/lib/cni/networks",
)

T = TypeVar("T")


def poll_until(predicate: Callable[[], T], seconds: float, what: str) -> T:
    """Ask again and again until the answer is truthy, and return it; LabError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise LabError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)


def unsettled(link: Mapping[str, Any]) -> str:
    """What the kernel itself is about to change of an interface, as `ip -d -j addr show` has it.

    linkwatch tells up to a second after the carrier what the operational state is, and IPv6 begins
    with that; duplicate address detection takes some seconds, or, where it is switched off, until
    a worker of the kernel's has its turn.
    """
    if "UP" not in link.get("flags", ()):
        return ""
    carrier, state = "LOWER_UP" in link["flags"], link["operstate"]
    if state == "UNKNOWN" and link.get("linkinfo", {}).get("info_kind") in _WATCHED:
        return "its operational state"
    if state in (("DOWN", "LOWERLAYERDOWN") if carrier else ("UP",)):
        return "its carrier"
    tentative = (
        address["local"]
        for address in link["addr_info"]
        if address.get("tentative") and not address.get("dadfailed")
    )
    return next(tentative, "") if carrier else ""


class Commands:
    """What runs on a lab's node, and in its other namespaces.

    The attribute `echo`, where set, is called with each command, as one would type it, before it
    runs.
    """

    def __init__(self, node: Netns, command: Sequence[str] | None) -> None:
        self.node = node
        self.ground = Ground(node)
        self.echo: Callable[[str], None] | None = None
        self.command = list(command) if command else product()
        self.cni_path = plugin_directory()

    def cni(
        self,
        verb: str,
        pod: Netns | None = None,
        netconf: Mapping[str, Any] | str | Path | None = None,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Call cni-repair, or another plugin's `command`, on the node as a runtime does.

        `pod` gives CNI_NETNS and the container id; without one the call names no attachment.
        `netconf` is a document, text as it is, or a file; None is an empty stdin. `env` adds
        variables, or replaces them.
        """
        variables = self.environment(verb, pod) | dict(env or {})
        stdin = json.dumps(netconf) if isinstance(netconf, Mapping) else netconf or ""
        return self.run(self.node, command or self.command, env=variables, stdin=stdin)

    def environment(self, verb: str, pod: Netns | None) -> dict[str, str]:
        """The CNI_… variables of a call."""
        variables = {"CNI_COMMAND": verb}
        if pod:
            variables |= {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0"}
            variables["CNI_NETNS"] = pod.path
        return variables | {"CNI_PATH": self.cni_path}

    def cli(
        self,
        *arguments: str,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run cni-repair's command line (or that of another `command`) on the node."""
        return self.run(self.node, [*(command or self.command), *arguments], env=env)

    def ip(self, netns: Netns, *arguments: str) -> str:
        """What `ip -n NETNS ARGUMENTS` prints; LabError where it fails."""
        return self._ip(netns, arguments)

    def ip_json(self, netns: Netns, *arguments: str) -> list[dict[str, Any]]:
        """As :meth:`ip` with `-d -j`: the decoded answer."""
        found: list[dict[str, Any]] = json.loads(self.ip(netns, "-d", "-j", *arguments) or "[]")
        return found

    def interface(self, pod: Netns, ifname: str = "eth0") -> dict[str, Any]:
        """An interface with its addresses, and the pod's routes of all tables, to be compared.

        Without the master's index: it is a new one after each loss of the uplink.
        """

        def look() -> dict[str, Any] | None:
            links, *routes = (self.ip_json(pod, *arguments.split()) for arguments in LOOK)
            link = next((link for link in links if link["ifname"] == ifname), {})
            if unsettled(link):
                return None
            link.pop("link_index", None)
            return {"link": link, "routes": sorted(itertools.chain(*routes), key=json.dumps)}

        found = poll_until(look, SETTLE_SECONDS, f"{ifname} to settle")
        assert found is not None
        return found

    def run(
        self,
        netns: Netns,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str | Path = "",
        seconds: float = COMMAND_SECONDS,
    ) -> Outcome:
        """Run a command in a namespace, with `env` and PATH as its whole environment.

        It sees the namespace's own /sys, too. LabError if it has not ended in `seconds`.
        """
        if self.echo:
            self.echo(f"{netns.name}# {self._typed(command, env or {}, stdin)}")
        return run([*self.ground.entering(netns), *command], env or {}, stdin, seconds)

    def inside(self, netns: Netns) -> AbstractContextManager[None]:
        """Have the calling thread in one of the lab's namespaces, to open sockets there."""
        return inside(self.ground.netns(netns))

    def _typed(self, command: Sequence[str], env: Mapping[str, str], stdin: str | Path) -> str:
        """A command as one would type it."""
        start = len(self.command)
        if list(command[:start]) == self.command:
            command = ["cni-repair", *command[start:]]
        variables = [f"{name}={shlex.quote(value)}" for name, value in env.items()]
        source = []
        if isinstance(stdin, Path):
            as_the_node_sees_it = str(stdin).removeprefix(self.ground.outside(""))
            source = [f"<{shlex.quote(as_the_node_sees_it)}"]
        return " ".join([*variables, shlex.join(command), *source])

    def _batch(self, netns: Netns | None, lines: Sequence[str]) -> None:
        """Several `ip` commands in one process."""
        if self.echo and netns:
            for line in lines:
                self.echo(f"{netns.name}# ip {line}")
        self._ip(netns, ["-batch", "-"], "\n".join(lines))

    def _ip(self, netns: Netns | None, arguments: Sequence[str], stdin: str = "") -> str:
        done = run([*self.ground.ip(netns), *arguments], {}, stdin, COMMAND_SECONDS)
        if done.returncode != 0:
            what = stdin.replace("\n", "; ") or shlex.join(arguments)
            raise LabError(f"ip {what}: {' '.join(done.stderr.split())}")
        return done.stdout


class Lab(Commands, WithCleanup):
    """Context: the node, the gateway and `pods` pods.

    Names start with `name` (default: random, after what the environment has as MARK_VARIABLE).

    `command` starts cni-repair (default: :func:`product`). `detect_duplicates` False spares each
    ADD and repair the 1-2 s that IPv6 duplicate address detection takes. `ipv6` False leaves IPv6
    out (default: as the machine is). With `vlan` the network is on that VLAN of the uplink.
    """

    private = False

    def __init__(
        self,
        pods: int = 0,
        *,
        name: str = "",
        command: Sequence[str] | None = None,
        vlan: int = 0,
        detect_duplicates: bool = True,
        ipv6: bool | None = None,
    ) -> None:
        name = name or os.environ.get(MARK_VARIABLE, "") + secrets.token_hex(2)
        self._prefix = "" if self.private else f"{name}-"
        super().__init__(Netns(f"{self._prefix}node"), command)
        self.vlan = vlan
        self.tor = Netns(f"{self._prefix}tor")
        self.pods: list[Netns] = []
        self.directory = RUN / f"cni-repair-{name}"  # for files of the lab, as we reach it
        self.checkpoint_dir, self.run_dir, self.ipam_dir = (
            (_CHECKPOINTS, _LOCKS, _LEASES)
            if self.private
            else (f"{self.directory}/{part}" for part in ("checkpoints", "run", "ipam"))
        )
        self.ipv6 = os.path.exists("/proc/sys/net/ipv6") if ipv6 is None else ipv6
        self.gateways = [GATEWAY, GATEWAY6] if self.ipv6 else [GATEWAY]
        self._wanted_pods = pods
        self._detect_duplicates = detect_duplicates

    def _open(self) -> None:
        check_machine()
        _enter_void(self._cleanup)
        self._make_node()
        self.uplink_back()
        self.add_pods(self._wanted_pods)

    def _make_node(self) -> None:
        if self.private:
            node = private_node(needed_by(self.command))
            self.ground = Ground(self.node, self._cleanup.enter_context(node))
            self.directory = Path(self.ground.outside(f"{RUN}/lab"))
            self.directory.mkdir()
            self._add_netns(self.tor)
            return
        isolate()
        self.directory.mkdir()
        self._cleanup.callback(shutil.rmtree, self.directory)
        self._add_netns(self.node, self.tor)

    # --- The node's parts ---

    def _add_netns(self, *added: Netns) -> None:
        self._cleanup.callback(self.remove, added)
        self._batch(None, [f"netns add {netns.name}" for netns in added])

    def remove(self, gone: Sequence[Netns]) -> None:
        """Delete namespaces, as far as they are there: of pods, as a runtime does after DEL."""
        self.pods = [pod for pod in self.pods if pod not in gone]
        there = [netns for netns in gone if os.path.exists(self.ground.outside(netns.path))]
        if there and not self.private:  # else they go with the node
            self._batch(None, [f"netns delete {netns.name}" for netns in there])

    def add_pod(self, name: str = "") -> Netns:
        """Make one more pod's namespace; nothing is attached to it."""
        (pod,) = self.add_pods(1, [name] if name else ())
        return pod

    def add_pods(self, count: int, names: Sequence[str] = ()) -> list[Netns]:
        """As :meth:`add_pod`, all in one process, and gone in one."""
        first = len(self.pods) + 1
        names = names or [f"{self._prefix}pod{number}" for number in range(first, first + count)]
        pods = [Netns(name) for name in names]
        self._add_netns(*pods)
        self.pods += pods
        if self.ipv6 and not self._detect_duplicates:
            for pod in pods:
                with self.inside(pod):
                    _accept_duplicates()
        return pods

    def uplink_lost(self, name: str = "eth0") -> None:
        """Destroy an uplink of the node's, and with it all that is stacked on it."""
        self._batch(self.node, [f"link delete {name}"])

    def uplink_back(self, name: str = "eth0", gateway: str = "", mtu: int = 1500) -> None:
        """Make an uplink, as a driver does that was loaded again: same name and address.

        The gateway is behind it: of `eth1` the other end is `tor1`.
        """
        number = name.removeprefix("eth")  # "0"; of one that stands for a VLAN "0.3"
        far = f"tor{number}"
        mac = f"02:00:00:00:{9 + int(number[-1]):02x}"  # a NIC comes back with its own
        own = f"{far}.{self.vlan}" if self.vlan else far  # what has the addresses
        tor = [
            # In this direction: kernels before 6.15 look for the name eth0 where the sender is.
            f"link add {far} address {mac}:01 mtu {mtu} type veth"
            f" peer name {name} address {mac}:02 mtu {mtu} netns {self.ground.node_reference}",
            f"link set {far} up",
        ]
        if self.vlan:
            tor.append(f"link add link {far} name {own} type vlan id {self.vlan}")
            tor.append(f"link set {own} up")
        tor.append(f"addr add {gateway or GATEWAY}/24 dev {own}")
        if self.ipv6:
            tor.append(f"addr add {GATEWAY6}/64 dev {own} nodad")
        self._batch(self.tor, tor)
        self._batch(self.node, [f"link set {name} up"])

    def netconf(self, **overrides: Any) -> dict[str, Any]:
        """A network configuration for the lab's node; an override of None takes a key out.

        Of a PrivateLab it says nothing of places: they are where they are by default.
        """
        ranges = [[{"subnet": SUBNET, "gateway": GATEWAY}]]
        routes = [{"dst": "0.0.0.0/0"}]
        if self.ipv6:
            ranges.append([{"subnet": SUBNET6, "gateway": GATEWAY6}])
            routes.append({"dst": "::/0"})
        netconf: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "cni-repair",
            "master": "eth0",
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        }
        if self.vlan:
            netconf["vlanId"] = self.vlan
        if self.checkpoint_dir != _CHECKPOINTS:
            netconf |= {"checkpointDir": self.checkpoint_dir, "runDir": self.run_dir}
            netconf["ipam"]["dataDir"] = self.ipam_dir
        netconf |= overrides
        return {key: value for key, value in netconf.items() if value is not None}

    def connect(self, pod: Netns, ifname: str = "eth0") -> Connection:
        """Open a TCP connection from a pod, bound to its interface, to the gateway."""
        return self._cleanup.enter_context(
            Connection(self.inside(self.tor), self.inside(pod), ifname)
        )


class PrivateLab(Lab):
    """A lab whose node has files and names of its own: `node`, `tor`, `pod1` and so on."""

    private = True


def _enter_void(cleanup: ExitStack) -> None:
    home = open_own()
    cleanup.callback(os.close, home)
    leave_network()
    cleanup.callback(setns_function(), home, 0)


def _accept_duplicates() -> None:
    """In the calling thread's namespace: /proc/sys/net is that one's."""
    for scope in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{scope}/accept_dad").write_text("0")
