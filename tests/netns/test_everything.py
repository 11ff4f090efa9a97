"""Generated pods lose their uplink, are repaired, and nobody inside can tell.

The pods of one batch share a node, a reload and a repair. To run many more, other ones each time:

    CNI_REPAIR_CONFIGURATIONS=300 pytest tests/netns/test_everything.py -k generated

and to look at some features alone, CNI_REPAIR_FEATURES=alias,route (see podconfig.py).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest

from tests.netns.podconfig import (
    ATTACHED,
    DUAL,
    NO_IPV6,
    Configuration,
    View,
    differences,
    generate,
    view_of,
    viewing,
)
from tests.netns.rig import Attachment, Json, Pod, Rig, options

MANY = int(os.environ.get("CNI_REPAIR_CONFIGURATIONS", "0"))
BATCH = 15
TOLD = 10  # different problems
Run = Callable[[Sequence[Configuration]], list["Case"]]


@dataclass
class Case:
    """One pod on its way through the test."""

    configuration: Configuration
    n: int
    was: Attachment
    second: Attachment | None
    commands: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # what `ip` did not take
    before: View = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def pod(self) -> Pod:
        return self.was.pod

    @property
    def addresses(self) -> tuple[str, str, str]:
        """The first and the last of what ADD gave it, and that of its second interface."""
        given = [ip["address"].partition("/")[0] for ip in self.was.result["ips"]]
        return given[0], given[-1], self.second.address if self.second else ""

    @property
    def kinds(self) -> set[str]:
        """What kinds of problems it has: where differences are, and which way."""
        return {problem[: problem.find(": ") + 3] for problem in self.problems}

    def explains(self, other: Case) -> bool:
        """Whether the other one's problem may be this one, among more commands."""
        fewer = set(self.configuration.commands) <= set(other.configuration.commands)
        return fewer and bool(self.kinds & other.kinds)

    def __str__(self) -> str:
        shown = replace(self.configuration, commands=tuple(self.commands))
        lines = [str(shown), *self.problems]
        return "\n  ".join([*lines, *self.refused])


@dataclass
class Batch:
    """Some pods on one node, from ADD to the second repair."""

    rig: Rig
    detect_duplicates: bool
    both_uplinks: bool  # whether the second interfaces' one is reloaded, too
    by_hand: bool = False  # the commands that `plan` prints instead of a repair
    armed: bool = False  # whether the repair goes by the index that the snapshot leaves
    cases: list[Case] = field(default_factory=list)

    def run(self, configurations: Sequence[Configuration]) -> list[Case]:
        self.rig.uplink_up("eth1", "10.8.0.1")
        self.attach(configurations)
        for case in self.cases:
            self.apply(case)
        self.settle()
        self.snapshot()
        if not self.armed:
            self.disarm()
        for case in self.cases:
            case.before = self.view(case)
        self.rig.reload()
        if self.both_uplinks:
            self.rig.reload("eth1", ip="10.8.0.1")
        if self.by_hand:
            self._play()
        else:
            self._repair()
        self.settle()
        self._compare()
        self._repair_again()
        self._status()
        return self.cases

    def disarm(self) -> None:
        for index in (self.rig.base / "run").glob("armed-*.index"):
            index.unlink()

    def attach(self, configurations: Sequence[Configuration]) -> None:
        self.rig.launcher()  # written here, once, not by two threads
        # Most of the time goes by waiting for duplicate address detection, where there is one.
        with ThreadPoolExecutor(BATCH if self.detect_duplicates else 2) as threads:
            self.cases = list(threads.map(self._attached, configurations, count(1)))

    def _attached(self, configuration: Configuration, n: int) -> Case:
        rig, dual = self.rig, configuration.ipv6 == DUAL
        pod = rig.pod(f"pod{n:02}", ipv6=configuration.ipv6 != NO_IPV6)
        if not self.detect_duplicates:
            rig.sysctl(pod, "net/ipv6/conf/default/accept_dad", "0")
        first, second = rig.attach_pod(pod, rig.conf(v6=dual)), None
        if configuration.second == ATTACHED:
            ipam = {**rig.conf()["ipam"], "ranges": [[{"subnet": "10.8.0.0/24"}]], "routes": []}
            conf = rig.conf(name="second", master="eth1", ipam=ipam)
            second = rig.attach_pod(pod, conf, ifname="net1")
        return Case(configuration, n, first, second)

    def apply(self, case: Case) -> None:
        """Run the configuration's commands in the pod."""
        case.commands = case.configuration.script(case.n, *case.addresses)
        case.refused += [
            f"refused: {command}: {why}"
            for command, why in self._refused(case.commands, case.pod.path)
        ]

    def inside(self, case: Case, script: str) -> str:
        return self.rig.run("nsenter", f"--net={case.pod.path}", "sh", "-c", script).out

    def settle(self) -> None:
        self.rig.settle(*(case.pod for case in self.cases))

    def view(self, case: Case) -> View:
        return view_of(self.rig.run("sh", "-c", viewing(case.pod.name)).out)

    def snapshot(self) -> None:
        """What the generator took away or changed is to stay so: that, `--accept` says."""
        report = self._taken()
        assert not report["unmanaged"]
        kept = {one["containerID"] for one in report["attachments"] if one["outcome"] == "kept"}
        if kept:
            report = self._taken("--accept", *kept)
        for case, entry in self.entries(report):
            if entry["outcome"] == "kept":
                case.problems.append(f"snapshot: not recorded: {entry}")

    def _taken(self, *words: str) -> Json:
        report = self.told("snapshot", *words)
        assert report["summary"]["restorable"] == len(report["attachments"])
        return report

    def entries(self, report: Json) -> Iterator[tuple[Case, Json]]:
        by_id = {case.pod.id: case for case in self.cases}
        for entry in report["attachments"]:
            yield by_id[entry["containerID"]], entry

    def told(self, *words: str) -> Json:
        """What a command of ours prints of all attachments."""
        report: Json = json.loads(self.rig.cli(*words, "-o", "json", *options(self.rig)).out)
        return report

    def _repair(self) -> None:
        for case, entry in self.entries(self.told("repair", "--all")):
            if entry["state"] != "healthy":
                why = {key: entry.get(key) for key in ("findings", "error")}
                case.problems.append(f"repair: {entry['ifname']} is {entry['state']}: {why}")

    def _play(self) -> None:
        for _ in range(2):  # once more for what had to wait for a pod's other interface
            printed = self.rig.cli("plan", *options(self.rig)).out.splitlines()
            commands = [line for line in printed if not line.startswith("#")]
            for command, why in self._refused(commands):
                for case in self.cases:
                    if f"{case.pod.path} " in command:
                        case.problems.append(f"by hand: {command}: {why}")

    def _refused(self, commands: list[str], netns: str = "") -> Iterator[tuple[str, str]]:
        """Run commands, and tell of each that failed what it said last."""
        lines = [f"{{ {one}; }} 2>&1 || echo '## {k}'" for k, one in enumerate(commands)]
        within = ["nsenter", f"--net={netns}"] if netns else []
        why = ""
        for line in self.rig.run(*within, "sh", stdin="\n".join(lines)).out.splitlines():
            if line.startswith("## "):
                yield commands[int(line[3:])], why
            why = line or why

    def _compare(self) -> None:
        for case in self.cases:
            case.problems += self._differences(case)

    def _differences(self, case: Case) -> list[str]:
        seen = self.rig.run("sh", "-c", viewing(case.pod.name), check=False)
        if seen.status:
            return [f"ip: {seen.err.strip()}"]  # it dies of a lock on a metric that is not there
        # A link that came back comes after those that stayed, in what the kernel lists by age.
        stayed = not (self.both_uplinks and case.configuration.second == ATTACHED)
        return differences(case.before, view_of(seen.out), by_device=stayed)

    def _repair_again(self) -> None:
        for case, entry in self.entries(self.told("repair", "--all")):
            case.problems += [f"second repair: {action}" for action in entry["actions"]]

    def _status(self) -> None:
        for case, entry in self.entries(self.told("status", "--all")):
            if entry["state"] != "healthy":
                case.problems.append(f"status: {entry['state']}: {entry['findings']}")


