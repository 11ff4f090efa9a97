"""What cni-repair is asked to do while a system call fails, and what must hold after that."""

from __future__ import annotations

import base64
import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni_repair.checkpoint import model
from cni_repair.demo.lab import Lab, Netns, Outcome
from integration.bench.podstate import PodState, pod_state
from integration.errors import RigError

# What holds is the empty string, here and below; else, what was seen.
HOLDS = ""
_SECONDS = 120.0  # no command waits that long for anything here
# Of a record: what tells when it was written.
_TIMES = ("attachedAt", "checksum")


@dataclass(frozen=True)
class Command:
    """What is run on the lab's node."""

    words: Sequence[str]
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    answers: bool = True  # prints a document where it succeeds
    is_plugin: bool = False

    def run(self, lab: Lab, wrap: Callable[[list[str]], list[str]] = list) -> Outcome:
        """Run it; `wrap` puts another command before it."""
        words = wrap([*lab.command, *self.words])
        return lab.run(lab.node, words, env=self.env, stdin=self.stdin, seconds=_SECONDS)


class Situation(ABC):
    """One command, and a node on which it has something to do."""

    name: str
    pods = 1

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.conf = lab.netconf(masterTimeout=1)

    @property
    @abstractmethod
    def command(self) -> Command:
        """What is tried."""

    @abstractmethod
    def set_up(self) -> None:
        """Have the node as the command needs it, whatever the last case has left."""

    @abstractmethod
    def wrong_after(self, succeeded: bool) -> str:
        """What is not as it must be after the command, which failed or succeeded."""

    def wrong_after_retry(self) -> str:
        """Call again, as a runtime or an operator does after a failure; what is not as it must be
        then."""
        done = self.command.run(self.lab)
        if done.returncode != 0:
            return f"the retry fails: {done.stdout.strip()} {done.stderr.strip()}"
        return self.wrong_after(succeeded=True)

    # --- What is there ---

    def call(self, verb: str, pod: Netns) -> Command:
        env = self.lab.environment(verb, pod)
        return Command((), env, json.dumps(self.conf), verb != "DEL", is_plugin=True)

    def cli(self, *words: str) -> Command:
        places = ("--checkpoint-dir", self.lab.checkpoint_dir, "--run-dir", self.lab.run_dir)
        return Command((*words, *places, "-o", "json"))

    def must(self, verb: str, pod: Netns) -> None:
        done = self.call(verb, pod).run(self.lab)
        if done.returncode != 0:
            raise RigError(f"{verb}: {done.stdout}{done.stderr}")

    @property
    def pod(self) -> Netns:
        return self.lab.pods[0]

    def kept(self, locks: bool = True) -> list[str]:
        """What is in the checkpoint directory, and what the run directory has of attachments."""
        names = [name for name in _listed(self.lab.run_dir) if "@" in name]
        here = [name for name in names if locks or not name.endswith(".lock")]
        return [*_listed(self.lab.checkpoint_dir), *here]

    def leases(self) -> dict[str, str]:
        """Addresses that host-local has given away: to which container."""
        directory = Path(self.lab.ipam_dir) / "pods"
        names = [name for name in _listed(str(directory)) if name[:1].isdigit()]
        return {name: (directory / name).read_text().split("\n")[0].strip() for name in names}

    def links(self, netns: Netns) -> list[str]:
        with self.lab.inside(netns):
            return sorted(name for _, name in socket.if_nameindex())

    def lose(self, pod: Netns) -> None:
        """As the loss of the uplink does to it."""
        if "eth0" in self.links(pod):
            self.lab.ip(pod, "link", "delete", "eth0")

    def record_of(self, pod: Netns) -> Path:
        return Path(self.lab.checkpoint_dir) / f"{pod.name}@eth0.json"

    def remains(self, pod: Netns, locks: bool = True) -> str:
        """What is left of an attachment that is no more."""
        if "eth0" in self.links(pod):
            return "eth0 is in the pod"
        if pod.name in self.leases().values():
            return "its address is still taken"
        return f"left: {self.kept(locks)}" if self.kept(locks) else HOLDS

    def unlike(self, pod: Netns, golden: PodState) -> str:
        now = pod_state(pod)
        return HOLDS if now == golden else f"{pod.name} is {now}, was {golden}"

    def strange_links(self) -> str:
        """What the node has besides its uplink."""
        links = self.links(self.lab.node)
        return HOLDS if links == ["eth0", "lo"] else f"the node has links {links}"


def _listed(directory: str) -> list[str]:
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def _state(pod: Netns) -> PodState:
    state = pod_state(pod)
    if state is None:
        raise RigError(f"{pod.name} has no eth0")
    return state


class Add(Situation):
    name = "ADD"

    @property
    def command(self) -> Command:
        return self.call("ADD", self.pod)

    def set_up(self) -> None:
        if self.remains(self.pod):
            self.must("DEL", self.pod)

    def wrong_after(self, succeeded: bool) -> str:
        if self.strange_links():
            return self.strange_links()
        if not succeeded:
            return self.remains(self.pod, locks=False)  # DEL, which has to come, takes the lock's
        state = pod_state(self.pod)
        if state is None:
            return "there is no eth0"
        if self.leases() != {str(state.address.ip): self.pod.name}:
            return f"eth0 has {state.address}, leased are {self.leases()}"
        return self._unlike_record(state)

    def _unlike_record(self, state: PodState) -> str:
        record = self.record_of(self.pod)
        if self.kept() != [record.name, f"{self.pod.name}@eth0.lock"]:
            return f"kept: {self.kept()}"
        link = model.decode(record.read_bytes(), record.name).attachment.link
        same = (link.ifindex, link.mac, link.mtu) == (state.index, state.mac, state.mtu)
        return HOLDS if same else f"recorded is {link}, there is {state}"

    def wrong_after_retry(self) -> str:
        """Most runtimes call DEL after an ADD that failed; that the next ADD finds what it has left
        is the harder case."""
        wrong = super().wrong_after_retry()
        self.must("DEL", self.pod)
        return wrong or self.remains(self.pod)


