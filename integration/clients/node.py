"""The node: a lab's on a private machine, with cni-repair installed, for one client at a time.

tor                        node                       pods of a client
tor0 ───────── veth ────── eth0 ◄── macvlan ───────── eth0
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from cni_repair.demo.cleanup import WithCleanup
from cni_repair.demo.lab import Lab, LabError, Netns, Outcome
from cni_repair.demo.process import run
from integration.kubelet.private import OWN, enter_private, show_system

_CHECKPOINTS = Path("/var/lib/cni-repair/checkpoints")
_LEASES = Path("/var/lib/cni/networks")
_CALL_SECONDS = 120.0


class Node(WithCleanup):
    """Context: a node with an uplink. `launcher` is the installed cni-repair, `cgroup` the name of
    the cgroup that we are in. What was called is remembered in `log`, for people."""

    def __init__(self, launcher: str, cgroup: str) -> None:
        self.launcher = Path(launcher)
        self.log: list[str] = []
        self._cgroup = cgroup

    def _open(self) -> None:
        enter_private(self._cgroup)
        self.lab = self._cleanup.enter_context(Lab(command=[str(self.launcher)]))
        self.lab.echo = self.log.append
        self.lab.ip(self.lab.node, "link", "set", "lo", "up")
        show_system(self.lab.node)

    def netconf(self, network: str, **changes: Any) -> dict[str, Any]:
        """A network's configuration, with everything where it is by default."""
        netconf = self.lab.netconf(name=network, checkpointDir=None, runDir=None, **changes)
        del netconf["ipam"]["dataDir"]
        return netconf

    def write_network(self, network: str, **changes: Any) -> Path:
        """Make a directory of one network's configuration, as a list; its path."""
        netconf = self.netconf(network, **changes)
        common = {key: netconf.pop(key) for key in ("cniVersion", "name")}
        directory = OWN / "net.d" / network
        directory.mkdir(parents=True)
        document = {**common, "plugins": [netconf]}
        (directory / "10-pods.conflist").write_text(json.dumps(document))
        return directory

    def plugins(self, others: Path) -> list[Path]:
        """The directories of plugins for a client: ours, and one of the others'."""
        return [self.launcher.parent, others]

    def call(self, command: list[str], **environ: str) -> Outcome:
        """Run a client's program on the node, among the private machine's files."""
        # (`ip netns exec` would hide the cgroups.)
        entered = ["nsenter", f"--net={self.lab.node.path}", "--", *command]
        self.log.append(shlex.join(command))
        return self.remembered(run(entered, environ, "", _CALL_SECONDS))

    def must(self, command: list[str], **environ: str) -> str:
        """As :meth:`call`: what it prints. Raises LabError where it fails."""
        outcome = self.call(command, **environ)
        if outcome.returncode != 0:
            said = " ".join((outcome.stderr or outcome.stdout).split())
            raise LabError(f"{shlex.join(command)}: exit {outcome.returncode}: {said[-500:]}")
        return outcome.stdout

    def repair(self) -> Outcome:
        """Repair all of the node: empty stdin."""
        return self.remembered(self.lab.cni("REPAIR"))

    def remembered(self, outcome: Outcome) -> Outcome:
        self.log.append(f"exit {outcome.returncode}: {outcome.stdout}{outcome.stderr}")
        return outcome

    def named(self, name: str, path: str) -> Netns:
        """A network namespace by its path, as one that `ip -n` knows."""
        netns = Netns(name)
        link = Path(netns.path)
        if not link.is_symlink():
            link.symlink_to(path)
        return netns

    def leases(self, network: str) -> list[str]:
        """The addresses that host-local has given away."""
        names = (path.name for path in (_LEASES / network).iterdir())
        return sorted(name for name in names if not name.startswith(("last_reserved_ip", "lock")))

    def records(self) -> list[str]:
        """The attachments that cni-repair remembers."""
        return sorted(path.name for path in _CHECKPOINTS.glob("*@*"))