def runner(base: Path, number: int) -> Run:
    """Runs batches, each on a node of its own; of which kind they are, `number` decides."""
    numbers = count()

    def run(configurations: Sequence[Configuration]) -> list[Case]:
        directory = base / f"{number}-{next(numbers)}"
        directory.mkdir()
        with Rig(directory) as rig:
            batch = Batch(
                rig,
                detect_duplicates=number % 4 == 3,
                both_uplinks=number % 2 == 1,
                armed=number % 2 == 1,
                # (Pasted commands wait for no duplicate detection: an IPv6 route from an address
                # that is still tentative is refused, which REPAIR waits for.)
                by_hand=number % 3 == 2 and number % 4 != 3,
            )
            return batch.run(configurations)

    return run


def minimal(case: Case, run: Run) -> Case:
    """The same problem with as few commands as possible."""
    while True:
        commands = case.configuration.commands
        alone = [[command] for command in commands]
        but_one = [[*commands[:k], *commands[k + 1 :]] for k in range(len(commands))]
        tries = [[], *alone, *but_one] if len(commands) > 1 else [[]] if commands else []
        for start in range(0, len(tries), BATCH):
            some = tries[start : start + BATCH]
            cases = run([case.configuration.with_commands(one) for one in some])
            shorter = next((one for one in cases if one.kinds & case.kinds), None)
            if shorter is not None:
                case = shorter
                break
        else:
            return case


def survive(base: Path, configurations: list[Configuration]) -> str:
    """Run them all; what differs afterwards is told with as few commands as it takes."""
    started = time.monotonic()
    cases: list[Case] = []
    told: list[Case] = []
    for number, start in enumerate(range(0, len(configurations), BATCH)):
        run = runner(base, number)
        done = run(configurations[start : start + BATCH])
        cases += done
        for case in (one for one in done if one.problems):
            if len(told) < TOLD and not any(one.explains(case) for one in told):
                told.append(minimal(case, run))
    differ = sum(bool(case.problems) for case in cases)
    assert not told, f"{differ} of {len(cases)} pods differ\n" + "\n".join(map(str, told))
    refused = [line for case in cases for line in case.refused]
    commands = sum(len(case.commands) for case in cases)
    assert len(refused) < commands / 10, "\n".join(refused)
    return (
        f"{len(cases)} configurations, {commands} commands, {len(refused)} of them refused by ip,"
        f" {(time.monotonic() - started) / len(cases):.2f} s each"
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_generated_pods_are_as_they_were(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = survive(tmp_path, generate(MANY or 60, fixed=not MANY))
    if MANY:
        with capfd.disabled():
            print(f"\n{told}")


def test_some_generated_pods_are_as_they_were(tmp_path: Path) -> None:
    """The last of some: hypothesis begins with the simplest ones."""
    survive(tmp_path, generate(30, fixed=True)[-10:])