class Delete(Situation):
    name = "DEL"

    @property
    def command(self) -> Command:
        return self.call("DEL", self.pod)

    def set_up(self) -> None:
        if self.kept() or self.remains(self.pod):
            self.must("DEL", self.pod)
        self.must("ADD", self.pod)

    def wrong_after(self, succeeded: bool) -> str:
        if not succeeded:
            return self.strange_links()
        # A record that could not be removed stays, beside a tombstone: nobody repairs it.
        kept = self.kept(locks=False)
        if kept and not any(name.endswith(".deleting") for name in kept):
            return f"left: {kept}"
        if "eth0" in self.links(self.pod):
            return "eth0 is in the pod"
        return "its address is still taken" if self.leases() else HOLDS

    def wrong_after_retry(self) -> str:
        return super().wrong_after_retry() or self.remains(self.pod)


class _Attached(Situation):
    """With pods that are attached, once for all cases."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.golden: dict[Netns, PodState] = {}

    def set_up(self) -> None:
        if not self.golden:
            for pod in self.lab.pods:
                self.attach(pod)
                self.golden[pod] = _state(pod)

    def attach(self, pod: Netns) -> None:
        self.must("ADD", pod)

    def unlike_golden(self) -> str:
        wrong = (self.unlike(pod, golden) for pod, golden in self.golden.items())
        return self.strange_links() or next(filter(None, wrong), HOLDS)


class Repair(_Attached):
    name = "REPAIR"

    @property
    def command(self) -> Command:
        return self.call("REPAIR", self.pod)

    def set_up(self) -> None:
        super().set_up()
        for pod in self.lab.pods:
            self.lose(pod)

    def wrong_after(self, succeeded: bool) -> str:
        return self.unlike_golden() if succeeded else self.strange_links()


class RepairAll(Repair):
    name = "repair --all"
    pods = 2

    @property
    def command(self) -> Command:
        return self.cli("repair", "--all", "--wait", "1")


class _Recording(_Attached):
    """Commands that write a record, the same each time."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._before: bytes | None = None
        self._after: dict[str, Any] = {}

    def set_up(self) -> None:
        if not self.golden:
            super().set_up()
            self.change()
            record = self.record_of(self.pod)
            self._before = record.read_bytes() if record.exists() else None
            done = self.command.run(self.lab)
            if done.returncode != 0:
                raise RigError(f"{self.name}: {done.stdout}{done.stderr}")
            self._after = self._record()
        for name in _listed(self.lab.checkpoint_dir):
            os.unlink(f"{self.lab.checkpoint_dir}/{name}")
        if self._before is not None:
            fd = os.open(self.record_of(self.pod), os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, self._before)
            os.close(fd)

    def change(self) -> None:
        """Have something to write down."""

    def _record(self) -> dict[str, Any]:
        document = json.loads(self.record_of(self.pod).read_bytes())
        return {key: value for key, value in document.items() if key not in _TIMES}

    def wrong_after(self, succeeded: bool) -> str:
        if self.unlike_golden() or not succeeded:
            return self.unlike_golden()
        record = self.record_of(self.pod)
        if not record.exists():
            return "there is no record"
        model.decode(record.read_bytes(), record.name)
        if self._record() != self._after:
            return "the record is another"
        strays = [name for name in _listed(self.lab.checkpoint_dir) if name != record.name]
        return f"left: {strays}" if strays else HOLDS


class Snapshot(_Recording):
    name = "snapshot"

    @property
    def command(self) -> Command:
        return self.cli("snapshot")

    def change(self) -> None:
        self.lab.ip(self.pod, "addr", "add", "10.9.7.7/32", "dev", "eth0")


class Adopt(_Recording):
    name = "adopt --write"

    @property
    def command(self) -> Command:
        return self.cli("adopt", "--write", "--cache-dir", self._cache)

    @property
    def _cache(self) -> str:
        return f"{self.lab.directory}/cache"

    def attach(self, pod: Netns) -> None:
        """By the real plugin, and remembered as libcni does (api.go, cachedInfo)."""
        conf = {**self.lab.netconf(), "type": "macvlan"}
        plugin = [f"{self.lab.cni_path}/macvlan"]
        done = self.lab.cni("ADD", pod, conf, command=plugin)
        if done.returncode != 0:
            raise RigError(f"macvlan: {done.stdout}{done.stderr}")
        listed = {"cniVersion": conf["cniVersion"], "name": conf["name"], "plugins": [conf]}
        document = {
            "kind": "cniCacheV1",
            "containerId": pod.name,
            "config": base64.b64encode(json.dumps(listed).encode()).decode(),
            "ifName": "eth0",
            "networkName": conf["name"],
            "netns": pod.path,
            "result": done.document,
        }
        results = Path(self._cache) / "results"
        results.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = results / f"{conf['name']}-{pod.name}-eth0"
        file.write_text(json.dumps(document))
        file.chmod(0o600)


class Status(_Attached):
    name = "status"
    pods = 2

    @property
    def command(self) -> Command:
        return self.cli("status")

    def wrong_after(self, succeeded: bool) -> str:
        return self.unlike_golden()


SITUATIONS: dict[str, type[Situation]] = {
    one.name: one for one in (Add, Delete, Repair, RepairAll, Snapshot, Adopt, Status)
}
