"""The node on which processes are killed, and a picture of all that is to be seen of them there."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import Netns, Outcome, PrivateLab
from integration.driver.checks import said
from integration.trust import tracer

Json = dict[str, Any]
# A picture names what it shows; two of them are compared by name.
Picture = dict[str, Any]

# What stays in the run directory, once for the node, whichever act has first brought it.
_OF_THE_NODE = frozenset(
    {
        "driver.output", "driver.status", "parents.lock", "upgrade.lock",
        "watch.json", "watch.lock",
    }
)  # fmt: skip
LIBCNI = "/var/lib/cni/results"
UPGRADES = "/var/lib/cni-repair/upgrade"
_VOLATILE = ("attachedAt", "checksum", "netns", "pod", "containerID", "containerId")


@dataclass(frozen=True)
class Call:
    """A system call that changes something, in one run of a command."""

    place: str  # of its process in the family: see tracer
    number: int  # how manyeth of its process
    program: str
    name: str

    @property
    def words(self) -> str:
        return f"before the {self.name} of {self.program}"


@dataclass(frozen=True)
class Kill:
    """When, and who."""

    place: str
    number: int
    who: str

    def __str__(self) -> str:
        return f"{self.place}:{self.number}:{self.who}"


@dataclass(frozen=True)
class Traced:
    """A command that was run under the tracer."""

    outcome: Outcome
    was_killed: bool
    calls: tuple[Call, ...]


class Stage:
    """Context: a private node with pods, without IPv6, so that nothing waits for its detection."""

    def __init__(self, directory: Path) -> None:
        self._list = directory / "calls.json"
        self.directory = directory
        self.lab = PrivateLab(ipv6=False)
        self.command = [*self.lab.command[:1], "-B", *self.lab.command[1:]]
        self._made = 0

    def __enter__(self) -> Stage:
        self.lab.__enter__()
        self._switch_ipv6_off(self.lab.node)
        first = self.pod()  # makes the directories that are made once
        self.must("ADD", first)
        self.must("DEL", first)
        self.lab.remove([first])
        return self

    def __exit__(self, *error: Any) -> None:
        self.lab.__exit__(*error)

    def _switch_ipv6_off(self, netns: Netns) -> None:
        with self.lab.inside(netns):
            for scope in ("all", "default"):
                path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
                if path.exists():
                    path.write_text("1")

    # --- What is done ---

    def pod(self) -> Netns:
        """A new pod; nothing is attached to it."""
        self._made += 1
        pod = self.lab.add_pod(f"pod{self._made}")
        self._switch_ipv6_off(pod)
        return pod

    def cni(self, verb: str, pod: Netns | None = None, **netconf: Any) -> Outcome:
        """A call as a runtime makes it."""
        return self.lab.cni(verb, pod, self.lab.netconf(**netconf), command=self.command)

    def must(self, verb: str, pod: Netns | None = None, **netconf: Any) -> Outcome:
        """A call that has to succeed; raises Wrong."""
        return good(verb, self.cni(verb, pod, **netconf))

    def cli(self, *words: str) -> Outcome:
        """A command that has to succeed; raises Wrong."""
        return good(words[0], self.lab.cli(*words, command=self.command))

    def file(self, path: str) -> Path:
        """A path of the node's as we reach it."""
        return Path(self.lab.ground.outside(path))

    def clean(self) -> None:
        """As for the first act: no pod is there, nor what an operator's commands keep."""
        for pod in [*self.lab.pods]:
            self.must("DEL", pod)
        self.lab.remove([*self.lab.pods])
        for index in self.file(self.lab.run_dir).glob("armed-*"):
            index.unlink()
        for kept in (LIBCNI, UPGRADES):
            shutil.rmtree(self.file(kept), ignore_errors=True)

    def reload(self) -> None:
        self.lab.uplink_lost()
        self.lab.uplink_back()

    def traced(
        self,
        words: Sequence[str],
        kill: Kill | None,
        env: Mapping[str, str] | None = None,
        netconf: Json | None = None,
        patch: str = "",
    ) -> Traced:
        """Run cni-repair; it ends when all of its processes have. `patch` is Python code that runs
        before its main()."""
        stdin = json.dumps(netconf) if netconf else ""
        command = self.traced_command(words, kill, patch)
        return self.as_traced(self.lab.run(self.lab.node, command, env=env, stdin=stdin))

    def traced_command(self, words: Sequence[str], kill: Kill | None, patch: str = "") -> list[str]:
        """The command that runs cni-repair under the tracer."""
        aim = ["--kill", str(kill)] if kill else []
        prefix = [sys.executable, "-IS", tracer.__file__, "--list", str(self._list), *aim, "--"]
        *python, start = self.command
        main = "from cni_repair.__main__"
        start = start.replace(main, f"exec({patch!r}); {main}") if patch else start
        return [*prefix, *python, start, *words]

    def as_traced(self, outcome: Outcome) -> Traced:
        """What came of that command, once it has ended."""
        found = json.loads(self._list.read_text())
        calls = tuple(
            Call(place, number, program, name) for place, program, number, name in found["calls"]
        )
        return Traced(outcome, found["killed"], calls)

    # --- What is to be seen ---

    def picture(self, pods: Sequence[Netns]) -> Picture:
        """All that is there of these pods, in words that are the same for others."""
        names = {pod.name: f"POD{number}" for number, pod in enumerate(pods, 1)}
        leases = self._leases()
        names |= {
            address: f"ADDRESS-OF-{names[pod]}" for address, pod in leases.items() if pod in names
        }
        node = self.lab.ip_json(self.lab.node, "link", "show")
        picture: Picture = {
            "records": self._listed(self.lab.checkpoint_dir),
            "run directory": [
                name for name in self._listed(self.lab.run_dir) if name not in _OF_THE_NODE
            ],
            "leases": leases,
            "links of the node": sorted(link["ifname"] for link in node),
            **self._status(),
        }
        for pod in pods:
            picture |= self._of_pod(pod, names)
        renamed: Picture = json.loads(_replaced(json.dumps(picture), names))
        for listed in ("records", "run directory", "states"):
            renamed[listed].sort()
        return renamed

    def _of_pod(self, pod: Netns, names: dict[str, str]) -> Picture:
        links = [link["ifname"] for link in self.lab.ip_json(pod, "link", "show")]
        seen = self.lab.interface(pod)
        if seen["link"]:
            names[seen["link"]["address"]] = f"MAC-OF-{names[pod.name]}"
        return {
            f"links of {pod.name}": sorted(links),
            f"eth0 of {pod.name}": _without(seen, ("ifindex",)),
            f"record of {pod.name}": self._record(pod),
        }

    def _record(self, pod: Netns) -> Any:
        path = self.file(f"{self.lab.checkpoint_dir}/{pod.name}@eth0.json")
        if not path.exists():
            return None
        return _without(json.loads(path.read_text()), (*_VOLATILE, "ifindex"))

    def _listed(self, path: str) -> list[str]:
        directory = self.file(path)
        return [one.name for one in directory.iterdir()] if directory.exists() else []

    def _leases(self) -> dict[str, str]:
        """Whose each address is, by host-local; of a torn file what it says."""
        directory = self.file(f"{self.lab.ipam_dir}/pods")
        if not directory.exists():
            return {}
        return {
            file.name: file.read_text().partition("\r")[0].partition("\n")[0]
            for file in directory.iterdir()
            if file.name != "lock" and not file.name.startswith("last_reserved_ip")
        }

    def _status(self) -> Picture:
        done = self.lab.cli("status", "-o", "json", command=self.command)
        document = done.document
        states = [[one["containerID"], one["state"]] for one in document["attachments"]]
        return {
            "status ends with": done.returncode,
            "states": states,
            "not managed": document["unmanaged"],
        }

    def exact(self, pods: Sequence[Netns]) -> Picture:
        """Interfaces with their indices and MACs, for pods that are to have them back."""
        return {f"eth0 of {pod.name}": self.lab.interface(pod) for pod in pods}


class Wrong(Exception):
    """What was done next did not succeed."""


def good(what: str, outcome: Outcome) -> Outcome:
    if outcome.returncode != 0:
        raise Wrong(f"{what} ended with {outcome.returncode}: {said(outcome)[:300]}")
    return outcome


def differences(wanted: Picture, found: Picture) -> list[str]:
    """In words."""
    return [
        f"{what}: {_shown(found.get(what))}, not {_shown(wanted.get(what))}"
        for what in sorted({*wanted, *found})
        if wanted.get(what) != found.get(what)
    ]


def _shown(value: Any) -> str:
    return json.dumps(value, sort_keys=True)[:400]


def _replaced(text: str, names: Mapping[str, str]) -> str:
    """Each name by what it stands for; as a whole: 10.9.0.25 is no part of 10.9.0.255."""
    whole = "|".join(map(re.escape, names))
    return re.sub(rf"\b({whole})\b", lambda match: names[match[0]], text) if names else text


def _without(value: Any, keys: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list):
        return [_without(one, keys) for one in value]
    return value
