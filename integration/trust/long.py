"""Round after round under one watcher, reload after reload: nothing may grow."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cni_repair.checkpoint.locks import PARENTS, Lock
from cni_repair.demo.errors import LabError
from cni_repair.demo.lab import Lab, Netns, poll_until
from cni_repair.node.detach import remove_link
from integration.product import command_here
from integration.trust.proof import Extent, Failure, Outcome
from integration.trust.watched.calls import Calls, Done, netconf_of, processes_on
from integration.trust.watched.leftovers import inodes, leftovers
from integration.trust.watched.pods import WholeState, given_by, whole_state
from integration.trust.watched.watchednode import Uplink, watcher_of
from integration.trust.watched.watcher import Use

NAME = "long"
WHAT = "rounds of ADD, REPAIR and DEL, and reloads of the uplink, under one and the same watcher"

_HEAL_SECONDS = 120.0
_LONGEST_OUTAGE = 0.3
_PARTS = 10  # of the whole, after each of which it is measured
# What is taken and given back while the watcher works; beyond it something leaks: 10,000 rounds of
# which each leaves 210 bytes would be seen.
_MORE_KIB, _MORE_DESCRIPTORS = 2 * 1024, 4


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    pods: int  # that stay
    rounds: int
    reloads: int
    callers: int


FULL = Scale(pods=50, rounds=10_000, reloads=1_000, callers=6)
SAMPLE = Scale(pods=5, rounds=10, reloads=10, callers=2)


@dataclass(frozen=True)
class Measured:
    """What is taken at a moment at which nothing is at work."""

    rounds: int
    use: Use
    inodes: int  # of the run directory, the records and the leases
    locks: int

    def __str__(self) -> str:
        return (
            f"{self.use.kib / 1024:.1f} MB, {self.use.processes} processes,"
            f" {self.use.descriptors} descriptors, {self.inodes} inodes, {self.locks} locks"
        )


def prove(extent: Extent) -> Outcome:
    """All of it, or some rounds."""
    # No IPv6: each REPAIR would wait for duplicates for two seconds, and the rest be the same.
    with command_here() as command, Lab(command=command, ipv6=False) as lab:
        long = Long(lab, FULL if extent.full else SAMPLE, extent.seed)
        try:
            long.run()
        finally:
            long.end()
    failures = [one for one in long.failures if extent.case in (None, one.case)]
    return Outcome(long.rounds + long.reloads, tuple(failures), tuple(long.figures()))


class Long:
    """The node, the pods that stay, and those that come and go."""

    def __init__(self, lab: Lab, scale: Scale, seed: int) -> None:
        self._lab = lab
        self._scale = scale
        self._chance = random.Random(seed)
        last = 10 + scale.pods + 4 * scale.callers
        self._calls = Calls(lab, netconf_of(lab, last))
        self._uplink = Uplink(lab)
        self._watcher = watcher_of(lab)
        self._staying: dict[Netns, tuple[WholeState, tuple[str, ...]]] = {}
        self._lock = threading.Lock()  # of what follows
        self.rounds = self.reloads = self._again = 0
        self._slowest = 0.0
        self._measured: list[Measured] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        for number in range(self._scale.pods):
            pod = self._lab.add_pod(f"{self._lab.node.name}-stays{number}")
            done = self._calls.plugin("ADD", pod)
            state = whole_state(pod)
            if state is None:
                self._fail("ADD", done.words)
                return
            self._staying[pod] = state, given_by(done.document).bare
        with Lock(self._lab.run_dir, PARENTS):
            pass  # there is one, from the first on who needs it, which may be late
        self._watcher.start()
        for part in range(1, _PARTS + 1):
            self._do_until(
                self._scale.rounds * part // _PARTS, self._scale.reloads * part // _PARTS
            )
            if self.failures:
                return
            self._measure()
        self._expect_flat()

    def end(self) -> None:
        """Whatever happened: nothing of it goes on."""
        self._watcher.stop()

    def figures(self) -> Iterator[tuple[str, str]]:
        yield (
            "done",
            f"{self.rounds} rounds ({self._again} once more, since the uplink went away meanwhile),"
            f" {self.reloads} reloads; slowest heal {self._slowest * 1000:.0f} ms after the return",
        )
        for one in (self._measured[:1] + self._measured[-1:]) if self._measured else ():
            yield f"after {one.rounds} rounds", str(one)

    def _fail(self, case: str, saw: str) -> None:
        with self._lock:
            self.failures.append(Failure(case, saw))

    # --- The work ---

    def _do_until(self, rounds: int, reloads: int) -> None:
        """Rounds by several callers, and meanwhile reloads by this thread."""
        left = iter(range(self.rounds, rounds))
        threads = [
            threading.Thread(target=self._guarded, args=(left,)) for _ in range(self._scale.callers)
        ]
        for thread in threads:
            thread.start()
        try:
            while self.reloads < reloads and not self.failures:
                self._reload()
        finally:
            for thread in threads:
                thread.join()

    def _guarded(self, left: Iterator[int]) -> None:
        try:
            while not self.failures:
                with self._lock:
                    number = next(left, None)
                if number is None:
                    return
                self._round(number)
        except Exception as error:  # a thread that ends for itself would not be missed
            self._fail("the rig", repr(error))

    def _reload(self) -> None:
        self._uplink.flap(self._chance.random() * _LONGEST_OUTAGE, by_cable=False)
        self.reloads += 1
        back = time.monotonic()
        try:
            poll_until(lambda: not self._unwell(), _HEAL_SECONDS, "all pods to be healed")
        except LabError as error:
            self._fail("all are healed after each reload", f"{error}: {self._unwell()[:3]}")
        self._slowest = max(self._slowest, time.monotonic() - back)

    def _unwell(self) -> list[str]:
        return [
            f"{pod.name}: {state} for {was}"
            for pod, (was, _) in self._staying.items()
            if (state := whole_state(pod)) != was
        ]

    def _round(self, number: int) -> None:
        """A pod's life, in which its interface is lost once."""
        pod = self._lab.add_pod(f"{self._lab.node.name}-{number}")
        given = given_by(self._insist(pod, "ADD").document)
        remove_link(pod.path, "eth0")
        self._insist(pod, "REPAIR")
        why = given.differs(whole_state(pod))
        if why and self._uplink.was_there(time.monotonic() - 1.0, time.monotonic()):
            self._fail("REPAIR brings it back", f"{pod.name}: {why}")
        done = self._calls.plugin("DEL", pod)
        if not done.ok:
            self._fail("DEL succeeds", done.words)
        self._lab.remove([pod])
        with self._lock:
            self.rounds += 1

    def _insist(self, pod: Netns, verb: str) -> Done:
        """Call until it succeeds; that it does not is right only where the uplink went away."""
        while True:
            done = self._calls.plugin(verb, pod)
            if done.ok:
                return done
            if self._uplink.was_there(done.began - 1.0, done.ended) or done.fault:
                self._fail(f"{verb} succeeds while the uplink is there", done.words)
                raise LabError(done.words)
            with self._lock:
                self._again += 1
            if verb == "ADD":
                self._calls.plugin("DEL", pod)

    # --- What has to be so ---

    def _measure(self) -> None:
        """Once no task of the watcher's is at work."""
        at_rest: Callable[[], Use | None] = self._use_at_rest
        use = poll_until(at_rest, _HEAL_SECONDS, "the watcher's tasks to end")
        assert use is not None
        lab = self._lab
        places = (lab.run_dir, lab.checkpoint_dir, lab.ipam_dir)
        self._measured.append(
            Measured(self.rounds, use, inodes(*places), inodes(lab.run_dir, pattern="*.lock"))
        )
        pods = {pod.name: addresses for pod, (_, addresses) in self._staying.items()}
        for left in leftovers(lab, pods):
            self._fail("nothing is left of a round", left)

    def _use_at_rest(self) -> Use | None:
        first, second = self._watcher.use(), self._watcher.use()
        return second if first.processes == second.processes == 2 else None

    def _expect_flat(self) -> None:
        first, last = self._measured[0], self._measured[-1]
        for what, before, after, more in (
            ("KiB of memory", first.use.kib, last.use.kib, _MORE_KIB),
            ("descriptors", first.use.descriptors, last.use.descriptors, _MORE_DESCRIPTORS),
            ("inodes", first.inodes, last.inodes, 0),
            ("locks", first.locks, last.locks, 0),
        ):
            if after > before + more:
                self._fail("nothing grows", f"{what}: from {before} to {after}")
        self._watcher.stop()
        poll_until(lambda: not processes_on(self._lab), _HEAL_SECONDS, "all processes to end")
