"""The throwaway node: many pods, commands that are timed, and what they restored."""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import GATEWAY, PATH, Lab, Netns, poll_until
from integration.bench import spawner
from integration.bench.errors import PeerError
from integration.bench.figures import Run
from integration.bench.podstate import PodState, pod_state

_RUN_SECONDS = 300.0
# A link is reported up a moment after it was set up (linkwatch).
_SETTLE_SECONDS = 10.0
_SUBNET = "10.9.0.0/16"  # the lab's own has room for 253 pods
_SAMPLE = 8
_FIRED_WAY = Path(__file__).with_name("firedway.py")
_ADDS_AT_ONCE = 4
_LOOK = ("-4 addr show dev eth0", "-4 route show table all")
_LOOK6 = ("-6 addr show dev eth0", "-6 route show table all dev eth0")


def _shown(pod: Netns) -> list[str]:
    return [str(pod_state(pod))]


class Node(Lab):
    """Context: a Lab whose pods are many, and whose commands are timed, each a whole process.

    `accepted`: the exit statuses that are no failure.
    """

    def __init__(
        self,
        launcher: Path,
        pods: int = 0,
        *,
        ipv6: bool = False,
        detect_duplicates: bool = False,
        accepted: Sequence[int] = (0,),
    ) -> None:
        self._accepted = accepted
        super().__init__(
            pods, command=[str(launcher)], ipv6=ipv6, detect_duplicates=detect_duplicates
        )
        self.states: dict[str, PodState] = {}
        self._details: dict[str, list[str]] = {}

    def _open(self) -> None:
        super()._open()
        self._spawner = self._cleanup.enter_context(_spawner_on(self.node, self.directory))

    # --- Pods ---

    def attach(self, count: int) -> None:
        """Make pods until there are `count`, and attach with cni-repair those that are not."""
        self.add_pods(count - len(self.pods))
        new = [pod for pod in self.pods if pod.name not in self.states]
        for at in range(0, len(new), _ADDS_AT_ONCE):
            self.plugin("ADD", self.netconf(), new[at : at + _ADDS_AT_ONCE])
        for pod in new:
            state = pod_state(pod)
            if state is None:
                raise PeerError(f"ADD: pod {pod.name} has no eth0 with an IPv4 address")
            self.states[pod.name] = state
        for pod in self._sample():
            self._details[pod.name] = poll_until(
                functools.partial(self._look_where_up, pod), _SETTLE_SECONDS, f"{pod.name}'s eth0"
            )

    def lose(self) -> None:
        """Take the uplink away, and with it each pod's eth0, and bring it back."""
        self.uplink_lost()
        self.uplink_back()

    def check(self, by: str) -> None:
        """See that each pod has again what it had; PeerError if not."""
        for pod in self.pods:
            _expect(by, pod, [str(self.states[pod.name])], functools.partial(_shown, pod))
        for pod in self._sample():
            _expect(by, pod, self._details[pod.name], functools.partial(self._look, pod))

    def _sample(self) -> list[Netns]:
        """A few pods, the first and the last among them, for a closer look."""
        step = max(1, (len(self.pods) - 1) / (_SAMPLE - 1))
        places = {round(n * step) for n in range(_SAMPLE)}
        return [self.pods[place] for place in sorted(places) if place < len(self.pods)]

    def _look(self, pod: Netns) -> list[str]:
        """All that `ip` tells of a pod's eth0, but for the master's index: it is a new one."""
        looks = (*_LOOK, *_LOOK6) if self.ipv6 else _LOOK
        found = [entry for words in looks for entry in self.ip_json(pod, *words.split())]
        for entry in found:
            entry.pop("link_index", None)
        return sorted(json.dumps(entry) for entry in found)

    def _look_where_up(self, pod: Netns) -> list[str]:
        (link,) = self.ip_json(pod, *_LOOK[0].split())
        return self._look(pod) if link["operstate"] == "UP" else []

    # --- Commands ---

    def netconf(self, **overrides: Any) -> dict[str, Any]:
        netconf = super().netconf(**overrides)
        netconf["ipam"]["ranges"][0] = [{"subnet": _SUBNET, "gateway": GATEWAY}]
        return netconf

    def bare_netconf(self) -> dict[str, Any]:
        """The same network without cni-repair."""
        return self.netconf(type="macvlan", checkpointDir=None, runDir=None)

    def plugin(
        self, verb: str, netconf: Mapping[str, Any], pods: Sequence[Netns] = ()
    ) -> list[Run]:
        """Call the netconf's plugin as a runtime does, for all `pods` at once; last of the answer
        is a run for all of them together, where there are several."""
        plugin = netconf["type"]
        command = self.command if plugin == "cni-repair" else [f"{self.cni_path}/{plugin}"]
        environment = {"CNI_COMMAND": verb, "CNI_PATH": self.cni_path}
        environments = [
            {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0", "CNI_NETNS": pod.path}
            for pod in pods
        ]
        stdin = self.directory / f"{plugin}.json"
        stdin.write_text(json.dumps(netconf))
        calls = [(command, environment | more, str(stdin)) for more in environments or [{}]]
        return self.spawn(f"{plugin} {verb}", calls)

    def cli_run(self, *arguments: str) -> Run:
        """Time cni-repair's command line."""
        places = ("--checkpoint-dir", self.checkpoint_dir, "--run-dir", self.run_dir)
        return self.time([*self.command, *arguments, *places])

    def time(self, command: Sequence[str]) -> Run:
        """One command's run; PeerError where it fails."""
        (run,) = self.spawn(Path(command[0]).name, [(list(command), {}, os.devnull)])
        return run

    def fired(self) -> Run:
        """Lose the uplink, have all pods armed by a process that waits, and bring the uplink back:
        how long from there until the last of them had its network."""
        self.uplink_lost()
        where = [self.checkpoint_dir, self.run_dir]
        with subprocess.Popen(
            ["ip", "netns", "exec", self.node.name, sys.executable, "-I", str(_FIRED_WAY), *where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": PATH},
            text=True,
        ) as process:
            assert process.stdin and process.stdout
            armed = process.stdout.readline().strip()
            self.uplink_back()
            process.stdin.write("go\n")
            process.stdin.close()
            answer = process.stdout.read().split()
        if armed != str(len(self.pods)) or process.returncode != 0:
            raise PeerError(f"fired: {armed} of {len(self.pods)} armed; {' '.join(answer)}")
        taken, worked = map(float, answer)
        return Run(taken, worked, 0)

    def spawn(self, what: str, calls: Sequence[spawner.Command]) -> list[Run]:
        """Run commands on the node, all at once; a last run is of all together, where there are
        several."""
        calls = [(command, {"PATH": PATH} | env, stdin) for command, env, stdin in calls]
        wall, ends = self._spawner.run(what, calls)
        for number, (status, *_) in enumerate(ends):
            if status not in self._accepted:
                raise PeerError(f"{what}: exit {status}: {self.said(number)}")
        runs = [Run(taken, worked, kib, status) for status, taken, worked, kib in ends]
        if len(runs) == 1:
            return runs
        worked, kib = sum(run.worked for run in runs), max(run.kib for run in runs)
        return [*runs, Run(wall, worked, kib)]

    def said(self, number: int = 0) -> str:
        """What a command of the last ones printed, as one line."""
        files = (Path(self.directory, f"{stream}.{number}") for stream in ("out", "err"))
        words = [word for file in files for word in file.read_text(errors="replace").split()]
        return " ".join(words)[:1000]


def _expect(by: str, pod: Netns, was: list[str], now: Callable[[], list[str]]) -> None:
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (found := now()) != was:
        if time.monotonic() >= deadline:
            missing, instead = set(was) - set(found), set(found) - set(was)
            raise PeerError(f"{by}: pod {pod.name} is not as it was: {missing}, but {instead}")
        time.sleep(0.01)


class _Spawner:
    """The small program that starts, times and reaps."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(self, what: str, calls: Sequence[spawner.Command]) -> spawner.Ends:
        assert self._process.stdin and self._process.stdout
        marshal.dump(list(calls), self._process.stdin)
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], _RUN_SECONDS)[0]:
            raise PeerError(f"{what}: no end after {_RUN_SECONDS:g} s")
        try:
            answer: spawner.Ends = marshal.load(self._process.stdout)
        except EOFError as error:
            raise PeerError(f"{what}: cannot be started: see above") from error
        return answer


@contextlib.contextmanager
def _spawner_on(node: Netns, directory: Path) -> Iterator[_Spawner]:
    python = [sys.executable, "-I", "-S", spawner.__file__]
    with subprocess.Popen(
        ["ip", "netns", "exec", node.name, *python],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=directory,
        env={"PATH": PATH},
        start_new_session=True,
    ) as process:
        try:
            yield _Spawner(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
