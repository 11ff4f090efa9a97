"""The command, and the rounds: a loss, a disturbance, a return; then everything has to be well."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from cni_repair.demo.lab import GATEWAY, PATH, Lab, Netns, poll_until
from cni_repair.uplink.read import TEMPORARY
from integration.bench.podstate import PodState, pod_state
from integration.command import CHECKOUT, run_rig
from integration.errors import RigError
from integration.product import install
from integration.trust.watched.watcher import Use, Watcher

_NAME = "integration/soak/run"
_ABOUT = """\
Reload a NIC again and again under a node full of pods, with nobody but
`cni-repair watch` to heal them, while pods are attached and deleted and the
watcher is killed. After each reload every pod must have its interface as it
was; in the end nothing may have grown: processes, descriptors, memory, locks,
temporary links. IPv4 only. Exit status: 0 all holds, 1 something does not,
2 cannot run here."""

_HEAL_SECONDS = 60.0
_SUBNET = "10.9.0.0/16"  # the lab's own has room for 253 pods
_ADDS_AT_ONCE = 4
# What is taken and given back while the watcher works; beyond it something leaks.
_MORE_KIB, _MORE_DESCRIPTORS = 8 * 1024, 8
_LONGEST_OUTAGE = 0.5


def main() -> int:
    options = _parse()
    return run_rig(_NAME, lambda: _run(options))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_NAME, description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pods", type=int, default=250, help="default: 250")
    parser.add_argument("--reloads", type=int, default=200, help="default: 200")
    parser.add_argument("--seed", type=int, default=1, help="of what is done by chance (1)")
    parser.add_argument("--source", type=Path, default=CHECKOUT, help="the checkout to be tried")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="cni-repair-soak-", dir="/var/tmp") as name:
        launcher = install(options.source, Path(name))
        # No IPv6: each pod of each round would be waited for seconds, and the rest be the same.
        with Lab(command=[str(launcher)], ipv6=False) as lab:
            soak = Soak(lab, options.pods, random.Random(options.seed))
            try:
                return soak.run(options.reloads)
            finally:
                soak.end()


class Soak:
    """The node, its pods, the watcher, and what is done to them."""

    def __init__(self, lab: Lab, pods: int, chance: random.Random) -> None:
        self._lab = lab
        self._wanted = pods
        self._chance = chance
        self._began = time.monotonic()
        self._was: dict[Netns, PodState] = {}  # attached pods
        self._calls: list[tuple[Netns, str, subprocess.Popen[str]]] = []  # not yet ended
        self._made = self._kills = self._added = self._deleted = 0
        self._slowest = 0.0
        config = lab.directory / "watch.yaml"
        config.write_text(
            json.dumps(
                {
                    "version": 1,
                    "checkpointDirs": [lab.checkpoint_dir],
                    "runDir": lab.run_dir,
                    # Reloads follow each other as fast as they can: none is to be waited out.
                    "backOff": {"first": "0.1s", "most": "0.1s"},
                }
            )
        )
        self._watcher = Watcher(lab, config, lab.directory / "watch.log")

    def run(self, reloads: int) -> int:
        """All rounds; the exit status."""
        self._tell(f"attaching {self._wanted} pods")
        pods = self._lab.add_pods(self._wanted)
        for at in range(0, len(pods), _ADDS_AT_ONCE):
            for pod in pods[at : at + _ADDS_AT_ONCE]:
                self._call("ADD", pod)
            self._end_calls()
        self._watcher.start()
        before: Use | None = None
        for number in range(1, reloads + 1):
            self._reload()
            self._expect_all_well(f"reload {number}")
            if number == max(1, reloads // 10):  # by then everything has been done once
                before = self._settled_use()
            if number % 10 == 0:
                use = _shown(self._watcher.use())
                self._tell(f"{number} reloads, {len(self._was)} pods: {use}")
        return self._conclude(reloads, before or self._settled_use())

    def end(self) -> None:
        """Whatever happened: nothing of it goes on."""
        for _, _, process in self._calls:
            process.kill()
            process.communicate()
        self._watcher.stop()

    # --- A round ---

    def _reload(self) -> None:
        disturb = self._chance.choice([self._nothing, self._add, self._delete, self._both])
        is_killed = self._chance.random() < 0.2
        self._lab.uplink_lost()
        disturb()
        self._pause()
        if is_killed and self._chance.random() < 0.5:
            self._kill()
            is_killed = False
        self._lab.uplink_back()
        back = time.monotonic()
        if self._chance.random() < 0.3:
            disturb()
        if is_killed:
            self._pause()
            self._kill()
        poll_until(self._all_are_as_they_were, _HEAL_SECONDS, "all pods to be healed")
        self._slowest = max(self._slowest, time.monotonic() - back)
        self._end_calls()
        self._add_what_is_missing()

    def _pause(self) -> None:
        """An outage has any length: this is the disturbance, not a wait for something."""
        time.sleep(self._chance.random() * _LONGEST_OUTAGE)

    def _nothing(self) -> None:
        """Most reloads meet a node at rest."""

    def _add(self) -> None:
        self._made += 1
        self._call("ADD", self._lab.add_pod(f"{self._lab.node.name}-more{self._made}"))

    def _delete(self) -> None:
        busy = {pod for pod, _, _ in self._calls}
        pod = self._chance.choice([pod for pod in self._was if pod not in busy])
        del self._was[pod]
        self._call("DEL", pod)

    def _both(self) -> None:
        self._add()
        self._delete()

    def _kill(self) -> None:
        self._kills += 1
        self._watcher.kill()
        self._watcher.start()

    def _add_what_is_missing(self) -> None:
        while len(self._was) < self._wanted:
            self._add()
            self._end_calls()

    # --- Calls, as the runtime makes them ---

    def _call(self, verb: str, pod: Netns) -> None:
        netconf = self._lab.netconf()
        netconf["ipam"]["ranges"][0] = [{"subnet": _SUBNET, "gateway": GATEWAY}]
        process = subprocess.Popen(
            [*self._lab.ground.entering(self._lab.node), *self._lab.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, **self._lab.environment(verb, pod)},
            text=True,
        )
        assert process.stdin
        process.stdin.write(json.dumps(netconf))
        process.stdin.close()
        process.stdin = None
        self._calls.append((pod, verb, process))

    def _end_calls(self) -> None:
        """Wait for them. An ADD may fail while the master is away; the runtime calls DEL then, and
        tries again with another sandbox."""
        while self._calls:
            pod, verb, process = self._calls.pop(0)
            said, _ = process.communicate(timeout=_HEAL_SECONDS)
            if verb == "DEL":
                if process.returncode != 0:
                    raise RigError(f"DEL of {pod.name}: exit {process.returncode}: {said}")
                self._deleted += 1
                self._lab.remove([pod])
            elif process.returncode != 0:
                self._call("DEL", pod)
            else:
                self._added += 1
                state = poll_until(partial(pod_state, pod), _HEAL_SECONDS, f"{pod.name}'s eth0")
                assert state is not None
                self._was[pod] = state

    # --- What has to be so ---

    def _all_are_as_they_were(self) -> bool:
        return all(pod_state(pod) == was for pod, was in self._was.items())

    def _expect_all_well(self, when: str) -> None:
        report = self._status()
        unwell = [one for one in report["attachments"] if one["state"] != "healthy"]
        if unwell or len(report["attachments"]) != len(self._was):
            raise RigError(
                f"{when}: {len(report['attachments'])} records of {len(self._was)} pods;"
                f" not healthy: {json.dumps(unwell[:3])}"
            )

    def _status(self) -> dict[str, Any]:
        places = ("--checkpoint-dir", self._lab.checkpoint_dir, "--run-dir", self._lab.run_dir)
        found: dict[str, Any] = self._lab.cli("status", *places, "-o", "json").document
        return found

    def _settled_use(self) -> Use:
        """What the watcher takes once no task of it is at work."""
        use = poll_until(self._use_at_rest, _HEAL_SECONDS, "the watcher's tasks to end")
        assert use is not None
        return use

    def _use_at_rest(self) -> Use | None:
        first, second = self._watcher.use(), self._watcher.use()
        return second if first.processes == second.processes == 2 else None

    def _conclude(self, reloads: int, before: Use) -> int:
        after = self._settled_use()
        locks = {path.name for path in Path(self._lab.run_dir).iterdir()}
        named = {f"{pod.name}@eth0.lock" for pod in self._was}
        left_over = sorted(one for one in locks if "@" in one and one not in named)
        links = [link["ifname"] for link in self._lab.ip_json(self._lab.node, "link", "show")]
        wrong = [
            *[f"temporary link {name}" for name in links if name.startswith(TEMPORARY)],
            *[f"left over in the run directory: {name}" for name in left_over[:5]],
        ]
        if after.kib > before.kib + _MORE_KIB:
            wrong.append(f"memory grew from {before.kib} to {after.kib} KiB")
        if after.descriptors > before.descriptors + _MORE_DESCRIPTORS:
            wrong.append(f"descriptors grew from {before.descriptors} to {after.descriptors}")
        print(
            f"{reloads} reloads, {len(self._was)} pods, {self._added} ADD, {self._deleted} DEL,"
            f" {self._kills} kill -9; slowest heal {self._slowest * 1000:.0f} ms after the return"
        )
        print(f"at the beginning: {_shown(before)}\nat the end:       {_shown(after)}")
        for line in wrong:
            print(f"FAILS: {line}")
        print(
            f"{'FAILED' if wrong else 'all holds'}; {time.monotonic() - self._began:.0f} s in all"
        )
        return 1 if wrong else 0

    def _tell(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:4.0f} s  {what}", flush=True)


def _shown(use: Use) -> str:
    return (
        f"{use.processes} processes, {use.descriptors} descriptors, {use.kib / 1024:.0f} MB,"
        f" {use.seconds:.1f} s of a processor"
    )
