"""The fleet's hosts: each a node in namespaces with files of its own, two pods, and a "driver"."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import LabError, PrivateLab, poll_until

PODS = 2
UPGRADE_SECONDS = 600.0  # other hosts have their turn before
# On a host; of a PrivateLab all of /run and /var/lib is the host's own.
DRIVER = "/var/lib/fleet/upgrade-nic"
_RUNS = "/var/lib/fleet/runs"
_GATE = "/run/gate"  # the driver command waits as long as it is there
_BROKEN = "/run/broken"  # it fails as long as this is there, and leaves the NIC away
# What `rmmod` and `modprobe` do to a card. Its far end is in the tor's namespace, made again, too.
_SCRIPT = """\
#!/bin/sh
# Replaces the driver by that of version $1.
set -e
echo $1 >>{runs}
ip link delete eth0
while test -e {gate}; do sleep 0.02; done
test ! -e {broken}
ip -n tor link add tor0 address 02:00:00:00:09:01 type veth \\
    peer name eth0 address 02:00:00:00:09:02 netns {pid}
ip -n tor link set tor0 up
ip -n tor addr add 10.9.0.1/24 dev tor0
ip link set eth0 up
"""


class Host(PrivateLab):
    """Context: one host of the fleet."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        super().__init__(PODS, command=command, ipv6=False)
        self.host = name
        self._first: list[dict[str, Any]] = []

    def furnish(self) -> None:
        """Attach the pods by cni-repair, and put the driver command there."""
        for pod in self.pods:
            done = self.cni("ADD", pod, self.netconf())
            if done.returncode != 0:
                raise LabError(f"{self.host}: ADD: {done.stdout}")
        script = _SCRIPT.format(runs=_RUNS, gate=_GATE, broken=_BROKEN, pid=self.ground.pid)
        place = self.file(DRIVER)
        place.parent.mkdir()
        place.write_text(script)
        place.chmod(0o755)
        self.file(_RUNS).touch()
        self._first = [self.interface(pod) for pod in self.pods]

    def file(self, path: str) -> Path:
        """One of the host's files, as we reach it."""
        return Path(self.ground.outside(path))

    @property
    def shell(self) -> str:
        """What ansible runs its commands with on this host: the shell, in its namespaces."""
        spaces = f"--mount=/proc/{self.ground.pid}/ns/mnt --net=/proc/{self.ground.pid}/ns/net"
        return f'#!/bin/sh\nexec nsenter {spaces} /bin/sh "$@"\n'

    # --- What happens to it ---

    def break_driver(self) -> None:
        self.file(_BROKEN).touch()

    def mend_driver(self) -> None:
        """It works again, and somebody has brought the NIC back."""
        self.file(_BROKEN).unlink()
        self.uplink_back()

    def close_gate(self) -> None:
        """From now on the driver command waits in its midst, the NIC away."""
        self.file(_GATE).touch()

    def open_gate(self) -> None:
        self.file(_GATE).unlink()

    def upgrade_in_driver(self) -> int:
        """The PID of the upgrade once its driver command waits at the gate."""

        def look() -> int:
            # The journal tells of the command before it begins; the link goes soon after.
            there = "eth0" in {link["ifname"] for link in self.ip_json(self.node, "link")}
            return 0 if there else self._upgrade()

        return poll_until(look, UPGRADE_SECONDS, f"{self.host} to wait in its driver command")

    def _upgrade(self) -> int:
        """The process that holds the lock of the host's upgrade; 0 where there is none."""
        status = self.upgrade_status()
        if status["standing"] != "running":
            return 0
        events = self.file("/var/lib/cni-repair/upgrade/journal").read_text().splitlines()
        begun = [json.loads(line) for line in events if '"bootId"' in line]
        return int(begun[-1]["pid"])

    # --- What can be seen of it ---

    @property
    def runs(self) -> int:
        """How often the driver command was run."""
        return len(self.file(_RUNS).read_text().split())

    def upgrade_status(self) -> dict[str, Any]:
        done = self.cli("upgrade", "--status", "-o", "json")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def is_as_at_first(self) -> bool:
        """Whether the pods' interfaces have all that they had."""
        return [self.interface(pod) for pod in self.pods] == self._first


@contextmanager
def fleet(count: int, command: Sequence[str]) -> Iterator[list[Host]]:
    """That many hosts, up, with their pods."""
    with ExitStack() as cleanup:
        hosts = []
        for number in range(1, count + 1):
            host = Host(f"host{number:02}", command)
            hosts.append(cleanup.enter_context(host))
        # (Attaching waits for other processes alone: threads are enough.)
        with ThreadPoolExecutor(os.cpu_count()) as workers:
            list(workers.map(Host.furnish, hosts))
        yield hosts
