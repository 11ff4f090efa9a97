"""What is done while the disk is recorded: each verb and command that writes records, in turn."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import Lab, LabError, Netns, Outcome

Json = dict[str, Any]

# Where the state is, below the root of the file system that is recorded.
CHECKPOINTS, LEASES = "cni-repair/checkpoints", "networks"


@dataclass(frozen=True)
class Step:
    """One call, and what was there once it had ended well: files by name, base64."""

    name: str
    checkpoints: dict[str, str]


@dataclass(frozen=True)
class Done:
    """All of the calls."""

    steps: list[Step]

    def document(self) -> Json:
        return asdict(self)


def done_from(document: Json) -> Done:
    return Done([Step(**step) for step in document["steps"]])


def on_disk(lab: Lab, disk: Path) -> None:
    """Have a lab's cni-repair and host-local keep their state on a disk."""
    lab.checkpoint_dir, lab.ipam_dir = f"{disk}/{CHECKPOINTS}", f"{disk}/{LEASES}"


def expect(outcome: Outcome, what: str) -> Outcome:
    """A call that succeeds where nobody cuts the power."""
    if outcome.returncode != 0:
        raise LabError(f"{what}: exit {outcome.returncode}: {outcome.stdout}{outcome.stderr}")
    return outcome


class Workload:
    """The calls on a lab's node, with a `disk` (where it is mounted) that is recorded.

    `note` is called with what has begun, and with what has ended well.
    """

    def __init__(self, lab: Lab, disk: Path, note: Callable[[Json], None]) -> None:
        self._lab, self._disk, self._note = lab, disk, note
        self._checkpoints = disk / CHECKPOINTS

    def run(self) -> Done:
        """All of it, one after the other: a cut then finds one call at work at most."""
        on_disk(self._lab, self._disk)
        steps: list[Step] = []
        for name, call in self._calls():
            self._note({"begun": len(steps)})
            expect(call(), name)
            steps.append(Step(name, contents(self._checkpoints)))
            self._note({"done": len(steps) - 1})
        return Done(steps)

    def _conf(self, **overrides: Any) -> Json:
        return self._lab.netconf(**{"masterTimeout": 0.1, **overrides})

    def _calls(self) -> Iterator[tuple[str, Callable[[], Outcome]]]:
        """What is prepared for a call happens before it begins, and is not ours."""
        lab = self._lab
        first, second, moving, bare = lab.add_pods(4)
        movable = {"master": ["eth0", "eth1"], "fallbackMaster": True}
        yield "ADD", self._cni("ADD", first)
        yield "ADD of a second pod", self._cni("ADD", second)
        yield "ADD of a third", self._cni("ADD", moving, **movable)
        lab.ip(first, "route", "add", "198.51.100.0/24", "dev", "eth0")
        yield "snapshot, of a new route", lambda: self._cli("snapshot")
        self._attach_bare(bare)
        cache = ("--cache-dir", str(lab.directory / "cache"))
        yield "adopt", lambda: self._cli("adopt", "--write", *cache)
        yield "DEL", self._cni("DEL", second)
        yield "ADD, of the same name again", self._cni("ADD", second)
        lab.uplink_lost()
        lab.uplink_back("eth1")
        yield "REPAIR, to another master", self._cni("REPAIR", moving, **movable)
        lab.uplink_back()
        yield "REPAIR of the others", self._cni("REPAIR")
        lab.ip(first, "route", "delete", "198.51.100.0/24", "dev", "eth0")
        accept = ("--accept", first.name, second.name)
        yield "snapshot --accept", lambda: self._cli("snapshot", *accept)
        yield "DEL of what has moved", self._cni("DEL", moving, **movable)
        kept = [{"containerID": pod.name, "ifname": "eth0"} for pod in (first, bare)]
        yield "GC of one", self._cni("GC", None, **{"cni.dev/valid-attachments": kept})

    def _cni(self, verb: str, pod: Netns | None = None, **conf: Any) -> Callable[[], Outcome]:
        return lambda: self._lab.cni(verb, pod, self._conf(**conf))

    def _cli(self, command: str, *arguments: str) -> Outcome:
        places = ("--checkpoint-dir", self._lab.checkpoint_dir, "--run-dir", self._lab.run_dir)
        return self._lab.cli(command, *arguments, *places)

    def _attach_bare(self, pod: Netns) -> None:
        """A pod of the macvlan plugin's, and what its runtime (libcni) remembers of it."""
        conf = self._conf(type="macvlan", checkpointDir=None, runDir=None, masterTimeout=None)
        plugin = [f"{self._lab.cni_path}/macvlan"]
        result = expect(self._lab.cni("ADD", pod, conf, command=plugin), "macvlan ADD").document
        shared = {key: conf.pop(key) for key in ("cniVersion", "name")}
        document = {
            "kind": "cniCacheV1",
            "containerId": pod.name,
            "config": base64.b64encode(json.dumps({**shared, "plugins": [conf]}).encode()).decode(),
            "ifName": "eth0",
            "networkName": shared["name"],
            "netns": pod.path,
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "shop"],
                        ["K8S_POD_NAME", pod.name], ["K8S_POD_INFRA_CONTAINER_ID", pod.name]],
            "capabilityArgs": {},
            "result": result,
        }  # fmt: skip
        entry = self._lab.directory / "cache/results" / f"{shared['name']}-{pod.name}-eth0"
        entry.parent.mkdir(parents=True, mode=0o700)
        entry.write_text(json.dumps(document))
        entry.chmod(0o600)


def contents(directory: Path) -> dict[str, str]:
    """The files of a directory, which need not exist."""
    paths = sorted(directory.iterdir()) if directory.exists() else []
    return {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}
